"""`carry` and `continued`: from the request that stores a document to the work that finds it, maybe days later."""

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
from otel_monitoring.tracing.operation import Operation, Run
from otel_monitoring.tracing.scope import Block

D = TypeVar("D", bound=MutableMapping[str, Any])

CONTEXT_FIELD: Final = "trace_context"
"""The field of a document in which `carry` keeps the context: an object of `traceparent`, `tracestate`, `baggage`."""

# W3C Trace Context and Baggage. A traceparent of version 00 has 55 characters, of later ones maybe more.
_LIMITS: Final = {"traceparent": 128, "tracestate": 512, "baggage": 4096}
_GUARD: Final = fail_open("trace context of a document")
_TRACE: Final = TraceContextTextMapPropagator()
_BAGGAGE: Final = W3CBaggagePropagator()


def carry(document: D) -> D:
    """Put the current trace context into `document`, for whoever works on it later; see `continued`.

    The field `trace_context` becomes an object with `traceparent` and, where there are any, `tracestate` and `baggage`
    (the keys of `OTEL_MONITORING_BAGGAGE_KEYS` alone), in the form of their W3C headers. Without a current span the
    document stays as it is; so it does where nothing is traced, because traces have no endpoint, or are switched off,
    and the application has no tracer provider of its own. Works for documents to insert and for what `$set` is given.

    Returns:
        The same document.
    """
    with _GUARD:
        carrier: dict[str, str] = {}
        _TRACE.inject(carrier)
        _BAGGAGE.inject(carrier, current_destination().keys.only())
        if "traceparent" in carrier:
            document[CONTEXT_FIELD] = {key: carrier[key] for key in _LIMITS if key in carrier}
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
    """Trace the work on a document that `carry` has seen.

    `with continued(document, "billing.run") as span:` starts a span that is linked to the one in which the document
    was stored. Where there is no current span it begins a trace of its own: work that waits for hours, or is tried
    again, would stretch a request's trace beyond recognition. The carried baggage is current again in it. Otherwise it
    is as `traced`.

    What stands in the document is not trusted: a context that is missing, malformed or too long is left out.

    Args:
        document: A document with or without the context; anything else counts as one without.
        name: As of `traced`.
        child: Make the span a child of the one that stored the document, in the same trace, rather than link it.
        alert: As of `traced`.
        attributes: As of `traced`.
        kind: Kind of the span.

    Raises:
        TypeError: `name` is no text.
        ValueError: `alert` is no known type.
    """
    operation = Operation(name, attributes or {}, kind, AlertType(alert) if alert is not None else None)
    return _Continued(operation, document, child=child)


class _Continued(Block[Span, Run]):
    """The work on one document; tried again, it is a run of its own."""

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
    """The span in which `document` was stored, if it says so in valid form, and the listed baggage of then."""
    stored = document.get(CONTEXT_FIELD) if isinstance(document, Mapping) else None
    if not isinstance(stored, Mapping):
        return None, {}
    carrier: dict[str, str] = {}
    for key, limit in _LIMITS.items():
        value = stored.get(key)
        if isinstance(value, str) and len(value) <= limit and value.isascii() and value.isprintable():
            carrier[key] = value
    span = get_current_span(_TRACE.extract(carrier, Context())).get_span_context()
    entries = current_destination().keys.entries(_BAGGAGE.extract(carrier, Context()))
    return (span if span.is_valid else None), entries
