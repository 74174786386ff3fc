"""`ServiceTracerProvider`: our tracer provider; `LeafTracer`: makes spans that no application code can reach."""

from time import time_ns
from typing import Final, NamedTuple, TypeAlias

from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Decision, ParentBased, Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags, get_current_span
from opentelemetry.util import types

from otel_monitoring.environment import sdk_counts_spans
from otel_monitoring.telemetry.span_pipeline import SpanSwitch

Attributes: TypeAlias = dict[str, str | int]

_RANDOM: Final = TraceFlags.RANDOM_TRACE_ID
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_SAMPLED_RANDOM: Final = TraceFlags(TraceFlags.SAMPLED | _RANDOM)
_UNSET: Final = Status(StatusCode.UNSET)


class ServiceTracerProvider(TracerProvider):
    """The SDK's tracer provider, which knows whether anybody but the service's own switch sees its spans.

    Args:
        switch: The service's span processor.
        resource: The resource of the spans.

    Attributes:
        switch: The service's span processor.
        observed: Whether spans must be the SDK's own: the application has added a span processor, or the SDK counts its
            spans.
    """

    def __init__(self, switch: SpanSwitch, resource: Resource) -> None:
        super().__init__(resource=resource, shutdown_on_exit=False)
        super().add_span_processor(switch)
        self.switch = switch
        self.observed = switch.acts_at_start or sdk_counts_spans()

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Add a span processor; from now on it sees every span."""
        self.observed = True
        super().add_span_processor(span_processor)


class LeafSpan(NamedTuple):
    """A kind of span, prepared once.

    Attributes:
        name: Of the spans.
        attributes: Those that all have.
        bounded: The same within the SDK's limits.
    """

    name: str
    attributes: Attributes
    bounded: BoundedAttributes


class _Started(NamedTuple):
    """A span that has started."""

    name: str
    attributes: BoundedAttributes
    context: SpanContext
    parent: SpanContext | None
    start_time: int


_started: Final = tuple.__new__
"""Without the function of the class that gives its fields names: it takes as long as three further calls of C."""

StartedSpan: TypeAlias = _Started | Span


class LeafTracer:
    """Makes CLIENT spans that have ended before anybody sees them: they never become current, and have no children.

    The SDK's span can be changed in any thread until it ends: it costs two locks, a copy of every attribute, lists of
    events and links, and a copy of itself, three times what it costs to write down when it began and what is exported.
    So the spans of a `ServiceTracerProvider` are written down, with the provider's sampler, limits, ids and resource,
    unless a processor of the application's wants to see them start. Every other provider makes them itself.

    Args:
        provider: Whose spans they are.
        name: Of the instrumentation scope.
        schema_url: Of the instrumentation scope; None: it has none.
    """

    def __init__(self, provider: trace.TracerProvider, name: str, schema_url: str | None) -> None:
        self._tracer = provider.get_tracer(name, schema_url=schema_url)
        self._provider = provider if isinstance(provider, ServiceTracerProvider) else None
        self._scope = InstrumentationScope(name, "", schema_url)
        self._limits = SpanLimits()
        self._known_sampler: Sampler | None = None
        self._is_default = False

    def prepare(self, name: str, attributes: Attributes) -> LeafSpan:
        """A kind of span, for `start`."""
        return LeafSpan(name, attributes, self._bounded(attributes))

    def start(self, kind: LeafSpan, context: Context) -> StartedSpan | None:
        """Start a span below the one in `context`; None if it is not exported."""
        provider = self._provider
        if provider is None or provider.observed:
            span = self._tracer.start_span(kind.name, context, kind=SpanKind.CLIENT, attributes=kind.attributes)
            return span if span.is_recording() else None
        if provider.switch.target is None:
            return None
        parent: SpanContext | None = get_current_span(context).get_span_context()
        ids = provider.id_generator
        if parent is not None and parent.is_valid:
            trace_id, random = parent.trace_id, parent.trace_flags & _RANDOM
        else:
            parent, trace_id, random = None, ids.generate_trace_id(), ids.is_trace_id_random()
        sampler, bounded = provider.sampler, kind.bounded
        if self._samples_as_parent(sampler):
            if parent is not None and not parent.trace_flags & TraceFlags.SAMPLED:
                return None
            state = None if parent is None else parent.trace_state
        else:
            attributes = kind.attributes
            sampled = sampler.should_sample(context, trace_id, kind.name, SpanKind.CLIENT, attributes, ())
            if sampled.decision is not Decision.RECORD_AND_SAMPLE:
                return None
            state = sampled.trace_state
            if sampled.attributes != attributes:
                bounded = self._bounded(sampled.attributes)
        flags = _SAMPLED_RANDOM if random else _SAMPLED
        provider.switch.started += 1
        span_context = SpanContext(trace_id, ids.generate_span_id(), False, flags, state)
        return _started(_Started, (kind.name, bounded, span_context, parent, time_ns()))

    def _samples_as_parent(self, sampler: Sampler) -> bool:
        """Whether it is the SDK's default sampler; asking it takes a sixth of what a span costs."""
        if sampler is not self._known_sampler:
            self._is_default = type(sampler) is ParentBased and vars(sampler) == vars(DEFAULT_ON)
            self._known_sampler = sampler
        return self._is_default

    def described(self, span: StartedSpan, attributes: Attributes) -> StartedSpan:
        """`span` with further attributes."""
        if isinstance(span, Span):
            span.set_attributes(attributes)
            return span
        bounded = self._bounded({**span.attributes, **attributes})
        bounded.dropped += span.attributes.dropped
        return span._replace(attributes=bounded)

    def end(self, span: StartedSpan, status: Status = _UNSET) -> None:
        """End a span, which has no use afterwards."""
        if isinstance(span, Span):
            span.set_status(status)
            span.end()
        elif self._provider is not None:
            self._provider.switch.on_end(
                ReadableSpan(
                    span.name,
                    span.context,
                    span.parent,
                    self._provider.resource,
                    span.attributes,
                    kind=SpanKind.CLIENT,
                    status=status,
                    start_time=span.start_time,
                    end_time=time_ns(),
                    instrumentation_scope=self._scope,
                )
            )

    def _bounded(self, attributes: types.Attributes) -> BoundedAttributes:
        limits = self._limits
        return BoundedAttributes(limits.max_span_attributes, attributes, max_value_len=limits.max_span_attribute_length)
