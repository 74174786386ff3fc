"""Imports point downwards only, and third-party packages stay in the modules that own them."""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "otel_monitoring"

# A module imports from the floors below its own; on its own floor, from its own folder alone.
FLOORS = (
    {"environment", "errors", "forks", "guard", "redact", "seams", "semconv", "baggage", "timestamps"},
    {"config", "runtime"},
    {"telemetry", "metrics"},
    {"instrumentation", "alerts"},
    {"health", "tracing", "export"},
    {"endpoints"},
    {"monitoring"},
    {"cli", "zero_code", "testing", ""},
)
# Where a folder, or the ground floor, has an order of its own: a part imports from those before it.
ORDER = {
    "ground": ("errors", "timestamps", "semconv", "baggage", "forks", "redact", "environment", "guard", "seams"),
    "alerts": (
        *("model", "rules", "store", "evaluation", "notify"),
        *("otel_signals", "intake", "overview", "manager", "evaluator", ""),
    ),
}
OWNERS = {
    "fastapi": {"instrumentation.http_server", "endpoints"},
    "starlette": {"instrumentation.http_server", "endpoints"},
    "pymongo": {"instrumentation.mongodb", "health", "alerts.store", "zero_code.mongo_clients"},
    "bson": {"instrumentation.mongodb", "health", "alerts.store"},
    "psutil": {"instrumentation.system"},
    "httpx": {"alerts.notify.channels", "cli.client", "cli.doctor.clock"},
    "yaml": {"export"},
    "grafana_foundation_sdk": {"export.dashboards"},
    "aiosmtplib": {"alerts.notify.channels.email"},
    "apprise": {"alerts.notify.channels.apprise"},
    "opentelemetry.sdk": {"metrics.reader", "telemetry"},
    "opentelemetry.exporter": {"telemetry"},
}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield name.removesuffix("__init__").removesuffix("."), ast.parse(path.read_text())


MODULES = dict(modules())


def imported(tree: ast.Module) -> Iterator[str]:
    typing_only = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and "TYPE_CHECKING" in ast.unparse(test.test)
        for node in ast.walk(test)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            for alias in node.names:
                inner = f"{module}.{alias.name}".removeprefix("otel_monitoring").removeprefix(".")
                yield f"otel_monitoring.{inner}" if inner in MODULES else module


def ours(tree: ast.Module) -> set[str]:
    """The modules of this package that a module imports."""
    prefix = "otel_monitoring."
    return {name.removeprefix(prefix) for name in imported(tree) if name.startswith(prefix)}


GRAPH = {name: ours(tree) for name, tree in MODULES.items()}


def floor(module: str) -> int:
    folder = module.split(".")[0]
    return next(number for number, folders in enumerate(FLOORS) if folder in folders)


def part(module: str, folder: str) -> str:
    """Which entry of the folder's order a module is in."""
    return module.split(".")[0] if folder == "ground" else module.removeprefix(folder).removeprefix(".").split(".")[0]


def upward(graph: Mapping[str, set[str]]) -> list[str]:
    """Every import that points the wrong way, from the full names of both modules."""
    found = []
    for name, targets in graph.items():
        for target in targets:
            here, there = name.split(".")[0], target.split(".")[0]
            folder = "ground" if floor(name) == floor(target) == 0 else here
            if here == there or folder == "ground":
                order = ORDER.get(folder, ())
                wrong = bool(order) and order.index(part(target, folder)) > order.index(part(name, folder))
            else:
                wrong = floor(target) >= floor(name)
            if wrong:
                found.append(f"{name} imports {target}")
    return found


def circle(graph: Mapping[str, set[str]]) -> list[str] | None:
    """Modules that import one another in a circle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return None


def test_every_module_has_a_floor() -> None:
    folders = {name.split(".")[0] for name in MODULES}
    assert folders == {folder for floor_ in FLOORS for folder in floor_}


@pytest.mark.parametrize("folder", ORDER)
def test_every_part_has_its_place(folder: str) -> None:
    inside = [name for name in MODULES if (floor(name) == 0 if folder == "ground" else name.split(".")[0] == folder)]
    assert {part(name, folder) for name in inside} == set(ORDER[folder])


def test_imports_point_downwards() -> None:
    assert upward(GRAPH) == []


def test_imports_make_no_circle() -> None:
    assert circle(GRAPH) is None


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
    ("endpoints.routes", "monitoring.service"),
    ("monitoring.service", "zero_code.entry_points"),
    ("cli.check", "zero_code.entry_points"),
    ("zero_code.entry_points", "testing"),
)


@pytest.mark.parametrize(("name", "target"), SEEDED)
def test_a_wrong_import_is_found(name: str, target: str) -> None:
    assert {name, target} <= MODULES.keys()
    assert upward({name: {target}}) == [f"{name} imports {target}"]


def test_every_floor_has_a_seeded_import() -> None:
    assert {floor(name) for name, _ in SEEDED} == set(range(len(FLOORS)))


def test_a_circle_inside_a_folder_is_found() -> None:
    found = circle({"config.a": {"config.b"}, "config.b": {"config.a"}})
    assert found is not None
    assert set(found) == {"config.a", "config.b"}


@pytest.mark.parametrize("name", MODULES)
def test_third_party_packages_stay_with_their_owners(name: str) -> None:
    for target in imported(MODULES[name]):
        for package, owners in OWNERS.items():
            if target == package or target.startswith(package + "."):
                assert any(name == owner or name.startswith(owner + ".") for owner in owners), f"{name}: {target}"


def test_only_config_and_environment_read_the_environment() -> None:
    readers = {
        name
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"})
    }
    assert {name.split(".")[0] for name in readers} <= {"config", "environment"}, readers
