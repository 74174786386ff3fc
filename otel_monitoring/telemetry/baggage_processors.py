"""`BaggageSpanProcessor`: listed baggage entries become attributes of spans."""

from opentelemetry.context import Context
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import Span

from otel_monitoring.baggage import BaggageKeys


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
