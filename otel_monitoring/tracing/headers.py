"""`carry_headers` stores the trace context in the headers of a message; `continued` traces the work on it."""

from collections.abc import Mapping, MutableMapping
from itertools import islice
from typing import Any, Final, TypeVar

from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_monitoring.guard import fail_open
from otel_monitoring.tracing.destination import current_destination

H = TypeVar("H", MutableMapping[str, Any], list[tuple[str, bytes]])

LENGTH_LIMITS: Final = {"traceparent": 128, "tracestate": 512, "baggage": 4096}
"""Maximum lengths by W3C header. A `traceparent` of Trace Context version 00 has 55 characters; later ones may more."""
_MOST_HEADERS: Final = 128
_GUARD: Final = fail_open("trace context of a message")
_TRACE: Final = TraceContextTextMapPropagator()
_BAGGAGE: Final = W3CBaggagePropagator()


def carry_headers(headers: H) -> H:
    """Store the current trace context in the headers of a message; `continued` reads them, as others do.

    The headers are those of W3C: `traceparent` and, if present, `tracestate` and `baggage` (only the keys of
    `OTEL_MONITORING_BAGGAGE_KEYS`). They replace those of these names that are there. Without a valid current span,
    e.g. if traces are not exported, the headers stay unchanged.

    Args:
        headers: A dict, as Celery, RabbitMQ and taskiq have it; or a list of names and bytes, as Kafka has it.

    Returns:
        The same headers.
    """
    with _GUARD:
        if carried := current_context():
            _replace(headers, carried)
    return headers


def _replace(headers: MutableMapping[str, Any] | list[tuple[str, bytes]], carried: dict[str, str]) -> None:
    if isinstance(headers, list):
        headers[:] = [header for header in headers if header[0] not in LENGTH_LIMITS]
        headers.extend((name, value.encode("ascii")) for name, value in carried.items())
    else:
        for name in LENGTH_LIMITS:
            headers.pop(name, None)
        headers.update(carried)


def current_context() -> dict[str, str]:
    """The current trace context by W3C header; empty without a valid current span."""
    carrier: dict[str, str] = {}
    _TRACE.inject(carrier)
    _BAGGAGE.inject(carrier, current_destination().keys.only())
    return {name: carrier[name] for name in LENGTH_LIMITS if name in carrier} if "traceparent" in carrier else {}


def received_context(headers: object) -> dict[str, str]:
    """The W3C headers among `headers`, which may be anything: those that are text, printable and not too long."""
    if isinstance(headers, list | tuple):
        pairs = [header for header in islice(headers, _MOST_HEADERS) if isinstance(header, tuple) and len(header) == 2]
    elif isinstance(headers, Mapping):
        pairs = [(name, headers.get(name)) for name in LENGTH_LIMITS]
    else:
        pairs = []
    received: dict[str, str] = {}
    for name, value in pairs:
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        limit = LENGTH_LIMITS.get(name) if isinstance(name, str) else None
        if limit and isinstance(text, str) and len(text) <= limit and text.isascii() and text.isprintable():
            received[name] = text
    return received
