"""What the instrumentation of MongoDB clients measured and traced."""

from collections import Counter
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_monitoring import semconv as c
from otel_monitoring.instrumentation.mongodb.instrumentation import MongoInstrumentation, attach
from tests.measured import metrics_of


class Telemetry:
    """Providers of its own, and what they were given."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider([self.reader])
        self.meter = self.meter_provider.get_meter("test")

    def attach(self, handle: object, **options: Any) -> MongoInstrumentation:
        options.setdefault("tracer_provider", self.tracer_provider)
        return attach(handle, meter_provider=self.meter_provider, **options)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    def traced(self) -> dict[str, int]:
        """How many spans have each name."""
        return Counter(span.name for span in self.spans)

    def points(self, name: str) -> list[Any]:
        return [point for one in metrics_of(self.reader) if one.name == name for point in one.data.data_points]

    def commands(self) -> dict[str, int]:
        """How often each operation was counted on each collection, by the names that their spans have."""
        counts: Counter[str] = Counter()
        for point in self.points(c.DB_CLIENT_OPERATION_DURATION):
            collection = point.attributes.get(c.DB_COLLECTION_NAME)
            counts[f"{point.attributes[c.DB_OPERATION_NAME]} {collection}"] += point.count
        return counts

    def connections(self) -> dict[str, int]:
        """How many are idle and used, in all pools."""
        counts: Counter[str] = Counter()
        for point in self.points(c.DB_CLIENT_CONNECTION_COUNT):
            counts[point.attributes[c.DB_CLIENT_CONNECTION_STATE]] += point.value
        return counts


@pytest.fixture
def telemetry(monkeypatch: pytest.MonkeyPatch) -> Telemetry:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database")
    return Telemetry()
