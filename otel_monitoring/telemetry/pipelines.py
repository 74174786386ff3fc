"""`Pipeline`: the way of a signal from its provider to an OTLP endpoint, made in each worker, closed by a deadline."""

import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from otel_monitoring import seams
from otel_monitoring.config.otlp import OtlpSettings
from otel_monitoring.guard import fail_open
from otel_monitoring.runtime.current_service import PerService
from otel_monitoring.telemetry.export_state import ExportState
from otel_monitoring.telemetry.log_filter import being_exported
from otel_monitoring.telemetry.logs_sdk import (
    BatchLogRecordProcessor,
    LoggerProvider,
    LoggingHandler,
    LogRecordProcessor,
    ReadWriteLogRecord,
)
from otel_monitoring.telemetry.otlp_exporters import (
    CountedExporter,
    CountedLogExporter,
    CountedSpanExporter,
    QueueMetrics,
    counted_metrics,
    make_exporter,
)

_ALERTS = "otel_monitoring.alerts"
# Loggers of libraries that take part in an export: exporting their records would cause further records.
_NOT_EXPORTED = ("opentelemetry", "urllib3", "requests", "grpc")


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


class SpanSwitch(SpanProcessor):
    """A span processor that stays in a tracer provider, from which none can be removed, while `target` changes.

    Args:
        first: Processors that handle each span before the target, or without one.

    Attributes:
        target: The processor that exports spans; None: spans are not exported.
    """

    def __init__(self, first: Sequence[SpanProcessor] = ()) -> None:
        self._first = tuple(first)
        self._guard = fail_open("span processing")
        self.target: SpanProcessor | None = None

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Run the first processors; the target, a batch queue of the SDK, does nothing at the start of a span."""
        for processor in self._first:
            with self._guard:
                processor.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Run the first processors, then the target."""
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


class LogSwitch(LogRecordProcessor):
    """A log record processor that stays in a logger provider while `target` changes.

    Args:
        first: Processors that handle each record before the target, or without one.

    Attributes:
        target: The processor that exports records; None: records are not exported.
    """

    def __init__(self, first: Sequence[LogRecordProcessor] = ()) -> None:
        self._first = tuple(first)
        self._guard = fail_open("log record processing")
        self.target: LogRecordProcessor | None = None

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Run the first processors, then the target."""
        for processor in self._first:
            with self._guard:
                processor.on_emit(log_record)
        target = self.target
        if target is not None:
            target.on_emit(log_record)

    def shutdown(self) -> None:
        """Nothing: the pipeline closes the target."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Have the target export what waits."""
        target = self.target
        return target.force_flush(timeout_millis) if target is not None else True


class OtlpHandler(LoggingHandler):
    """Emits records of `logging` as OpenTelemetry log records, with the ids of the current span.

    With several services in the process, each handles the records of its own application; the first service handles
    those that belong to no application.
    """

    def __init__(self, provider: LoggerProvider) -> None:
        super().__init__(logger_provider=provider)
        self._guard = fail_open("log export")
        self.addFilter(_may_leave)

    def handle(self, record: logging.LogRecord) -> bool:
        """Handle the record; write it to stderr, as `logging` would, if no other handler shows it."""
        first = _handlers.first()
        if (
            first in (None, self)
            and logging.lastResort is not None
            and record.levelno >= logging.lastResort.level
            and _is_unseen(record)
        ):
            logging.lastResort.handle(record)
        if first is not None and _handlers.of_current() is not self:
            return False
        return bool(super().handle(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record; a failure, e.g. to format it, does not reach the code that logged it."""
        with self._guard:
            super().emit(record)

    def flush(self) -> None:
        """Nothing: `logging` calls this at exit, where a hanging endpoint would block. The pipeline flushes."""


_handlers = PerService[OtlpHandler]()


def _is_unseen(record: logging.LogRecord) -> bool:
    """Whether only handlers that export see the record."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None:
        if not all(isinstance(handler, LoggingHandler) for handler in logger.handlers):
            return False
        logger = logger.parent if logger.propagate else None
    return True


def _may_leave(record: logging.LogRecord) -> bool:
    if record.name == _ALERTS:  # alerts are emitted as OpenTelemetry log events already
        return False
    return record.name.partition(".")[0] not in _NOT_EXPORTED and not being_exported()


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
            batch._metrics = QueueMetrics(batch._metrics, state)  # noqa: SLF001
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


class _BatchPipeline:
    """The pipeline of spans or log records: a batch queue with a thread, and the switch that feeds it."""

    def __init__(
        self,
        exporter: CountedExporter,
        processor: BatchSpanProcessor | BatchLogRecordProcessor,
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
        self._processor.force_flush()

    def detach(self) -> None:
        self._switch(False)

    def close(self, timeout: float) -> None:
        queue, state = self._queue, self._state
        if queue is None or not queue.close(timeout):
            cast("Any", self._processor).shutdown()
            return
        state.drop(queue.length() or 0)
        if state.queue == queue.length:
            state.queue = None

    def abort(self) -> None:
        self._exporter.close()

    def settle(self) -> None:
        self._exporter.settle()


def span_pipeline(settings: OtlpSettings, state: ExportState, switch: SpanSwitch) -> Pipeline:
    """Export the spans that reach `switch` to the endpoint for traces."""
    exporter = CountedExporter(make_exporter("traces", settings), state)
    processor = BatchSpanProcessor(CountedSpanExporter(exporter))

    def turn(on: bool) -> None:
        switch.target = processor if on else None

    return _BatchPipeline(exporter, processor, state, turn)


def log_pipeline(
    settings: OtlpSettings, state: ExportState, switch: LogSwitch, provider: LoggerProvider, service: object = None
) -> "LogPipeline":
    """Export records of `logging` that are `service`'s, and those emitted to `provider`, to the endpoint for logs."""
    exporter = CountedExporter(make_exporter("logs", settings), state)
    processor = BatchLogRecordProcessor(CountedLogExporter(exporter))
    handler = OtlpHandler(provider)

    def turn(on: bool) -> None:
        switch.target = processor if on else None
        root = logging.getLogger()
        root.addHandler(handler) if on else root.removeHandler(handler)
        _handlers.use(handler, service) if on else _handlers.leave(handler, service)

    return LogPipeline(exporter, processor, state, turn, handler)


class LogPipeline(_BatchPipeline):
    """The pipeline of log records, which begins with a handler of the root logger.

    Attributes:
        restored: How often the handler had been removed and was added again.
    """

    def __init__(
        self,
        exporter: CountedExporter,
        processor: BatchLogRecordProcessor,
        state: ExportState,
        switch: Callable[[bool], None],
        handler: OtlpHandler,
    ) -> None:
        super().__init__(exporter, processor, state, switch)
        self._handler = handler
        self.restored = 0

    def restore(self) -> bool:
        """Add the handler again if a configuration of `logging` has removed it; returns whether it had."""
        if self._handler in logging.getLogger().handlers:
            return False
        self._switch(True)
        self.restored += 1
        return True


class _Reader(PeriodicExportingMetricReader):
    """The SDK's reader without its warning at a second shutdown, which `remove_metric_reader` causes."""

    _ended = False

    def shutdown(self, timeout_millis: float = 30_000, **options: Any) -> None:
        if not self._ended:
            self._ended = True
            super().shutdown(timeout_millis, **options)


class MetricPipeline:
    """The pipeline of metrics: collects and exports every `OTEL_METRIC_EXPORT_INTERVAL`, by a reader of its own."""

    def __init__(self, settings: OtlpSettings, state: ExportState, provider: MeterProvider) -> None:
        exporter = make_exporter("metrics", settings)
        self._exporter = counted_metrics(exporter, state)
        self._provider = provider
        self._reader = _Reader(exporter, export_interval_millis=settings.metric_export_interval)
        provider.add_metric_reader(self._reader)

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
