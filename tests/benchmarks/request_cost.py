"""CPU per request of every variant, in interleaved rounds."""

import random
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from tests.benchmarks.figures import Goal, paired, spread
from tests.benchmarks.processes import Sink, workers
from tests.benchmarks.report import Report, say
from tests.benchmarks.variants import BY_NAME, Variant

Rounds = dict[str, list[float]]
"""Microseconds per request of each round, by variant."""

_MICRO = 1e6
_FEW, _MANY = 10, 300

# ours, to what, at most; at every number of routes
_PAIRS_ANYWHERE = (("ours_embedded", "prometheus", 1.0), ("ours_embedded", "ours_without_rules", 1.05))
_PAIRS_AT_40 = (
    ("ours_traces", "native_lean", 1.15),
    ("ours_traces", "contrib", 0.5),
    ("ours_full", "native_lean", 1.35),
)


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    rounds: int
    batch: int
    warm_up: int


def measure(variants: list[Variant], routes: int, sink: Sink, effort: Effort) -> tuple[Rounds, Rounds]:
    """Run the rounds.

    Returns:
        Figures of the whole process, and of the loop's thread alone.
    """
    with workers(variants, routes, sink, effort.warm_up) as started:
        process: Rounds = {worker.variant.name: [] for worker in started}
        thread: Rounds = {worker.variant.name: [] for worker in started}
        shuffled = random.Random(routes)
        for number in range(effort.rounds):
            if number % 5 == 0:
                say(f"{routes} routes: round {number + 1} of {effort.rounds}")
            shuffled.shuffle(started)
            for worker in started:
                cost = worker.do("requests", count=effort.batch)
                process[worker.variant.name].append(cost["process"] * _MICRO)
                thread[worker.variant.name].append(cost["thread"] * _MICRO)
    return process, thread


def run(report: Report, sink: Sink, names: list[str], route_counts: list[int], effort: Effort) -> None:
    """The section of the report."""
    report.section(
        "CPU per request",
        f"Process CPU, all threads, of one request; {effort.rounds} interleaved rounds of {effort.batch} requests over "
        "all routes, one process per variant. What was measured is sent within the round (OTLP, http/protobuf with "
        "gzip, to a receiver that accepts and forgets), so an exporter's thread counts for everyone alike; 'loop' is "
        "the application's thread alone. Ratios and differences are medians of the rounds' own.",
    )
    variants = [BY_NAME[name] for name in names]
    found: dict[int, Rounds] = {}
    for routes in route_counts:
        process, thread = measure(variants, routes, sink, effort)
        found[routes] = process
        report.text(f"#### {routes} routes")
        rows = [_row(name, process, thread) for name in names if name in process]
        report.table(("variant", "median µs", "± µs", "least µs", "loop µs", "added µs", "to bare"), rows)
    report.reach(_goals(found))


def _row(name: str, process: Rounds, thread: Rounds) -> list[str]:
    own = process[name]
    bare = process.get("bare")
    added = f"{paired(own, bare, 'difference'):+.0f}" if bare else "-"
    ratio = f"{paired(own, bare):.2f}" if bare else "-"
    figures = (median(own), spread(own), min(own), median(thread[name]))
    return [BY_NAME[name].title, *(f"{figure:.0f}" for figure in figures), added, ratio]


def _goals(found: dict[int, Rounds]) -> list[Goal]:
    goals = []
    for routes, process in found.items():
        for ours, theirs, limit in (*_PAIRS_ANYWHERE, *(_PAIRS_AT_40 if routes == 40 else ())):
            if ours in process and theirs in process:
                ratio = paired(process[ours], process[theirs])
                goals.append(Goal(f"{ours} to {theirs}, {routes} routes", ratio, limit, "x"))
    return goals


def growth(report: Report, sink: Sink, effort: Effort) -> None:
    """What ours adds must not depend on the number of routes; in rounds of its own, so that both meet one noise."""
    names = ("bare", "ours_embedded", "ours_traces", "native_lean", "contrib")
    report.section(
        "Growth with the number of routes",
        f"Microseconds of process CPU added to a request, over all routes, in applications of {_FEW} and of {_MANY} "
        f"routes; {effort.rounds} rounds interleaved over both. FastAPI's own telemetry never looks at the list of "
        "routes: by how much it grows is what thirty times as many series and models cost a processor's caches. Ours "
        "may grow by that, and a tenth.",
    )
    found: dict[int, Rounds] = {routes: {name: [] for name in names} for routes in (_FEW, _MANY)}
    with ExitStack() as stack:
        started = [
            (routes, worker)
            for routes in found
            for worker in stack.enter_context(workers([BY_NAME[n] for n in names], routes, sink, effort.warm_up))
        ]
        for number in range(effort.rounds):
            if number % 5 == 0:
                say(f"growth: round {number + 1} of {effort.rounds}")
            for routes, worker in started:
                cost = worker.do("requests", count=effort.batch)["process"] * _MICRO
                found[routes][worker.variant.name].append(cost)
    added = {
        name: [paired(found[routes][name], found[routes]["bare"], "difference") for routes in found] for name in names
    }
    rows = [
        [BY_NAME[name].title, *(f"{median(found[routes][name]):.0f}" for routes in found)]
        + [f"{cost:+.0f}" for cost in added[name]]
        for name in names
    ]
    heads = (f"{what}, {routes} routes" for what in ("µs", "added") for routes in found)
    report.table(("variant", *heads), rows)
    report.reach(growth_goals(added))


def growth_goals(added: dict[str, list[float]]) -> list[Goal]:
    """One goal for each of ours.

    Args:
        added: What each variant adds at few and at many routes, in µs.
    """
    caches = max(0.0, added["native_lean"][1] - added["native_lean"][0])
    return [
        Goal(f"{name}: added at {_MANY} routes, {few:.0f} µs at {_FEW}", many, round(1.1 * few + caches, 1), "µs")
        for name, (few, many) in added.items()
        if name.startswith("ours")
    ]
