"""Instrumenting an application: engines, errors of use, the current request, what is the user's and what is ours."""

import asyncio
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import fastapi.routing
import httpx
import pytest
import starlette.routing
from fastapi import APIRouter, BackgroundTasks, FastAPI, Request
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from otel_monitoring import seams
from otel_monitoring.errors import InstrumentationError
from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.http_server import contrib
from otel_monitoring.instrumentation.http_server.current_request import CurrentRequest
from otel_monitoring.instrumentation.http_server.fastapi import RequestOptions, current_request, instrument_app
from otel_monitoring.instrumentation.url_query import redacted_query
from tests.conformance.application import Gates
from tests.conformance.conftest import collected  # noqa: F401 - a fixture
from tests.conformance.observed import ENGINES, Observed
from tests.measured import metrics_of

pytestmark = pytest.mark.anyio
native_only = pytest.mark.skipif("native" not in ENGINES, reason="this FastAPI has no telemetry of its own")


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def observe(engine: str, app: FastAPI, **options: Any) -> Observed:
    return Observed(engine, app, Gates(), **options)


def options(**changes: Any) -> RequestOptions:
    defaults: dict[str, Any] = {
        "exclude": lambda scope: False,
        "tracing": True,
        "logs": False,
        "on_error": lambda error: None,
        "on_first_request": lambda: None,
    }
    return RequestOptions(**{**defaults, **changes})


def instrument(app: Any, **changes: Any) -> Any:
    return instrument_app(
        app,
        tracer_provider=TracerProvider(shutdown_on_exit=False),
        meter_provider=MeterProvider(shutdown_on_exit=False),
        logger_provider=None,
        options=options(**changes),
    )


async def get(app: FastAPI, *paths: str) -> list[httpx.Response]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return [await client.get(path) for path in paths]


def routes(observed: Observed) -> dict[str | None, int]:
    return {attributes.get("http.route"): int(count) for attributes, count in observed.points()}


def metering() -> tuple[MeterProvider, InMemoryMetricReader]:
    reader = InMemoryMetricReader()
    return MeterProvider([reader], shutdown_on_exit=False), reader


def hello(app: FastAPI | APIRouter, path: str = "/hello") -> None:
    @app.get(path)
    async def say() -> dict[str, bool]:
        return {"hello": True}


# --- errors of use ---


@pytest.mark.parametrize(
    ("app", "named"),
    [
        (Starlette(), "starlette.applications.Starlette:"),
        (CORSMiddleware(FastAPI()), "CORSMiddleware, which wraps an application"),
        ("main:app", "builtins.str"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_application_is_named(app: object, named: str) -> None:
    with pytest.raises(InstrumentationError, match="needs the FastAPI application itself") as error:
        instrument(app)
    assert named in str(error.value)


def test_twice_is_an_error() -> None:
    app = FastAPI()
    instrument(app)
    with pytest.raises(InstrumentationError, match="instrumented already"):
        instrument(app)


async def test_too_late_is_an_error() -> None:
    app = FastAPI()
    hello(app)
    await get(app, "/hello")
    with pytest.raises(InstrumentationError, match="comes too late"):
        instrument(app)


# --- engines ---


def test_the_engine_follows_the_application() -> None:
    assert instrument(FastAPI()).engine == ENGINES[0]
    theirs = FastAPI()
    FastAPIInstrumentor.instrument_app(theirs)
    assert instrument(theirs).engine == "contrib"


async def test_contrib_added_as_middleware_is_repaired_too() -> None:
    app = FastAPI()
    hello(app, "/hello/{name}")
    app.add_middleware(OpenTelemetryMiddleware)
    observed = observe("contrib", app)
    await get(app, "/hello/you")
    assert routes(observed) == {"/hello/{name}": 1}


@native_only
async def test_contrib_added_later_takes_over_from_the_native_engine() -> None:
    app = FastAPI()
    hello(app, "/hello/{name}")
    observed = observe("native", app)
    app.add_middleware(OpenTelemetryMiddleware)
    await get(app, "/hello/you")
    assert observed.instrumentation.engine == "contrib"
    assert routes(observed) == {"/hello/{name}": 1}


def test_the_background_task_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    # Other tests apply contrib as a user does, which leaves its patch.
    before = getattr(BackgroundTask, "_otel_original_call", BackgroundTask.__call__)
    monkeypatch.setattr(BackgroundTask, "__call__", before)
    monkeypatch.delattr(BackgroundTask, "_otel_original_call", raising=False)
    app = FastAPI()
    contrib.apply(app, TracerProvider(shutdown_on_exit=False), operation_spans=False)
    assert BackgroundTask.__call__ is before
    assert not hasattr(BackgroundTask, "_otel_original_call")


async def test_mounted_applications_that_contrib_instrumented_are_counted_once() -> None:
    spans = InMemorySpanExporter()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    FastAPIInstrumentor().instrument(tracer_provider=tracers)
    try:
        app, sub = fastapi.FastAPI(), fastapi.FastAPI()
        hello(sub)
        app.mount("/sub", sub)
        observed = observe("contrib", app)
        await get(app, "/sub/hello")
        assert routes(observed) == {"/sub/hello": 1}
        assert [span.name for span in spans.get_finished_spans()] == ["GET /sub/hello"]
    finally:
        FastAPIInstrumentor().uninstrument()


async def test_a_mounted_application_with_telemetry_of_its_own_is_counted_once(engine: str) -> None:
    sub, app = FastAPI(), FastAPI()
    hello(sub)
    app.mount("/sub", sub)
    observed = observe(engine, app)
    vars(sub).get("_telemetry", {})["meter_provider"] = observed.meter_provider
    await get(app, "/sub/hello")
    assert routes(observed) == {"/sub/hello": 1}


# --- what the user chose ---


@native_only
async def test_what_the_user_passed_to_fastapi_stays() -> None:
    theirs = MeterProvider(shutdown_on_exit=False)
    app = FastAPI(telemetry={"meter_provider": theirs, "tracing": False, "exclude": lambda s: s["path"] == "/theirs"})
    hello(app, "/hello")
    hello(app, "/theirs")
    observed = observe("native", app, tracing=True)
    await get(app, "/hello", "/theirs")
    assert observed.instrumentation.meter_provider is theirs
    assert observed.points() == []
    assert not observed.spans.get_finished_spans()


@native_only
async def test_an_application_without_metrics_exports_none() -> None:
    app = FastAPI(telemetry={"metrics": False})
    hello(app, "/hello")
    observed = observe("native", app)
    await get(app, "/hello")
    assert metrics_of(observed.metrics) == []


@native_only
async def test_both_exclusions_count() -> None:
    app = FastAPI(telemetry={"exclude": lambda scope: scope["path"] == "/theirs"})
    for path in ("/hello", "/theirs", "/api/health"):
        hello(app, path)
    observed = observe("native", app)
    await get(app, "/hello", "/theirs", "/api/health")
    assert routes(observed) == {"/hello": 1}


@native_only
async def test_a_fastapi_that_hides_its_options_keeps_its_defaults(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(seams.FASTAPI_OPTIONS, "error", None)
    meters, reader = metering()
    app = FastAPI(telemetry={"meter_provider": meters, "tracing": False, "logs": False})
    hello(app)
    vars(app)["_telemetry"] = MappingProxyType(vars(app)["_telemetry"])
    assert instrument(app).engine == "native"
    assert (await get(app, "/hello"))[0].status_code == 200
    assert reader.get_metrics_data() is not None
    assert seams.FASTAPI_OPTIONS.without in caplog.text


@native_only
def test_fastapi_does_not_export_a_second_time() -> None:
    app = FastAPI(telemetry={"auto_configure": True})
    instrument(app)
    assert vars(app)["_telemetry"]["auto_configure"] is False


# --- the hooks ---


async def test_the_first_request_is_announced_before_it_is_handled(engine: str) -> None:
    happened: list[str] = []
    app = FastAPI()

    @app.get("/hello")
    async def say() -> None:
        happened.append("handled")

    observe(engine, app, on_first_request=lambda: happened.append("first"))
    await get(app, "/hello", "/hello")
    assert happened == ["first", "handled", "handled"]


async def test_hooks_that_raise_harm_nothing(engine: str) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("hook")

    app = FastAPI()
    hello(app)
    fail_open.failures.clear()
    observe(engine, app, on_first_request=fail, on_error=fail, watched_statuses=frozenset({404}))
    assert [answer.status_code for answer in await get(app, "/hello", "/none")] == [200, 404]
    assert fail_open.failures == {"start on the first request": 1, "report of a failed request": 1}


# --- the current request ---


@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings("ignore:.*MemoryObject.*:pytest.PytestUnraisableExceptionWarning")
async def test_the_documented_middleware_is_recognised_and_a_custom_operation_is_not(engine: str) -> None:
    seen: list[tuple[str, bool]] = []

    def record(endpoint: str) -> None:
        request = current_request()
        assert request is not None
        seen.append((endpoint, request.is_called(endpoint)))

    app = FastAPI()

    @app.middleware("http")
    async def record_metrics(request: Request, call_next: Callable[[Request], Any]) -> Response:
        try:
            response: Response = await call_next(request)
        except ValueError:
            record(request.url.path)
            raise
        record(request.url.path)
        return response

    @app.get("/work/{name:path}")
    async def work(name: str, tasks: BackgroundTasks) -> None:
        record("/api/complex-op/")
        await asyncio.to_thread(record, "/api/complex-op/")
        await asyncio.create_task(asyncio.to_thread(record, "/api/other/"))
        tasks.add_task(record, "/api/task/")

    @app.get("/raise")
    async def fail() -> None:
        raise ValueError

    observe(engine, app)
    paths = [
        "/work/a",
        "/work/a%20b",
        "/work/a%3Fb",
        "/work/%23x",
        "/work/%0Ay",
        "/work/%C3%A9",
        "/raise",
        "/api/health",
    ]
    await get(app, *paths)
    assert [known for endpoint, known in seen if endpoint.startswith("/api/") and endpoint != "/api/health"] == [
        False
    ] * 20
    assert [known for endpoint, known in seen if not endpoint.startswith("/api/") or endpoint == "/api/health"] == [
        True
    ] * 8
    assert current_request() is None


def test_a_path_is_compared_as_a_url_spells_it() -> None:
    assert CurrentRequest("/a?b").is_called("/a%3Fb")
    assert CurrentRequest("/a?b").is_called("/a")
    assert not CurrentRequest("/a").is_called("/b")
    assert not CurrentRequest("/a").is_called("/a/")


def test_a_query_loses_all_its_values() -> None:
    assert redacted_query(b"a=1&b=2=3&token&=x") == "a=REDACTED&b=REDACTED&REDACTED&=REDACTED"
    assert len(redacted_query(b"&".join([b"k" * 500 + b"=v"] * 500))) < 3000


# --- routes ---


async def count_matches(app: FastAPI, monkeypatch: pytest.MonkeyPatch, path: str) -> int:
    count = 0

    def counted(kind: Any) -> None:
        original = kind.matches

        def matches(self: Any, scope: Any) -> Any:
            nonlocal count
            count += 1
            return original(self, scope)

        monkeypatch.setattr(kind, "matches", matches)

    with monkeypatch.context():
        for kind in (starlette.routing.Route, starlette.routing.Mount, fastapi.routing.APIRoute):
            counted(kind)
        (answer,) = await get(app, path)
        monkeypatch.undo()
    assert answer.status_code == 200
    return count


def many_routes() -> FastAPI:
    app, sub, router = FastAPI(), FastAPI(), APIRouter(prefix="/included")
    for number in range(300):
        hello(app, f"/r{number}/{{item}}")
        hello(router, f"/r{number}/{{item}}")
        hello(sub, f"/r{number}/{{item}}")
    app.include_router(router)
    app.mount("/sub", sub)
    return app


@pytest.mark.parametrize("path", ["/r299/x", "/included/r299/x", "/sub/r299/x"])
@pytest.mark.slow
async def test_routes_are_matched_once(engine: str, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    bare = await count_matches(many_routes(), monkeypatch, path)
    assert bare >= 300
    app = many_routes()
    observed = observe(engine, app)
    await get(app, path)
    assert await count_matches(app, monkeypatch, path) == bare
    assert routes(observed) == {path.replace("/x", "/{item}"): 2}


async def test_a_route_that_comes_later_is_known(engine: str) -> None:
    app = FastAPI()
    hello(app)
    observed = observe(engine, app)
    await get(app, "/hello")
    hello(app, "/later/{name}")
    router = APIRouter(prefix="/more")
    app.include_router(router)
    await get(app, "/later/x")
    hello(router, "/even/{later}")
    if not hasattr(app.routes[-1], "path_regex"):
        # Only where included routers are a tree does the application learn of it.
        await get(app, "/more/even/x")
        assert routes(observed)["/more/even/{later}"] == 1
    assert routes(observed)["/later/{name}"] == 1


async def test_one_application_mounted_twice_has_two_routes(engine: str) -> None:
    app, sub = FastAPI(), FastAPI()
    hello(sub, "/{name}")
    app.mount("/one", sub)
    app.mount("/two", CORSMiddleware(sub))
    observed = observe(engine, app)
    await get(app, "/one/x", "/two/x")
    assert routes(observed) == {"/one/{name}": 1, "/two/{name}": 1}
