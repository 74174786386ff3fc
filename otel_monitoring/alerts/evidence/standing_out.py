"""`standing_out`: which values of a dimension explain a rise, by arithmetic alone.

A value explains a rise as far as its share of the rise is larger than its usual share. This follows Adtributor
(R. Bhagwan et al., "Adtributor: Revenue Debugging in Advertising Systems", NSDI 2014), with its explanatory power, and
its surprise as a difference in place of a divergence.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import comb

SETS_LIMIT = 3
"""The most values that are named together."""
_LEAST_SCORE = 0.3
_BETTER = 0.1
"""By how much a further value must raise the score."""
_CHANCE = 0.05
"""How probable it may be at most that any values of the dimension have such a share by chance."""
_MOST_EVENTS = 200
_NEARLY_ALL = 0.98


@dataclass(frozen=True, slots=True)
class Part:
    """One value of a dimension.

    Attributes:
        name: The value.
        rise: How much more there is of it than was to be expected; negative: less.
        usual: Its usual share, from 0 to 1.
    """

    name: str
    rise: float
    usual: float


@dataclass(frozen=True, slots=True)
class StandingOut:
    """Values that explain a rise.

    Attributes:
        names: The values, the one with the largest rise first.
        share: Their share of the rise, from 0 to 1.
        usual: Their usual share.
        score: How far they explain it: 0 as usual, 1 wholly.
    """

    names: tuple[str, ...]
    share: float
    usual: float
    score: float


def standing_out(parts: Iterable[Part], events: float, whole: float | None = None) -> StandingOut | None:
    """The values that explain a rise together; None: no value stands out.

    Args:
        parts: The values of one dimension.
        events: How many events the rise consists of: few of them may be in one place by chance.
        whole: The rise to be explained, if that is larger than the sum of those of the values.
    """
    known = list(parts)
    rising = [part for part in known if part.rise > 0]
    rise = max(sum(part.rise for part in rising), whole or 0.0)
    if rise <= 0:
        return None
    best: StandingOut | None = None
    chosen: list[Part] = []
    alone = 0.0
    for part in sorted(rising, key=lambda part: part.usual - part.rise / rise):
        found = _finding([*chosen, part], rise)
        if best is not None and (found.score < best.score + _BETTER or _finding([part], rise).score < alone / 2):
            break
        alone = alone or found.score
        chosen.append(part)
        best = found
        if len(chosen) == SETS_LIMIT:
            break
    if best is None or best.score < _LEAST_SCORE or not _is_no_chance(best, events, len(known)):
        return None
    return best


def _finding(chosen: Sequence[Part], rise: float) -> StandingOut:
    share = min(1.0, sum(part.rise for part in chosen) / rise)
    usual = min(1.0, sum(part.usual for part in chosen))
    score = (share - usual) / (1 - usual) if usual < _NEARLY_ALL else 0.0
    ordered = sorted(chosen, key=lambda part: -part.rise)
    return StandingOut(tuple(part.name for part in ordered), share, usual, score)


def _is_no_chance(found: StandingOut, events: float, values: int) -> bool:
    """Whether the share is too large for chance, by the binomial distribution: an alert often begins with few events.

    The probability is multiplied by the number of sets of as many values, any of which might have been found.
    """
    if not found.usual:
        return True
    number = int(min(events, _MOST_EVENTS))
    hits = round(number * found.share)
    chance = sum(
        comb(number, count) * found.usual**count * (1 - found.usual) ** (number - count)
        for count in range(hits, number + 1)
    )
    return chance * comb(values, len(found.names)) <= _CHANCE
