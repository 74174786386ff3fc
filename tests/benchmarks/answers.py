"""What our endpoints cost: `/api/health` beside an empty route, and the diagnostics of a large service."""

from collections.abc import Sequence
from statistics import median

from tests.benchmarks.figures import added, paired, spread, undisturbed
from tests.benchmarks.processes import Sink, Worker, workers
from tests.benchmarks.report import Report, say
from tests.benchmarks.variants import BY_NAME

_HEALTH = "/api/health"
_METRICS = "/api/health/metrics"
_DIAGNOSTICS = "/api/health/diagnostics"
_EMPTY = "/empty"
_BATCH = 400
_WARM_UP = 400
# The series are recorded, not requested: more requests would be more series.
_JUST_THE_PROOF = 5
_LOADED, _FLOODED = 3, 50
"""Durations of each series since the last answer: what a busy process measures in a second, and many times as many."""
_POLLS = 20

# routes, statuses; the last has goals
_SIZES = ((40, [200, 404]), (300, [200, 400, 404, 409, 503]))
_MILLI = 1e3
_MICRO = 1e6


def run(report: Report, sink: Sink, rounds: int, *, lean: bool) -> None:
    """Both sections of the report; `lean`: only what has a goal."""
    _health(report, sink, rounds)
    _diagnostics(report, sink, rounds, _SIZES[-1:] if lean else _SIZES)


def _health(report: Report, sink: Sink, rounds: int) -> None:
    report.section(
        f"`{_HEALTH}` and an empty route",
        f"Process CPU of one request in an application of 40 routes; {rounds} interleaved rounds of {_BATCH} requests.",
    )
    with workers([BY_NAME["bare"], BY_NAME["ours_embedded"]], 40, sink, _WARM_UP) as (bare, ours):
        questions = {
            "empty route, bare application": (bare, _EMPTY),
            "empty route, instrumented": (ours, _EMPTY),
            f"`{_HEALTH}`": (ours, _HEALTH),
            f"`{_HEALTH}/live`": (ours, f"{_HEALTH}/live"),
        }
        found: dict[str, list[float]] = {name: [] for name in questions}
        for _ in range(rounds):
            for name, (worker, path) in questions.items():
                found[name].append(worker.do("requests", count=_BATCH, path=path)["process"] * _MICRO)
    empty, instrumented, health, _live = found.values()
    rows = [
        [name, *(f"{v:.0f}" for v in (median(own), spread(own), min(own))), f"{paired(own, empty):.2f}"]
        for name, own in found.items()
    ]
    report.table(("request", "median µs", "± µs", "least µs", "to the empty route"), rows)
    for key, beside in (("answers.health", instrumented), ("answers.health.bare", empty)):
        report.figure(key, paired(health, beside), ours=f"{median(health):.0f} µs", peer=f"{median(beside):.0f} µs")


def _diagnostics(report: Report, sink: Sink, rounds: int, sizes: Sequence[tuple[int, list[int]]]) -> None:
    report.section(
        f"`{_DIAGNOSTICS}`",
        f"Process CPU of one answer right after every series has changed, by {_LOADED} log-normal durations each "
        f"(flooded: by {_FLOODED}), so with the collecting it causes, and of one right after it. 'loop lag' is the "
        "longest that a sleep of 1 ms on the application's loop overslept while the flooded answer was made (own: "
        "while nothing was asked). A goal is for the lower decile of the rounds: now and then the process's own tick "
        "falls into an answer. "
        f"'poll' is what one of {_POLLS} polls of `{_METRICS}` costs the application's loop.",
    )
    rows: list[list[str]] = []
    found: dict[str, list[float]] = {}
    for routes, statuses in sizes:
        with workers([BY_NAME["ours_embedded"]], routes, sink, _JUST_THE_PROOF) as (worker,):
            say(f"diagnostics of {routes} routes x {len(statuses)} statuses")
            size = f"{routes} routes x {len(statuses)} statuses"
            found = _ask(worker, statuses, rounds)
        cells = [f"{median(found['loaded']):.1f}", f"{min(found['loaded']):.1f}"]
        cells += [f"{median(found[key]):.1f}" for key in ("flooded", "again", "wall", "lag", "idle lag", "poll")]
        worst_lag = f"{max(found['lag']):.1f}"
        rows.append([size, *cells, worst_lag, f"{median(found['bytes']) / 1024:.0f}"])
    head = (
        "size",
        "CPU ms",
        "least ms",
        "flooded ms",
        "again ms",
        "wall ms",
        "loop lag ms",
        "own lag ms",
        "poll ms",
        "worst lag ms",
        "kB",
    )
    report.table(head, rows)
    report.figure("answers.diagnostics", undisturbed(found["loaded"]))
    report.figure("answers.flooded", undisturbed(found["flooded"]))
    report.figure("answers.again", undisturbed(found["again"]))
    report.figure("answers.poll", median(found["poll"]))
    lag, own = found["lag"], found["idle lag"]
    report.figure("answers.lag", max(0.0, added(lag, own)), ours=f"{median(lag):.1f} ms", peer=f"{median(own):.1f} ms")


def _ask(worker: Worker, statuses: list[int], rounds: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}

    def note(**values: float) -> None:
        for name, value in values.items():
            found.setdefault(name.replace("_", " "), []).append(value)

    def change(each: int) -> None:
        worker.do("fill", statuses=statuses, each=each)

    def answer() -> dict[str, float]:
        cost: dict[str, float] = worker.do("answer", path=_DIAGNOSTICS)
        return cost

    for _ in range(rounds):
        change(_LOADED)
        first, again = answer(), answer()
        note(loaded=first["process"] * _MILLI, wall=first["wall"] * _MILLI, bytes=first["bytes"])
        note(again=again["process"] * _MILLI)
        change(_FLOODED)
        note(flooded=answer()["process"] * _MILLI)
        change(_FLOODED)
        note(lag=worker.do("lag", path=_DIAGNOSTICS) * _MILLI, idle_lag=worker.do("lag", path=None) * _MILLI)
        change(_LOADED)
        note(poll=worker.do("requests", count=_POLLS, path=_METRICS)["thread"] * _MILLI)
    return found
