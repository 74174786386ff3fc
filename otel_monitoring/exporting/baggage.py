"""Listed baggage as attributes of every span and log record: contrib's processors, with their input bounded.

On their own they take values of any length, and spans as many as a client sends.
"""

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.processor.baggage import ALLOW_ALL_BAGGAGE_KEYS, BaggageLogProcessor, BaggageSpanProcessor
from opentelemetry.sdk._logs import ReadWriteLogRecord
from opentelemetry.trace import Span

from otel_monitoring.correlation import BaggageKeys


class BaggageSpans(BaggageSpanProcessor):
    """Adds listed baggage to spans when they start.

    Args:
        keys: What is listed.
    """

    def __init__(self, keys: BaggageKeys) -> None:
        super().__init__(ALLOW_ALL_BAGGAGE_KEYS)
        self._keys = keys

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Adds what the parent's context holds."""
        super().on_start(span, self._keys.alone(parent_context))


class BaggageLogs(BaggageLogProcessor):
    """Adds listed baggage to log records; an attribute that a record has already stays.

    Args:
        keys: What is listed.
    """

    def __init__(self, keys: BaggageKeys) -> None:
        super().__init__(ALLOW_ALL_BAGGAGE_KEYS)
        self._keys = keys

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Adds what the current context holds."""
        token = contexts.attach(self._keys.alone())  # contrib reads the current context and no other
        try:
            super().on_emit(log_record)
        finally:
            contexts.detach(token)
