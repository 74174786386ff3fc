"""`SeriesQuery`: what is asked about the past, and the steps in which it is answered."""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from otel_monitoring.metrics.slices.model import TIERS, Tier
from otel_monitoring.timestamps import seconds_of

POINTS_LIMIT = 1000
"""The most points of an answer."""
METRICS_LIMIT = 20
"""The most metrics of an answer."""
LONGEST: Final = TIERS[-1].kept
"""Seconds of the longest range, and of the time that is kept."""
_DEFAULT_POINTS = 360
_STEPS = (10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400)
_SHORTEST = 60
_SETTLED = 5.0
"""Seconds after which the processes have published what they measured in a slot."""
_RECENT = 60.0
"""An `end` at most these seconds ago counts as now: the clock of whoever asks may be late."""


class SeriesQueryError(ValueError):
    """A query that has no answer.

    Args:
        field: The parameter that is wrong: `metric`, `range`, `step`, `end` or `endpoint`.
        message: Why, and what is known.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class SeriesQuery(NamedTuple):
    """What is asked for.

    Attributes:
        metrics: Names of metrics.
        range: How long before the end it begins, e.g. `15m`, `1h`, `7d`, or seconds.
        step: Time from one point to the next, in the same form; None: it is chosen.
        endpoint: A route, whose requests are asked for; None: all requests.
        end: Where the range ends, in Unix seconds; None: now.
    """

    metrics: Sequence[str]
    range: str = "1h"
    step: str | None = None
    endpoint: str | None = None
    end: float | None = None


class Grid(NamedTuple):
    """The steps of an answer.

    Attributes:
        span: Seconds of the range.
        step: Seconds of a step.
        start: When the first step begins, in Unix seconds.
        end: When the last step ends, in Unix seconds.
        tier: The tier whose slices are read.
    """

    span: int
    step: int
    start: int
    end: int
    tier: Tier

    @classmethod
    def of(cls, query: SeriesQuery, now: float, least_step: float = 0.0) -> "Grid":
        """The steps in which `query` is answered.

        Args:
            query: What is asked for.
            now: Unix seconds.
            least_step: Seconds between two measurements of a process.

        Raises:
            SeriesQueryError: There are none.
        """
        span = _seconds("range", query.range)
        if not _SHORTEST <= span <= LONGEST:
            raise SeriesQueryError("range", f"must be from {_SHORTEST}s to {LONGEST // 86_400}d")
        settled = now - _SETTLED
        until = settled if query.end is None else min(settled, query.end)
        if until < now - LONGEST:
            raise SeriesQueryError("end", f"must be within {LONGEST // 86_400} days")
        age = span + max(0.0, now - until - _RECENT)
        finest = next((tier for tier in TIERS if tier.kept >= age), TIERS[-1])
        least = max(finest.seconds, least_step, span / POINTS_LIMIT)
        wanted = _wanted(query.step, span, least)
        step = math.ceil(max(wanted, least) / finest.seconds) * finest.seconds
        tier = next(tier for tier in reversed(TIERS) if step % tier.seconds == 0 and tier.seconds >= finest.seconds)
        end = math.floor(until / step) * step
        return cls(span, step, end - math.ceil(span / step) * step, end, tier)

    def steps(self) -> range:
        """When each step begins, in Unix seconds."""
        return range(self.start, self.end, self.step)


def _wanted(step: str | None, span: int, least: float) -> float:
    if step is None:
        return next((each for each in _STEPS if each >= max(least, span / _DEFAULT_POINTS)), _STEPS[-1])
    wanted = _seconds("step", step)
    if not 1 <= wanted <= span:
        raise SeriesQueryError("step", "must be from 1s to the range")
    return wanted


def _seconds(field: str, text: str) -> int:
    seconds = seconds_of(text)
    if seconds is None:
        raise SeriesQueryError(field, "must be a number of seconds, or like 90s, 15m, 1h or 7d")
    return int(seconds)
