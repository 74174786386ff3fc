"""What a snapshot adds to the history, beside how many series are known already."""

import time
from statistics import median

from otel_monitoring.metrics.snapshot import Histogram, Series, Snapshot
from otel_monitoring.metrics.window import History
from tests.benchmarks.figures import paired, spread
from tests.benchmarks.report import Report

_KNOWN = (100, 1_000, 10_000)
_CHANGED = (3, 30)
_SPAN = 300.0
_INTERVAL = 10.0
_TICKS = 100
_MICRO = 1e6
_ONE = Histogram(count=1, sum=0.5, min=0.5, max=0.5)


def run(report: Report, rounds: int, *, lean: bool) -> None:
    """The section of the report; `lean`: only what has a goal."""
    sizes = _KNOWN[:: len(_KNOWN) - 1] if lean else _KNOWN
    report.section(
        "The history of measurements",
        f"CPU of one `History.add` of a snapshot in which some series changed, by how many are known: series of a "
        f"histogram, of a counter and of a gauge each; {rounds} interleaved rounds of {_TICKS} snapshots.",
    )
    rows, growth = [], []
    for changed in _CHANGED:
        found: dict[int, list[float]] = {known: [] for known in sizes}
        for _ in range(rounds):
            for known in sizes:
                found[known].append(_cost(known, changed) * _MICRO)
        base = found[_KNOWN[0]]
        for known, own in found.items():
            ratio = paired(own, base)
            rows.append([f"{changed} of {known:,}", f"{median(own):.0f}", f"{spread(own):.0f}", f"{ratio:.2f}"])
        growth.append((paired(found[_KNOWN[-1]], base), median(found[_KNOWN[-1]]), median(base)))
    report.table(("series that changed", "median µs", "± µs", f"to {_KNOWN[0]} known"), rows)
    ratio, many, few = max(growth)
    report.figure("history.growth", ratio, ours=f"{many:.0f} µs", peer=f"{few:.0f} µs")


def _cost(known: int, changed: int) -> float:
    """CPU seconds of one snapshot, after the first has left the window."""
    series = [Series("http.server.request.duration", (("http.route", f"/{number}"),)) for number in range(known)]
    history = History(0.0, span=_SPAN, resolution=_INTERVAL)
    history.add(_snapshot(series, 0.0))
    now, warm = _INTERVAL, int(_SPAN / _INTERVAL) + 2
    began = 0.0
    for tick in range(warm + _TICKS):
        if tick == warm:
            began = time.process_time()
        first = tick * changed % (known - changed)
        history.add(_snapshot(series[first : first + changed], now))
        now += _INTERVAL
    return (time.process_time() - began) / _TICKS


def _snapshot(series: list[Series], start: float) -> Snapshot:
    ones = dict.fromkeys(series, 1.0)
    return Snapshot(start, start + _INTERVAL, dict.fromkeys(series, _ONE), ones, ones)
