"""How each variant is put in place, as its documentation says. Runs in the worker, in the variant's environment."""

from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any


def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Instrumented:
    """An application ready to be called.

    Attributes:
        app: The ASGI application.
        flush: Sends what the requests so far have produced and returns when it is sent.
        proof: A path, and a text that its answer has once requests were measured.
        service: Our `MonitoringService`, where there is one.
    """

    app: Any
    flush: Callable[[], object] = _nothing
    proof: tuple[str, str] | None = None
    service: Any = None


def _make(routes: int, **options: Any) -> Any:
    # Imported late: some instrumentation must be there before FastAPI is.
    return import_module("tests.benchmarks.application").make_app(routes, **options)


def bare(routes: int) -> Instrumented:
    """Nothing."""
    return Instrumented(_make(routes))


def _meters() -> None:
    """The SDK's global meter provider with the one ordinary exporter."""
    sdk = import_module("opentelemetry.sdk.metrics")
    reader = import_module("opentelemetry.sdk.metrics.export").PeriodicExportingMetricReader
    exporter = import_module("opentelemetry.exporter.otlp.proto.http.metric_exporter").OTLPMetricExporter
    import_module("opentelemetry.metrics").set_meter_provider(sdk.MeterProvider(metric_readers=[reader(exporter())]))


def _tracers() -> Callable[[], object]:
    """The SDK's global tracer provider with the one ordinary exporter; returns how to flush spans."""
    provider = import_module("opentelemetry.sdk.trace").TracerProvider()
    provider.add_span_processor(_batches())
    import_module("opentelemetry.trace").set_tracer_provider(provider)
    flush: Callable[[], object] = provider.force_flush
    return flush


def _batches() -> Any:
    processor = import_module("opentelemetry.sdk.trace.export").BatchSpanProcessor
    exporter = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter").OTLPSpanExporter
    return processor(exporter())


def export_by_hand() -> None:
    """The SDK's global providers of all signals with the ordinary exporters."""
    _meters()
    _tracers()
    sdk, export = import_module("opentelemetry.sdk._logs"), import_module("opentelemetry.sdk._logs.export")
    exporter = import_module("opentelemetry.exporter.otlp.proto.http._log_exporter").OTLPLogExporter
    provider = sdk.LoggerProvider()
    provider.add_log_record_processor(export.BatchLogRecordProcessor(exporter()))
    import_module("opentelemetry._logs").set_logger_provider(provider)


def native_metrics(routes: int) -> Instrumented:
    """FastAPI with a meter provider."""
    _meters()
    return Instrumented(_make(routes))


def native_spans(routes: int) -> Instrumented:
    """FastAPI with a tracer provider."""
    return Instrumented(_make(routes), _tracers())


def native(routes: int) -> Instrumented:
    """FastAPI with a meter and a tracer provider."""
    _meters()
    return Instrumented(_make(routes), _tracers())


def native_lean(routes: int) -> Instrumented:
    """The same without the spans inside a request."""
    _meters()
    return Instrumented(_make(routes, telemetry={"operation_spans": False}), _tracers())


def contrib(routes: int) -> Instrumented:
    """`FastAPIInstrumentor` with its defaults."""
    _meters()
    flush = _tracers()
    app = _make(routes)
    import_module("opentelemetry.instrumentation.fastapi").FastAPIInstrumentor.instrument_app(app)
    return Instrumented(app, flush)


def logfire(routes: int) -> Instrumented:
    """Logfire with an OTLP endpoint of one's own in place of its service."""
    package = import_module("logfire")
    reader = import_module("opentelemetry.sdk.metrics.export").PeriodicExportingMetricReader
    exporter = import_module("opentelemetry.exporter.otlp.proto.http.metric_exporter").OTLPMetricExporter
    package.configure(
        send_to_logfire=False,
        console=False,
        additional_span_processors=[_batches()],
        metrics=package.MetricsOptions(additional_readers=[reader(exporter())]),
    )
    app = _make(routes)
    package.instrument_fastapi(app)
    return Instrumented(app, package.force_flush)


def prometheus(routes: int) -> Instrumented:
    """The two calls of its documentation."""
    app = _make(routes)
    import_module("prometheus_fastapi_instrumentator").Instrumentator().instrument(app).expose(app)
    return Instrumented(app, proof=("/metrics", "http_request_duration_seconds_count"))


def fastapi_watch(routes: int) -> Instrumented:
    """Every route discovered, as its quick start has it."""
    package = import_module("fastapi_watch")
    registry: Any = None

    @asynccontextmanager
    async def lifespan(_: object) -> Any:
        registry.discover_routes(tags=["api"], max_error_rate=0.05)
        registry.set_started()
        yield

    app = _make(routes, lifespan=lifespan)
    registry = package.HealthRegistry(app)
    return Instrumented(app, proof=("/health/status", "request_count"))


def ddtrace(routes: int) -> Instrumented:
    """What `ddtrace-run` does."""
    import_module("ddtrace.auto")
    return Instrumented(_make(routes), import_module("ddtrace.trace").tracer.flush)


def _ours(routes: int) -> Instrumented:
    package = import_module("otel_monitoring")
    app = _make(routes)
    service = package.MonitoringService(access="open", service_name="benchmark").instrument(app)
    provider = import_module("opentelemetry.trace").get_tracer_provider()
    flush = getattr(provider, "force_flush", _nothing)
    return Instrumented(app, flush, ("/api/health/diagnostics", "/v1/resource-0/items/{item_id}"), service)


ours_embedded = ours_traces = ours_full = _ours


def ours_without_rules(routes: int) -> Instrumented:
    """Ours, evaluating nothing."""
    instrumented = _ours(routes)
    manager = instrumented.service.alert_manager
    for rule in manager.rules:
        manager.remove_rule(rule.name)
    return instrumented
