"""Spans that are written down: what is exported is what the SDK's own would be."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import pytest
from opentelemetry.context import Context, get_current
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    use_span,
)

from otel_monitoring.telemetry.span_pipeline import SpanSwitch
from otel_monitoring.telemetry.tracer_provider import LeafTracer, ServiceTracerProvider

NAME = "find orders"
ATTRIBUTES: dict[str, str | int] = {"db.system.name": "mongodb", "server.port": 27017}
RESOURCE = Resource({"service.name": "orders"})
STATE = TraceState([("vendor", "1")])


class Ids:
    """Numbers in place of random ids; `random` as the SDK's generator says of its own."""

    def __init__(self, random: bool) -> None:
        self.random = random

    def generate_trace_id(self) -> int:
        return 0xABC

    def generate_span_id(self) -> int:
        return 0xDEF

    def is_trace_id_random(self) -> bool:
        return self.random


class Adding(Sampler):
    """Samples everything, with attributes and a trace state of its own."""

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        return SamplingResult(Decision.RECORD_AND_SAMPLE, {"sampled.by": "us", "long": "x" * 100}, STATE)

    def get_description(self) -> str:
        return "Adding"


class RecordOnly(Sampler):
    """Records spans that are not exported."""

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        return SamplingResult(Decision.RECORD_ONLY)

    def get_description(self) -> str:
        return "RecordOnly"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def ours(exporter: InMemorySpanExporter) -> ServiceTracerProvider:
    switch = SpanSwitch()
    switch.target = SimpleSpanProcessor(exporter)
    return ServiceTracerProvider(switch, RESOURCE)


def parent(flags: int, *, remote: bool = False) -> NonRecordingSpan:
    return NonRecordingSpan(SpanContext(7, 8, remote, TraceFlags(flags), STATE))


def leaf(provider: Any, *, fails: bool = False) -> None:
    """One span from start to end."""
    tracer = LeafTracer(provider, "scope", "https://schema")
    span = tracer.start(tracer.prepare(NAME, ATTRIBUTES), get_current())
    if span is None:
        return
    if fails:
        tracer.end(tracer.described(span, {"error.type": "y" * 100}), Status(StatusCode.ERROR, "refused"))
    else:
        tracer.end(span)


def exported(spans: Sequence[ReadableSpan]) -> Any:
    """What leaves the process, without the times."""
    request = encode_spans(spans)
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                assert span.end_time_unix_nano >= span.start_time_unix_nano > 10**18
                span.start_time_unix_nano = span.end_time_unix_nano = 0
    return request


PARENTS: dict[str, NonRecordingSpan | None] = {
    "none": None,
    "local": parent(TraceFlags.SAMPLED),
    "random": parent(TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID),
    "remote": parent(TraceFlags.SAMPLED, remote=True),
    "not sampled": parent(0),
    "invalid": NonRecordingSpan(SpanContext(0, 0, False)),
}


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("random", [False, True])
@pytest.mark.parametrize(
    "sampler",
    [
        None,
        ParentBased(ALWAYS_OFF),
        ParentBased(ALWAYS_ON),
        ParentBased(ALWAYS_ON, local_parent_sampled=ALWAYS_OFF),
        ParentBased(Adding(), remote_parent_sampled=Adding()),
        ALWAYS_ON,
        Adding(),
        RecordOnly(),
    ],
    ids=lambda one: one and one.get_description(),
)
@pytest.mark.parametrize("around", PARENTS.values(), ids=PARENTS)
@pytest.mark.parametrize(
    "limits", [{}, {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "1", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "5"}]
)
def test_what_is_exported_is_what_the_sdk_would_export(
    exporter: InMemorySpanExporter,
    monkeypatch: pytest.MonkeyPatch,
    limits: dict[str, str],
    around: NonRecordingSpan | None,
    sampler: Sampler | None,
    random: bool,
    fails: bool,
) -> None:
    for name, value in limits.items():
        monkeypatch.setenv(name, value)
    switch = SpanSwitch()
    switch.target = SimpleSpanProcessor(exporter)
    ours = ServiceTracerProvider(switch, RESOURCE)
    theirs = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
    theirs.add_span_processor(switch)
    found = []
    for provider in (ours, theirs):
        provider.id_generator = Ids(random)  # type: ignore[assignment]
        if sampler is not None:
            provider.sampler = sampler
        exporter.clear()
        with use_span(around) if around is not None else nullcontext():
            leaf(provider, fails=fails)
        found.append(exported(exporter.get_finished_spans()))

    assert found[0] == found[1]


class Watching(SpanProcessor):
    """A processor of the application's, which names each span that starts."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        span.set_attribute("seen", True)


def test_a_processor_of_the_applications_sees_spans_start(
    ours: ServiceTracerProvider, exporter: InMemorySpanExporter
) -> None:
    leaf(ours)
    ours.add_span_processor(Watching())
    leaf(ours)

    assert [(span.attributes or {}).get("seen") for span in exporter.get_finished_spans()] == [None, True]


def test_a_processor_of_the_services_sees_spans_start(exporter: InMemorySpanExporter) -> None:
    switch = SpanSwitch([Watching()])
    switch.target = SimpleSpanProcessor(exporter)

    leaf(ServiceTracerProvider(switch, RESOURCE))

    assert [(span.attributes or {}).get("seen") for span in exporter.get_finished_spans()] == [True]


def test_the_sdk_counts_its_spans_where_it_is_asked_to(
    exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")

    assert ServiceTracerProvider(SpanSwitch(), RESOURCE).observed


def test_without_an_export_there_is_no_span(ours: ServiceTracerProvider) -> None:
    tracer = LeafTracer(ours, "scope", "")
    kind = tracer.prepare(NAME, ATTRIBUTES)
    assert tracer.start(kind, get_current()) is not None

    ours.switch.target = None

    assert tracer.start(kind, get_current()) is None


def test_a_span_has_the_resource_of_the_process_that_ends_it(
    ours: ServiceTracerProvider, exporter: InMemorySpanExporter
) -> None:
    tracer = LeafTracer(ours, "scope", "")
    ours._update_resource(Resource({"service.instance.id": "child"}))
    span = tracer.start(tracer.prepare(NAME, ATTRIBUTES), get_current())
    assert span is not None
    tracer.end(span)

    (found,) = exporter.get_finished_spans()
    assert found.resource.attributes["service.instance.id"] == "child"
