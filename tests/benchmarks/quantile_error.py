"""Percentiles through the real SDK pipeline beside exact ones, and the counts of windows."""

import random
from collections.abc import Callable

from opentelemetry.sdk.metrics import MeterProvider

from otel_monitoring.metrics.reader import SnapshotReader
from otel_monitoring.metrics.snapshot import merged
from otel_monitoring.metrics.window import History
from tests.benchmarks.figures import exact_quantile
from tests.benchmarks.report import Report

_QUANTILES = (0.5, 0.95, 0.99)
_INTERVAL = 10.0
_SPAN = 300.0
_TICKS = 40
_NAME = "duration"

_random = random.Random(5)


def _bimodal() -> float:
    fast = _random.random() < 0.8
    return _random.lognormvariate(-5.3, 0.3) if fast else _random.lognormvariate(-0.7, 0.3)


_DISTRIBUTIONS: dict[str, Callable[[], float]] = {
    "log-normal (median 20 ms, sigma 1)": lambda: _random.lognormvariate(-3.9, 1.0),
    "bimodal (80 % at 5 ms, 20 % at 500 ms)": _bimodal,
    "heavy-tailed (Pareto, alpha 1.5, from 2 ms)": lambda: 0.002 * _random.paretovariate(1.5),
}


def run(report: Report, samples: int) -> None:
    """The section of the report."""
    report.section(
        "Percentiles and windows",
        f"{samples:,} values of each distribution, recorded in a histogram of the SDK and collected every "
        f"{_INTERVAL:g} s for {_TICKS} intervals; the window of the last {_SPAN:g} s beside exact percentiles of the "
        "very values recorded in it.",
    )
    rows, worst, miscounted = [], 0.0, 0
    for name, draw in _DISTRIBUTIONS.items():
        estimates, exact, counted = _measure(draw, samples // _TICKS)
        errors = [100 * (estimate / truth - 1) for estimate, truth in zip(estimates, exact, strict=True)]
        worst = max(worst, *(abs(error) for error in errors))
        miscounted += abs(counted)
        cells = [f"{truth * 1e3:.2f} / {e * 1e3:.2f} ms" for truth, e in zip(exact, estimates, strict=True)]
        rows.append([name, *cells, " / ".join(f"{error:+.2f}" for error in errors), str(counted)])
    report.table(("distribution", "p50 exact / ours", "p95", "p99", "errors %", "miscounted"), rows)
    report.figure("quantiles.error", worst)
    report.figure("quantiles.counts", miscounted)


def _measure(draw: Callable[[], float], per_tick: int) -> tuple[list[float], list[float], int]:
    """Estimates, exact values, and by how much the window's count is wrong."""
    reader = SnapshotReader(0.0)
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    histogram = provider.get_meter("benchmark").create_histogram(_NAME, unit="s")
    history = History(0.0, span=_SPAN, resolution=_INTERVAL)
    recorded: list[list[float]] = []
    for tick in range(_TICKS):
        values = [draw() for _ in range(per_tick)]
        recorded.append(values)
        for value in values:
            histogram.record(value, {"http.route": "/items"})
        history.add(reader.take((tick + 1) * _INTERVAL))
    found = merged(histogram for _, histogram in history.recent.histograms(_NAME))
    kept = round(history.recent.seconds / _INTERVAL)
    truth = sorted(value for values in recorded[-kept:] for value in values)
    estimates = [found.quantile(q) or 0.0 for q in _QUANTILES]
    return estimates, [exact_quantile(truth, q) for q in _QUANTILES], found.count - len(truth)
