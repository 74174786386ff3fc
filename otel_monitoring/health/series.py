"""`series`: a metric of the past as times and values, from the slices.

A step in which nobody measured has no value, as has a metric of requests in a step without a request.
"""

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from otel_monitoring.health.readings import DOCUMENTS, OWN
from otel_monitoring.metrics.slices.codec import decoded_slices
from otel_monitoring.metrics.slices.model import (
    NO_REQUESTS,
    TIERS,
    Figures,
    Requests,
    Slice,
    Tier,
    merged_slices,
)
from otel_monitoring.metrics.slices.table import SliceRow, SliceTable
from otel_monitoring.timestamps import rfc3339

POINTS_LIMIT = 1000
"""The most points of an answer."""
LONGEST: Final = TIERS[-1].kept
"""Seconds of the longest range."""
_DEFAULT_POINTS = 360
_STEPS = (10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400)
_SHORTEST = 60
_SETTLED = 5.0
"""Seconds after which the processes have published what they measured in a slot."""
_LISTED = 50
_SPAN = re.compile(r"(\d{1,9})(s|m|h|d)?")
_SECONDS = {None: 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}

OfRequests = Callable[[Requests, float], "float | None"]


class SeriesQueryError(ValueError):
    """A query that has no answer.

    Args:
        field: The parameter that is wrong: `metric`, `range`, `step` or `endpoint`.
        message: Why, and what is known.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class SeriesQuery:
    """What is asked for.

    Attributes:
        metric: Name of the metric.
        range: How far back, e.g. `15m`, `1h`, `7d`, or seconds.
        step: Time from one point to the next, in the same form; None: it is chosen.
        endpoint: A route, whose requests are asked for; None: all requests.
    """

    metric: str
    range: str = "1h"
    step: str | None = None
    endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What exists at present, though the slices of the range may not have it.

    Attributes:
        metrics: Names of the application's own counters and gauges.
        endpoints: Names of routes.
    """

    metrics: Collection[str] = ()
    endpoints: Collection[str] = ()


def _quantile(q: float) -> OfRequests:
    return lambda requests, _: requests.durations.quantile(q)


_REQUESTS: Mapping[str, tuple[str, OfRequests]] = {
    "requests": ("1/s", lambda requests, seconds: requests.durations.count / seconds if seconds else None),
    "error_rate": ("%", lambda r, _: 100.0 * r.errors / r.durations.count if r.durations.count else None),
    "p50": ("s", _quantile(0.50)),
    "p95": ("s", _quantile(0.95)),
    "p99": ("s", _quantile(0.99)),
}
_GAUGES: Mapping[str, tuple[str, Callable[[Figures], float]]] = {
    "cpu": ("%", lambda figures: figures.mean),
    "process_cpu": ("%", lambda figures: figures.mean),
    "memory": ("MiB", lambda figures: figures.mean),
    "memory_percent": ("%", lambda figures: figures.mean),
    "loop_lag": ("s", lambda figures: figures.most),
    "ping": ("s", lambda figures: figures.mean),
    "pool": ("{connection}", lambda figures: figures.mean),
}
_ALL_DOCUMENTS = "documents"
METRICS: Final = (*_REQUESTS, *_GAUGES, _ALL_DOCUMENTS)
"""The names of our metrics; `documents/NAME` is one collection, and every other name one of the application's own."""


def series(table: SliceTable, query: SeriesQuery, known: Known, now: float, least_step: float = 0.0) -> dict[str, Any]:
    """The documented answer without its marks.

    Args:
        table: The slices.
        query: What is asked for.
        known: What exists at present.
        now: Unix seconds.
        least_step: Seconds between two measurements of a process.

    Raises:
        SeriesQueryError: The query has no answer.
        StoreError: The store failed.
    """
    span, step, tier = _grid(query, least_step)
    end = math.floor((now - _SETTLED) / step) * step
    start = end - math.ceil(span / step) * step
    _check_endpoint_fits(query)
    steps = _steps(table, tier, start, end, step, query.endpoint)
    if query.endpoint is not None and not any(one.routes for one in steps.values()):
        _check_endpoint_exists(query.endpoint, known, table.read(tier.seconds, start, end, routes=True)[-1:])
    unit, value = _reader(query, known, steps.values())
    points = []
    for at in range(start, end, step):
        found = value(steps[at]) if at in steps else None
        points.append({"time": rfc3339(at), "value": _rounded(found)})
    return {
        "metric": query.metric,
        "unit": unit,
        "endpoint": query.endpoint,
        "range_seconds": span,
        "step_seconds": step,
        "points": points,
    }


# What is asked for


def _grid(query: SeriesQuery, least_step: float) -> tuple[int, int, Tier]:
    """Seconds of the range and of a step, and the tier to read."""
    span = _seconds("range", query.range)
    if not _SHORTEST <= span <= LONGEST:
        raise SeriesQueryError("range", f"must be from {_SHORTEST}s to {LONGEST // 86_400}d")
    finest = next(tier for tier in TIERS if tier.kept >= span)
    least = max(finest.seconds, least_step, span / POINTS_LIMIT)
    if query.step is None:
        wanted: float = next((step for step in _STEPS if step >= max(least, span / _DEFAULT_POINTS)), _STEPS[-1])
    else:
        wanted = _seconds("step", query.step)
        if not 1 <= wanted <= span:
            raise SeriesQueryError("step", "must be from 1s to the range")
    step = math.ceil(max(wanted, least) / finest.seconds) * finest.seconds
    tier = next(tier for tier in reversed(TIERS) if step % tier.seconds == 0 and tier.seconds >= finest.seconds)
    return span, step, tier


def _seconds(field: str, text: str) -> int:
    found = _SPAN.fullmatch(text)
    if found is None:
        raise SeriesQueryError(field, "must be a number of seconds, or like 90s, 15m, 1h or 7d")
    return int(found[1]) * _SECONDS[found[2]]


def _check_endpoint_fits(query: SeriesQuery) -> None:
    if query.endpoint is not None and query.metric not in _REQUESTS:
        raise SeriesQueryError("endpoint", f"only these metrics have it: {', '.join(_REQUESTS)}")


def _check_endpoint_exists(endpoint: str, known: Known, latest: Iterable[SliceRow]) -> None:
    names = set(known.endpoints).union(*(one.routes for one in decoded_slices(latest)))
    if endpoint not in names:
        raise SeriesQueryError("endpoint", f"must be one of: {_listed(names) or 'there was no request yet'}")


def _reader(
    query: SeriesQuery, known: Known, slices: Collection[Slice]
) -> tuple[str, Callable[[Slice], "float | None"]]:
    """The unit of a metric, and how it is read from a slice."""
    name, endpoint = query.metric, query.endpoint
    if name in _REQUESTS:
        unit, of_requests = _REQUESTS[name]
        if endpoint is None:
            return unit, lambda one: of_requests(one.requests, one.seconds)
        return unit, lambda one: of_requests(one.routes.get(endpoint, NO_REQUESTS), one.seconds)
    if name in _GAUGES:
        unit, of_figures = _GAUGES[name]
        return unit, lambda one: of_figures(one.gauges[name]) if name in one.gauges else None
    if name == _ALL_DOCUMENTS:
        return "{document}", _documents
    gauges = {gauge for one in slices for gauge in one.gauges}
    counters = {counter for one in slices for counter in one.counters}
    if name.startswith(DOCUMENTS) and name in gauges:
        return "{document}", lambda one: one.gauges[name].mean if name in one.gauges else None
    own = OWN + name
    if name in counters:
        return "1/s", lambda one: one.counters.get(name, 0.0) / one.seconds if one.seconds else None
    if own in gauges or name in known.metrics:
        return "", lambda one: one.gauges[own].mean if own in one.gauges else None
    names = {gauge.removeprefix(OWN) for gauge in gauges if gauge.startswith((OWN, DOCUMENTS))}
    listed = ", ".join(filter(None, (*METRICS, _listed(names | counters | set(known.metrics)))))
    raise SeriesQueryError("metric", f"must be one of: {listed}")


def _documents(content: Slice) -> float | None:
    found = [figures.mean for name, figures in content.gauges.items() if name.startswith(DOCUMENTS)]
    return sum(found) if found else None


def _listed(names: Collection[str]) -> str:
    shown = sorted(names)[:_LISTED]
    more = [f"and {len(names) - len(shown)} more"] if len(names) > len(shown) else []
    return ", ".join([*shown, *more])


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 6)


# What is read


def _steps(table: SliceTable, tier: Tier, start: int, end: int, step: int, endpoint: str | None) -> dict[int, Slice]:
    """The slices of each step, as one, with the requests of one endpoint; a step without any is missing."""
    rows: list[SliceRow] = []
    reached = start
    # The newest coarse slices are not made yet: finer ones stand in for them.
    for each in reversed(TIERS[: TIERS.index(tier) + 1]):
        found = table.read(each.seconds, reached, end, routes=endpoint is not None)
        rows += found
        if found:
            reached = found[-1].start + each.seconds
    by_step = groupby(rows, lambda row: (row.start - start) // step * step + start)
    slices = {at: decoded_slices(found, endpoint) for at, found in by_step}
    return {at: merged_slices(found) for at, found in slices.items() if found}
