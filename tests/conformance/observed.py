"""An instrumented application, what it measured, and a real server around it."""

import socket
from collections import Counter
from importlib.util import find_spec
from typing import Any

import httpx
from fastapi import FastAPI
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from starlette.types import Scope

from otel_monitoring.baggage import BaggageKeys
from otel_monitoring.instrumentation.http_server.fastapi import RequestError, RequestOptions, instrument_app
from otel_monitoring.metrics.direct_histogram import DirectHistogram
from otel_monitoring.telemetry.span_pipeline import BaggageSpanProcessor
from tests.conformance.application import WAIT, Gates
from tests.measured import metrics_of
from tests.threaded_server import ThreadedServer

ENGINES = ["native", "contrib"] if find_spec("fastapi.telemetry") else ["contrib"]
DURATION = "http.server.request.duration"
ACTIVE = "http.server.active_requests"


def by_attributes(point: tuple[dict[str, Any], int | float]) -> str:
    return repr(sorted(point[0].items()))


def excluded(scope: Scope) -> bool:
    return bool(scope["path"] == "/api/health")


class Observed:
    """One instrumented application: what it measured, and a server when one is needed."""

    def __init__(self, engine: str, app: FastAPI, gates: Gates, *, applied: bool = False, **options: Any) -> None:
        self.app = app
        self.gates = gates
        self.errors: list[RequestError] = []
        self.first_requests = 0
        self.metrics = InMemoryMetricReader()
        self.spans = InMemorySpanExporter()
        self.logs = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # the SDK left its __init__ untyped
        tracer_provider = TracerProvider(shutdown_on_exit=False)
        tracer_provider.add_span_processor(BaggageSpanProcessor(BaggageKeys(["order.id"])))
        tracer_provider.add_span_processor(SimpleSpanProcessor(self.spans))
        logger_provider = LoggerProvider(shutdown_on_exit=False)
        logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self.logs))
        self.meter_provider = meter_provider = MeterProvider([self.metrics], shutdown_on_exit=False)
        if engine == "contrib" and "native" in ENGINES and not applied:
            FastAPIInstrumentor.instrument_app(app, tracer_provider=tracer_provider, meter_provider=meter_provider)
        self._serving = False
        self._direct = DirectHistogram(DURATION)
        self._direct_counts: Counter[str] = Counter()
        self.instrumentation = instrument_app(
            app,
            tracer_provider=tracer_provider,
            meter_provider=meter_provider,
            logger_provider=logger_provider,
            durations=self._direct,
            options=RequestOptions(
                **{
                    "exclude": excluded,
                    "tracing": True,
                    "logs": True,
                    "on_error": self.errors.append,
                    "on_first_request": self._first_request,
                    **options,
                }
            ),
        )
        assert self.instrumentation.engine == engine
        self._server: ThreadedServer | None = None

    def _first_request(self) -> None:
        self.first_requests += 1

    def serve(self, **config: Any) -> str:
        """Start a server; returns its address."""
        # h11: httptools, where it is installed, answers methods that it does not know by itself.
        self._serving = True
        self._server = ThreadedServer(self.app, http="h11", lifespan="on", **config)
        return self._server.url

    @property
    def port(self) -> int:
        assert self._server is not None
        return self._server.port

    def stop(self) -> None:
        """Stop the server; every request has been measured when this returns."""
        self.gates.release.set()
        if self._server is not None:
            self._server.stop()
            self._serving = False

    def get(self, path: str, method: str = "GET", **kwargs: Any) -> httpx.Response:
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=WAIT) as client:
            return client.request(method, path, **kwargs)

    def raw(self, request: bytes) -> bytes:
        """Send bytes as they are; returns what came back until the server closed."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=WAIT) as connection:
            connection.sendall(request)
            answer = b""
            while part := connection.recv(65536):
                answer += part
        return answer

    def points(self, name: str = DURATION) -> list[tuple[dict[str, Any], int | float]]:
        """Attributes and count (histogram) or value (sum) of every series of one metric, in a stable order.

        Without a server that may be recording, what the aggregator gets is compared with what is exported.
        """
        found: list[tuple[dict[str, Any], Any]] = [
            (dict(point.attributes or {}), getattr(point, "count", None) or getattr(point, "value", 0))
            for metric in metrics_of(self.metrics)
            if metric.name == name
            for point in metric.data.data_points
        ]
        found.sort(key=by_attributes)
        if name == DURATION and not self._serving and self.instrumentation.meter_provider is self.meter_provider:
            assert self._direct_points() == {by_attributes(point): point[1] for point in found}
        return found

    def _direct_points(self) -> dict[str, int]:
        for series, durations in self._direct.take():
            self._direct_counts[by_attributes((dict(series.attributes), 0))] += durations.count
        return dict(self._direct_counts)

    def metric_names(self) -> set[str]:
        return {metric.name for metric in metrics_of(self.metrics)}

    def total(self) -> int:
        return int(sum(count for _, count in self.points()))

    def request_span(self) -> ReadableSpan:
        """The one span of a request: contrib, applied by the user, may make others of background tasks."""
        (span,) = [span for span in self.spans.get_finished_spans() if span.kind is SpanKind.SERVER]
        return span

    def exceptions(self) -> tuple[list[Any], list[Any]]:
        """The exceptions that have left: the span events, and the log records, that have `exception.type`."""
        events = [event for span in self.spans.get_finished_spans() for event in span.events]
        records = [entry.log_record for entry in self.logs.get_finished_logs()]
        told = ([one for one in ones if "exception.type" in (one.attributes or {})] for ones in (events, records))
        return next(told), next(told)

    def span(self) -> ReadableSpan:
        """The one span there is."""
        (span,) = self.spans.get_finished_spans()
        return span
