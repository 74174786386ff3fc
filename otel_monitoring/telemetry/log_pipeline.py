"""`LogPipeline`: the way of log records from `logging` to an OTLP endpoint.

Imported only where log records are exported, or the application has a provider of them: the SDK's classes, which its
own inherit from, take 20 ms to load.
"""

import logging
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from copy import copy
from typing import Any

from opentelemetry.metrics import MeterProvider

from otel_monitoring.baggage import BaggageKeys
from otel_monitoring.config.otlp import OtlpSettings
from otel_monitoring.environment import sdk_components_measured
from otel_monitoring.guard import fail_open
from otel_monitoring.runtime.current_service import PerService
from otel_monitoring.semconv import SCHEMA_URL, SCOPE
from otel_monitoring.telemetry.exception_signal import has_left
from otel_monitoring.telemetry.export_state import ExportState
from otel_monitoring.telemetry.log_filter import being_exported
from otel_monitoring.telemetry.log_record import log_record_of
from otel_monitoring.telemetry.logs_sdk import (
    BatchLogRecordProcessor,
    LoggerProvider,
    LogRecordExporter,
    LogRecordExportResult,
    LogRecordProcessor,
    ReadableLogRecord,
    ReadWriteLogRecord,
)
from otel_monitoring.telemetry.otlp_exporters import CountedExporter, count_refusals, make_exporter
from otel_monitoring.telemetry.pipelines import BatchPipeline
from otel_monitoring.telemetry.redaction import redacted_records
from otel_monitoring.telemetry.shutdown import JoinedPipeline
from otel_monitoring.telemetry.switch import Switch

_ALERTS = "otel_monitoring.alerts"
_SERVERS = ("uvicorn.error", "hypercorn.error", "gunicorn.error")
# Loggers of libraries that take part in an export: exporting their records would cause further records.
_NOT_EXPORTED = ("opentelemetry", "urllib3", "requests", "grpc")


class LogSwitch(Switch[LogRecordProcessor], LogRecordProcessor):
    """A log record processor that stays in a logger provider while `target` changes.

    Args:
        first: Processors that handle each record before the target, or without one.

    Attributes:
        target: The processor that exports records; None: records are not exported.
        created: How many records there were.
    """

    def __init__(self, first: Sequence[LogRecordProcessor] = ()) -> None:
        super().__init__(_Each)
        self._first = tuple(first)
        self._guard = fail_open("log record processing")
        self.created = 0

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Run the first processors, then the target."""
        self.created += 1
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


class _Each(LogRecordProcessor):
    """Hands log records to several processors."""

    def __init__(self, processors: Sequence[LogRecordProcessor]) -> None:
        self._processors = processors

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        for processor in self._processors:
            processor.on_emit(log_record)

    def shutdown(self) -> None:
        """Nothing: each pipeline closes its processor."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        flushed = [processor.force_flush(timeout_millis) for processor in self._processors]
        return all(flushed)


class BaggageLogProcessor(LogRecordProcessor):
    """Adds listed baggage entries to each log record; an attribute that the record already has stays.

    Args:
        keys: The listed keys.
    """

    def __init__(self, keys: BaggageKeys) -> None:
        self._keys = keys

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Add the entries of the current context."""
        attributes: Any = log_record.log_record.attributes
        for key, value in self._keys.entries().items():
            if key not in attributes:
                attributes[key] = value

    def shutdown(self) -> None:
        """Nothing to close."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """True: there is no queue."""
        return True


_emitting: ContextVar[bool] = ContextVar("otel_monitoring_log_record_is_emitted", default=False)


class OtlpHandler(logging.Handler):
    """Emits records of `logging` as OpenTelemetry log records, with the ids of the current span.

    What the emission of a record logs is not emitted.

    With several services in the process, each handles the records of its own application; the first service handles
    those that belong to no application.
    """

    def __init__(self, provider: LoggerProvider) -> None:
        super().__init__()
        self._provider = provider
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
        if _emitting.get():
            return
        token = _emitting.set(True)
        try:
            with self._guard:
                record = _once(record)
                body = self.format(record) if self.formatter else record.getMessage()
                self._logger(record.name).emit(log_record_of(record, body))
        finally:
            _emitting.reset(token)

    def _logger(self, name: str) -> Any:
        ours = name.partition(".")[0] == SCOPE
        return self._provider.get_logger(name, schema_url=SCHEMA_URL if ours else None)

    def flush(self) -> None:
        """Nothing: `logging` calls this at exit, where a hanging endpoint would block. The pipeline flushes."""


_handlers = PerService[OtlpHandler]()


def _is_unseen(record: logging.LogRecord) -> bool:
    """Whether only handlers that export see the record: ours, and those of OpenTelemetry."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None:
        if not all(map(_exports, logger.handlers)):
            return False
        logger = logger.parent if logger.propagate else None
    return True


def _exports(handler: logging.Handler) -> bool:
    return isinstance(handler, OtlpHandler) or any(
        kind.__module__.startswith("opentelemetry.") for kind in type(handler).__mro__
    )


def _once(record: logging.LogRecord) -> logging.LogRecord:
    """`record`, without its exception where a server reports one that has left already."""
    error = record.exc_info[1] if record.exc_info else None
    if record.name not in _SERVERS or not has_left(error):
        return record
    record = copy(record)
    record.exc_info = record.exc_text = None
    return record


def _may_leave(record: logging.LogRecord) -> bool:
    if record.name == _ALERTS:  # alerts are emitted as OpenTelemetry log events already
        return False
    return record.name.partition(".")[0] not in _NOT_EXPORTED and not being_exported()


class CountedLogExporter(LogRecordExporter):
    """Redacts log records and exports them through a `CountedExporter`."""

    def __init__(self, exporter: CountedExporter) -> None:
        self._exporter = exporter

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Export and count a batch."""
        sent = self._exporter.send(redacted_records(batch, self._exporter.queue_fill), len(batch))
        return LogRecordExportResult.SUCCESS if sent else LogRecordExportResult.FAILURE

    def shutdown(self) -> None:
        """Shut the exporter down."""
        self._exporter.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """True: there is no queue."""
        return True


def log_pipeline(
    settings: OtlpSettings,
    state: ExportState,
    switch: LogSwitch,
    provider: LoggerProvider,
    service: object = None,
    meters: MeterProvider | None = None,
) -> "LogPipeline":
    """Export records of `logging` that are `service`'s, and those emitted to `provider`, to the endpoint for logs.

    `meters` measure what becomes of them.
    """
    with sdk_components_measured(settings.variables()):
        sender = make_exporter("logs", settings, meters)
        count_refusals(sender)
        exporter = CountedExporter(sender, state)
        processor = BatchLogRecordProcessor(CountedLogExporter(exporter), meter_provider=meters)
    handler = OtlpHandler(provider)

    def turn(on: bool) -> None:
        switch.feed(processor, on=on)
        root = logging.getLogger()
        root.addHandler(handler) if on else root.removeHandler(handler)
        _handlers.use(handler, service) if on else _handlers.leave(handler, service)

    return LogPipeline(exporter, processor, state, turn, handler)


def other_log_pipeline(kind: Any, state: ExportState, switch: LogSwitch) -> BatchPipeline:
    """Export the records that reach `switch` by an exporter of class `kind`."""
    exporter = CountedExporter(kind(), state)
    processor = BatchLogRecordProcessor(CountedLogExporter(exporter))
    return BatchPipeline(exporter, processor, state, lambda on: switch.feed(processor, on=on))


class HandlerPipeline(JoinedPipeline):
    """The way of records of `logging` to a provider with processors of its own; `close` flushes it.

    Attributes:
        restored: How often the handler had been removed and was added again.
    """

    def __init__(self, provider: LoggerProvider, service: object = None) -> None:
        super().__init__(provider)
        self._handler = OtlpHandler(provider)
        self._service = service
        self.restored = 0
        self._turn(on=True)

    def _turn(self, *, on: bool) -> None:
        root = logging.getLogger()
        root.addHandler(self._handler) if on else root.removeHandler(self._handler)
        _handlers.use(self._handler, self._service) if on else _handlers.leave(self._handler, self._service)

    def detach(self) -> None:
        """Feed the provider no more."""
        self._turn(on=False)

    def restore(self) -> bool:
        """Add the handler again if a configuration of `logging` has removed it; returns whether it had."""
        if self._handler in logging.getLogger().handlers:
            return False
        self._turn(on=True)
        self.restored += 1
        return True


class LogPipeline(BatchPipeline):
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
