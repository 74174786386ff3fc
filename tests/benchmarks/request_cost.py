"""CPU per request of every variant, in interleaved rounds."""

import random
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from tests.benchmarks.figures import added, added_ratio, paired, spread
from tests.benchmarks.pace import Rounds
from tests.benchmarks.processes import Sink, workers
from tests.benchmarks.report import Report, say
from tests.benchmarks.variants import BY_NAME, VARIANTS, Variant

Found = dict[str, list[float]]
"""Microseconds per request of each round, by variant."""

_MICRO = 1e6
_FEW, _MANY = 10, 300

# row, routes, ours, the peer; what each adds to the bare application
_ROWS = (
    ("requests.embedded.40", 40, "ours_embedded", "prometheus"),
    ("requests.embedded.300", 300, "ours_embedded", "prometheus"),
    ("requests.traces", 40, "ours_traces", "native_spans"),
    ("requests.full", 40, "ours_full", "native_spans"),
)
_JUDGED = {
    40: ("bare", "ours_embedded", "ours_without_rules", "ours_traces", "ours_full", "native_spans", "prometheus"),
    300: ("bare", "ours_embedded", "prometheus"),
}
_EVERYBODY = tuple(variant.name for variant in VARIANTS)
_ALL = {40: _EVERYBODY, 300: (*_JUDGED[300], "ours_traces", "native_lean", "contrib")}
_MEASURED: dict[bool, Mapping[int, Sequence[str]]] = {True: _JUDGED, False: _ALL}


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    rounds: Rounds
    batch: int
    warm_up: int


def measure(variants: list[Variant], routes: int, sink: Sink, effort: Effort) -> tuple[Found, Found]:
    """Run the rounds.

    Returns:
        Figures of the whole process, and of the loop's thread alone.
    """
    with workers(variants, routes, sink, effort.warm_up) as started:
        process: Found = {worker.variant.name: [] for worker in started}
        thread: Found = {worker.variant.name: [] for worker in started}
        shuffled = random.Random(routes)
        for number in effort.rounds:
            if number % 5 == 0:
                say(f"{routes} routes: round {number + 1} of {effort.rounds}")
            shuffled.shuffle(started)
            for worker in started:
                cost = worker.do("requests", count=effort.batch)
                process[worker.variant.name].append(cost["process"] * _MICRO)
                thread[worker.variant.name].append(cost["thread"] * _MICRO)
    return process, thread


def run(report: Report, sink: Sink, effort: Effort, *, lean: bool) -> None:
    """The section of the report.

    Args:
        report: Where the tables and figures go.
        sink: The receiver of telemetry.
        effort: How much to measure.
        lean: Measure only what has a goal.
    """
    report.section(
        "CPU per request",
        f"Process CPU, all threads, of one request; {effort.rounds} interleaved rounds of {effort.batch} requests over "
        "all routes, one process per variant. What was measured is sent within the round (OTLP, http/protobuf with "
        "gzip, to a receiver that accepts and forgets), so an exporter's thread counts for everyone alike; 'loop' is "
        "the application's thread alone. What is added is the median of the rounds' differences.",
    )
    found: dict[int, Found] = {}
    for routes, names in _MEASURED[lean].items():
        process, thread = measure([BY_NAME[name] for name in names], routes, sink, effort)
        found[routes] = process
        report.text(f"#### {routes} routes")
        rows = [_row(name, process, thread) for name in names if name in process]
        report.table(
            ("variant", "median µs", "± µs", "least µs", "loop µs", "added µs", "to bare"), rows, f"requests.{routes}"
        )
    judge(report, found)


def _row(name: str, process: Found, thread: Found) -> list[str]:
    own = process[name]
    bare = process.get("bare")
    more = f"{added(own, bare):+.0f}" if bare else "-"
    ratio = f"{paired(own, bare):.2f}" if bare else "-"
    figures = (median(own), spread(own), min(own), median(thread[name]))
    return [BY_NAME[name].title, *(f"{figure:.0f}" for figure in figures), more, ratio]


def judge(report: Report, found: Mapping[int, Found]) -> None:
    """The figures that have a goal.

    Args:
        report: Where they go.
        found: The rounds by the number of routes.
    """
    for key, routes, ours, peer in _ROWS:
        rounds = found[routes]
        if peer not in rounds:
            report.leave_out(key, f"{peer} cannot be installed")
            continue
        bare = rounds["bare"]
        own, theirs = (f"{added(rounds[name], bare):+.0f} µs" for name in (ours, peer))
        report.figure(key, added_ratio(rounds[ours], rounds[peer], bare), ours=own, peer=theirs)
    with_rules, without = found[40]["ours_embedded"], found[40]["ours_without_rules"]
    cost, less = (f"{median(rounds):.0f} µs" for rounds in (with_rules, without))
    report.figure("requests.rules", paired(with_rules, without), ours=cost, peer=less)


def growth(report: Report, sink: Sink, effort: Effort, *, lean: bool) -> None:
    """What ours adds must not depend on the number of routes; in rounds of its own, so that both meet one noise."""
    names = ("bare", "ours_embedded", "ours_traces", "native_lean", *(() if lean else ("contrib",)))
    report.section(
        "Growth with the number of routes",
        f"Microseconds of process CPU added to a request, over all routes, in applications of {_FEW} and of {_MANY} "
        f"routes; {effort.rounds} rounds interleaved over both. FastAPI's own telemetry never looks at the list of "
        "routes: by how much it grows is what thirty times as many series and models cost a processor's caches. Ours "
        "may grow by that, and a tenth.",
    )
    found: dict[int, Found] = {routes: {name: [] for name in names} for routes in (_FEW, _MANY)}
    with ExitStack() as stack:
        started = [
            (routes, worker)
            for routes in found
            for worker in stack.enter_context(workers([BY_NAME[n] for n in names], routes, sink, effort.warm_up))
        ]
        for number in effort.rounds:
            if number % 5 == 0:
                say(f"growth: round {number + 1} of {effort.rounds}")
            for routes, worker in started:
                cost = worker.do("requests", count=effort.batch)["process"] * _MICRO
                found[routes][worker.variant.name].append(cost)
    more = {name: [added(found[routes][name], found[routes]["bare"]) for routes in found] for name in names}
    rows = [
        [BY_NAME[name].title, *(f"{median(found[routes][name]):.0f}" for routes in found)]
        + [f"{cost:+.0f}" for cost in more[name]]
        for name in names
    ]
    heads = (f"{what}, {routes} routes" for what in ("µs", "added") for routes in found)
    report.table(("variant", *heads), rows)
    caches = max(0.0, more["native_lean"][1] - more["native_lean"][0])
    for key, name in (("growth.embedded", "ours_embedded"), ("growth.traces", "ours_traces")):
        few, many = more[name]
        grown = few + caches
        report.figure(key, many / grown, ours=f"{many:+.0f} µs", peer=f"{grown:+.0f} µs")
