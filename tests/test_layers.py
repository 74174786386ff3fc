"""Imports point downwards only, and third-party packages stay in the modules that own them."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.source import PATHS, nodes, trees

# A module imports from the floors below its own; on its own floor, from its own folder alone.
FLOORS = (
    {
        "environment",
        "errors",
        "forks",
        "guard",
        "redact",
        "seams",
        "semconv",
        "baggage",
        "compression",
        "timestamps",
        "value",
    },
    {"config", "runtime"},
    {"telemetry", "metrics"},
    {"instrumentation", "alerts"},
    {"health", "tracing", "export"},
    {"endpoints", "prometheus"},
    {"status_page"},
    {"monitoring"},
    {"cli", "zero_code", "testing", ""},
)
# Where a folder, or the ground floor, has an order of its own: a part imports from those before it. Parts in brackets
# stand side by side: none imports another.
ORDER: dict[str, tuple[str | tuple[str, ...], ...]] = {
    "ground": (
        "errors",
        "timestamps",
        "semconv",
        "baggage",
        "compression",
        "value",
        "forks",
        "redact",
        "environment",
        "guard",
        "seams",
    ),
    "alerts": (
        *("model", "selection", "schedule", "mute", "route", "rules", "store", "evaluation", "notify"),
        *("otel_signals", "intake", "overview", "replay", "evidence", "actions", "engine", "manager", "evaluator", ""),
    ),
    "instrumentation": (
        *("", "url_query", "first_call", "database_work"),
        ("http_server", "http_client", "mongodb", "system"),
    ),
    "cli": (
        *("exit_codes", "terminal", "address", "http_request", "client", "options", "application_rules"),
        *(
            ("alert_actions", "check", "completion", "doctor", "export", "replay", "run", "watch"),
            "commands",
            "",
            "__main__",
        ),
    ),
}
OWNERS = {
    "fastapi": {"instrumentation.http_server", "endpoints", "status_page"},
    "starlette": {"instrumentation.http_server", "endpoints", "status_page"},
    "pymongo": {"instrumentation.mongodb", "health", "alerts.store", "zero_code.mongo_clients"},
    "bson": {"instrumentation.mongodb", "health", "alerts.store"},
    "psutil": {"instrumentation.system"},
    "httpx": {"alerts.notify.channels", "cli.doctor.clock", "prometheus"},
    "yaml": {"export"},
    "grafana_foundation_sdk": set(),
    "aiosmtplib": {"alerts.notify.channels.smtp"},
    "apprise": {"alerts.notify.channels.apprise"},
    "opentelemetry.sdk": {"metrics.reader", "telemetry"},
    "opentelemetry.exporter": {"telemetry"},
    "opentelemetry.configuration": {"config.configuration_file", "telemetry.file_providers"},
}


def short(name: str) -> str:
    """The name of a module within the package; empty: the package itself."""
    return name.removeprefix("otel_monitoring").removeprefix(".")


MODULES = {short(name): path for name, path in PATHS.items()}
FOLDERS = sorted({name.rpartition(".")[0] for name in MODULES if "." in name})


@cache
def imports() -> dict[str, set[str]]:
    """The full names of what each module imports."""
    return {short(name): set(imported(tree)) for name, tree in trees().items()}


@cache
def graph() -> dict[str, set[str]]:
    """The modules of this package that each of them imports."""
    return {name: ours(found) for name, found in imports().items()}


def called(node: ast.expr) -> str:
    """The name that an expression ends with: `import_module` of `importlib.import_module`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def imported(tree: ast.Module) -> Iterator[str]:
    """The full names of what a module imports when it runs, anywhere in it."""
    typing_only = {
        id(node)
        for test in nodes(tree, ast.If)
        if called(test.test) == "TYPE_CHECKING"
        for statement in test.body
        for node in ast.walk(statement)
    }
    for node in nodes(tree, ast.Import, ast.ImportFrom, ast.Call):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield inner if short(inner) in MODULES else module
        elif isinstance(node, ast.Call) and called(node.func) in {"import_module", "__import__"}:
            yield from (str(given.value) for given in node.args if isinstance(given, ast.Constant))


def ours(names: Iterable[str]) -> set[str]:
    """The modules of this package among what a module imports; empty: the package itself, with its public names."""
    return {short(name) for name in names if name == "otel_monitoring" or name.startswith("otel_monitoring.")}


def floor(module: str) -> int:
    folder = module.split(".")[0]
    return next(number for number, folders in enumerate(FLOORS) if folder in folders)


def part(module: str, folder: str) -> str:
    """Which entry of the folder's order a module is in."""
    return module.split(".")[0] if folder == "ground" else module.removeprefix(folder).removeprefix(".").split(".")[0]


def place(module: str, folder: str) -> int:
    """How far up in the folder's order a module is; 0 where the folder has none."""
    wanted = part(module, folder)
    ranks = (
        rank
        for rank, parts in enumerate(ORDER.get(folder, ()))
        if wanted in ((parts,) if isinstance(parts, str) else parts)
    )
    return next(ranks, 0)


def upward(edges: Mapping[str, set[str]]) -> list[str]:
    """Every import that points the wrong way, from the full names of both modules."""
    found = []
    for name, targets in edges.items():
        for target in targets:
            here, there = name.split(".")[0], target.split(".")[0]
            folder = "ground" if floor(name) == floor(target) == 0 else here
            if here == there or folder == "ground":
                lower, higher = place(target, folder), place(name, folder)
                wrong = lower > higher or (
                    lower == higher and folder in ORDER and part(target, folder) != part(name, folder)
                )
            else:
                wrong = floor(target) >= floor(name)
            if wrong:
                found.append(f"{name} imports {target}")
    return found


def inside(edges: Mapping[str, set[str]], folder: str) -> dict[str, set[str]]:
    """What the files and folders of `folder` import of one another; a folder counts as one, with all that is in it."""
    found: dict[str, set[str]] = {}
    prefix = f"{folder}."
    for name, targets in edges.items():
        if f"{name}.".startswith(prefix):
            entry = part(name, folder)
            near = {part(target, folder) for target in targets if f"{target}.".startswith(prefix)}
            found.setdefault(entry, set()).update(near - {entry})
    return found


def circle(edges: Mapping[str, set[str]]) -> list[str] | None:
    """Modules, or files and folders of one folder, that import one another in a circle."""
    for level in (edges, *(inside(edges, folder) for folder in FOLDERS)):
        try:
            TopologicalSorter(level).prepare()
        except CycleError as error:
            return list(error.args[1])
    return None


def test_every_module_has_a_floor() -> None:
    folders = {name.split(".")[0] for name in MODULES}
    assert folders == {folder for floor_ in FLOORS for folder in floor_}


@pytest.mark.parametrize("folder", ORDER)
def test_every_part_has_its_place(folder: str) -> None:
    members = [name for name in MODULES if (floor(name) == 0 if folder == "ground" else name.split(".")[0] == folder)]
    places = {name for parts in ORDER[folder] for name in ((parts,) if isinstance(parts, str) else parts)}
    assert {part(name, folder) for name in members} == places


def test_imports_point_downwards() -> None:
    assert upward(graph()) == []


def test_imports_make_no_circle() -> None:
    assert circle(graph()) is None


SEEDED = (
    ("guard", "config.settings"),
    ("errors", "guard"),
    ("config.settings", "runtime.worker"),
    ("runtime.worker", "metrics.window"),
    ("telemetry.providers", "metrics.reader"),
    ("metrics.window", "alerts.rules.rule"),
    ("instrumentation.mongodb.relay", "alerts.model"),
    ("alerts.manager", "health.checks"),
    ("alerts.rules.rule", "alerts.manager"),
    ("alerts.store.memory", "alerts.evaluation.notification_policy"),
    ("alerts.notify.channels.email", "alerts.evaluator"),
    ("health.status", "tracing.scope"),
    ("export.files", "endpoints.routes"),
    ("endpoints.routes", "status_page.routes"),
    ("status_page.figures", "monitoring.service"),
    ("monitoring.service", "zero_code.entry_points"),
    ("cli.check", "zero_code.entry_points"),
    ("zero_code.entry_points", "testing"),
    ("guard", ""),
    ("monitoring.service", ""),
    ("instrumentation.url_query", "instrumentation.http_client"),
    ("instrumentation.system.cpu", "instrumentation.mongodb.server_state"),
    ("instrumentation.http_server.native", "instrumentation.http_client"),
    ("cli.terminal", "cli.check"),
    ("cli.check", "cli.doctor.command"),
)


@pytest.mark.parametrize(("name", "target"), SEEDED)
def test_a_wrong_import_is_found(name: str, target: str) -> None:
    assert {name, target} <= MODULES.keys()
    assert upward({name: {target}}) == [f"{name} imports {target}"]


def test_every_floor_has_a_seeded_import() -> None:
    assert {floor(name) for name, _ in SEEDED} == set(range(len(FLOORS)))


# In folders without an order of their own, a lower module that imports a higher one closes a circle.
LOWER_AND_HIGHER = (
    ("redact.lazy_pattern", "redact.text"),
    ("config.channels", "config.settings"),
    ("runtime.threads", "runtime.worker"),
    ("metrics.snapshot", "metrics.aggregator"),
    ("telemetry.export_state", "telemetry.providers"),
    ("instrumentation.mongodb.server_state", "instrumentation.mongodb.instrumentation"),
    ("alerts.rules.matchers", "alerts.rules.rule_set"),
    ("alerts.notify.channels.text", "alerts.notify.delivery"),
    ("health.status", "health.database"),
    ("tracing.scope", "tracing.operation"),
    ("export.options", "export.files"),
    ("endpoints.access", "endpoints.routes"),
    ("status_page.shared", "status_page.updates"),
    ("prometheus.client", "prometheus.view"),
    ("monitoring.alert_feed", "monitoring.service"),
    ("cli.watch.poll", "cli.watch.command"),
    ("zero_code.mongo_clients", "zero_code.entry_points"),
)


@pytest.mark.parametrize(("name", "target"), LOWER_AND_HIGHER)
def test_a_wrong_import_inside_a_folder_is_found(name: str, target: str) -> None:
    assert target not in graph()[name]
    assert circle({**graph(), name: graph()[name] | {target}})


def test_every_folder_has_a_seeded_import_inside() -> None:
    assert {name.split(".")[0] for name, _ in LOWER_AND_HIGHER} == {folder.split(".")[0] for folder in FOLDERS}


WAYS = (
    "import otel_monitoring.cli.check",
    "import otel_monitoring.cli.check as innocent",
    "from otel_monitoring.cli import check",
    "from otel_monitoring.cli.check import check",
    "def later():\n    from otel_monitoring.cli.check import check",
    "try:\n    import otel_monitoring.cli.check\nexcept ImportError:\n    pass",
    "if TYPE_CHECKING:\n    pass\nelse:\n    import otel_monitoring.cli.check",
    "if not TYPE_CHECKING:\n    import otel_monitoring.cli.check",
    "importlib.import_module('otel_monitoring.cli.check')",
)


@pytest.mark.parametrize("source", WAYS)
def test_an_import_is_seen_however_it_is_written(source: str) -> None:
    assert ours(imported(ast.parse(source))) == {"cli.check"}


@pytest.mark.parametrize("source", ["import otel_monitoring", "from otel_monitoring import MonitoringService"])
def test_an_import_of_the_public_names_is_seen(source: str) -> None:
    assert ours(imported(ast.parse(source))) == {""}


def test_an_import_for_types_alone_is_none() -> None:
    assert ours(imported(ast.parse("if TYPE_CHECKING:\n    from otel_monitoring.cli.check import check"))) == set()


@pytest.mark.parametrize("source", ["from . import check", "from ..cli import check"])
def test_a_relative_import_is_refused(source: str) -> None:
    with pytest.raises(AssertionError, match="absolute"):
        ours(imported(ast.parse(source)))


def belongs(name: str, folder: str) -> bool:
    return name == folder or name.startswith(folder + ".")


def astray(found: Mapping[str, set[str]]) -> list[str]:
    """Every import of a package outside of the modules that own it."""
    return [
        f"{name} imports {target}"
        for name, targets in found.items()
        for target in targets
        for package, owners in OWNERS.items()
        if belongs(target, package) and not any(belongs(name, owner) for owner in owners)
    ]


def test_third_party_packages_stay_with_their_owners() -> None:
    assert astray(imports()) == []


@pytest.mark.parametrize("package", OWNERS)
def test_a_package_imported_elsewhere_is_found(package: str) -> None:
    assert astray({"guard": {f"{package}.part"}}) == [f"guard imports {package}.part"]


def test_only_config_and_environment_read_the_environment() -> None:
    readers = {
        name
        for name, tree in trees().items()
        for node in nodes(tree, ast.Attribute)
        if node.attr in {"environ", "getenv"}
    }
    assert {short(name).split(".")[0] for name in readers} <= {"config", "environment"}, readers
