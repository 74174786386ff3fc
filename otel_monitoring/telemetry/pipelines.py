"""`Pipeline`: the way of a signal from its provider to an OTLP endpoint, made in each worker, closed by a deadline."""

import inspect
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from otel_monitoring import seams
from otel_monitoring.config.otlp import OtlpSettings
from otel_monitoring.environment import sdk_components_measured
from otel_monitoring.guard import fail_open
from otel_monitoring.telemetry.export_state import ExportState
from otel_monitoring.telemetry.otlp_exporters import (
    CountedExporter,
    CountedSpanExporter,
    QueueMetrics,
    count_refusals,
    counted_metrics,
    make_exporter,
)
from otel_monitoring.telemetry.switch import Switch

if TYPE_CHECKING:
    from otel_monitoring.telemetry.logs_sdk import BatchLogRecordProcessor


class Pipeline(Protocol):
    """The way of one signal out of the process; it is at work from construction on."""

    def flush(self) -> None:
        """Export what waits, and stay open; blocks for as long as an export may take."""

    def detach(self) -> None:
        """Accept nothing more; returns at once."""

    def close(self, timeout: float) -> None:
        """Export what waits and end the threads, in `timeout` seconds, or longer where the SDK ignores the limit."""

    def abort(self) -> None:
        """Give up the export in progress; returns at once."""

    def settle(self) -> None:
        """Wait for the end of an export that `abort` or `close` could not interrupt."""


class SpanSwitch(Switch[SpanProcessor], SpanProcessor):
    """A span processor that stays in a tracer provider, from which none can be removed, while `target` changes.

    Args:
        first: Processors that handle each span before the target, or without one.

    Attributes:
        target: The processor that exports spans; None: spans are not exported.
        acts_at_start: Whether anything happens when a span starts.
        started: How many sampled spans have started.
        ended: How many of these have ended.
    """

    def __init__(self, first: Sequence[SpanProcessor] = ()) -> None:
        super().__init__(_Each)
        self._first = tuple(first)
        self.acts_at_start = bool(first)
        self._guard = fail_open("span processing")
        self.started = self.ended = 0

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Run the first processors; the target, a batch queue of the SDK, does nothing at the start of a span."""
        self.started += 1
        for processor in self._first:
            with self._guard:
                processor.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Run the first processors, then the target."""
        self.ended += 1
        for processor in self._first:
            with self._guard:
                processor.on_end(span)
        target = self.target
        if target is not None:
            target.on_end(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Have the target export what waits."""
        target = self.target
        return target.force_flush(timeout_millis) if target is not None else True


class _Each(SpanProcessor):
    """Hands spans that have ended to several processors."""

    def __init__(self, processors: Sequence[SpanProcessor]) -> None:
        self._processors = processors

    def on_end(self, span: ReadableSpan) -> None:
        for processor in self._processors:
            processor.on_end(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        flushed = [processor.force_flush(timeout_millis) for processor in self._processors]
        return all(flushed)


class _Queue:
    """The SDK's private `BatchProcessor`: the length of its queue, what it drops, and a close with a timeout."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    @classmethod
    def of(cls, processor: Any, state: ExportState) -> "_Queue | None":
        """The queue of `processor`, which counts drops in `state` from now on; None if the seam has failed."""
        with seams.EXPORT_QUEUE:
            batch = processor._batch_processor  # noqa: SLF001
            len(batch._queue)  # noqa: SLF001
            inspect.signature(batch.shutdown).bind(timeout_millis=1)
            batch._metrics = metrics = QueueMetrics(batch._metrics, state)  # noqa: SLF001
            batch.emit = _dropping(batch.emit, batch._queue, metrics)  # noqa: SLF001
            return cls(batch)
        return None

    def length(self) -> int | None:
        return seams.EXPORT_QUEUE.get(lambda: len(self._batch._queue), None)  # noqa: SLF001

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
    """From now on, `state` has the length of the queue of a batch processor, and counts what it drops."""
    queue = _Queue.of(processor, state)
    if queue is not None:
        state.queue = queue.length


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
        if self._queue is not None:
            state.queue = self._queue.length
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


def span_pipeline(
    settings: OtlpSettings, state: ExportState, switch: SpanSwitch, meters: MeterProvider | None = None
) -> Pipeline:
    """Export the spans that reach `switch` to the endpoint for traces; `meters` measure what becomes of them."""
    with sdk_components_measured():
        sender = make_exporter("traces", settings, meters)
        count_refusals(sender)
        exporter = CountedExporter(sender, state)
        processor = BatchSpanProcessor(CountedSpanExporter(exporter), meter_provider=meters)

    return BatchPipeline(exporter, processor, state, lambda on: switch.feed(processor, on=on))


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
        with sdk_components_measured():
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
