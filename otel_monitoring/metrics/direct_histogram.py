"""Histograms whose values go straight into the snapshots: `DirectHistogram`, and `RecordedHistogram`, also exported.

For each value the SDK cleans, copies and hashes the attributes, and does so again for each reader. Here a series is
bound to its attributes once, and a value costs about a microsecond.
"""

import threading
from bisect import bisect_right
from collections.abc import Collection, Mapping
from math import ceil, log2
from typing import Final

from opentelemetry import metrics
from opentelemetry.context import Context

from otel_monitoring.forks import renewed, told
from otel_monitoring.metrics.sdk_histogram import Place, SdkHistogram
from otel_monitoring.metrics.slow_requests import Slowest
from otel_monitoring.metrics.snapshot import AttributeValue, Histogram, Series
from otel_monitoring.runtime.give_way import giving_way

# Scale 5 divides each doubling of the value into 32 buckets: 1.1 % from a bucket's middle to its edge. 480 buckets
# cover 15 doublings before the scale drops to 4, and 30 (a nanosecond to a second) before it drops to 3.
MAX_SCALE = 5
MAX_SIZE = 480
_PER_DOUBLING = 2**MAX_SCALE
OVERFLOW: Final[Mapping[str, AttributeValue]] = {"otel.metric.overflow": True}
_BATCH: Final = 16
"""Values that wait until they are added: of 32, a value would cost 0.1 µs less, and an answer adds what waits first."""
_LARGEST_BATCH: Final = 255
"""The most values that are added at once: no count of so few takes more than a byte."""


class BoundHistogram:
    """One series of a `DirectHistogram`; usable in any thread.

    Attributes:
        attributes: The attributes of the series.
        series: The series, once a reader knows it.
        recent: The values that wait until they are added; always the same list.
    """

    __slots__ = ("_added", "_of", "attributes", "recent", "series")

    def __init__(self, of: "DirectHistogram", attributes: Mapping[str, AttributeValue]) -> None:
        self.attributes = attributes
        self.series: Series | None = None
        self._of = of
        self.recent: list[float] = []
        self._added: Histogram | None = None

    def record(self, value: float) -> None:
        """Add a value, which must be finite."""
        # Values are added in batches: appending needs no lock, and each is added in a fifth of the time.
        self.recent.append(value)
        if len(self.recent) >= _BATCH:
            self.add_recent()

    def add_recent(self) -> None:
        """Add the values that wait."""
        with self._of.lock:
            self._add_recent()

    def _add_recent(self) -> None:
        recent, added = self.recent, self._added
        while values := recent[:_LARGEST_BATCH]:
            del recent[: len(values)]  # others may have been appended meanwhile
            batch = _distribution(values)
            added = batch if added is None else added.plus(batch)
        self._added = added

    @property
    def is_empty(self) -> bool:
        """Whether there is no value since the last `take`."""
        return not self.recent and self._added is None

    def take(self) -> Histogram | None:
        """The distribution of the values since the last call; None if there was none."""
        with self._of.lock:
            if self.recent:
                self._add_recent()
            taken, self._added = self._added, None
        return None if taken is None else _bounded(taken)

    def forget(self) -> None:
        """Forget the values since the last `take`: in a forked child, where they are the parent's."""
        self.recent.clear()
        self._added = None


def _distribution(values: list[float]) -> Histogram:
    """The distribution of a few values, which it sorts."""
    count, total = len(values), sum(values)
    values.sort()
    least, most = values[0], values[-1]
    at_zero = bisect_right(values, 0.0) if least <= 0.0 else 0
    if at_zero == count:
        return Histogram(count, total, least, most, MAX_SCALE, at_zero)
    edges = [ceil(log2(value) * _PER_DOUBLING) for value in (values[at_zero:] if at_zero else values)]
    first = edges[0]
    counts = bytearray(edges[-1] - first + 1)
    for edge in edges:  # the upper one of each value's bucket
        counts[edge - first] += 1
    packed_counts = int.from_bytes(counts, "little")
    return Histogram._make((count, total, least, most, MAX_SCALE, at_zero, first - 1, packed_counts, 1))


def _bounded(histogram: Histogram) -> Histogram:
    """The distribution at the largest scale at which it has at most `MAX_SIZE` buckets."""
    if histogram.packed_counts.bit_length() <= 8 * histogram.width * MAX_SIZE:
        return histogram
    first, last = histogram.first, histogram.first + histogram.buckets.size - 1
    halvings = 0
    while (last >> halvings) - (first >> halvings) >= MAX_SIZE:
        halvings += 1
    return histogram.coarser(halvings)


class DirectHistogram:
    """A histogram that is read by the aggregator alone.

    Args:
        name: The metric's name.
        max_series: Maximum number of series; the values of further ones are in one, with the attribute
            `otel.metric.overflow` (https://opentelemetry.io/docs/specs/otel/metrics/sdk/#cardinality-limits).

    Attributes:
        lock: Held while a value is added.
    """

    def __init__(self, name: str, *, max_series: int = 10_000) -> None:
        self.name = name
        self.lock = renewed(self, "lock", threading.Lock)
        self._binding = renewed(self, "_binding", threading.Lock)
        self._max_series = max_series
        self._bound: dict[object, BoundHistogram] = {}
        told(self, DirectHistogram._forget)

    def _forget(self) -> None:
        """Leave the parent's values to the parent, which counts them."""
        for bound in self._bound.values():
            bound.forget()

    def bind(self, attributes: Mapping[str, AttributeValue]) -> BoundHistogram:
        """The series with `attributes`; the same object for the same attributes."""
        key = tuple(sorted(attributes.items()))  # a set of so few takes 600 bytes more
        with self._binding:
            bound = self._bound.get(key)
            if bound is None:
                if len(self._bound) >= self._max_series:
                    return self._bound.setdefault(None, BoundHistogram(self, OVERFLOW))
                bound = self._bound[key] = BoundHistogram(self, attributes)
            return bound

    @property
    def has_values(self) -> bool:
        """Whether there are values that were not taken yet."""
        return not all(bound.is_empty for bound in list(self._bound.values()))

    def take(self) -> list[tuple[BoundHistogram, Histogram]]:
        """Each series that has new values, with their distribution."""
        found = []
        for bound in giving_way(list(self._bound.values())):
            values = bound.take()
            if values is not None:
                found.append((bound, values))
        return found


class RecordedHistogram:
    """A histogram that the aggregator reads directly, and everybody else, while there is somebody, from the SDK.

    A reader that is added to the provider later gets every value from then on; the aggregator misses none.

    Args:
        direct: The aggregator's histogram.
        instrument: The SDK's instrument of the same name.
        readers: Who else reads the instrument at the moment; see `other_readers`.
    """

    def __init__(self, direct: DirectHistogram, instrument: metrics.Histogram, readers: Collection[object]) -> None:
        self.exported = SdkHistogram(instrument)
        self.readers = readers
        self._direct = direct

    def bind(self, attributes: Mapping[str, str | int]) -> "RecordedSeries":
        """The series with `attributes`."""
        return RecordedSeries(self, attributes, self._direct.bind(attributes))


class RecordedSeries:
    """One series of a `RecordedHistogram`; usable in any thread.

    Attributes:
        attributes: The attributes of the series.
        slowest: Where the slowest traced requests of the series are kept; None: nowhere.
    """

    __slots__ = ("_direct", "_exported", "_place", "_readers", "_recent", "attributes", "slowest")

    def __init__(self, of: RecordedHistogram, attributes: Mapping[str, str | int], direct: BoundHistogram) -> None:
        self.attributes = attributes
        self._direct = direct
        self._recent = direct.recent
        self._exported = of.exported
        self._place: Place | None = None
        self._readers = of.readers
        self.slowest: Slowest | None = None

    def record(self, value: float, context: Context | None = None) -> None:
        """Add a value, which must be finite; `context` has the span for an exemplar. None: the current context."""
        # As `BoundHistogram.record`, without the call: a command has three values.
        recent = self._recent
        recent.append(value)
        if len(recent) >= _BATCH:
            self._direct.add_recent()
        if self._readers:
            self._place = self._exported.record(value, self.attributes, context, self._place)
