"""`ServerSpans`: the spans of requests and WebSockets, as FastAPI's own telemetry makes them."""

from typing import Final

from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import Span, SpanKind, TracerProvider, get_current_span, set_span_in_context
from starlette.datastructures import Headers
from starlette.types import Scope

from otel_monitoring import semconv
from otel_monitoring.instrumentation.http_server.request_options import RequestOptions
from otel_monitoring.instrumentation.http_server.span_attributes import span_details

RAW_SEND_KEY: Final = "otel_monitoring.send"
"""The key of the scope under which the `send` before contrib's is."""


class _HeadersGetter(Getter[Headers]):
    def get(self, carrier: Headers, key: str) -> list[str] | None:
        values = carrier.getlist(key)
        # The propagator of baggage reads the first value only.
        return [",".join(values)] if values and key.lower() == "baggage" else values or None

    def keys(self, carrier: Headers) -> list[str]:
        return carrier.keys()


_GETTER = _HeadersGetter()


class ServerSpans:
    """Starts a span for each request.

    Args:
        provider: Makes the tracer.
        options: How requests are observed.
    """

    def __init__(self, provider: TracerProvider, options: RequestOptions) -> None:
        self.tracer = provider.get_tracer(semconv.SCOPE, schema_url=semconv.SCHEMA_URL)
        self._options = options

    def __call__(self, scope: Scope) -> tuple[Span, Context | None]:
        """The span of a request, and the context in which the request is to be handled."""
        parent = propagate.extract(Headers(scope=scope), getter=_GETTER)
        name, attributes = span_details(self._options, scope)
        span = self.tracer.start_span(name, parent, SpanKind.SERVER, attributes)
        return span, set_span_in_context(span, parent)


def contribs_span(scope: Scope) -> tuple[Span | None, None]:
    """The span that contrib has started, whose context is current; without contrib the current span is another's."""
    return get_current_span() if RAW_SEND_KEY in scope else None, None
