"""Listed baggage as attributes of every span and log record."""

from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import Span

from otel_monitoring.baggage import BaggageKeys
from otel_monitoring.telemetry.logs_sdk import LogRecordProcessor, ReadWriteLogRecord


class BaggageSpanProcessor(SpanProcessor):
    """Adds listed baggage to spans when they start.

    Args:
        keys: What is listed.
    """

    def __init__(self, keys: BaggageKeys) -> None:
        self._keys = keys

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Adds what the parent's context holds."""
        for key, value in self._keys.entries(parent_context).items():
            span.set_attribute(key, value)


class BaggageLogProcessor(LogRecordProcessor):
    """Adds listed baggage to log records; an attribute that a record has already stays.

    Args:
        keys: What is listed.
    """

    def __init__(self, keys: BaggageKeys) -> None:
        self._keys = keys

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Adds what the current context holds."""
        attributes: Any = log_record.log_record.attributes
        for key, value in self._keys.entries().items():
            if key not in attributes:
                attributes[key] = value

    def shutdown(self) -> None:
        """Nothing to close."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing waits here."""
        return True
