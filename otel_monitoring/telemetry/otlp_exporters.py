"""The SDK's OTLP exporters, with every export counted in an `ExportState`.

An exporter is imported when it is made: without an endpoint, neither it nor `grpc` is loaded.
"""

import importlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import certifi
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.util.re import parse_env_headers

from otel_monitoring import seams
from otel_monitoring.config.otlp import OtlpSettings, Signal
from otel_monitoring.config.requests import names_credential_provider, needs_requests
from otel_monitoring.forks import renewed
from otel_monitoring.telemetry.export_state import ExportState
from otel_monitoring.telemetry.http_transport import HttpTransport, check_status

_EXPORTERS: dict[Signal, tuple[str, str]] = {
    "traces": ("trace_exporter", "OTLPSpanExporter"),
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
    "logs": ("_log_exporter", "OTLPLogExporter"),
}
_GRPC_COMPRESSION = {"gzip": "Gzip", "deflate": "Deflate", "none": "NoCompression"}


def make_exporter(signal: Signal, settings: OtlpSettings, meters: MeterProvider | None = None) -> Any:
    """Make the SDK's OTLP exporter for `signal`, with protocol, endpoint, headers and compression from `settings`.

    The exporter reads everything else (timeout, certificates, temporality, …) from the environment. Inside
    `sdk_components_measured`, `meters` measure its exports.

    Raises:
        seams.LostError: The exporter of log records is not there.
        Exception: What the SDK raises for values of the environment that it cannot use.
    """
    grpc = settings.protocol(signal) == "grpc"
    package = f"opentelemetry.exporter.otlp.proto.{'grpc' if grpc else 'http'}"
    module, name = _EXPORTERS[signal]
    compression = settings.compression(signal)
    chosen: Any
    if grpc:
        chosen = getattr(importlib.import_module("grpc").Compression, _GRPC_COMPRESSION[compression])
    else:
        chosen = importlib.import_module(package).Compression(compression)
    exporter = (
        seams.LOG_EXPORTER.load(f"{package}.{module}", name)
        if signal == "logs"
        else getattr(importlib.import_module(f"{package}.{module}"), name)
    )
    if exporter is None:
        raise seams.LostError(f"there is no {package}.{module}.{name}")
    options = {
        "endpoint": settings.endpoint(signal),
        "headers": dict(parse_env_headers(settings.headers(signal), liberal=True)) or None,
        "compression": chosen,
        "meter_provider": meters,
    }
    return exporter(**options) if grpc else _over_http(exporter, options, signal, settings)


def _over_http(exporter: Callable[..., Any], options: dict[str, Any], signal: Signal, settings: OtlpSettings) -> Any:
    """An exporter that sends by our transport, or with `requests` where that alone can do what the environment asks."""
    authority, certificate, key = (
        settings.tls_file(signal, kind) for kind in ("certificate", "client_certificate", "client_key")
    )
    if needs_requests(options["endpoint"], authority):
        return _with_requests(exporter, options)
    # The SDK compresses each time by a quarter of a MiB, which the allocator keeps for each of its threads.
    transport = HttpTransport(authority or certifi.where(), certificate, key, options["compression"].value)
    try:
        return exporter(**{**options, "compression": type(options["compression"]).NoCompression}, _transport=transport)
    except TypeError as error:
        seams.HTTP_TRANSPORT.lost(error)
    return _with_requests(exporter, options)


def _with_requests(exporter: Callable[..., Any], options: dict[str, Any]) -> Any:
    if names_credential_provider():
        return exporter(**options)
    session = importlib.import_module("requests").Session()
    session.hooks["response"].append(_refuse_redirection)
    return exporter(**options, session=session)


def _refuse_redirection(response: Any, **_: object) -> None:
    """Raise an error for a redirection, as our own transport does; the SDK takes it for a success."""
    try:
        check_status(response.status_code, response.reason)
    except ValueError:
        response.close()
        raise


def count_refusals(exporter: Any) -> None:
    """Have the exporter's own metrics tell an HTTP status that refuses a batch as `error.type`, not as a success."""
    with seams.EXPORTER_METRICS:
        exporter._metrics = _RefusalsAreErrors(exporter._metrics)  # noqa: SLF001


class _RefusalsAreErrors:
    """Takes the place of an exporter's own metrics, to which it passes every call."""

    def __init__(self, original: Any) -> None:
        self._operation = original.export_operation

    @contextmanager
    def export_operation(self, num_items: int) -> Iterator[Any]:
        with self._operation(num_items) as result:
            yield result
            statuses = list((result.error_attrs or {}).values())
            if result.error is None and statuses:
                # The SDK takes the name of the class for `error.type`, which is the status.
                result.error = type(str(statuses[0]), (Exception,), {})()


class CountedExporter:
    """Exports batches and counts them as exported, failed or dropped.

    Args:
        exporter: The SDK's exporter of one signal.
        state: The counters.
    """

    def __init__(self, exporter: Any, state: ExportState) -> None:
        self._export: Callable[..., Any] = exporter.export
        self._shutdown: Callable[[], None] = exporter.shutdown
        self._state = state
        self._pid = os.getpid()
        self._closed = False
        self._busy = renewed(self, "_busy", threading.Lock)

    def queue_fill(self) -> float:
        """How much of the queue is full, from 0 to 1."""
        return self._state.queue_fill()

    def send(self, batch: object, items: int, **options: float) -> bool:
        """Export `batch`, which has `items` spans, log records or data points; False if the exporter gave it up.

        Raises:
            Exception: What the exporter raised; it is counted, too.
        """
        if os.getpid() != self._pid:
            return True  # a forked child would export its parent's batch a second time
        if self._closed:
            self._state.drop(items)
            return False
        with self._busy, self._state.exporting():
            try:
                done: bool = self._export(batch, **options).name == "SUCCESS"
            except Exception as error:
                self._state.explain(f"{type(error).__name__}: {error}")
                self._state.failed(items)
                raise
        if done:
            self._state.succeeded(items)
        else:
            self._state.failed(items)
        return done

    def close(self) -> None:
        """Shut the exporter down, once; an export in progress does no more retries."""
        if not self._closed:
            self._closed = True
            self._shutdown()

    def settle(self) -> None:
        """Wait until no export is in progress."""
        with self._busy:
            pass


def counted_metrics(exporter: Any, state: ExportState) -> CountedExporter:
    """Replace `export` and `shutdown` of a metric exporter by those of a `CountedExporter`, which is returned.

    `exporter` itself still goes to the SDK's reader, which takes temporality and aggregations from it.
    """
    counted = CountedExporter(exporter, state)

    def export(metrics_data: MetricsData, timeout_millis: float = 10_000, **_: object) -> MetricExportResult:
        metrics = (m for r in metrics_data.resource_metrics for s in r.scope_metrics for m in s.metrics)
        points = sum(len(metric.data.data_points) for metric in metrics)
        sent = counted.send(metrics_data, points, timeout_millis=timeout_millis)
        return MetricExportResult.SUCCESS if sent else MetricExportResult.FAILURE

    exporter.export = export
    exporter.shutdown = lambda *_, **__: counted.close()
    return counted


class QueueMetrics:
    """Counts the items that a batch queue drops, in place of the queue's own metrics, to which it passes every call."""

    def __init__(self, original: Any, state: ExportState) -> None:
        self._original = original
        self._state = state

    def register_queue_size(self, get_queue_size: Callable[[], int]) -> None:
        """Pass the call on."""
        self._original.register_queue_size(get_queue_size)

    def drop_items(self, count: int, error_type: str = "queue_full") -> None:
        """Count `count` items that were dropped because the queue was full or closed."""
        self._state.drop(count)
        self._original.drop_items(count, error_type)

    def finish_items(self, count: int) -> None:
        """Pass the call on."""
        self._original.finish_items(count)
