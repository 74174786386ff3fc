"""`BatchPipeline`, `MetricPipeline`: the ways to an OTLP endpoint; loaded by services that export."""

import inspect
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

from otel_monitoring import seams
from otel_monitoring.config.otlp import OtlpSettings
from otel_monitoring.environment import sdk_components_measured
from otel_monitoring.telemetry.export_state import ExportState
from otel_monitoring.telemetry.otlp_exporters import (
    CountedExporter,
    QueueMetrics,
    count_refusals,
    counted_metrics,
    make_exporter,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from otel_monitoring.telemetry.logs_sdk import BatchLogRecordProcessor


class _Queue:
    """The SDK's private `BatchProcessor`: the length of its queue, what it drops, and a close with a timeout."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    @classmethod
    def of(cls, processor: Any, state: ExportState) -> "_Queue | None":
        """The queue of `processor`, which `state` reads from now on, with its drops; None if the seam has failed."""
        with seams.EXPORT_QUEUE:
            batch = processor._batch_processor  # noqa: SLF001
            queue = cls(batch)
            queue.fill()
            inspect.signature(batch.shutdown).bind(timeout_millis=1)
            batch._metrics = metrics = QueueMetrics(batch._metrics, state)  # noqa: SLF001
            batch.emit = _dropping(batch.emit, batch._queue, metrics)  # noqa: SLF001
            state.queue, state.queue_fill = queue.length, queue.fill
            return queue
        return None

    def length(self) -> int | None:
        return seams.EXPORT_QUEUE.get(lambda: len(self._batch._queue), None)  # noqa: SLF001

    def fill(self) -> float:
        queue: Any = self._batch._queue  # noqa: SLF001
        return float(len(queue) / queue.maxlen)

    def close(self, timeout: float) -> bool:
        """Export what waits, for at most `timeout` seconds; False if the seam has failed."""
        with seams.EXPORT_QUEUE:
            self._batch.shutdown(timeout_millis=timeout * 1000)
            return True
        return False


def _dropping(emit: Callable[[Any], None], queue: deque[Any], metrics: QueueMetrics) -> Callable[[Any], None]:
    """`emit` that drops new items at once while the queue is full, as the specification says.

    The SDK drops the oldest item instead, and logs each drop, which takes longer than an export of the item. The first
    item of a series of drops still goes the SDK's way, so that the loss is logged once.
    """
    was_full = False

    def emit_or_drop(item: Any) -> None:
        nonlocal was_full
        is_full = len(queue) == queue.maxlen
        if is_full and was_full:
            metrics.drop_items(1)
            return
        was_full = is_full
        emit(item)

    return emit_or_drop


def count_queue(processor: Any, state: ExportState) -> None:
    """From now on, `state` reads the queue of a batch processor, and counts what it drops."""
    _Queue.of(processor, state)


class BatchPipeline:
    """The pipeline of spans or log records: a batch queue with a thread, and the switch that feeds it."""

    def __init__(
        self,
        exporter: CountedExporter,
        processor: "BatchSpanProcessor | BatchLogRecordProcessor",
        state: ExportState,
        switch: Callable[[bool], None],
    ) -> None:
        self._exporter = exporter
        self._processor = processor
        self._state = state
        self._switch = switch
        self._queue = _Queue.of(processor, state)
        switch(True)

    def flush(self) -> None:
        """Have the queue export what waits."""
        self._processor.force_flush()

    def detach(self) -> None:
        """Feed the queue no more."""
        self._switch(False)

    def close(self, timeout: float) -> None:
        """Export what waits and end the queue's thread."""
        queue, state = self._queue, self._state
        if queue is None or not queue.close(timeout):
            cast("Any", self._processor).shutdown()
            return
        state.drop(queue.length() or 0)
        if state.queue == queue.length:
            state.queue = None

    def abort(self) -> None:
        """Give up retries."""
        self._exporter.close()

    def settle(self) -> None:
        """Wait for the end of the export in progress."""
        self._exporter.settle()


class _Reader(PeriodicExportingMetricReader):
    """The SDK's reader without its warning at a second shutdown, which `remove_metric_reader` causes."""

    _ended = False

    def shutdown(self, timeout_millis: float = 30_000, **options: Any) -> None:
        if not self._ended:
            self._ended = True
            super().shutdown(timeout_millis, **options)


class MetricPipeline:
    """The pipeline of metrics: collects and exports every `OTEL_METRIC_EXPORT_INTERVAL`, by a reader of its own.

    Args:
        settings: The OTLP settings.
        state: The counters.
        provider: Whose metrics.
        other: An exporter in place of OTLP's.
    """

    def __init__(self, settings: OtlpSettings, state: ExportState, provider: MeterProvider, other: Any = None) -> None:
        with sdk_components_measured(settings.variables()):
            exporter = make_exporter("metrics", settings, provider) if other is None else other
            self._exporter = counted_metrics(exporter, state)
            self._provider = provider
            self._reader = _Reader(exporter, export_interval_millis=settings.metric_export_interval)
            with seams.READER_METRICS:  # the SDK does so for readers that a provider is made with
                self._reader._set_meter_provider(provider)  # noqa: SLF001
            provider.add_metric_reader(self._reader)
            if other is None:
                count_refusals(exporter)

    def flush(self) -> None:
        """Collect and export now."""
        self._reader.force_flush()

    def detach(self) -> None:
        """Nothing: `close` collects a last time, with everything measured until then."""

    def close(self, timeout: float) -> None:
        """Collect and export a last time, then remove the reader from the provider."""
        self._reader.shutdown(timeout_millis=timeout * 1000)
        self._provider.remove_metric_reader(self._reader)

    def abort(self) -> None:
        """Give up retries."""
        self._exporter.close()

    def settle(self) -> None:
        """Wait for the end of the export in progress."""
        self._exporter.settle()
