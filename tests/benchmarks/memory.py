"""Memory: what ours adds after many requests, and whether clients can make it grow."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tests.benchmarks.processes import QUIET, Sink, Worker, workers
from tests.benchmarks.report import Report, say
from tests.benchmarks.variants import BY_NAME

_ROUTES = 300
_WARM_UP = 600
_CHUNK = 10_000
_MIB = 2**20
# The history of the last 300 s in 30 steps, made to pass ten times as fast: full long before the requests end.
_SETTINGS = {"OTEL_MONITORING_SAMPLE_INTERVAL": "1", "OTEL_MONITORING_WINDOW": "30", **QUIET}
_BARE, _NATIVE, _OURS = "bare", "native", "ours_full"
_NAMES = (_BARE, _NATIVE, _OURS)
_MORE_THAN_A_QUEUE = 3_000
"""Requests whose spans no queue holds: the default is 2,048."""
_FEW_ROUTES = 40
"""A request costs less CPU, and no more memory, in an application of fewer routes: a million take minutes."""


def run(report: Report, requests: int, million: int = 0, *, lean: bool) -> None:
    """The section of the report.

    Args:
        report: Gets it.
        requests: How many requests each step makes.
        million: How many requests ours is to have answered in the end, where it grows no more; 0: it is left out.
        lean: Whether FastAPI's own telemetry is left out where it has no part in a goal.
    """
    report.section(
        "Memory",
        f"Resident memory in MiB of an application of {_ROUTES} routes, FastAPI's own telemetry and ours with traces "
        "and metrics over OTLP: warm, with queues that were full once, after "
        f"{requests:,} requests over all routes, after as many again, and after "
        f"{requests:,} more that differ in path, query, method, host, user agent and trace (the first tenth of them "
        "counted as warming up). The history behind the windows is full.",
    )
    with ThreadPoolExecutor(len(_NAMES) + 1) as pool:
        grown = pool.submit(_grown, million) if million else None
        found = dict(zip(_NAMES, pool.map(lambda name: _figures(name, requests, lean=lean), _NAMES), strict=True))
        if grown is None:
            report.leave_out("memory.million", "a part of the full run alone")
        else:
            report.figure("memory.million", grown.result())
    bare, native, ours = (found[name] for name in _NAMES)
    rows = [
        [BY_NAME[name].title, *(f"{figure:.1f}" for figure in figures), *["-"] * (len(ours) - len(figures))]
        for name, figures in found.items()
    ]
    rows.append(["added", *(f"{o - b:.1f}" for o, b in zip(ours, bare, strict=True))])
    report.table(("variant", "warm", "after requests", "as many again", "hostile: a tenth", "hostile: all"), rows)
    report.figure("memory.requests", ours[1] - native[1], ours=f"{ours[1]:.1f} MiB", peer=f"{native[1]:.1f} MiB")
    for key, before, after in (("memory.flat", 1, 2), ("memory.hostile", 3, 4)):
        # Allocators keep pages as they like: the bare application's own figure moves by about a MiB.
        more, own = (figures[after] - figures[before] for figures in (ours, bare))
        report.figure(key, more - max(0.0, own), ours=f"{more:.1f} MiB", peer=f"{own:.1f} MiB")


def _figures(name: str, requests: int, *, lean: bool) -> list[float]:
    """MiB after each step."""
    with _worker(name, _ROUTES) as worker:
        tenth = requests // 10
        steps = [("requests", 0), ("requests", requests)]
        if name != _NATIVE or not lean:
            steps += [("requests", requests), ("hostile", tenth), ("hostile", requests - tenth)]
        return [_resident(worker, *step) for step in steps]


def _grown(million: int) -> float:
    """MiB that ours grows by from the first three tenths of so many requests to all of them."""
    with _worker(_OURS, _FEW_ROUTES) as worker:
        first = million * 3 // 10
        before = _resident(worker, "requests", first)
        return _resident(worker, "requests", million - first) - before


@contextmanager
def _worker(name: str, routes: int) -> Iterator[Worker]:
    """A warm worker whose queue of spans was full once, with a receiver of its own.

    On a busy machine that happens sooner or later. Allocators then keep the 4 MiB that it took: in the midst of a
    measurement they would be taken for growth.
    """
    sink = Sink()
    try:
        with workers([BY_NAME[name]], routes, sink, _WARM_UP, _SETTINGS) as (worker,):
            if worker.variant.sends is not None:
                with sink.silent():
                    worker.do("unsent", count=_MORE_THAN_A_QUEUE)
                worker.do("requests", count=_WARM_UP)
            yield worker
    finally:
        sink.end()


def _resident(worker: Worker, operation: str, count: int) -> float:
    """MiB after so many requests more: the least of the readings during the last third of them.

    How much an allocator keeps of what an export took depends on how long the queue was, and so on how busy the machine
    is: a single reading is up to a MiB too high, while what is alive stays the same to a few KiB.
    """
    readings: list[int] = []
    for done in range(0, count, _CHUNK):
        say(f"{worker.variant.name}, {operation}: {done:,} of {count:,}")
        worker.do(operation, count=min(_CHUNK, count - done))
        if done + _CHUNK > count * 2 / 3:
            readings.append(worker.do("resident"))
    return float(min(readings or [worker.do("resident")])) / _MIB
