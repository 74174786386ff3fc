"""The arithmetic behind the tables: medians over interleaved rounds, ratios of pairs, goals, Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Literal


@dataclass(frozen=True, slots=True)
class Goal:
    """One thing to reach.

    Attributes:
        what: In words, with its limit's meaning.
        value: What was measured.
        limit: The largest value that reaches the goal.
        unit: Of both.
    """

    what: str
    value: float
    limit: float
    unit: str

    @property
    def reached(self) -> bool:
        """Whether the measured value is within the limit."""
        return self.value <= self.limit

    def cells(self) -> list[str]:
        """The row of the table of goals."""
        unit = "" if self.unit == "x" else f" {self.unit}"
        sign = " x" if self.unit == "x" else ""
        shown = f"{self.value:.3g}" if self.value < 100 else f"{self.value:.0f}"
        verdict = "yes" if self.reached else "**no**"
        return [self.what, f"{shown}{sign}{unit}", f"<= {self.limit:g}{sign}{unit}", verdict]


def paired(ours: Sequence[float], theirs: Sequence[float], how: Literal["ratio", "difference"] = "ratio") -> float:
    """The median over rounds of `ours` to `theirs`: both halves of a pair met the same noise.

    Args:
        ours: One figure per round.
        theirs: The figures of the same rounds.
        how: Whether to divide or to subtract.
    """
    pairs = zip(ours, theirs, strict=True)
    return median([a / b for a, b in pairs] if how == "ratio" else [a - b for a, b in pairs])


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
