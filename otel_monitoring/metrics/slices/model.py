"""`Slice`: what a service measured in one slot of time; `TIERS`: how long the slots are, and how long they are kept.

A slice is merged from others exactly, so a coarser slice is the sum of the finer ones in its time. A slot in which
nobody measured has no slice.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple, TypeVar

from otel_monitoring.metrics.buckets import Buckets
from otel_monitoring.metrics.snapshot import Histogram, merged

T = TypeVar("T")

ROUTES_LIMIT = 300
"""The most routes of a slice; those with the fewest requests beyond them are one, `OTHER_ROUTES`."""
OTHER_ROUTES: Final = "(other)"
GAUGES_LIMIT = 100
"""The most gauges of a slice."""
COUNTERS_LIMIT = 50
"""The most counters of a slice."""
HISTOGRAMS_LIMIT = 20
"""The most histograms of a slice."""
SCALE = 5
"""The largest scale of the distribution of all requests: p50, p95 and p99 within 1.1 % of exact."""
ROUTE_SCALE = 3
"""The largest scale of the distribution of one route: within 4.4 % of exact, in a quarter of the bytes."""


class Tier(NamedTuple):
    """Slots of one length, which begin at multiples of it in Unix time.

    Attributes:
        seconds: Length of a slot.
        kept: Seconds for which its slices are kept.
    """

    seconds: int
    kept: int

    def slot(self, time: float) -> int:
        """The start of the slot that contains `time`, both in Unix seconds."""
        return math.floor(time / self.seconds) * self.seconds


_DAY = 86_400
TIERS: Final = (Tier(10, 3600), Tier(60, _DAY), Tier(300, 3 * _DAY), Tier(3600, 30 * _DAY))
"""The tiers, the finest first; each slot of a tier consists of whole slots of the tier before."""
FINEST: Final = TIERS[0]


_NOTHING = Histogram()


class Requests(NamedTuple):
    """Requests, of all routes or of one.

    Attributes:
        durations: The distribution of their durations, in seconds.
        errors: How many of them were errors.
    """

    durations: Histogram = _NOTHING
    errors: int = 0


NO_REQUESTS = Requests()


class GaugeFigures(NamedTuple):
    """Readings of a gauge.

    Attributes:
        count: Number of readings.
        total: Their sum.
        least: The smallest.
        most: The largest.
    """

    count: int  # type: ignore[assignment] # nobody counts the fields of a tuple
    total: float
    least: float
    most: float

    @classmethod
    def of(cls, readings: Iterable[float]) -> "GaugeFigures | None":
        """The figures of the readings that are finite numbers; None if there are none."""
        found = [float(value) for value in readings if math.isfinite(value)]
        return cls(len(found), sum(found), min(found), max(found)) if found else None

    @property
    def mean(self) -> float:
        """The arithmetic mean."""
        return self.total / self.count


class Slice(NamedTuple):
    """What was measured in a slot.

    Attributes:
        seconds: Seconds of the slot in which somebody measured.
        requests: All requests.
        routes: The requests of each route.
        gauges: The readings of each gauge.
        counters: The increase of each counter.
        histograms: What each histogram of the application's own recorded.
    """

    seconds: float = 0.0
    requests: Requests = NO_REQUESTS
    routes: Mapping[str, Requests] = {}
    gauges: Mapping[str, GaugeFigures] = {}
    counters: Mapping[str, float] = {}
    histograms: Mapping[str, Histogram] = {}


def merged_slices(slices: Iterable[Slice]) -> Slice:
    """The sum of slices; an empty one if there are none."""
    found = list(slices)
    if len(found) == 1:
        return found[0]
    return Slice(
        seconds=sum(one.seconds for one in found),
        requests=merged_requests([one.requests for one in found]),
        routes=bounded_routes(
            {name: merged_requests(parts) for name, parts in _by_name(s.routes for s in found).items()}
        ),
        gauges=_merged_by_name([one.gauges for one in found], _merged_figures, GAUGES_LIMIT),
        counters=_merged_by_name([one.counters for one in found], sum, COUNTERS_LIMIT),
        histograms=_merged_by_name([one.histograms for one in found], merged, HISTOGRAMS_LIMIT),
    )


def merged_requests(parts: Iterable[Requests]) -> Requests:
    """The requests of all `parts`."""
    found = list(parts)
    if len(found) == 1:
        return found[0]
    return Requests(merged(part.durations for part in found), sum(part.errors for part in found))


def shares(content: Slice, number: int) -> list[Slice]:
    """Divide a slice of a long time into `number` slices with the same sum.

    The requests are dealt out in turn, in the order of their durations, so that every part has the same distribution.
    """
    return [_share(content, turn, number) for turn in range(number)]


def _share(content: Slice, turn: int, number: int) -> Slice:
    return Slice(
        seconds=content.seconds / number,
        requests=_share_of_requests(content.requests, turn, number),
        routes={name: _share_of_requests(one, turn, number) for name, one in content.routes.items()},
        counters={name: value / number for name, value in content.counters.items()},
        histograms={name: _share_of_values(one, turn, number) for name, one in content.histograms.items()},
    )


def _share_of_requests(whole: Requests, turn: int, number: int) -> Requests:
    return Requests(_share_of_values(whole.durations, turn, number), _dealt(0, whole.errors, turn, number))


def _share_of_values(whole: Histogram, turn: int, number: int) -> Histogram:
    dealt, counts = whole.at_zero, []
    for count in whole.buckets.counts():
        counts.append(_dealt(dealt, count, turn, number))
        dealt += count
    at_zero = _dealt(0, whole.at_zero, turn, number)
    count = at_zero + sum(counts)
    if not count:
        return _NOTHING
    buckets = Buckets.of(whole.first, counts)
    return whole._replace(count=count, sum=whole.sum * count / whole.count, at_zero=at_zero, **buckets._asdict())


def _dealt(before: int, count: int, turn: int, number: int) -> int:
    """How many of `count` fall to a turn, where `before` others were dealt out to all turns before."""
    return (before + count - 1 - turn) // number - (before - 1 - turn) // number


def _merged_figures(parts: Iterable[GaugeFigures]) -> GaugeFigures:
    found = list(parts)
    return GaugeFigures(
        sum(part.count for part in found),
        sum(part.total for part in found),
        min(part.least for part in found),
        max(part.most for part in found),
    )


def _by_name(values: Iterable[Mapping[str, T]]) -> dict[str, list[T]]:
    found: dict[str, list[T]] = {}
    for mapping in values:
        for name, value in mapping.items():
            found.setdefault(name, []).append(value)
    return found


def bounded_routes(routes: Mapping[str, Requests], limit: int = ROUTES_LIMIT) -> Mapping[str, Requests]:
    """At most `limit` routes: those with the most requests, and the rest as one."""
    if len(routes) <= limit:
        return routes
    named = [name for name in routes if name != OTHER_ROUTES]
    ranked = sorted(named, key=lambda name: (-routes[name].durations.count, name))
    kept = set(ranked[: limit - 1])
    rest = merged_requests([one for name, one in routes.items() if name not in kept])
    return {**{name: one for name, one in routes.items() if name in kept}, OTHER_ROUTES: rest}


def _merged_by_name(values: Iterable[Mapping[str, T]], merge: Callable[[Iterable[T]], T], limit: int) -> dict[str, T]:
    """What `merge` makes of the values of each name, of at most `limit` names."""
    found = _by_name(values)
    return {name: merge(found[name]) for name in (found if len(found) <= limit else sorted(found)[:limit])}
