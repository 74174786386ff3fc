"""Histograms whose values go straight into the snapshots: `DirectHistogram`, and `RecordedHistogram`, also exported.

For each value the SDK cleans, copies and hashes the attributes, and does so again for each reader. Here a series is
bound to its attributes once, and a value costs about a microsecond.
"""

import threading
from collections.abc import Collection, Mapping
from math import ceil, inf, log2
from typing import Final

from opentelemetry import metrics
from opentelemetry.context import Context

from otel_monitoring.forks import renewed
from otel_monitoring.metrics.buckets import NO_BUCKETS, Buckets
from otel_monitoring.metrics.slow_requests import Slowest
from otel_monitoring.metrics.snapshot import AttributeValue, Histogram, Series
from otel_monitoring.runtime.give_way import giving_way

# Scale 5 divides each doubling of the value into 32 buckets: 1.1 % from a bucket's middle to its edge. 480 buckets
# cover 15 doublings before the scale drops to 4, and 30 (a nanosecond to a second) before it drops to 3.
MAX_SCALE = 5
MAX_SIZE = 480
_PER_DOUBLING = 2**MAX_SCALE
OVERFLOW: Final[Mapping[str, AttributeValue]] = {"otel.metric.overflow": True}
_BATCH: Final = 64
_LARGEST_BATCH: Final = 255
"""Of so many values none of the counts takes more than a byte."""


class BoundHistogram:
    """One series of a `DirectHistogram`; usable in any thread.

    Attributes:
        attributes: The attributes of the series.
        series: The series, once a reader knows it.
    """

    __slots__ = ("_at_zero", "_buckets", "_count", "_max", "_min", "_of", "_recent", "_sum", "attributes", "series")

    def __init__(self, of: "DirectHistogram", attributes: Mapping[str, AttributeValue]) -> None:
        self.attributes = attributes
        self.series: Series | None = None
        self._of = of
        self._recent: list[float] = []
        self._begin()

    def _begin(self) -> None:
        self._count = self._at_zero = 0
        self._buckets = NO_BUCKETS
        self._sum, self._min, self._max = 0.0, inf, -inf

    def record(self, value: float) -> None:
        """Add a value, which must be finite."""
        # Values are added in batches: appending needs no lock, and each is added in a fifth of the time.
        self._recent.append(value)
        if len(self._recent) >= _BATCH:
            with self._of.lock:
                self._add_recent()

    def _add_recent(self) -> None:
        while recent := self._recent[:_LARGEST_BATCH]:
            del self._recent[: len(recent)]  # others may have been appended meanwhile
            self._count += len(recent)
            self._sum += sum(recent)
            self._min, self._max = min(self._min, *recent), max(self._max, *recent)
            if edges := self._edges(recent):
                first = min(edges)
                counts = bytearray(max(edges) - first + 1)
                for edge in edges:
                    counts[edge - first] += 1
                added = Buckets(first - 1, int.from_bytes(counts, "little"))
                self._buckets = self._buckets.plus(added, self._count) if self._buckets.packed_counts else added

    def _edges(self, values: list[float]) -> list[int]:
        """The upper edge of the bucket of each value that is positive; counts those that are not."""
        try:
            return [ceil(log2(value) * _PER_DOUBLING) for value in values]
        except ValueError:
            positive = [value for value in values if value > 0]
            self._at_zero += len(values) - len(positive)
            return self._edges(positive)

    @property
    def is_empty(self) -> bool:
        """Whether there is no value since the last `take`."""
        return not self._recent and not self._count

    def take(self) -> Histogram | None:
        """The distribution of the values since the last call; None if there was none."""
        with self._of.lock:
            self._add_recent()
            if not self._count:
                return None
            count, total, least, most = self._count, self._sum, self._min, self._max
            buckets, at_zero = self._buckets, self._at_zero
            self._begin()
        first, last = buckets.first, buckets.first + buckets.size - 1
        halvings = 0
        while (last >> halvings) - (first >> halvings) >= MAX_SIZE:
            halvings += 1
        return Histogram(count, total, least, most, MAX_SCALE - halvings, at_zero, buckets.coarser(halvings))


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

    def bind(self, attributes: Mapping[str, AttributeValue]) -> BoundHistogram:
        """The series with `attributes`; the same object for the same attributes."""
        key = frozenset(attributes.items())
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
        found = ((bound, bound.take()) for bound in giving_way(list(self._bound.values())))
        return [(bound, values) for bound, values in found if values is not None]


class RecordedHistogram:
    """A histogram that the aggregator reads directly, and everybody else, while there is somebody, from the SDK.

    A reader that is added to the provider later gets every value from then on; the aggregator misses none.

    Args:
        direct: The aggregator's histogram.
        instrument: The SDK's instrument of the same name.
        readers: Who else reads the instrument at the moment; see `other_readers`.
    """

    def __init__(self, direct: DirectHistogram, instrument: metrics.Histogram, readers: Collection[object]) -> None:
        self.instrument = instrument
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

    __slots__ = ("_direct", "_instrument", "_readers", "attributes", "slowest")

    def __init__(self, of: RecordedHistogram, attributes: Mapping[str, str | int], direct: BoundHistogram) -> None:
        self.attributes = attributes
        self._direct = direct
        self._instrument = of.instrument
        self._readers = of.readers
        self.slowest: Slowest | None = None

    def record(self, value: float, context: Context | None = None) -> None:
        """Add a value, which must be finite; `context` has the span for an exemplar. None: the current context."""
        self._direct.record(value)
        if self._readers:
            self._instrument.record(value, self.attributes, context)
