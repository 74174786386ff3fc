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
from opentelemetry.sdk.trace import TracerProvider
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from otel_monitoring.errors import InstrumentationError
from otel_monitoring.guard import contained
from otel_monitoring.instrument import contrib
from otel_monitoring.instrument.fastapi import RequestOptions, current_request, instrument_app
from otel_monitoring.instrument.requests import CurrentRequest, redacted_query
from tests.conformance.application import Gates
from tests.conformance.observed import ENGINES, Observed

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


def hello(app: FastAPI | APIRouter, path: str = "/hello") -> None:
    @app.get(path)
    async def say() -> dict[str, bool]:
        return {"hello": True}


# --- errors of use -----------------------------------------------------------------------------------------------------


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


# --- engines -----------------------------------------------------------------------------------------------------------


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


def test_the_background_task_is_left_as_it_was() -> None:
    before = BackgroundTask.__call__
    app = FastAPI()
    contrib.apply(app, TracerProvider(shutdown_on_exit=False), operation_spans=False)
    assert BackgroundTask.__call__ is before
    assert not hasattr(BackgroundTask, "_otel_original_call")


async def test_mounted_applications_that_contrib_instrumented_are_not_counted_twice() -> None:
    FastAPIInstrumentor().instrument()
    try:
        app, sub = fastapi.FastAPI(), fastapi.FastAPI()
    finally:
        fastapi.FastAPI = FastAPIInstrumentor()._original_fastapi  # type: ignore[misc]  # undo its patch alone
    try:
        hello(sub)
        app.mount("/sub", sub)
        observed = observe_as_is(app)
        await get(app, "/sub/hello")
        assert routes(observed) == {"/sub/hello": 1}
    finally:
        fastapi.FastAPI = contrib.FastAPI  # type: ignore[misc]
        FastAPIInstrumentor().uninstrument()


def observe_as_is(app: FastAPI) -> Observed:
    """With contrib applied by whoever made the application."""
    return observe("contrib", app)


async def test_a_mounted_application_is_counted_once(engine: str) -> None:
    meters = MeterProvider(shutdown_on_exit=False)
    telemetry: dict[str, Any] = {"telemetry": {"meter_provider": meters}} if "native" in ENGINES else {}
    sub, app = FastAPI(**telemetry), FastAPI()
    hello(sub)
    app.mount("/sub", sub)
    observed = observe(engine, app)
    seen: list[Any] = []
    if telemetry:
        histogram = type(meters.get_meter("x").create_histogram("y"))
        original = histogram.record
        histogram.record = lambda self, *a, **k: (seen.append(self), original(self, *a, **k))[1]  # type: ignore[method-assign]
        try:
            await get(app, "/sub/hello")
        finally:
            histogram.record = original  # type: ignore[method-assign]
        assert len(seen) == 1
    else:
        await get(app, "/sub/hello")
    assert routes(observed) == {"/sub/hello": 1}
