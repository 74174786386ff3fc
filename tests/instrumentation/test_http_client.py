"""Outgoing HTTP by three clients, against a real server: spans, durations, headers, and what stays at home."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import aiohttp
import httpx
import pytest
import requests
from opentelemetry import baggage, propagate
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.http_client import InternalHosts, InternalOnlyBaggagePropagator, instrument_clients
from otel_monitoring.runtime.current_service import current_service
from otel_monitoring.tracing import tagged
from tests.http_server import HttpServer


class Server(HttpServer):
    """The address of a page with a secret, and the headers of each request."""

    @property
    def page(self) -> str:
        return f"{self.url}/path?password=hunter2"

    @property
    def headers(self) -> list[Mapping[str, str]]:
        return [request.headers for request in self.requests]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


def by_httpx(url: str) -> None:
    with httpx.Client(trust_env=False) as client:
        client.get(url)


def by_httpx_soon(url: str) -> None:
    async def get() -> None:
        before = baggage.get_all()
        async with httpx.AsyncClient(trust_env=False) as client:
            await client.get(url)
        assert baggage.get_all() == before

    asyncio.run(get())


def by_aiohttp(url: str) -> None:
    async def get() -> None:
        before = baggage.get_all()
        async with aiohttp.ClientSession() as session, session.get(url):
            pass
        assert baggage.get_all() == before

    asyncio.run(get())


def by_requests(url: str) -> None:
    with requests.Session() as session:
        session.trust_env = False
        session.get(url, timeout=30)


CLIENTS = [by_httpx, by_httpx_soon, by_aiohttp, by_requests]
Get = Callable[[str], None]


class Instrumented:
    def __init__(self) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)

    def metrics(self) -> list[str]:
        data: Any = self.reader.get_metrics_data()
        return [m.name for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics] if data else []


@contextmanager
def instrumented(**options: Any) -> Iterator[Instrumented]:
    kept = Instrumented()
    undo = instrument_clients(kept.tracers, kept.meters, **options)
    try:
        yield kept
    finally:
        undo()
        kept.meters.shutdown()
    assert not fail_open.failures


@pytest.mark.parametrize("get", CLIENTS)
def test_a_request_is_a_span_a_duration_and_a_header(server: Server, get: Get) -> None:
    with instrumented() as kept, tagged({"order.id": "o-1"}):
        get(server.page)
    (span,) = kept.exporter.get_finished_spans()
    assert span.kind is SpanKind.CLIENT
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == 200
    assert kept.metrics() == ["http.client.request.duration"]
    (headers,) = server.headers
    assert headers["traceparent"].split("-")[1:3] == [f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"]
    assert headers["baggage"] == "order.id=o-1"


@pytest.mark.parametrize("get", CLIENTS)
def test_values_of_the_query_stay_off_the_span_unless_wanted(server: Server, get: Get) -> None:
    shown = []
    for capture_query in (False, True):
        with instrumented(capture_query=capture_query) as kept:
            get(server.page)
        (span,) = kept.exporter.get_finished_spans()
        shown.append((span.attributes or {})["url.full"])
    assert shown == [server.page.replace("hunter2", "REDACTED"), server.page]


@pytest.mark.parametrize("get", CLIENTS)
def test_strangers_get_no_baggage(server: Server, get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InternalHosts, "is_internal", lambda _self, _host: False)
    with instrumented(), tagged({"order.id": "o-1"}):
        get(server.page)
        assert baggage.get_all() == {"order.id": "o-1"}
        carrier: dict[str, str] = {}
        propagate.inject(carrier)  # by hand, or by another library: as ever
    (headers,) = server.headers
    assert "traceparent" in headers
    assert "baggage" not in headers
    assert carrier["baggage"] == "order.id=o-1"


@pytest.mark.parametrize("get", CLIENTS)
def test_suppressed_requests_leave_no_trace(server: Server, get: Get) -> None:
    with instrumented() as kept, suppress_instrumentation():
        get(server.page)
    assert kept.exporter.get_finished_spans() == ()
    assert kept.metrics() == []
    assert "traceparent" not in server.headers[0]


@pytest.mark.parametrize("get", CLIENTS)
def test_the_undo_undoes_all_of_it(server: Server, get: Get) -> None:
    before = propagate.get_global_textmap()
    with instrumented() as kept:
        assert isinstance(propagate.get_global_textmap(), InternalOnlyBaggagePropagator)
    assert propagate.get_global_textmap() is before
    get(server.page)
    assert kept.exporter.get_finished_spans() == ()
    assert "traceparent" not in server.headers[0]


def test_what_somebody_else_instrumented_stays_theirs(server: Server) -> None:
    theirs = Instrumented()
    HTTPXClientInstrumentor().instrument(tracer_provider=theirs.tracers, meter_provider=theirs.meters)
    try:
        with instrumented() as ours:
            by_httpx(server.page)
        by_httpx(server.page)
    finally:
        HTTPXClientInstrumentor().uninstrument()
    assert ours.exporter.get_finished_spans() == ()
    assert len(theirs.exporter.get_finished_spans()) == 2


class Service:
    """As far as this cares, one is as good as another."""


@pytest.mark.parametrize("get", CLIENTS)
def test_each_services_requests_are_its_own(server: Server, get: Get) -> None:
    first, other, silent = Service(), Service(), Service()

    def of(service: Service) -> None:
        token = current_service.set(service)  # type: ignore[arg-type]
        try:
            get(server.page)
        finally:
            current_service.reset(token)

    with instrumented(service=other, baggage_hosts=["127.0.0.1"]) as others, tagged({"order.id": "o-1"}):
        with instrumented(service=first, capture_query=True) as firsts:
            for service in (first, other, silent):
                of(service)
        of(other)
        of(first)
        get(server.page)
    (span,) = firsts.exporter.get_finished_spans()
    assert "hunter2" in str((span.attributes or {})["url.full"])
    assert firsts.metrics() == others.metrics() == ["http.client.request.duration"]
    spans = others.exporter.get_finished_spans()
    assert len(spans) == 3  # with the one outside of all
    assert not any("hunter2" in span.to_json() for span in spans)
    assert not hasattr(httpx.HTTPTransport.handle_request, "__wrapped__")


def test_a_client_without_its_instrumentation_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_monitoring.instrumentation.http_client.find_spec", lambda _name: None)
    with instrumented():
        assert not hasattr(httpx.HTTPTransport.handle_request, "__wrapped__")


@pytest.mark.slow
def test_a_library_that_stands_in_for_a_client_starts_with_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "requests", ModuleType("niquests"))  # as its documentation says
    instrument_clients(TracerProvider(), MeterProvider())()


def test_a_client_is_loaded_by_the_application_alone_and_its_instrumentation_by_the_first_request() -> None:
    code = """
import sys
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import NoOpTracerProvider
from otel_monitoring.instrumentation.http_client import instrument_clients
from otel_monitoring.runtime.suppression import suppress_instrumentation
clients = ["aiohttp", "httpx", "requests"]
def loaded(*names): return sorted(set(names) & sys.modules.keys())
def send(): requests.Session().send(requests.Request("GET", "http://127.0.0.1:1").prepare(), timeout=5)
def fails(send):
    try: send()
    except requests.ConnectionError: return True
undos = [instrument_clients(NoOpTracerProvider(), NoOpMeterProvider()) for _ in range(2)]
assert not loaded(*clients)
import aiohttp, httpx, requests
before = aiohttp.ClientSession.__init__, httpx.HTTPTransport.handle_request
with suppress_instrumentation(): assert fails(send)
assert not loaded("wrapt", "packaging", *(f"opentelemetry.instrumentation.{name}" for name in clients))
assert fails(send)
assert requests.Session.send.opentelemetry_instrumentation_requests_applied
assert loaded("opentelemetry.instrumentation.httpx") == []
for undo in undos: undo()
assert before != (aiohttp.ClientSession.__init__, httpx.HTTPTransport.handle_request)
assert not hasattr(httpx.HTTPTransport.handle_request, "__wrapped__")
assert not hasattr(requests.Session.send, "__wrapped__")
instrument_clients(NoOpTracerProvider(), NoOpMeterProvider())
assert fails(send)
assert requests.Session.send.opentelemetry_instrumentation_requests_applied
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("::1", True),
        ("fd00::1", True),
        ("delivery", True),
        ("delivery.shop.svc", True),
        ("delivery.shop.svc.cluster.local", True),
        ("api.example.com", True),
        ("a.partner.example", True),
        ("partner.example", False),
        ("evil-api.example.com", False),
        ("api.example.com.evil.net", False),
        ("8.8.8.8", False),
        ("2001:4860:4860::8888", False),
        ("localhost.evil.net", False),
        ("", False),
    ],
)
def test_who_is_private(host: str, own: bool) -> None:
    assert InternalHosts(["api.example.com", ".partner.example"]).is_internal(host) is own
