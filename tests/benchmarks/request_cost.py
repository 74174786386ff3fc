"""CPU per request of every variant, in interleaved rounds."""

import random
from dataclasses import dataclass
from statistics import median

from tests.benchmarks.figures import Goal, paired, spread
from tests.benchmarks.processes import Sink, workers
from tests.benchmarks.report import Report, say
from tests.benchmarks.variants import BY_NAME, Variant

Rounds = dict[str, list[float]]
"""Microseconds per request of each round, by variant."""

_MICRO = 1e6

# ours, to what, at most; at every number of routes
_PAIRS_ANYWHERE = (("ours_embedded", "prometheus", 1.0),)
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
    report.reach(_goals(found) + _growth(found))


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


def _growth(found: dict[int, Rounds]) -> list[Goal]:
    """What ours adds must not depend on the number of routes: a tenth and 5 µs are left to the noise."""
    if len(found) < 2:
        return []
    few, many = min(found), max(found)
    goals = []
    for name in ("ours_embedded", "ours_traces", "ours_full"):
        if all(name in found[routes] and "bare" in found[routes] for routes in (few, many)):
            added = {r: paired(found[r][name], found[r]["bare"], "difference") for r in (few, many)}
            what = f"{name}: added at {many} routes, where it adds {added[few]:.0f} µs at {few}"
            goals.append(Goal(what, added[many], round(1.1 * added[few] + 5, 1), "µs"))
    return goals
