"""What this package leans on in other libraries: all of it is in the table, and the service lives without it."""

import ast
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from otel_monitoring import seams
from otel_monitoring.seams import Seam, all_seams
from tests.forked import called
from tests.otlp_sink import HttpSink
from tests.source import PATHS, nodes, trees
from tests.waiting import eventually

DESIGN = Path(__file__).parent.parent / "docs" / "design.md"
NATIVE = find_spec("fastapi.telemetry") is not None
KNOWN = {word for seam in all_seams() for name in seam.names for word in re.findall(r"\w+", name)}
# Named like private ones, but documented by those who made them, or exported in their `__all__`.
DOCUMENTED = {
    "_asdict",
    "_make",
    "_replace",
    "_fields",
    "_name_",
    "_value_",
    "_current_frames",
    "_getframe",
    "_get_running_loop",
    "_instrument",
    "_uninstrument",
}
BY_NAME = {"getattr", "hasattr", "setattr", "delattr", "load", "import_module", "find_spec", "get"}


def is_private(name: str) -> bool:
    return any(re.fullmatch(r"_[A-Za-z]\w*", part) for part in name.split("."))


def constants(tree: ast.Module) -> dict[str, str]:
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


@cache
def own_names(tree: ast.Module) -> set[str]:
    """What the classes of the module call their own."""
    own = {node.name for node in nodes(tree, ast.FunctionDef)}
    own.update(node.name for node in nodes(tree, ast.AsyncFunctionDef))
    own.update(node.target.id for node in nodes(tree, ast.AnnAssign) if isinstance(node.target, ast.Name))
    own.update(
        node.attr for node in nodes(tree, ast.Attribute) if isinstance(node.ctx, ast.Store) and is_of(node, "self")
    )
    return own


def is_of(node: ast.Attribute, *names: str) -> bool:
    """Whether an attribute is looked up on one of these names."""
    return isinstance(node.value, ast.Name) and node.value.id in names


def private_uses(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Private names that are not looked up on `self` or `cls`, imported, or passed to what looks up by name."""
    known = constants(tree)
    for node in nodes(tree, ast.Attribute):
        if is_private(node.attr) and not is_of(node, "self", "cls"):
            yield node.lineno, node.attr
    imports: list[ast.Import | ast.ImportFrom] = [*nodes(tree, ast.Import), *nodes(tree, ast.ImportFrom)]
    for imported in imports:
        module = (imported.module or "") if isinstance(imported, ast.ImportFrom) else ""
        for alias in imported.names:
            if is_private(f"{module}.{alias.name}") and not module.startswith("otel_monitoring"):
                yield imported.lineno, f"{module}.{alias.name}"
    for call in nodes(tree, ast.Call):
        for argument in call.args if called(call) in BY_NAME else ():
            text = known.get(argument.id) if isinstance(argument, ast.Name) else getattr(argument, "value", None)
            if isinstance(text, str) and is_private(text):
                yield call.lineno, text


def test_every_private_name_of_others_is_in_the_table() -> None:
    """A public name may take its place; otherwise it is a `Seam`."""
    unknown = [
        f"{module}:{line}: {name}"
        for module, tree in trees().items()
        for line, name in private_uses(tree)
        if not {part for part in name.split(".") if is_private(part)} <= KNOWN | DOCUMENTED
        and name not in own_names(tree)
    ]
    assert unknown == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what is imported for the first time here
def test_no_private_method_of_others_is_overridden_unnoticed() -> None:
    modules = [importlib.import_module(module) for module in PATHS if not module.endswith("__main__")]
    classes = {
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__.startswith("otel_monitoring.")
    }
    overridden = {
        f"{kind.__qualname__}.{name}"
        for kind in classes
        for base in kind.__mro__[1:]
        if base.__module__.partition(".")[0] not in {"otel_monitoring", *sys.stdlib_module_names}
        for name in vars(kind).keys() & vars(base).keys()
        if is_private(name) and name not in KNOWN | DOCUMENTED and inspect.isroutine(getattr(kind, name))
    }
    assert overridden == set()


@pytest.mark.slow
def test_the_table_has_nothing_that_is_not_used() -> None:
    source = "\n".join(ast.unparse(tree) for module, tree in trees().items() if module != "otel_monitoring.seams")
    for attribute, value in vars(seams).items():
        if isinstance(value, Seam):
            assert f"seams.{attribute}" in source or value in NEVER_FAIL, attribute
    words = {word for word in KNOWN if is_private(word)} - PARTS
    assert {word for word in words if not re.search(rf"\b{word}\b", source)} == set()


# Names that are only compared: nothing fails without them.
NEVER_FAIL = {seams.PROXIES, seams.RUNNERS}
PARTS = {"_ProxyMeterProvider", "_ViewInstrumentMatch"}


def test_the_page_about_the_design_has_the_table() -> None:
    rows = [
        f"| {seam.library} | {', '.join(f'`{name}`' for name in seam.names)} | {seam.purpose} | {seam.without} |"
        for seam in all_seams()
    ]
    table = "\n".join(["| library | names | what for | without |", "|---|---|---|---|", *rows])
    assert table in DESIGN.read_text()


def test_a_seam_warns_once_with_the_version(caplog: pytest.LogCaptureFixture) -> None:
    seam = Seam("pytest", "thing._private", purpose="testing", without="nothing is tested")
    for _ in range(3):
        with seam:
            raise AttributeError("gone")
    assert not seam.holds
    assert seam.get(lambda: 1 // 0, 7) == 7
    assert seam.load("no.such.module") is None
    assert [record.getMessage() for record in caplog.records] == [
        f"pytest {pytest.__version__} is built differently than this version of otel_monitoring expects "
        "(thing._private: AttributeError: gone): nothing is tested"
    ]


def test_a_seam_keeps_no_interruption() -> None:
    with pytest.raises(KeyboardInterrupt), Seam("pytest", "thing._private", purpose="", without=""):
        raise KeyboardInterrupt


def test_a_library_that_is_not_installed_has_no_version() -> None:
    assert Seam("no-such-library", "_name", purpose="", without="").version is None


NATIVE_ONLY = pytest.mark.skipif(not NATIVE, reason="this FastAPI has no telemetry of its own")
CONTRIB_ONLY = pytest.mark.skipif(NATIVE, reason="this FastAPI measures requests itself")


# Nothing is off without them: in one process, because each of them would be as silent alone.
NOT_MISSED = [
    "_receive_metrics",
    "_preferred_temporality",
    "_preferred_aggregation",
    "_ProxyMeterProvider",
    "_semconv",
    "duration_histogram_new",
    "ExceptionHandlerMiddleware",
    "iter_route_contexts",
    "original_router",
    "ServerErrorMiddleware",
    "_closed",
]


@pytest.mark.parametrize(
    ("how", "name", "lost"),
    [
        ("renamed", ",".join(NOT_MISSED), None),
        ("renamed", "_create_aggregation", seams.EXEMPLARS),
        ("raises", "_create_aggregation", seams.EXEMPLARS),
        ("renamed", "reservoir_factory", seams.EXEMPLARS),
        ("renamed", "_reader_storages", seams.READER_STORAGE),
        ("renamed", "_instrument_view_instrument_matches", seams.READER_STORAGE),
        ("renamed", "_attributes_aggregation", seams.SDK_SERIES),
        ("renamed", "_hash_attributes", seams.SDK_SERIES),
        ("renamed", "_sdk_config", seams.SDK_SERIES),
        ("renamed", "_get_or_init_view_instrument_match", seams.SDK_SERIES),
        ("renamed", "_is_enabled", seams.SDK_SERIES),
        ("renamed", "_measurement_consumer", None),
        ("renamed", "_batch_processor", seams.EXPORT_QUEUE),
        ("renamed", "_metrics", seams.EXPORT_QUEUE),
        ("renamed", "_queue", seams.EXPORT_QUEUE),
        ("renamed", "timeout_millis", seams.EXPORT_QUEUE),
        ("renamed", "_update_resource", seams.RESOURCE),
        ("raises", "_update_resource", None),
        ("renamed", "_logs", seams.LOGS),
        pytest.param("gone", "opentelemetry._logs", seams.LOGS, marks=CONTRIB_ONLY),  # FastAPI itself needs it
        ("gone", "opentelemetry.sdk._logs", seams.LOGS),
        ("renamed", "_log_exporter", seams.LOG_EXPORTER),
        ("renamed", "_SUPPRESS_INSTRUMENTATION_KEY", seams.SUPPRESSION),
        ("gone", "opentelemetry.instrumentation.pymongo", None),
        pytest.param("gone", "opentelemetry.instrumentation.asgi", None, marks=NATIVE_ONLY),
        pytest.param("gone", "opentelemetry.instrumentation.asgi", seams.CONTRIB, marks=CONTRIB_ONLY),
        pytest.param("gone", "opentelemetry.instrumentation.fastapi", None, marks=NATIVE_ONLY),
        pytest.param("gone", "opentelemetry.instrumentation.fastapi", seams.CONTRIB, marks=CONTRIB_ONLY),
        pytest.param("renamed", "_is_instrumented_by_opentelemetry", seams.CONTRIB, marks=CONTRIB_ONLY),
        pytest.param("renamed", "_otel_original_call", seams.CONTRIB, marks=CONTRIB_ONLY),
        pytest.param("renamed", "_telemetry", seams.FASTAPI_OPTIONS, marks=NATIVE_ONLY),
        pytest.param("renamed", "_mount_prefix", seams.FASTAPI_REQUEST, marks=NATIVE_ONLY),
        pytest.param("renamed", "_RequestTelemetry", seams.FASTAPI_REQUEST, marks=NATIVE_ONLY),
        pytest.param("renamed", "_REQUEST_TELEMETRY_KEY", seams.FASTAPI_REQUEST, marks=NATIVE_ONLY),
        pytest.param("renamed", "_exceptions", seams.FASTAPI_REQUEST, marks=NATIVE_ONLY),
        pytest.param("renamed", "effective_route_contexts", seams.FASTAPI_ROUTES, marks=NATIVE_ONLY),
        ("renamed", "_event_listeners", seams.MONGO_LISTENERS),
        ("renamed", "_topology", seams.MONGO_SERVERS),
        ("renamed", "_servers", seams.MONGO_SERVERS),
        ("renamed", "_monitor", seams.MONGO_SERVERS),
        pytest.param("renamed", "_should_publish", seams.MONGO_SERVERS, marks=NATIVE_ONLY),
        pytest.param("renamed", "enabled_for_cmap", seams.MONGO_SERVERS, marks=CONTRIB_ONLY),
        ("renamed", "_LISTENERS", seams.MONGO_REGISTRY),
    ],
)
@pytest.mark.slow
def test_the_service_lives_without(how: str, name: str, lost: Seam | None) -> None:
    """The application answers, its metrics leave, and one line says what is off, in the log and the diagnostics."""
    with HttpSink() as sink:
        done = subprocess.run(
            [sys.executable, "-m", "tests.renamed", how, name],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
            env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint, "OTEL_MONITORING_STORE": "memory"},
        )
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout.splitlines()[-1])
        eventually(lambda: any(metric.name == "shop.sizes" for metric in sink.metrics()))
        bodies = [record.body.string_value for record in sink.records()]
        spans = {span.name for span in sink.spans()}
    assert told["answers"] == [200, 200, 500, 404]
    assert told["health"] == ["status", "timestamp", "uptime_seconds"]
    if lost is None:
        assert told["seams"] == []
        assert told["lines"] == []
    else:
        # One name may be of several libraries: PyMongo's pools have a `_telemetry` as well.
        assert lost.names[0] in [seam["name"] for seam in told["seams"]]
        assert all(name in json.dumps(all_names(seam["name"])) or how == "gone" for seam in told["seams"][1:])
        assert len(told["lines"]) == len(told["seams"])
        (line,) = [line for line in told["lines"] if lost.without in line]
        assert line.startswith(f"{lost.library} {lost.version} ")
    if lost not in (seams.LOGS, seams.LOG_EXPORTER):
        assert "order 1" in bodies
    if lost is not seams.CONTRIB or NATIVE:
        assert any(span.startswith("GET /") for span in spans)


def all_names(first: str) -> tuple[str, ...]:
    return next(seam.names for seam in all_seams() if seam.names[0] == first)
