"""`ServiceResource`: the exporters' table of resources, without a JSON text for each span."""

from json import dumps
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_monitoring.telemetry.schema import joined
from otel_monitoring.telemetry.service_resource import ServiceResource

ATTRIBUTES = {"service.name": "orders", "service.version": "1"}
SCHEMA = "https://example.com/1"


def test_it_is_the_same_key_as_the_sdks() -> None:
    ours, theirs = ServiceResource(ATTRIBUTES, SCHEMA), Resource(ATTRIBUTES, SCHEMA)
    assert ours == theirs
    assert theirs == ours
    assert {ours: 1, theirs: 2} == {ours: 2}
    others = ServiceResource({"service.name": "billing"}, SCHEMA), ServiceResource(ATTRIBUTES)
    assert len({ours, *others}) == 3


def test_however_many_spans_are_exported_its_attributes_are_written_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=joined(ServiceResource(ATTRIBUTES), Resource({})), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for _ in range(20):
        provider.get_tracer("orders").start_span("place").end()

    written: list[Any] = []

    def counted(attributes: Any, **options: Any) -> str:
        written.append(attributes)
        return dumps(attributes, **options)

    monkeypatch.setattr("opentelemetry.sdk.resources.dumps", counted)
    (resource_spans,) = encode_spans(exporter.get_finished_spans()).resource_spans
    assert len(resource_spans.scope_spans[0].spans) == 20
    assert len(written) == 1
