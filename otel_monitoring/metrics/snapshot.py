"""`Histogram`, `Series` and `Snapshot`: immutable samples and the arithmetic of exponential histograms.

Buckets follow the OpenTelemetry data model (https://opentelemetry.io/docs/specs/otel/metrics/data-model/#exponentialhistogram):
bucket `i` at scale `s` holds values in `(base**i, base**(i + 1)]` with `base = 2**(2**-s)`.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from otel_monitoring.metrics.buckets import NO_BUCKETS, Buckets

AttributeValue = str | bool | int | float | tuple[str | bool | int | float, ...]


class Series(NamedTuple):
    """The identity of one stream of measurements: a metric's name and its attributes, sorted by key."""

    name: str
    attributes: tuple[tuple[str, AttributeValue], ...] = ()

    def get(self, key: str) -> AttributeValue | None:
        """The value of attribute `key`, or None."""
        for name, value in self.attributes:
            if name == key:
                return value
        return None


@dataclass(frozen=True, slots=True)
class Histogram:
    """A distribution of non-negative values: durations in seconds, sizes in bytes.

    Attributes:
        count: How many values were recorded.
        sum: Their sum.
        min: The smallest of them; `inf` when there is none.
        max: The largest of them; `-inf` when there is none.
        scale: Resolution of the buckets: a bucket's upper bound is `2**(2**-scale)` times its lower one.
        at_zero: How many values were zero (or, against expectation, negative).
        buckets: How many values are in each bucket.
    """

    count: int = 0
    sum: float = 0.0
    min: float = math.inf
    max: float = -math.inf
    scale: int = 20
    at_zero: int = 0
    buckets: Buckets = NO_BUCKETS

    @property
    def mean(self) -> float | None:
        """The arithmetic mean, or None when nothing was recorded."""
        return self.sum / self.count if self.count else None

    def plus(self, other: "Histogram") -> "Histogram":
        """The distribution of both sets of values; exact in counts, at the coarser of the two scales."""
        if not other.count:
            return self
        if not self.count:
            return other
        scale = min(self.scale, other.scale)
        return Histogram(
            count=self.count + other.count,
            sum=self.sum + other.sum,
            min=min(self.min, other.min),
            max=max(self.max, other.max),
            scale=scale,
            at_zero=self.at_zero + other.at_zero,
            buckets=self.buckets.coarser(self.scale - scale).plus(other.buckets.coarser(other.scale - scale)),
        )

    def minus(self, part: "Histogram", *, smallest: float, largest: float) -> "Histogram":
        """What remains when `part`, which went into this distribution before, is taken out; exact in counts.

        Args:
            part: The distribution to take out.
            smallest: The smallest of the remaining values. Counts can be subtracted, extremes can not.
            largest: The largest of the remaining values.
        """
        scale = min(self.scale, part.scale)
        return Histogram(
            count=self.count - part.count,
            sum=self.sum - part.sum,
            min=smallest,
            max=largest,
            scale=scale,
            at_zero=self.at_zero - part.at_zero,
            buckets=self.buckets.coarser(self.scale - scale).minus(part.buckets.coarser(part.scale - scale)),
        )

    def quantile(self, q: float) -> float | None:
        """Estimate the `q`-quantile (0 ≤ q ≤ 1), or None when nothing was recorded.

        Interpolates exponentially inside the bucket, as PromQL's `histogram_quantile` does for native histograms
        (https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile), then never leaves
        the range of the recorded values.
        """
        if not self.count:
            return None
        rank = q * self.count
        if rank <= self.at_zero:
            return min(self.min, 0.0) if self.at_zero else self.min
        found = self.buckets.at(rank - self.at_zero)
        if found is None:
            return self.max
        index, share = found
        estimate: float = 2.0 ** ((index + share) * 2.0**-self.scale)
        return min(max(estimate, self.min), self.max)


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """The distribution of all values of `histograms` together; an empty one when there are none."""
    filled = [histogram for histogram in histograms if histogram.count]
    if len(filled) < 2:
        return filled[0] if filled else Histogram()
    scale = min(histogram.scale for histogram in filled)
    return Histogram(
        count=sum(histogram.count for histogram in filled),
        sum=sum(histogram.sum for histogram in filled),
        min=min(histogram.min for histogram in filled),
        max=max(histogram.max for histogram in filled),
        scale=scale,
        at_zero=sum(histogram.at_zero for histogram in filled),
        buckets=Buckets.total(h.buckets.coarser(h.scale - scale) for h in filled),
    )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was measured between two moments; only series that changed are present.

    Attributes:
        start: When it begins, in seconds of the caller's monotonic clock.
        end: When it ends.
        histograms: Distributions recorded in between.
        sums: Increases of counters in between.
        gauges: The last value of each gauge.
        observed: Those of the gauges that are ours: they are observed anew each time, so what is missing is gone.
    """

    start: float
    end: float
    histograms: Mapping[Series, Histogram] = field(default_factory=dict)
    sums: Mapping[Series, float] = field(default_factory=dict)
    gauges: Mapping[Series, float] = field(default_factory=dict)
    observed: Collection[Series] = ()
