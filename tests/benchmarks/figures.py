"""The arithmetic behind the tables: medians over interleaved rounds, ratios of pairs, judging, Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from statistics import median, quantiles

from tests.benchmarks.goals import SCALED, Goal

_FAR = 1.2


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured for one row of the table of goals.

    Attributes:
        goal: The row.
        value: What is judged, in the goal's unit.
        ours: What was measured, with its unit, where the value is a ratio of it.
        peer: What was measured of the peer, with its unit.
        slowness: Of the machine while it was measured; see `calibration`.
    """

    goal: Goal
    value: float
    ours: str = ""
    peer: str = ""
    slowness: float = 1.0

    @property
    def judged(self) -> float:
        """The value, as it would be on the reference machine."""
        return self.value / self.slowness if self.goal.unit in SCALED else self.value

    @property
    def reached(self) -> bool:
        """Whether the goal is reached."""
        return self.judged <= self.goal.limit

    @property
    def far(self) -> bool:
        """Whether the goal is missed by more than a fifth: more than noise explains."""
        return self.judged > _FAR * self.goal.limit

    def cells(self) -> list[str]:
        """The row of the table."""
        goal = self.goal
        measured = self.ours or shown(self.value, goal.unit)
        beside = f"{goal.peer}: {self.peer}" if goal.peer and self.peer else goal.peer
        judged, limit = shown(self.judged, goal.unit), shown(goal.limit, goal.unit)
        return [goal.what, measured, beside, judged, f"<= {limit}", "yes" if self.reached else "**missed**"]


def shown(value: float, unit: str) -> str:
    """A value with its unit, three digits."""
    return f"{value:.3g} {unit}" if abs(value) < 100 else f"{value:,.0f} {unit}"


def paired(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median over rounds of the ratio of `ours` to `theirs`: both halves of a pair met the same noise.

    Args:
        ours: One figure per round.
        theirs: The figures of the same rounds.
    """
    return median(a / b for a, b in zip(ours, theirs, strict=True))


def undisturbed(rounds: Sequence[float]) -> float:
    """CPU time of a round that other work on the machine has hardly disturbed: it only ever adds. The lower decile."""
    return exact_quantile(sorted(rounds), 0.1)


def added(ours: Sequence[float], bare: Sequence[float]) -> float:
    """What `ours` adds to `bare`: the median over rounds of the differences, as `paired` is that of the ratios.

    The difference of two quantiles, as of the lower deciles, is twice as wide from run to run.
    """
    return median(a - b for a, b in zip(ours, bare, strict=True))


def added_ratio(ours: Sequence[float], theirs: Sequence[float], bare: Sequence[float]) -> float:
    """What `ours` adds to `bare`, to what `theirs` adds; CPU time of rounds that were interleaved.

    Noise may hide what theirs adds: then nothing can be said for ours.
    """
    beside = added(theirs, bare)
    return added(ours, bare) / beside if beside > 0 else inf


def spread(values: Sequence[float]) -> float:
    """Half the interquartile range: how far a round usually is from the median."""
    if len(values) < 2:
        return 0.0
    lower, _, upper = quantiles(values, n=4, method="inclusive")
    return (upper - lower) / 2


def exact_quantile(ordered: Sequence[float], q: float) -> float:
    """The `q`-quantile of sorted values, interpolated linearly between neighbours."""
    position = q * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; every column but the first is aligned to the right."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
