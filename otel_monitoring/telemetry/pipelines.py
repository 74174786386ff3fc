"""From a provider to an OTLP endpoint: the SDK's queues and threads, made for each worker, closed under a deadline."""

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
# Loggers of what an export itself runs through: their records would feed the export that made them.
_NOT_EXPORTED = ("opentelemetry", "urllib3", "requests", "grpc")


class Pipeline(Protocol):
    """The way of one signal out of the process; it works from construction on."""

    def flush(self) -> None:
        """Send what waits, and stay open; takes as long as an export may."""

    def detach(self) -> None:
        """Accept nothing any more; returns at once."""

    def close(self, timeout: float) -> None:
        """Send what waits, then end the threads; takes `timeout` seconds, or longer where the SDK does not heed it."""

    def abort(self) -> None:
        """Give up what is being sent; returns at once."""

    def settle(self) -> None:
        """Wait for the end of an export that `abort` or `close` could only interrupt at its next step."""


class SpanSwitch(SpanProcessor):
    """Stands in a tracer provider for good, because nothing can be removed from one; `target` comes and goes.

    Args:
        first: Processors that see each span before the target does, also while there is none.
    """

    def __init__(self, first: Sequence[SpanProcessor] = ()) -> None:
        self._first = tuple(first)
        self._guard = fail_open("span processing")
        self.target: SpanProcessor | None = None

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Runs the first processors; the SDK's batch queue has nothing to do here."""
        for processor in self._first:
            with self._guard:
                processor.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Runs the first processors, then the target."""
        for processor in self._first:
            with self._guard:
                processor.on_end(span)
        target = self.target
        if target is not None:
            target.on_end(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Have the target send what waits."""
        target = self.target
        return target.force_flush(timeout_millis) if target is not None else True


class LogSwitch(LogRecordProcessor):
    """The same for a logger provider.

    Args:
        first: Processors that see each record before the target does, also while there is none.
    """

    def __init__(self, first: Sequence[LogRecordProcessor] = ()) -> None:
        self._first = tuple(first)
        self._guard = fail_open("log record processing")
        self.target: LogRecordProcessor | None = None

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Runs the first processors, then the target."""
        for processor in self._first:
            with self._guard:
                processor.on_emit(log_record)
        target = self.target
        if target is not None:
            target.on_emit(log_record)

    def shutdown(self) -> None:
        """Nothing to close: the target's owner does it."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Have the target send what waits."""
        target = self.target
        return target.force_flush(timeout_millis) if target is not None else True


class OtlpHandler(LoggingHandler):
    """Turns records of `logging` into OpenTelemetry's, with the ids of the span they were made in.

    Of several services in the process, each has those that its own application makes, and the first has all others.
    """

    def __init__(self, provider: LoggerProvider) -> None:
        super().__init__(logger_provider=provider)
        self._guard = fail_open("log export")
        self.addFilter(_may_leave)

    def handle(self, record: logging.LogRecord) -> bool:
        """Handle the record; where nobody else does, `logging` would have shown it on stderr but for us."""
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
        """Queue the record; one that cannot be formatted must not raise into the code that logged it."""
        with self._guard:
            super().emit(record)

    def flush(self) -> None:
        """Nothing: the pipeline flushes. `logging` calls this at exit, where a hanging endpoint would hold us."""


_handlers = PerService[OtlpHandler]()


def _is_unseen(record: logging.LogRecord) -> bool:
    """Whether no handler but those that export sees the record."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None:
        if not all(isinstance(handler, LoggingHandler) for handler in logger.handlers):
            return False
        logger = logger.parent if logger.propagate else None
    return True


def _may_leave(record: logging.LogRecord) -> bool:
    if record.name == _ALERTS:  # each is an OpenTelemetry log event already
        return False
    return record.name.partition(".")[0] not in _NOT_EXPORTED and not being_exported()


class _Queue:
    """The SDK's `BatchProcessor`: it alone knows its queue and what it drops, and its shutdown heeds a timeout."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    @classmethod
    def of(cls, processor: Any, state: ExportState) -> "_Queue | None":
        """That of `processor`, with what it drops counted; None where it is built differently."""
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
        """Send what waits for at most `timeout` seconds; False where it cannot be told to."""
        with seams.EXPORT_QUEUE:
            self._batch.shutdown(timeout_millis=timeout * 1000)
            return True
        return False


class _BatchPipeline:
    """What spans and log records have in common: a queue with a thread, and a switch in front of it."""

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
    """Spans that reach `switch` go to the endpoint for traces."""
    exporter = CountedExporter(make_exporter("traces", settings), state)
    processor = BatchSpanProcessor(CountedSpanExporter(exporter))

    def turn(on: bool) -> None:
        switch.target = processor if on else None

    return _BatchPipeline(exporter, processor, state, turn)


def log_pipeline(
    settings: OtlpSettings, state: ExportState, switch: LogSwitch, provider: LoggerProvider, service: object = None
) -> "LogPipeline":
    """Records of `logging` that are `service`'s, and those emitted to `provider` directly, go to the logs' endpoint."""
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
    """The way of log records, which begins with a handler of the root logger.

    Attributes:
        restored: How often the handler was gone and put back.
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
        """Put the handler back where a configuration of `logging` has taken it away; answers whether it had."""
        if self._handler in logging.getLogger().handlers:
            return False
        self._switch(True)
        self.restored += 1
        return True


class _Reader(PeriodicExportingMetricReader):
    """The SDK's own; that leaving a provider shuts it down once more is no reason for it to warn."""

    _ended = False

    def shutdown(self, timeout_millis: float = 30_000, **options: Any) -> None:
        if not self._ended:
            self._ended = True
            super().shutdown(timeout_millis, **options)


class MetricPipeline:
    """Metrics collected and sent every `OTEL_METRIC_EXPORT_INTERVAL`, beside whatever else reads the provider."""

    def __init__(self, settings: OtlpSettings, state: ExportState, provider: MeterProvider) -> None:
        exporter = make_exporter("metrics", settings)
        self._exporter = counted_metrics(exporter, state)
        self._provider = provider
        self._reader = _Reader(exporter, export_interval_millis=settings.metric_export_interval)
        provider.add_metric_reader(self._reader)

    def flush(self) -> None:
        """Collect and send now."""
        self._reader.force_flush()

    def detach(self) -> None:
        """Measurements are taken until the last collection."""

    def close(self, timeout: float) -> None:
        """Collect and send once more, then leave the provider."""
        self._reader.shutdown(timeout_millis=timeout * 1000)
        self._provider.remove_metric_reader(self._reader)

    def abort(self) -> None:
        """Stop trying."""
        self._exporter.close()

    def settle(self) -> None:
        """Wait for the export in progress."""
        self._exporter.settle()
