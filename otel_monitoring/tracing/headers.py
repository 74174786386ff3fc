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
_LONGEST_NAME: Final = max(map(len, LENGTH_LIMITS))
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
        headers[:] = [header for header in headers if _name(header[0]) not in LENGTH_LIMITS]
        headers.extend((name, value.encode("ascii")) for name, value in carried.items())
    else:
        for name in [name for name in headers if _name(name) in LENGTH_LIMITS]:
            headers.pop(name, None)
        headers.update(carried)


def current_context() -> dict[str, str]:
    """The current trace context by W3C header; empty without a valid current span."""
    carrier: dict[str, str] = {}
    _TRACE.inject(carrier)
    _BAGGAGE.inject(carrier, current_destination().keys.only())
    return {name: carrier[name] for name in LENGTH_LIMITS if name in carrier} if "traceparent" in carrier else {}


def received_context(headers: object) -> dict[str, str]:
    """The W3C headers among `headers`, which may be anything: those that are text, printable and not too long.

    Names are text or bytes, as Redis and ASGI have them, of any case: some brokers and languages write `Traceparent`.
    """
    pairs: list[Any] = []
    if isinstance(headers, list | tuple):
        given = islice(headers, _MOST_HEADERS)
        pairs = [header for header in given if isinstance(header, tuple | list) and len(header) == 2]
    elif isinstance(headers, Mapping):
        known = [(name, headers.get(name)) for name in LENGTH_LIMITS]
        pairs = known if known[0][1] is not None else list(islice(headers.items(), _MOST_HEADERS))
    received: dict[str, str] = {}
    for header, value in pairs:
        name = _name(header)
        text = bytes(value).decode("latin-1") if isinstance(value, bytes | bytearray | memoryview) else value
        limit = LENGTH_LIMITS.get(name)
        if limit and isinstance(text, str) and len(text) <= limit and text.isascii() and text.isprintable():
            received[name] = text
    return received


def _name(header: object) -> str:
    """The name of a header in lower case; empty: it has none."""
    text = header.decode("latin-1") if isinstance(header, bytes) else header
    return text.lower() if isinstance(text, str) and len(text) <= _LONGEST_NAME else ""
