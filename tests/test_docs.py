"""The documentation holds: examples run, commands, flags, variables, metrics and links exist."""

import asyncio
import inspect
import json
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import fields
from types import ModuleType
from typing import Any

import click
import opentelemetry.environment_variables
import opentelemetry.sdk.environment_variables
import pytest
import yaml
from fastapi import FastAPI

from otel_monitoring import semconv
from otel_monitoring.alerts import AlertType, Rule
from otel_monitoring.alerts.model import DEFAULT_SEVERITY
from otel_monitoring.alerts.rules.defaults import default_rules
from otel_monitoring.cli import exit_codes
from otel_monitoring.cli.commands import COMMANDS
from otel_monitoring.cli.commands import otel_monitoring as main
from otel_monitoring.config import THRESHOLDS, Settings
from otel_monitoring.config.kubernetes import KUBERNETES_VARIABLES
from otel_monitoring.config.settings import Thresholds, known_variables
from otel_monitoring.endpoints import access, routes, unavailable
from otel_monitoring.endpoints.routes import Doors, create_routes
from otel_monitoring.monitoring import MonitoringService
from otel_monitoring.status_page.routes import PATH, page_routes
from tests.pages import (
    PAGES,
    ROOT,
    Block,
    all_blocks,
    blocks,
    code,
    headings,
    name_of,
    names,
    page,
    prose,
    rows,
    section,
    slug,
)
from tests.test_layers import FLOORS

NAMES = [name_of(path) for path in PAGES]
LANGUAGES = {"python", "sh", "json", "text", "yaml", "dockerfile", "mermaid"}
"""What blocks are written in: each is run or checked here or in `tests/integration/test_docs.py`; text is output."""


def _id(block: Block) -> str:
    return block.place


@pytest.mark.parametrize("name", NAMES)
def test_every_block_has_a_language_that_is_checked(name: str) -> None:
    assert {block.language for block in blocks(name)} <= LANGUAGES
    assert page(name).count("```") == 2 * len(list(blocks(name)))


@pytest.mark.parametrize("block", all_blocks("python"), ids=_id)
def test_python_runs(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("documentation")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    namespace = vars(module)
    exec(compile(block.text, block.place, "exec"), namespace)  # noqa: S102 - our own text
    for name, value in namespace.items():
        if name.startswith("test_") and callable(value):
            asyncio.run(value())
    assert "monitoring" in namespace


@pytest.mark.parametrize("block", all_blocks("json"), ids=_id)
def test_json_is_valid(block: Block) -> None:
    assert json.loads(block.text)


@pytest.mark.parametrize("block", all_blocks("yaml"), ids=_id)
def test_yaml_is_valid(block: Block) -> None:
    assert yaml.safe_load(block.text)


@pytest.mark.parametrize("block", all_blocks("mermaid"), ids=_id)
def test_pictures_are_edges_between_named_boxes(block: Block) -> None:
    kind, *lines = block.text.splitlines()
    assert kind.startswith("flowchart")
    box = r"\w+(?:\[[^\]]+\])?"
    assert [line for line in lines if not re.fullmatch(rf"\s+{box}(?: (?:-- [\w ]+ )?--> {box})+", line)] == []


# Commands

PROGRAMS = {
    *("uvicorn", "opentelemetry-instrument", "nx-27017", "python3", "docker", "kubectl", "openssl"),
    *("cd", "cp", "echo", "export", "set", ".", "$otelcol", "otelcol=$(make"),
}
"""What users have, or are told to install; everything else in a shell block is checked."""


def _commands(text: str) -> Iterator[list[str]]:
    """The words of each command in shell text."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|\||;", line.partition("    #")[0].partition(" # ")[0]):
            words = shlex.split(part.partition(" > ")[0])
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                del words[0]
            if words:
                yield words


def _all_commands() -> Iterator[tuple[str, list[str]]]:
    for block in (*all_blocks("sh"), *all_blocks("dockerfile")):
        text = block.text
        if block.language == "dockerfile":
            text = shlex.join(json.loads(text.partition("CMD ")[2]))
        for words in _commands(text):
            yield block.place, words


def _check(words: list[str]) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    project = (ROOT / "pyproject.toml").read_text()
    extras = re.findall(r"^(\w+) = \[", project.partition("[project.optional-dependencies]")[2], re.MULTILINE)
    match words:
        case ["otel-monitoring", *arguments]:
            _parse(arguments)
        case ["make", *named]:
            assert {target for target in named if "=" not in target} <= {*targets}, words
        case ["pip", "install", *packages]:
            for package in packages:
                assert package in {"uvicorn", "nx-27017"} or re.fullmatch(r"(otel-monitoring|\.)\[[\w,]+\]", package)
                asked = re.findall(r"\[([\w,]+)\]", package)
                assert {extra for group in asked for extra in group.split(",")} <= {*extras}, package
        case ["curl", *_]:
            assert any(word.startswith("localhost:8000/") for word in words), words
        case [program, *_]:
            assert program in PROGRAMS, words


def _parse(arguments: list[str]) -> None:
    name, *rest = arguments
    command = main.get_command(click.Context(main), name)
    assert command is not None, name
    command.make_context(name, rest)


@pytest.mark.parametrize(("place", "words"), list(_all_commands()), ids=str)
def test_commands_and_their_flags_exist(place: str, words: list[str]) -> None:
    _check(words)


def test_commands_that_do_not_exist_are_seen() -> None:
    for text in ("otel-monitoring observe", "otel-monitoring check --wate 5 http://a", "make coffee", "npm install"):
        with pytest.raises((click.UsageError, AssertionError)):
            _check(shlex.split(text))


def _options(name: str) -> set[str]:
    command = main.get_command(click.Context(main), name)
    assert command is not None, name
    return {"--help", *(option for parameter in command.params for option in parameter.opts)}


@pytest.mark.parametrize("name", NAMES)
def test_commands_and_flags_in_the_text_exist(name: str) -> None:
    """Between backticks a command is mentioned, not called: its arguments may be missing."""
    theirs = {
        "--workers",
        "--reload",
        "--preload",
        "--timeout-worker-healthcheck",
        "--forwarded-allow-ips",
    }  # of servers
    theirs |= {"--enable-feature", "--web.enable-otlp-receiver", "--db"}  # of Prometheus and nx-27017
    theirs |= {"--write-docs", "--sections"}  # of the benchmarks
    known = theirs.union(*map(_options, COMMANDS))
    for text in code(name):
        program, *words = text.split()
        if program == "otel-monitoring" and words:
            flags = {word for word in words[1:] if word.startswith("--")} if words[0] != "run" else set()
            assert flags <= _options(words[0]), text
        elif program in {"make", "pip"} and words:
            _check(shlex.split(text))
        else:
            assert {word.partition("=")[0] for word in text.split() if word.startswith("--")} <= known, text


def test_every_command_and_every_exit_code_is_documented() -> None:
    table = [cells[0] for cells in rows(page("docs/command-line.md"))]
    documented = {text.split()[1] for cell in table for text in names(cell) if text.startswith("otel-monitoring ")}
    assert documented == COMMANDS.keys()
    numbers = {int(number) for cell in table if not names(cell) for number in cell.split(",")}
    assert numbers == {value for value in vars(exit_codes).values() if isinstance(value, int)}


# Settings

FOREIGN = {
    name
    for module in (opentelemetry.environment_variables, opentelemetry.sdk.environment_variables)
    for name in vars(module)
    if name.startswith("OTEL_")
} | {
    *KUBERNETES_VARIABLES,
    "OTEL_ENTITIES",
    "OTEL_SEMCONV_STABILITY_OPT_IN",
    "OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN",
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",
    "SSL_CERT_FILE",
}
"""Variables that are others' alone."""
CONFIGURATION = "docs/configuration.md"


def _variables() -> dict[str, Any]:
    """Every variable of ours and of `Settings`, with its default."""
    every = (*Settings.fields.values(), *Thresholds.fields.values())
    return {variable: one.default for one in every for variable in one.variables}


def _documented_variables() -> dict[str, str]:
    """Every variable of the tables, with the cell that has its default."""
    return {
        name: default
        for cells in rows(page(CONFIGURATION).partition("<!-- specification -->")[0])
        for variable, default, *_ in [cells]
        for name in names(variable)
    }


def test_every_variable_is_documented_and_no_other() -> None:
    ours = _variables()
    assert known_variables() <= ours.keys()
    assert _documented_variables().keys() == ours.keys()


@pytest.mark.parametrize("name", list(_variables()))
def test_the_default_is_documented(name: str) -> None:
    value, cell = _variables()[name], _documented_variables()[name]
    if value is None or value in ((), {}) or isinstance(value, Thresholds):
        assert cell.startswith("none")
    elif isinstance(value, bool):
        assert cell == ("on" if value else "off")
    elif isinstance(value, int | float):
        assert cell.split()[0] == f"{value:.15g}"
    else:
        assert cell == f"`{value}`"


@pytest.mark.parametrize("name", NAMES)
def test_variables_in_the_text_exist(name: str) -> None:
    if name == "collector-config/README.md":
        known = {*_variables(), *FOREIGN, *_collector_variables()}
    else:
        known = {*_variables(), *FOREIGN}
    used = set(re.findall(r"\b(?:OTEL|SMTP|ALERT|ALERTMANAGER|SLACK)_[A-Z_]*[A-Z]\b(?![_*{…<])", page(name)))
    assert used <= known


def _collector_variables() -> set[str]:
    files = (ROOT / "collector-config").glob("*.yaml")
    return {name for path in files for name in re.findall(r"\$\{(?:env:)?([A-Z_]+)", path.read_text())}


# Endpoints, metrics


def _routes() -> set[str]:
    service = MonitoringService(None)
    doors = Doors(FastAPI(), service, Settings.load(), None)
    made = [*create_routes(doors, service), *page_routes(doors.public(PATH), doors.private(PATH), service)]
    return {endpoint.path for endpoint in made}


def test_paths_of_ours_exist_and_are_all_documented() -> None:
    known = _routes()
    for name in NAMES:
        used = set(re.findall(r"/api/(?:health|alerts|status)(?:/[\w{}]+)*", page(name)))
        assert {path for path in used if not any(_matches(path, route) for route in known)} <= {"/api/alerts"}, name
    cells = [cell for cell, *_ in rows(page("docs/endpoints.md"))]
    listed = {f"/api{path}" for cell in cells for path in re.findall(r"(?:GET|POST|DELETE) (/[\w/{}]+)`", cell)}
    assert {_plain(path) for path in listed} == {_plain(path) for path in known}


def _plain(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path)


def test_every_status_of_an_error_is_documented() -> None:
    """FastAPI's own 422 aside: it is in the table too."""
    said = {int(cell) for cell, *_ in rows(section("docs/endpoints.md", "access"))}
    sources = "".join(map(inspect.getsource, (routes, access, unavailable)))
    assert {int(status) for status in re.findall(r"HTTPException\((\d+)", sources)} | {422} == said


def _matches(path: str, route: str) -> bool:
    return re.fullmatch(re.sub(r"\\\{\w+\\\}", r"[\\w{}]+", re.escape(route)), path) is not None


NAMED = {value for name, value in vars(semconv).items() if name.isupper() and isinstance(value, str)}
"""What the conventions name: instruments, attributes, and values."""


def test_every_name_of_the_conventions_is_documented() -> None:
    documented = page("docs/metrics.md")
    assert {name for name in NAMED if not name.startswith("https://") and f"`{name}`" not in documented} == set()


def test_no_metric_is_documented_that_the_conventions_do_not_have() -> None:
    for metric, _, _, attributes, _ in (cells for cells in rows(page("docs/metrics.md")) if len(cells) == 5):
        assert {*names(metric), *names(attributes)} <= NAMED


# Rules

ALERTS = "docs/alerts.md"


def _types() -> dict[str, tuple[set[str], str]]:
    """The severities that the table of types gives each of them, and the cell with the threshold."""
    table = section(ALERTS, "types-and-default-rules")
    return {
        name: (set(severity.split(" · ")), threshold)
        for types, severity, _, threshold in rows(table)
        for name in names(types)
    }


def test_every_type_of_alert_is_documented_with_its_severities() -> None:
    documented = _types()
    assert documented.keys() == {kind.value for kind in AlertType}
    for kind, severity in DEFAULT_SEVERITY.items():
        assert severity.value in documented[kind.value][0], kind
    for rule in default_rules(Thresholds()):
        assert rule.urgency.value in documented[rule.type.value][0], rule.name


def test_the_thresholds_of_the_rules_are_documented() -> None:
    table = section(ALERTS, "types-and-default-rules")
    documented = {name.lower(): float(value) for name, value in re.findall(r"`([A-Z_]+)` (\d+)", table)}
    assert documented == THRESHOLDS


def test_every_field_of_a_rule_is_documented() -> None:
    shown = {name for cell, *_ in rows(section(ALERTS, "your-own-rules")) for name in names(cell)}
    positional = {"name", "expression", "comparison", "threshold", "message"}
    assert {field.name for field in fields(Rule)} - positional == shown & {field.name for field in fields(Rule)}
    assert {"Gauge", "Count", "Percent", "Quantile", "error_rate", "requests"} <= shown


# Folders


def test_the_folders_stand_on_the_floors_that_imports_obey() -> None:
    documented: dict[int, set[str]] = {}
    for cells in rows(section("docs/design.md", "the-folders")):
        if cells[0].isdecimal():
            found = {name.removesuffix("/").removesuffix(".py").removesuffix("__init__") for name in names(cells[1])}
            documented.setdefault(int(cells[0]), set()).update(found)
    assert documented == dict(enumerate(map(set, FLOORS), 1))


def test_files_and_folders_of_the_design_exist() -> None:
    known = {path.relative_to(ROOT).as_posix() for path in (ROOT / "otel_monitoring").rglob("*")} | {
        "tests/test_layers.py"
    }
    for text in code("docs/design.md"):
        if text.endswith((".py", "/")):
            assert any(f"/{path}".endswith(f"/{text.removesuffix('/')}") for path in known), text


@pytest.mark.parametrize("name", NAMES)
def test_files_in_the_text_exist(name: str) -> None:
    named = re.findall(
        r"\b(?:tests|otel_monitoring|examples|docs|collector-config)/[\w/.-]+\.(?:py|md|ya?ml)\b", page(name)
    )
    assert [path for path in named if not (ROOT / path).exists()] == []


# Links


def _links(name: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(name))


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    here = (ROOT / name).parent
    for link in _links(name):
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        path = (here / target).resolve() if target else ROOT / name
        assert path.exists(), link
        assert path.is_relative_to(ROOT), link
        if anchor:
            assert anchor in [slug(title) for title in headings(name_of(path))], link


def test_a_link_to_nowhere_is_seen() -> None:
    assert slug("Types and default rules") == "types-and-default-rules"
    assert slug("`make flow`: see it") == "make-flow-see-it"
    assert "no-such-heading" not in [slug(title) for title in headings("README.md")]


def test_rows_of_a_table_have_as_many_cells_as_its_head() -> None:
    for name in NAMES:
        for table in re.findall(r"(?:^\|.*\n)+", prose(name), re.MULTILINE):
            widths = {len(re.split(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", line))) for line in table.splitlines()}
            assert len(widths) == 1, (name, table.splitlines()[0])


def test_the_oldest_versions_are_those_of_the_package() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    table = rows(page("docs/compatibility.md").partition("<!-- matrix -->")[0])
    oldest = {part: cell.partition(";")[0] for part, cell in table if part != "servers"}
    required = {"Python": 'requires-python = ">=', "FastAPI": "fastapi>=", "PyMongo": "pymongo>="}
    required["OpenTelemetry SDK"] = "opentelemetry-sdk>="
    assert oldest.keys() == required.keys()
    for part, spelling in required.items():
        assert re.search(rf"{re.escape(spelling + oldest[part])}[\",;]", project), part


def test_pages_are_in_the_source_distribution() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    assert '"/docs"' in project.partition("sdist]")[2].partition("]")[0]
