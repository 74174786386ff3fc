"""Processors that add listed baggage entries to spans and log records as attributes."""

from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import Span

from otel_monitoring.baggage import BaggageKeys
from otel_monitoring.telemetry.logs_sdk import LogRecordProcessor, ReadWriteLogRecord


class BaggageSpanProcessor(SpanProcessor):
    """Adds listed baggage entries to each span at its start.

    Args:
        keys: The listed keys.
    """

    def __init__(self, keys: BaggageKeys) -> None:
        self._keys = keys

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Add the entries of the parent context."""
        for key, value in self._keys.entries(parent_context).items():
            span.set_attribute(key, value)


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
