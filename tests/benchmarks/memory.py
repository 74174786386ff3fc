"""Memory: what ours adds after many requests, and whether clients can make it grow."""

from concurrent.futures import ThreadPoolExecutor

from tests.benchmarks.processes import Sink, workers
from tests.benchmarks.report import Report, say
from tests.benchmarks.variants import BY_NAME

_ROUTES = 300
_WARM_UP = 600
_CHUNK = 10_000
_MIB = 2**20
# The history of the last 300 s in 30 steps, made to pass ten times as fast: full long before the requests end.
_SHORT_HISTORY = {"OTEL_MONITORING_SAMPLE_INTERVAL": "1", "OTEL_MONITORING_WINDOW": "30"}
_OURS = "ours_full"
_NAMES = ("bare", _OURS)
_STEPS = 5


def run(report: Report, sink: Sink, requests: int, million: int = 0) -> None:
    """The section of the report.

    Args:
        report: Gets it.
        sink: The receiver of telemetry.
        requests: How many requests each step makes.
        million: How many requests ours is to have answered in the end; 0: as many as the steps make.
    """
    report.section(
        "Memory",
        f"Resident memory in MiB of an application of {_ROUTES} routes, ours with traces and metrics over OTLP: warm, "
        f"after {requests:,} requests over all routes, after as many again, and after {requests:,} more that differ in "
        "path, query, method, host, user agent and trace (the first tenth of them counted as warming up). The history "
        "behind the windows is full.",
    )
    with ThreadPoolExecutor(len(_NAMES)) as pool:
        figures = pool.map(lambda name: _figures(name, sink, requests, million if name == _OURS else 0), _NAMES)
        found = dict(zip(_NAMES, figures, strict=True))
    (*_, last) = found[_OURS]
    found = {name: figures[:_STEPS] for name, figures in found.items()}
    rows = [[BY_NAME[name].title, *(f"{figure:.1f}" for figure in figures)] for name, figures in found.items()]
    bare, ours = found["bare"], found[_OURS]
    rows.append(["added", *(f"{o - b:.1f}" for o, b in zip(ours, bare, strict=True))])
    report.table(("variant", "warm", "after requests", "as many again", "hostile: a tenth", "hostile: all"), rows)
    added, theirs = (f"{figures[1]:.1f} MiB" for figures in (ours, bare))
    report.figure("memory.requests", ours[1] - bare[1], ours=added, peer=theirs)
    for key, before, after in (("memory.flat", 1, 2), ("memory.hostile", 3, 4)):
        # Allocators keep pages as they like: the bare application's own figure moves by about a MiB.
        grown, own = (figures[after] - figures[before] for figures in (ours, bare))
        report.figure(key, grown - max(0.0, own), ours=f"{grown:.1f} MiB", peer=f"{own:.1f} MiB")
    if million:
        report.figure("memory.million", last - ours[-1])
    else:
        report.leave_out("memory.million", "a part of the full run alone")


def _figures(name: str, sink: Sink, requests: int, million: int) -> list[float]:
    with workers([BY_NAME[name]], _ROUTES, sink, _WARM_UP, _SHORT_HISTORY) as (worker,):

        def resident(operation: str, count: int) -> float:
            """MiB after so many requests."""
            for done in range(0, count, _CHUNK):
                say(f"{name}, {operation}: {done:,} of {count:,}")
                worker.do(operation, count=min(_CHUNK, count - done))
            size: int = worker.do("resident")
            return size / _MIB

        tenth = requests // 10
        steps = (("requests", 0), ("requests", requests), ("requests", requests))
        found = [resident(*step) for step in (*steps, ("hostile", tenth), ("hostile", requests - tenth))]
        return [*found, resident("requests", million - 3 * requests)] if million else found
