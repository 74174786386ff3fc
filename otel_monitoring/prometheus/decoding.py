"""Prometheus' samples in the form of this package: histograms with exponential buckets."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from otel_monitoring.errors import PrometheusError
from otel_monitoring.metrics.buckets import Buckets
from otel_monitoring.metrics.snapshot import Histogram

_FINEST = 8
"""The scale to which buckets with other bounds are spread: 0.3 % wide."""
_COARSEST = -4
_EXACT = 1e-6


class Bucket(NamedTuple):
    """Values above `low` and up to `high`.

    Attributes:
        low: The lower bound; `-inf` for the first bucket of explicit ones.
        high: The upper bound; `inf` for the last of them.
        number: How many values there are; Prometheus has fractions.
    """

    low: float
    high: float
    number: float


def number_of(sample: Mapping[str, Any]) -> float | None:
    """The value of a sample; None: it is a histogram, or no number."""
    try:
        value = float(sample["value"][1])
    except (LookupError, TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def native_histogram(sample: Mapping[str, Any]) -> Histogram | None:
    """The native histogram of a sample; None: it is a number."""
    try:
        found = sample["histogram"][1]
        buckets = [Bucket(float(low), float(high), float(count)) for _, low, high, count in found.get("buckets") or ()]
        return histogram_of(float(found["count"]), float(found["sum"]), buckets)
    except (LookupError, TypeError, ValueError):
        return None


def bound_of(labels: Mapping[str, str]) -> float:
    """The upper bound of a `_bucket` series.

    Raises:
        PrometheusError: It has none.
    """
    try:
        return float(labels["le"])
    except (LookupError, ValueError):
        raise PrometheusError(
            "Prometheus: its histograms have no bounds (le): VictoriaMetrics needs explicit buckets, "
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION=explicit_bucket_histogram"
        ) from None


def classic_histogram(below: Mapping[float, float], total: float) -> Histogram:
    """The histogram of `_bucket` series.

    Args:
        below: By `le`, how many values are not larger; `inf` is among them.
        total: The sum of the values.
    """
    ordered = sorted(below.items())
    steps = pairwise([(-math.inf, 0.0), *ordered])
    buckets = [Bucket(low, high, max(0.0, until - before)) for (low, before), (high, until) in steps]
    return histogram_of(ordered[-1][1] if ordered else 0.0, total, buckets)


def histogram_of(count: float, total: float, buckets: Sequence[Bucket]) -> Histogram:
    """A histogram with these buckets: exponential ones as they are, others spread evenly over fine exponential ones.

    Fractions of values, which Prometheus' extrapolation makes, are rounded so that the count is right. The smallest and
    the largest value are not known: the bounds of their buckets stand in.
    """
    filled = [bucket for bucket in buckets if bucket.number > 0]
    values = round(count)
    if values <= 0 or not filled:
        return Histogram()
    positive = [bucket for bucket in filled if not _is_at_zero(bucket)]
    at_zero = round(sum(bucket.number for bucket in filled) - sum(bucket.number for bucket in positive))
    scale = _scale_of(positive)
    parts = _indexed(positive, scale) if scale is not None else _spread(positive)
    inside = Buckets.of_indexes(_whole(parts, values - at_zero))
    ends = [(bucket.low, bucket.high) for bucket in positive] or [(0.0, 0.0)]
    lowest = 0.0 if at_zero else max(0.0, ends[0][0])
    highest = ends[-1][1] if ends[-1][1] < math.inf else max(0.0, ends[-1][0])
    return Histogram(values, total, lowest, highest, scale if scale is not None else _FINEST, at_zero, *inside)


def _is_at_zero(bucket: Bucket) -> bool:
    """Whether it has values around zero, or negative ones, which no duration is."""
    return bucket.high <= 0 or -math.inf < bucket.low < 0


def _scale_of(buckets: Sequence[Bucket]) -> int | None:
    """The scale of which all `buckets` are; None: they are not exponential."""
    if not buckets or any(bucket.low <= 0 or bucket.high == math.inf for bucket in buckets):
        return None
    scale = round(-math.log2(math.log2(buckets[0].high / buckets[0].low)))
    if not _COARSEST <= scale <= 20:
        return None
    fits = (abs(math.log2(high) * 2.0**scale - round(math.log2(high) * 2.0**scale)) < 0.01 for _, high, _ in buckets)
    widths = (abs(math.log2(high / low) * 2.0**scale - 1) < 0.01 for low, high, _ in buckets)
    return scale if all(fits) and all(widths) else None


def _indexed(buckets: Iterable[Bucket], scale: int) -> Iterator[tuple[int, float]]:
    for bucket in buckets:
        yield round(math.log2(bucket.high) * 2.0**scale) - 1, bucket.number


def _spread(buckets: Sequence[Bucket]) -> Iterator[tuple[int, float]]:
    """The values of each bucket, spread evenly from its lower to its upper bound, as PromQL interpolates."""
    base = 2.0**_FINEST
    for low, high, count in buckets:
        if high == math.inf:  # as PromQL: the largest bound that is known
            low, high = max(low, 0.0) * (1 - _EXACT), max(low, 2.0**-30)
        low = max(low, high / 1000, 2.0**-40)
        first, last = math.floor(math.log2(low) * base), math.ceil(math.log2(high) * base) - 1
        for index in range(first, last + 1):
            begin, end = max(low, 2.0 ** (index / base)), min(high, 2.0 ** ((index + 1) / base))
            yield index, count * max(0.0, end - begin) / (high - low)


def _whole(parts: Iterable[tuple[int, float]], values: int) -> dict[int, int]:
    """Whole counts by index, `values` in all: each running total is the nearest whole number."""
    found = list(parts)
    every = sum(count for _, count in found)
    whole: dict[int, int] = {}
    running, given = 0.0, 0
    for index, count in found:
        running += count
        until = round(running * values / every) if every else 0
        if until > given:
            whole[index] = whole.get(index, 0) + until - given
            given = until
    return whole
