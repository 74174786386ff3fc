"""`carry` stores the trace context in a document; `continued` traces the work on it, maybe days later.

`continued` also reads the headers of a message, see `headers.py`.
"""

from collections.abc import Mapping, MutableMapping
from contextlib import AbstractContextManager
from typing import Any, Final, TypeVar

from opentelemetry import context as contexts
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from otel_monitoring.alerts.model import AlertType
from otel_monitoring.baggage import with_entries
from otel_monitoring.guard import fail_open
from otel_monitoring.tracing.destination import current_destination
from otel_monitoring.tracing.headers import current_context, received_context
from otel_monitoring.tracing.operation import Operation, Run
from otel_monitoring.tracing.scope import Block

D = TypeVar("D", bound=MutableMapping[str, Any])

CONTEXT_FIELD: Final = "trace_context"
"""The field of a document in which `carry` stores the context: an object of `traceparent`, `tracestate`, `baggage`."""

_GUARD: Final = fail_open("trace context of a document")
_TRACE: Final = TraceContextTextMapPropagator()
_BAGGAGE: Final = W3CBaggagePropagator()


def carry(document: D) -> D:
    """Store the current trace context in `document`; `continued` reads it.

    The field `trace_context` becomes an object with `traceparent` and, if present, `tracestate` and `baggage` (only the
    keys of `OTEL_MONITORING_BAGGAGE_KEYS`), as in the W3C headers. Without a valid current span, e.g. if traces are not
    exported, the document stays unchanged. It works for documents to insert and for the value of `$set`.

    Returns:
        The same document.
    """
    with _GUARD:
        if carried := current_context():
            document[CONTEXT_FIELD] = carried
    return document


def continued(
    document: object,
    name: str,
    *,
    child: bool = False,
    alert: AlertType | str | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
    kind: SpanKind = SpanKind.CONSUMER,
) -> AbstractContextManager[Span]:
    """Trace the work on a document in which `carry` has stored the trace context, or on a message with `carry_headers`.

    `with continued(document, "billing.run") as span:` starts a span with a link to the span that stored the context.
    Without a current span it begins a new trace: work that waits for hours, or is retried, would make the request's
    trace unreadable. The stored baggage is current inside. Everything else is as in `traced`.

    The stored context is not trusted: if it is missing, malformed or too long, it is ignored.

    Args:
        document: A document with or without a stored context, or the headers of a message: a mapping, or Kafka's pairs
            of name and bytes. Anything else counts as one without.
        name: See `traced`.
        child: Make the span a child of the span that stored the context, in its trace, instead of linking it.
        alert: See `traced`.
        attributes: See `traced`.
        kind: Kind of the span.

    Raises:
        TypeError: `name` is no text.
        ValueError: `alert` is no known type.
    """
    operation = Operation(name, attributes or {}, kind, AlertType(alert) if alert is not None else None)
    return _Continued(operation, document, child=child)


class _Continued(Block[Span, Run]):
    """The work on one document; each `with` or call is a run of its own."""

    def __init__(self, operation: Operation, document: object, *, child: bool) -> None:
        super().__init__()
        self._operation = operation
        self._child = child
        self._origin: SpanContext | None = None
        self._entries: dict[str, str] = {}
        with _GUARD:
            self._origin, self._entries = _stored(document)

    def __repr__(self) -> str:
        return f"continued({self._operation.name!r})"

    def _begin(self) -> tuple[Span, Run]:
        context = with_entries(self._entries, contexts.get_current())
        links: tuple[Link, ...] = ()
        if self._origin is not None and self._child:
            context = set_span_in_context(NonRecordingSpan(self._origin), context)
        elif self._origin is not None:
            links = (Link(self._origin),)
        run = Run(self._operation, context, links)
        return run.span, run


def _stored(document: object) -> tuple[SpanContext | None, dict[str, str]]:
    """The span that stored `document`, None without a valid one, and the listed baggage entries."""
    stored = document.get(CONTEXT_FIELD) if isinstance(document, Mapping) else None
    carrier = received_context(stored if isinstance(stored, Mapping) else document)
    span = get_current_span(_TRACE.extract(carrier, Context())).get_span_context()
    entries = current_destination().keys.entries(_BAGGAGE.extract(carrier, Context()))
    return (span if span.is_valid else None), entries
