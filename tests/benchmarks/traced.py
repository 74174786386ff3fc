"""What `traced` adds to a call, beside OpenTelemetry's own decorator."""

import gc
import time
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median
from typing import Any

from opentelemetry.metrics import MeterProvider, NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import NoOpTracerProvider, TracerProvider

from otel_monitoring.baggage import BaggageKeys
from otel_monitoring.metrics.reader import SnapshotReader
from otel_monitoring.tracing import traced
from otel_monitoring.tracing.destination import Destination, use
from tests.benchmarks.figures import added_ratio, paired, spread
from tests.benchmarks.report import Report

_CALLS = 5000
_MICRO = 1e6


class _Nowhere(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def _work() -> int:
    return 1


def run(report: Report, rounds: int) -> None:
    """The section of the report."""
    report.section(
        "Traced operations",
        f"Process CPU of one call of a function that does nothing; {rounds} interleaved rounds of {_CALLS} calls. "
        "Spans go to an exporter that drops them.",
    )
    with ExitStack() as stack:
        tracers = SdkTracerProvider(shutdown_on_exit=False)
        stack.callback(tracers.shutdown)
        tracers.add_span_processor(BatchSpanProcessor(_Nowhere()))
        meters = SdkMeterProvider([SnapshotReader(0.0)], shutdown_on_exit=False)
        stack.callback(meters.shutdown)
        tracer: Any = tracers.get_tracer("benchmark")
        plain: Callable[[], object] = tracer.start_as_current_span("work")(_work)
        ours = traced("work")(_work)
        ways: dict[str, Callable[[], float]] = {
            "undecorated": lambda: _cost(_work),
            "**traced**, no exporter": lambda: _with(NoOpTracerProvider(), NoOpMeterProvider(), ours),
            "**traced**, spans and durations": lambda: _with(tracers, meters, ours),
            "`Tracer.start_as_current_span`, spans alone": lambda: _cost(plain),
        }
        found: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 1):
            for name, cost in ways.items():
                measured = cost() * _MICRO
                if number:
                    found[name].append(measured)
    base, alone, exported, peer = found.values()
    rows = [
        [name, *(f"{v:.1f}" for v in (median(own), spread(own), paired(own, base, "difference")))]
        for name, own in found.items()
    ]
    report.table(("function", "median µs", "± µs", "added µs"), rows)
    report.figure("traced.alone", paired(alone, base, "difference"))
    added, theirs = (f"+{paired(own, base, 'difference'):.1f} µs" for own in (exported, peer))
    report.figure("traced.exported", added_ratio(exported, peer, base), ours=added, peer=theirs)


def _with(tracers: TracerProvider, meters: MeterProvider, function: Callable[[], object]) -> float:
    undo = use(Destination(tracers, meters, BaggageKeys(), lambda _: False))
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
