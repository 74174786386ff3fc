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
_NAMES = ("bare", "ours_embedded")


def run(report: Report, sink: Sink, requests: int) -> None:
    """The section of the report."""
    report.section(
        "Memory",
        f"Resident memory in MiB of an application of {_ROUTES} routes: warm, after {requests:,} requests over all "
        f"routes, and after {requests:,} more that differ in path, query, method, host, user agent and trace (the "
        "first tenth of them counted as warming up). The history behind the windows is full.",
    )
    with ThreadPoolExecutor(len(_NAMES)) as pool:
        figures = pool.map(lambda name: _figures(name, sink, requests), _NAMES)
        found = dict(zip(_NAMES, figures, strict=True))
    rows = [[BY_NAME[name].title, *(f"{figure:.1f}" for figure in figures)] for name, figures in found.items()]
    bare, ours = found["bare"], found["ours_embedded"]
    rows.append(["added", *(f"{o - b:.1f}" for o, b in zip(ours, bare, strict=True))])
    report.table(("variant", "warm", "after requests", "hostile: a tenth", "hostile: all"), rows)
    added, theirs = (f"{figures[1]:.1f} MiB" for figures in (ours, bare))
    report.figure("memory.requests", ours[1] - bare[1], ours=added, peer=theirs)
    # Allocators keep pages as they like: the bare application's own figure moves by about a MiB.
    report.figure("memory.hostile", (ours[3] - ours[2]) - max(0.0, bare[3] - bare[2]))


def _figures(name: str, sink: Sink, requests: int) -> list[float]:
    with workers([BY_NAME[name]], _ROUTES, sink, _WARM_UP, _SHORT_HISTORY) as (worker,):

        def resident() -> float:
            size: int = worker.do("resident")
            return size / _MIB

        figures = [resident()]
        for done in range(0, requests, _CHUNK):
            say(f"{name}: {done:,} of {requests:,} requests")
            worker.do("requests", count=_CHUNK)
        figures.append(resident())
        worker.do("hostile", count=requests // 10)
        figures.append(resident())
        for done in range(requests // 10, requests, requests // 10):
            say(f"{name}: {done:,} of {requests:,} hostile requests")
            worker.do("hostile", count=requests // 10)
        figures.append(resident())
    return figures
