"""What `traced` adds to a call, beside OpenTelemetry's own decorator, alone and with a duration recorded by hand."""

import gc
import time
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median
from typing import Any

from opentelemetry.metrics import MeterProvider, NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import NoOpTracerProvider, TracerProvider

from otel_monitoring.baggage import BaggageKeys
from otel_monitoring.metrics.reader import SnapshotReader
from otel_monitoring.tracing import traced
from otel_monitoring.tracing.destination import Destination, use
from tests.benchmarks.figures import added, added_ratio, paired, spread
from tests.benchmarks.pace import Rounds
from tests.benchmarks.report import Report

_CALLS = 1000
_MICRO = 1e6

_UNDECORATED = "undecorated"
_NO_EXPORTER = "**traced**, no exporter"
_OUR_SPANS = "**traced**, spans"
_OURS = "**traced**, spans and durations"
_SPANS = "`start_as_current_span`"
_BY_HAND = "`start_as_current_span`, and durations by hand"


class _Nowhere(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def _work() -> int:
    return 1


def run(report: Report, rounds: Rounds) -> None:
    """The section of the report."""
    report.section(
        "Traced operations",
        f"Process CPU of one call of a function that does nothing; {rounds} interleaved rounds of {_CALLS} calls. "
        "Spans go to an exporter that drops them, durations to a reader beside the aggregator's. `by hand` measures "
        "the call and records it in a histogram.",
    )
    with ExitStack() as stack:
        ways = _ways(stack)
        found: dict[str, list[float]] = {name: [] for name in ways}
        for cost in ways.values():
            cost()
        for _ in rounds:
            for name, cost in ways.items():
                found[name].append(cost() * _MICRO)
    base, spans = found[_UNDECORATED], found[_SPANS]
    rows = [
        [
            name,
            *(f"{v:.1f}" for v in (median(own), spread(own), added(own, base))),
            f"{paired(own, spans):.2f}",
        ]
        for name, own in found.items()
    ]
    report.table(("function", "median µs", "± µs", "added µs", f"to {_SPANS}"), rows)
    report.figure("traced.alone", added(found[_NO_EXPORTER], base))
    for key, own, peer in (("traced.spans", _OUR_SPANS, _SPANS), ("traced.exported", _OURS, _BY_HAND)):
        ours, theirs = (f"{added(found[name], base):+.1f} µs" for name in (own, peer))
        report.figure(key, added_ratio(found[own], found[peer], base), ours=ours, peer=theirs)


def _ways(stack: ExitStack) -> dict[str, Callable[[], float]]:
    """What is measured: each returns the cost of one call."""
    tracers = SdkTracerProvider(shutdown_on_exit=False)
    stack.callback(tracers.shutdown)
    tracers.add_span_processor(BatchSpanProcessor(_Nowhere()))
    reader = SnapshotReader(0.0)
    meters = SdkMeterProvider([reader, InMemoryMetricReader()], shutdown_on_exit=False)
    stack.callback(meters.shutdown)
    tracer: Any = tracers.get_tracer("benchmark")
    histogram = meters.get_meter("benchmark").create_histogram("benchmark.duration")
    spans: Callable[[], object] = tracer.start_as_current_span("work")(_work)

    def by_hand() -> object:
        began = time.perf_counter()
        try:
            with tracer.start_as_current_span("work"):
                return _work()
        finally:
            histogram.record(time.perf_counter() - began, {"operation": "work"})

    ours = traced("work")(_work)
    nothing = _destination(NoOpTracerProvider(), NoOpMeterProvider(), reader)
    spans_alone = _destination(tracers, NoOpMeterProvider(), reader)
    both = _destination(tracers, meters, reader)
    return {
        _UNDECORATED: lambda: _cost(_work),
        _NO_EXPORTER: lambda: _with(nothing, ours),
        _OUR_SPANS: lambda: _with(spans_alone, ours),
        _SPANS: lambda: _cost(spans),
        _OURS: lambda: _with(both, ours),
        _BY_HAND: lambda: _cost(by_hand),
    }


def _destination(tracers: TracerProvider, meters: MeterProvider, reader: SnapshotReader) -> Destination:
    return Destination(tracers, meters, BaggageKeys(), lambda _: False, reader.direct)


def _with(destination: Destination, function: Callable[[], object]) -> float:
    undo = use(destination)
    try:
        return _cost(function)
    finally:
        undo()


def _cost(function: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    gc.collect()
    began = time.process_time()
    for _ in range(_CALLS):
        function()
    return (time.process_time() - began) / _CALLS
