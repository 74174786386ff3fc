"""The files of collector-config/, judged by the Collector: every documented combination, and what must not start."""

import re
from pathlib import Path

import pytest
import yaml

from tests.integration.collector import CONFIG, VARIABLES, Collector, validate
from tests.waiting import PATIENCE

pytestmark = pytest.mark.integration

# The table of collector-config/README.md: a line is one combination.
COMBINATIONS = [
    tuple(line.split())
    for line in re.findall(r"^\| `(base [\w -]+)` \|", (CONFIG / "README.md").read_text(), re.MULTILINE)
]
OPTIONS = {path.stem for path in CONFIG.glob("*.yaml")} - {"builder", "docker-compose"}
DEPRECATED = {
    *(
        "batch",
        "otlphttp",
        "spanmetrics",
        "servicegraph",
        "loadbalancing",
        "resourcedetection",
        "prometheusremotewrite",
    ),
    *("cumulativetodelta", "healthcheckv2"),
}


def test_every_file_is_in_a_documented_combination() -> None:
    assert {name for files in COMBINATIONS for name in files} == OPTIONS
    assert {
        f"backend-{name}"
        for name in (
            *("debug", "otlp", "prometheus", "grafana", "grafana-cloud", "datadog"),
            *("signoz", "elastic", "new-relic", "dash0"),
        )
    } < OPTIONS


@pytest.mark.parametrize("files", COMBINATIONS, ids=" ".join)
def test_a_documented_combination_is_valid(files: tuple[str, ...], tmp_path: Path) -> None:
    done = validate(files, OTELCOL_STORAGE_DIR=str(tmp_path), **VARIABLES)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower()


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize("empty", [False, True], ids=["unset", "empty"])
def test_a_missing_variable_stops_the_start_with_its_name(name: str, empty: bool, tmp_path: Path) -> None:
    guard = re.compile(rf"bearertokenauth/{name}:.*\n    token: \$\{{env:{name}\}}")
    option = next(path.stem for path in sorted(CONFIG.glob("*.yaml")) if guard.search(path.read_text()))
    files = next(combination for combination in COMBINATIONS if option in combination)
    given = {key: value for key, value in VARIABLES.items() if key != name}
    if empty:
        given[name] = ""
    done = validate(files, OTELCOL_STORAGE_DIR=str(tmp_path), **given)
    assert done.returncode != 0
    assert f"/{name}:" in done.stderr
    secrets = [value for key, value in VARIABLES.items() if key.endswith(("_KEY", "_TOKEN"))]
    assert not any(secret in done.stderr for secret in secrets)


SETTINGS = {
    found[1]: path.stem
    for path in CONFIG.glob("*.yaml")
    for found in re.finditer(r"bearertokenauth/(\w+):\n    token: \$\{env:\1:-", path.read_text())
}
"""The variables with a default that must not be empty, with the file that says so."""


def test_the_settings_that_keep_a_promise_must_not_be_empty() -> None:
    assert set(SETTINGS) >= {"OTELCOL_QUEUE_STORAGE", "OTELCOL_HTTP_PORT", "OTELCOL_SAMPLING_PERCENTAGE"}


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_an_empty_setting_stops_the_start_with_its_name(name: str, tmp_path: Path) -> None:
    files = next(combination for combination in COMBINATIONS if SETTINGS[name] in combination)
    done = validate(files, OTELCOL_STORAGE_DIR=str(tmp_path), **VARIABLES, **{name: ""})
    assert done.returncode != 0
    assert f"/{name}:" in done.stderr


def test_the_start_itself_is_refused_too(tmp_path: Path) -> None:
    collector = Collector(tmp_path, ("base", "backend-datadog"))
    with pytest.raises(AssertionError, match="DD_API_KEY"):
        collector.start()
    assert collector.process is not None
    assert collector.process.wait(PATIENCE) != 0


def test_the_base_alone_is_refused(tmp_path: Path) -> None:
    assert validate(["base"], OTELCOL_STORAGE_DIR=str(tmp_path)).returncode != 0


def test_no_deprecated_name_is_used() -> None:
    for name in OPTIONS:
        content = yaml.safe_load((CONFIG / f"{name}.yaml").read_text())
        kinds = ("receivers", "processors", "exporters", "connectors", "extensions")
        types = {kind: {key.split("/")[0] for key in content.get(kind, {})} for kind in kinds}
        assert not DEPRECATED & set().union(*types.values()), name
        assert "otlp" not in types["exporters"], name
        assert "invert_match" not in str(content), name


def test_every_variable_is_in_the_example_of_an_environment() -> None:
    example = (CONFIG / ".env.example").read_text()
    explained = set(re.findall(r"^#? ?([A-Z][A-Z_0-9]+)=", example, re.MULTILINE))
    used = {name for path in CONFIG.glob("*.yaml") for name in re.findall(r"\$\{env:([A-Z_0-9]+)", path.read_text())}
    assert used <= explained
    assert set(VARIABLES) <= used


def test_no_request_is_larger_than_backends_take() -> None:
    for name in OPTIONS:
        for exporter, content in yaml.safe_load((CONFIG / f"{name}.yaml").read_text()).get("exporters", {}).items():
            if batch := ((content or {}).get("sending_queue") or {}).get("batch"):
                assert batch["sizer"] == "bytes", exporter
                assert batch["max_size"] <= 4_000_000, exporter


def test_no_secret_or_endpoint_is_written_down() -> None:
    for path in CONFIG.glob("*.yaml"):
        for key, value in re.findall(
            r"^\s+(endpoint|token|dd-api-key|api-key|signoz-ingestion-key|Authorization): (.*)$",
            path.read_text(),
            re.MULTILINE,
        ):
            assert "${env:" in value, (path, key)


def test_it_listens_on_the_standard_ports_of_this_host_unless_told_otherwise() -> None:
    text = (CONFIG / "base.yaml").read_text()
    assert "endpoint: ${env:OTELCOL_HOST:-localhost}:${env:OTELCOL_GRPC_PORT:-4317}" in text
    assert "endpoint: ${env:OTELCOL_HOST:-localhost}:${env:OTELCOL_HTTP_PORT:-4318}" in text


def test_a_queue_directory_that_cannot_be_made_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    collector = Collector(tmp_path, ("base", "backend-otlp"), OTELCOL_STORAGE_DIR=str(tmp_path / "file"), **VARIABLES)
    with pytest.raises(AssertionError, match=r"file_storage|directory"):
        collector.start()
