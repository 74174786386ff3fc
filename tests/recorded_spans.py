"""A source of traced operations that keeps what it is given."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_monitoring import MonitoringService
from otel_monitoring.baggage import BaggageKeys
from otel_monitoring.telemetry.span_pipeline import BaggageSpanProcessor
from otel_monitoring.tracing.destination import Destination, use


@dataclass
class Recorded:
    """What traced operations left behind."""

    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)
    logs: Any = field(default_factory=InMemoryLogRecordExporter)
    submitted: list[Callable[[], Coroutine[Any, Any, object]]] = field(default_factory=list)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    @property
    def span(self) -> ReadableSpan:
        (span,) = self.spans
        return span

    def durations(self) -> list[tuple[dict[str, Any], int]]:
        """Attributes and count of each series of the histogram of operations."""
        data = self.reader.get_metrics_data()
        metrics = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics] if data else []
        assert all((m.name, m.unit) == ("otel_monitoring.operation.duration", "s") for m in metrics)
        points = [point for metric in metrics for point in metric.data.data_points]
        return [(dict(p.attributes or {}), p.count) for p in points if isinstance(p, HistogramDataPoint)]

    def run_submitted(self) -> None:
        """Do what the monitoring thread would."""
        for work in self.submitted:
            asyncio.run(_awaited(work()))


async def _awaited(work: Coroutine[Any, Any, object]) -> None:
    await work


@contextmanager
def recording(*keys: str, accepting: bool = True, service: MonitoringService | None = None) -> Iterator[Recorded]:
    """Let traced operations report to a `Recorded`.

    Args:
        keys: Listed baggage.
        accepting: Whether the monitoring thread takes work.
        service: Whose operations they are.
    """
    recorded, listed = Recorded(), BaggageKeys(keys)
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(BaggageSpanProcessor(listed))
    tracers.add_span_processor(SimpleSpanProcessor(recorded.exporter))
    meters = MeterProvider([recorded.reader], shutdown_on_exit=False)

    def submit(work: Callable[[], Coroutine[Any, Any, object]]) -> bool:
        if accepting:
            recorded.submitted.append(work)
        return accepting

    loggers = LoggerProvider(shutdown_on_exit=False)
    loggers.add_log_record_processor(SimpleLogRecordProcessor(recorded.logs))
    undo = use(Destination(tracers, meters, listed, submit, logger_provider=loggers), service)
    try:
        yield recorded
    finally:
        undo()
        meters.shutdown()
