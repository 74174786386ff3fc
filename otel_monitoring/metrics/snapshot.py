"""`Series`, `Histogram` and `Snapshot`: immutable measurements, and the arithmetic of exponential histograms.

Buckets follow the OpenTelemetry data model (https://opentelemetry.io/docs/specs/otel/metrics/data-model/#exponentialhistogram):
bucket `i` at scale `s` holds values in `(base**i, base**(i + 1)]` with `base = 2**(2**-s)`.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial, reduce
from itertools import accumulate
from typing import Final, NamedTuple

from otel_monitoring.metrics.buckets import NO_BUCKETS, Buckets, have_room, widened

_FEW = 16
AttributeValue = str | bool | int | float | tuple[str | bool | int | float, ...]


class Series:
    """A metric's name and attributes, sorted by key: the identity of one time series. It never changes.

    It is the key of every mapping of measurements, so its hash is computed once.

    Attributes:
        name: The metric's name.
        attributes: Keys and values.
        hash: The hash of both.
    """

    __slots__ = ("attributes", "hash", "name")

    def __init__(self, name: str, attributes: tuple[tuple[str, AttributeValue], ...] = ()) -> None:
        self.name = name
        self.attributes = attributes
        self.hash = hash((name, attributes))

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Series):
            return NotImplemented
        return self.name == other.name and self.attributes == other.attributes

    def __repr__(self) -> str:
        return f"Series({self.name!r}, {self.attributes!r})"

    def get(self, key: str) -> AttributeValue | None:
        """The value of attribute `key`; None if it is absent."""
        for name, value in self.attributes:
            if name == key:
                return value
        return None


class Histogram(NamedTuple):
    """A distribution of non-negative values: durations in seconds, sizes in bytes.

    Every series has one in every interval: it is flat, the fields of its buckets among its own. `_make` needs half the
    time of a call.

    Attributes:
        count: Number of recorded values.
        sum: Sum of the values.
        min: The smallest value; `inf` if there is none.
        max: The largest value; `-inf` if there is none.
        scale: Resolution of the buckets: a bucket's upper bound is `2**(2**-scale)` times its lower bound.
        at_zero: Number of values that were zero or, contrary to the definition, negative.
        first: As of `Buckets`.
        packed_counts: As of `Buckets`.
        width: As of `Buckets`.
    """

    count: int = 0  # type: ignore[assignment] # nobody counts the fields of a tuple
    sum: float = 0.0
    min: float = math.inf
    max: float = -math.inf
    scale: int = 20
    at_zero: int = 0
    first: int = NO_BUCKETS.first
    packed_counts: int = NO_BUCKETS.packed_counts
    width: int = NO_BUCKETS.width

    @property
    def buckets(self) -> Buckets:
        """Number of values in each bucket."""
        return Buckets(self.first, self.packed_counts, self.width)

    @property
    def mean(self) -> float | None:
        """The arithmetic mean; None if nothing was recorded."""
        return self.sum / self.count if self.count else None

    def plus(self, other: "Histogram") -> "Histogram":
        """The distribution of both sets of values; counts are exact, at the smaller of the two scales."""
        return histogram_of(added(self, other))

    def minus(self, part: "Row", *, smallest: float, largest: float) -> "Histogram":
        """The distribution without the values of `part`, which were added to it before; counts are exact.

        Args:
            part: The distribution to subtract.
            smallest: The smallest of the remaining values: minimum and maximum cannot be subtracted.
            largest: The largest of the remaining values.
        """
        count, total, _, _, scale, at_zero, first, packed_counts, width = self
        n, less, _, _, parts_scale, zeros, begin, counts, parts_width = part
        if scale != parts_scale:
            of_both = min(scale, parts_scale)
            whole, less_of_it = self.coarser(scale - of_both), histogram_of(part).coarser(parts_scale - of_both)
            return whole.minus(less_of_it, smallest=smallest, largest=largest)
        if width != parts_width:
            wide = max(width, parts_width)
            packed_counts, counts = widened(packed_counts, width, wide), widened(counts, parts_width, wide)
            width = wide
        if begin >= first:
            packed_counts -= counts << 8 * width * (begin - first)
        else:
            packed_counts = (packed_counts << 8 * width * (first - begin)) - counts
            first = begin
        rest = count - n, total - less, smallest, largest, scale, at_zero - zeros, first, packed_counts, width
        return histogram_of(rest)

    def coarser(self, halvings: int) -> "Histogram":
        """The distribution at a scale that is smaller by `halvings`."""
        return self._replace(scale=self.scale - halvings, **self.buckets.coarser(halvings)._asdict())

    def quantile(self, q: float) -> float | None:
        """Estimate the `q`-quantile (0 ≤ q ≤ 1); None if nothing was recorded.

        It interpolates exponentially inside the bucket, as PromQL's `histogram_quantile` does for native histograms
        (https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile), and limits the estimate
        to the range of the recorded values.
        """
        return self.quantiles((q,))[0]

    def quantiles(self, qs: Sequence[float]) -> list[float | None]:
        """`quantile` of each of `qs`; several cost little more than one."""
        count, _, least, most, scale, at_zero, first, *_ = self
        if not count:
            return [None] * len(qs)
        lowest, doublings = min(least, 0.0) if at_zero else least, 2.0**-scale
        counts = self.buckets.counts()
        below = list(accumulate(counts, initial=at_zero))  # for each bucket the number of smaller values
        found: list[float | None] = []
        for q in qs:
            rank = q * count
            bucket = bisect_left(below, rank) - 1
            if bucket < 0:
                value = lowest
            elif bucket == len(counts):
                value = most
            else:
                place = first + bucket + (rank - below[bucket]) / counts[bucket]
                value = min(max(2.0 ** (place * doublings), least), most)
            found.append(value)
        return found

    def below(self, limit: float) -> float:
        """Estimate how many values are at most `limit`; it interpolates inside the bucket, as `quantile` does."""
        if limit >= self.max:
            return float(self.count)
        if limit < self.min or limit <= 0:
            return float(self.at_zero) if limit >= 0 else 0.0
        return self.at_zero + self.buckets.below(math.log2(limit) * 2.0**self.scale)


Row = tuple[int, float, float, float, int, int, int, int, int]
"""A histogram's fields."""
histogram_of: Final[Callable[[Row], Histogram]] = partial(tuple.__new__, Histogram)
"""As `Histogram._make`, which takes half as long again to count the fields."""


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """The distribution of the values of all `histograms`; an empty one if there are none."""
    rows = list(histograms)
    if len(rows) > 1:
        return merged_rows(rows)
    return rows[0] if rows else Histogram()


def merged_rows(rows: Iterable[Row]) -> Histogram:
    """The distribution of the values of all rows, of which there is at least one."""
    # A few at a time: their sum is narrow, where that of all is wide, and each would be widened to be added to it.
    left = list(rows)
    while len(left) > 1:
        left = [reduce(added, left[begin : begin + _FEW]) for begin in range(0, len(left), _FEW)]
    return histogram_of(left[0])


def added(known: Row, new: Row) -> Row:
    """The distribution of the values of both rows; counts are exact, at the smaller of the two scales."""
    # Every series of every process comes here in every interval: there is no call and no object on the way.
    count, total, least, most, scale, at_zero, first, packed_counts, width = known
    n, more, low, high, others_scale, zeros, begin, counts, others_width = new
    count += n
    if scale != others_scale or not counts or not packed_counts:
        scale, (first, packed_counts, width), (begin, counts, others_width) = _of_one_scale(known, new)
    if width != others_width:
        wide = max(width, others_width)
        packed_counts, counts = widened(packed_counts, width, wide), widened(counts, others_width, wide)
        width = wide
    if count >> 8 * width and not have_room(packed_counts | counts, width):
        packed_counts, counts = widened(packed_counts, width, 2 * width), widened(counts, width, 2 * width)
        width *= 2
    if begin >= first:
        packed_counts += counts << 8 * width * (begin - first)
    else:
        packed_counts = (packed_counts << 8 * width * (first - begin)) + counts
        first = begin
    if low < least:
        least = low
    if high > most:
        most = high
    return count, total + more, least, most, scale, at_zero + zeros, first, packed_counts, width


def _of_one_scale(known: Row, new: Row) -> tuple[int, Buckets, Buckets]:
    """A scale, and the buckets of both rows at it; one that has none begins where the other does."""
    scale, others_scale = known[4], new[4]
    own, others = Buckets(*known[6:]), Buckets(*new[6:])
    if not others.packed_counts:  # all of them are at zero
        return scale, own, own._replace(packed_counts=0)
    if not own.packed_counts:
        return others_scale, others._replace(packed_counts=0), others
    of_both = min(scale, others_scale)
    return of_both, own.coarser(scale - of_both), others.coarser(others_scale - of_both)


class Snapshot(NamedTuple):
    """What was measured in an interval; series that did not change are absent.

    Attributes:
        start: Start of the interval, in seconds of the caller's monotonic clock.
        end: End of the interval.
        histograms: The distributions recorded in the interval.
        sums: The increases of counters in the interval.
        gauges: The last value of each gauge.
        observed: The gauges of this package. Each collection observes all of them, so one that is missing has ended.
    """

    start: float
    end: float
    histograms: Mapping[Series, Histogram] = {}
    sums: Mapping[Series, float] = {}
    gauges: Mapping[Series, float] = {}
    observed: Collection[Series] = ()
