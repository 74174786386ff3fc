"""`columns_of`: the metrics of the past by name, and how each is read from slices."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple

from otel_monitoring.health.readings import DOCUMENTS, OWN, STATUS
from otel_monitoring.health.series_query import SeriesQuery, SeriesQueryError
from otel_monitoring.metrics.slices.model import NO_REQUESTS, GaugeFigures, Requests, Slice
from otel_monitoring.metrics.snapshot import Histogram

BUCKETS_LIMIT = 32
"""The most buckets of the distribution of durations."""
_FINEST_SCALE = 1
"""Of its buckets: each bound is at least the square root of two times the one before."""
_LISTED = 50

OfRequests = Callable[[Requests, float], "float | None"]
OfSlice = Callable[[Slice], Any]


class Known(NamedTuple):
    """What exists at present, though the slices of the range may not have it.

    Attributes:
        metrics: Names of the application's own metrics.
        endpoints: Names of routes.
    """

    metrics: Collection[str] = ()
    endpoints: Collection[str] = ()


class Column(NamedTuple):
    """A metric of the past.

    Attributes:
        metric: Its name.
        unit: The unit of its values.
        value: Reads its value from a slice; None: there was nothing to measure.
        bounds: Of a distribution, whose values are the counts of its buckets: the upper bound of each, in seconds.
    """

    metric: str
    unit: str
    value: OfSlice
    bounds: list[float] | None = None

    def described(self) -> dict[str, Any]:
        """`metric`, `unit` and, of a distribution, `bounds`."""
        bounds = {} if self.bounds is None else {"bounds": self.bounds}
        return {"metric": self.metric, "unit": self.unit, **bounds}


_PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


def _quantile(q: float) -> OfRequests:
    return lambda requests, _: requests.durations.quantile(q)


_REQUESTS: Mapping[str, tuple[str, OfRequests]] = {
    "requests": ("1/s", lambda requests, seconds: requests.durations.count / seconds if seconds else None),
    "error_rate": ("%", lambda r, _: 100.0 * r.errors / r.durations.count if r.durations.count else None),
    **{name: ("s", _quantile(q)) for name, q in _PERCENTILES.items()},
}
_DURATIONS = "durations"
_OF_REQUESTS = (*_REQUESTS, _DURATIONS)
_GAUGES: Mapping[str, tuple[str, Callable[[GaugeFigures], float]]] = {
    "cpu": ("%", lambda figures: figures.mean),
    "process_cpu": ("%", lambda figures: figures.mean),
    "memory": ("MiB", lambda figures: figures.mean),
    "memory_percent": ("%", lambda figures: figures.mean),
    "loop_lag": ("s", lambda figures: figures.most),
    "ping": ("s", lambda figures: figures.mean),
    "pool": ("{connection}", lambda figures: figures.mean),
    STATUS: ("", lambda figures: figures.most),
}
_ALL_DOCUMENTS = "documents"
METRICS: Final = (*_OF_REQUESTS, *_GAUGES, _ALL_DOCUMENTS)
"""The names of our metrics; `documents/NAME` is one collection, and every other name one of the application's own."""


def check_endpoint_fits(query: SeriesQuery) -> None:
    """Raise `SeriesQueryError` where an endpoint is asked for that the metrics do not have."""
    if query.endpoint is not None and not set(query.metrics) <= set(_OF_REQUESTS):
        raise SeriesQueryError("endpoint", f"only these metrics have it: {', '.join(_OF_REQUESTS)}")


def columns_of(query: SeriesQuery, known: Known, slices: Collection[Slice]) -> list[Column]:
    """The metrics that are asked for.

    Args:
        query: What is asked for.
        known: What exists at present.
        slices: All slices that are shown.

    Raises:
        SeriesQueryError: There is no such metric.
    """

    def requests(one: Slice) -> Requests:
        return one.requests if query.endpoint is None else one.routes.get(query.endpoint, NO_REQUESTS)

    return [_column(name, requests, known, slices) for name in query.metrics]


def _column(name: str, requests: Callable[[Slice], Requests], known: Known, slices: Collection[Slice]) -> Column:
    if name in _REQUESTS:
        unit, of_requests = _REQUESTS[name]
        return Column(name, unit, lambda one: of_requests(requests(one), one.seconds))
    if name == _DURATIONS:
        return _distribution(name, lambda one: requests(one).durations, slices)
    if name in _GAUGES:
        unit, of_figures = _GAUGES[name]
        return Column(name, unit, lambda one: of_figures(one.gauges[name]) if name in one.gauges else None)
    if name == _ALL_DOCUMENTS:
        return Column(name, "{document}", _documents)
    return _other(name, known, slices)


def _of_histogram(name: str, read: Callable[[Histogram], float | None]) -> OfSlice:
    return lambda one: read(one.histograms[name]) if name in one.histograms else None


def _other(name: str, known: Known, slices: Collection[Slice]) -> Column:
    """A collection, or a metric of the application's own."""
    histograms = {histogram for one in slices for histogram in one.histograms}
    whole, _, part = name.rpartition("/")
    gauges = {gauge for one in slices for gauge in one.gauges}
    counters = {counter for one in slices for counter in one.counters}
    if name.startswith(DOCUMENTS) and name in gauges:
        return Column(name, "{document}", lambda one: one.gauges[name].mean if name in one.gauges else None)
    own = OWN + name
    if name in counters:
        return Column(name, "1/s", lambda one: one.counters.get(name, 0.0) / one.seconds if one.seconds else None)
    if name in histograms:
        return Column(name, "", _of_histogram(name, lambda found: found.mean))
    if part in _PERCENTILES and (whole in histograms or whole in known.metrics):
        return Column(name, "", _of_histogram(whole, lambda found: found.quantile(_PERCENTILES[part])))
    if own in gauges or name in known.metrics:
        return Column(name, "", lambda one: one.gauges[own].mean if own in one.gauges else None)
    names = {gauge.removeprefix(OWN) for gauge in gauges if gauge.startswith((OWN, DOCUMENTS))}
    all_names = filter(None, (*METRICS, listed(names | counters | histograms | set(known.metrics))))
    raise SeriesQueryError("metric", f"must be one of: {', '.join(all_names)}")


def _documents(content: Slice) -> float | None:
    found = [figures.mean for name, figures in content.gauges.items() if name.startswith(DOCUMENTS)]
    return sum(found) if found else None


def listed(names: Collection[str]) -> str:
    """At most fifty names, and how many more there are."""
    shown = sorted(names)[:_LISTED]
    more = [f"and {len(names) - len(shown)} more"] if len(names) > len(shown) else []
    return ", ".join([*shown, *more])


# The distribution of durations


def _distribution(name: str, durations: Callable[[Slice], Histogram], slices: Collection[Slice]) -> Column:
    """How many requests took how long, in buckets that are the same in all slices."""
    filled = [found for one in slices if (found := durations(one)).count]
    scale, first, size = _buckets_of(filled)

    def counts(one: Slice) -> list[int] | None:
        found = durations(one)
        if not found.count:
            return None
        row = [0] * size
        inside = found.buckets.coarser(found.scale - scale)
        for place, count in enumerate(inside.counts(), inside.first - first):
            if count:
                row[place] = count
        row[0] += found.at_zero
        return row

    bounds = [_bound((first + place + 1) * 2.0**-scale) for place in range(size)]
    return Column(name, "s", counts, bounds)


def _bound(exponent: float) -> float:
    return float(f"{2.0 ** min(exponent, 1023.0):.6g}")


def _buckets_of(histograms: Collection[Histogram]) -> tuple[int, int, int]:
    """Scale, first bucket and number of buckets that all values fit in."""
    scale = min([_FINEST_SCALE, *(one.scale for one in histograms)])
    while True:
        inside = [one.buckets.coarser(one.scale - scale) for one in histograms if one.packed_counts]
        first = min((buckets.first for buckets in inside), default=0)
        size = max((buckets.first + buckets.size for buckets in inside), default=first + 1) - first
        if size <= BUCKETS_LIMIT:
            return scale, first, size
        scale -= 1


def is_finite(value: object) -> bool:
    """Whether it is a number that JSON can represent."""
    return isinstance(value, int | float) and math.isfinite(value)
