"""An application around ours does not measure our endpoints, whoever measures it."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Mount, Router

from otel_monitoring.instrumentation.http_server.mounting_application import watch_mounting_application
from otel_monitoring.monitoring import MonitoringService
from tests.asgi import served
from tests.conformance.application import Gates
from tests.conformance.observed import ENGINES, Observed

pytestmark = pytest.mark.anyio
PROBES = ["/health", "/health/live", "/health/ready", "/alerts/summary", "/health/live/"]


def shop() -> FastAPI:
    app = FastAPI()
    MonitoringService(None, store="memory").instrument(app)

    @app.get("/orders")
    async def orders() -> str:
        return "yes"

    return app


def deep(outer: FastAPI, inner: FastAPI) -> None:
    middle = FastAPI()
    middle.mount("/shop", CORSMiddleware(inner))
    outer.mount("/v1", middle)


WAYS: dict[str, tuple[str, Callable[[FastAPI, FastAPI], None]]] = {
    "mounted": ("/shop", lambda outer, inner: outer.mount("/shop", inner)),
    "mounted deeply": ("/v1/shop", deep),
    "by tenant": ("/acme", lambda outer, inner: outer.mount("/{tenant}", inner)),
    "by host": ("", lambda outer, inner: outer.host("test", Router([Mount("/", inner)]))),
    "behind a router": ("/x", lambda outer, inner: outer.mount("/x", APIRouter(routes=[Mount("", inner)]))),
}
TEMPLATES = {"by tenant": "/{tenant}"}


async def ask(outer: FastAPI, prefix: str) -> None:
    async with served(outer) as client:
        await client.get(f"{prefix}/orders")
        for probe in PROBES:
            assert (await client.get(f"{prefix}/api{probe}")).status_code in (200, 307, 403, 503)
        await client.get("/elsewhere/health")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("measured_by", [*ENGINES, "fastapi", "contrib alone"])
async def test_only_what_is_no_probe_is_measured(way: str, measured_by: str) -> None:
    if measured_by == "fastapi" and "native" not in ENGINES:
        pytest.skip("this FastAPI has no telemetry of its own")
    prefix, place = WAYS[way]
    spans = InMemorySpanExporter()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    options: dict[str, Any] = {"telemetry": {"tracer_provider": tracers}} if measured_by == "fastapi" else {}
    inner, outer = shop(), FastAPI(**options)
    place(outer, inner)
    if measured_by == "contrib alone":
        FastAPIInstrumentor.instrument_app(outer, tracer_provider=tracers, exclude_spans=["receive", "send"])
    if measured_by in ENGINES:
        service = MonitoringService(None, store="memory")
        if measured_by == "contrib" and "native" in ENGINES:
            FastAPIInstrumentor.instrument_app(outer)
        service.instrument(outer)
        await ask(outer, prefix)
        assert (await service.performance_metrics.get_summary())["requests_recorded"] == 2
        return
    await ask(outer, prefix)
    requests = [span for span in spans.get_finished_spans() if span.kind is SpanKind.SERVER]
    paths = [str((span.attributes or {}).get("url.path")) for span in requests]
    assert paths == [f"{prefix}/orders", "/elsewhere/health"]


@pytest.mark.parametrize("options", ["none", "no metrics", "providers of its own"])
@pytest.mark.parametrize("way", WAYS)
async def test_each_application_below_another_has_its_own_figures(way: str, options: str) -> None:
    spans = InMemorySpanExporter()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    chosen = {"none": {}, "no metrics": {"metrics": False}, "providers of its own": {"tracer_provider": tracers}}
    outer = FastAPI() if "native" not in ENGINES or options == "none" else FastAPI(telemetry=chosen[options])  # type: ignore[arg-type]
    services = []
    for name in ("billing", "shop"):  # the first one's providers are those of the process
        app = FastAPI()
        services.append(MonitoringService(None, store="memory", service_name=name).instrument(app))
        app.add_api_route("/orders/{order}", lambda order: order)
        if name == "billing":
            outer.mount("/billing", app)

    prefix, place = WAYS[way]
    place(outer, app)
    outer.add_api_route("/elsewhere", lambda: "own")
    async with served(outer) as client:
        for path in (f"{prefix}/orders/1", f"{prefix}/orders/2", f"{prefix}/none"):
            await client.get(path)
        for service in services:  # the last collection of a stop waits half a second, which a busy machine may need
            await service.performance_metrics.get_summary()
    assert not services[0].performance_metrics.endpoints
    counts = {name: one["call_count"] for name, one in services[1].performance_metrics.endpoints.items()}
    assert counts == {"/orders/{order}": 2, "(unmatched)": 1}
    if "native" in ENGINES and options == "providers of its own":
        names = [span.name for span in spans.get_finished_spans() if span.kind is SpanKind.SERVER]
        route = f"GET {TEMPLATES.get(way, prefix)}/orders/{{order}}"
        assert names[:2] == [route, route]
        assert len(names) == 3


async def test_what_an_application_around_leaves_out_for_itself_stays_left_out() -> None:
    if "native" not in ENGINES:
        pytest.skip("this FastAPI has no telemetry of its own")
    inner, outer = FastAPI(), FastAPI(telemetry={"exclude": lambda scope: "orders" in scope["path"]})
    service = MonitoringService(None, store="memory").instrument(inner)
    inner.add_api_route("/orders", lambda: "yes")
    outer.mount("/shop", inner)
    async with served(outer) as client:
        assert (await client.get("/shop/orders")).json() == "yes"
        assert (await client.get("/shop/none")).status_code == 404
        assert (await service.performance_metrics.get_summary())["requests_recorded"] == 1


async def test_an_application_without_ours_is_measured_whole() -> None:
    app = FastAPI()
    watch_mounting_application(FastAPI())
    app.add_api_route("/api/health", lambda: "own")
    observed = Observed(ENGINES[0], app, Gates(), exclude=lambda scope: False)
    over = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=over, base_url="http://test") as client:
        assert (await client.get("/api/health")).json() == "own"
    assert observed.total() == 1


async def test_what_the_application_below_keeps_for_itself_is_measured() -> None:
    inner, outer = shop(), FastAPI()
    inner.add_api_route("/api/health", lambda: "own")
    outer.mount("/shop", inner)
    service = MonitoringService(None, store="memory").instrument(outer)
    async with served(outer) as client:
        assert (await client.get("/shop/api/health")).json() == "own"
        assert (await client.get("/shop/api/health/live")).json() == {"status": "alive"}
        assert (await service.performance_metrics.get_summary())["requests_recorded"] == 1
