"""`Window`: rates and quantiles over a span of time; `History`: the ring of snapshots any window is cut from."""

import math
from collections import OrderedDict, deque
from collections.abc import Collection, Hashable, Sequence
from functools import cached_property
from typing import Any, TypeVar

from otel_monitoring.metrics.series_map import SeriesMap
from otel_monitoring.metrics.snapshot import AttributeValue, Histogram, Series, Snapshot

T = TypeVar("T")

# As long as Prometheus looks back for a value: a gauge that is set by hand every few minutes does not come and go.
_GAUGE_SECONDS = 300.0


class Window:
    """Everything measured between two moments. It never changes, so any thread may keep one."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.memo: dict[Hashable, Any] = {}
        """Results that readers worked out from it, by reader: the window never changes."""

    @property
    def seconds(self) -> float:
        """How long the window really is: whole snapshots, so up to one interval more than was asked for."""
        return self.snapshot.end - self.snapshot.start

    def histograms(self, name: str) -> list[tuple[Series, Histogram]]:
        """Every series of histogram `name` with what was recorded in it."""
        return _items(self._histograms, name)

    def sums(self, name: str) -> list[tuple[Series, float]]:
        """Every series of counter `name` with its increase."""
        return _items(self._sums, name)

    def gauges(self, name: str) -> list[tuple[Series, float]]:
        """Every series of gauge `name` with its last value."""
        return _items(self._gauges, name)

    def grouped(self, name: str, key: str) -> dict[AttributeValue | None, list[tuple[Series, Histogram]]]:
        """The series of histogram `name` by the value of attribute `key`; None collects those without it."""
        group = self._histograms.group(name)
        return group.grouped(key) if group is not None else {}

    @cached_property
    def _histograms(self) -> SeriesMap[Histogram]:
        return SeriesMap.of(self.snapshot.histograms)

    @cached_property
    def _sums(self) -> SeriesMap[float]:
        return SeriesMap.of(self.snapshot.sums)

    @cached_property
    def _gauges(self) -> SeriesMap[float]:
        return SeriesMap.of(self.snapshot.gauges)


def _items(values: SeriesMap[T], name: str) -> list[tuple[Series, T]]:
    group = values.group(name)
    return group.items() if group is not None else []


class History:
    """A ring of snapshots, the total since the start, and the window over the last `span` seconds.

    One writer calls `add`; `total` and `recent` may be read from any thread: each is replaced whole.
    The ring keeps only what changed in each interval; the total is kept once. Adding costs in proportion to the
    series that changed: the recent window gains the newest snapshot and loses those that left it.

    Args:
        now: The moment measuring begins, in seconds of a monotonic clock.
        span: Seconds kept in the ring and covered by `recent`.
        resolution: Seconds of one entry of the ring; snapshots that come more often are joined.
    """

    def __init__(self, now: float, *, span: float, resolution: float) -> None:
        self._span = span
        self._resolution = resolution
        self._ring: deque[Snapshot] = deque()
        self._parts: list[Snapshot] = []  # of the ring's newest entry; joined when the next one begins
        self.total = Window(Snapshot(now, now))
        self.recent = self.total  # until something leaves it
        self.gauges: SeriesMap[float] = SeriesMap({})
        """The last values of gauges: ours as observed last, the application's as seen in the last five minutes."""
        self._gauges_seen: OrderedDict[Series, float] = OrderedDict()
        self._observed: Collection[Series] = ()

    def add(self, snapshot: Snapshot) -> None:
        """Append what was measured since the last call."""
        if self._parts and snapshot.end - self._parts[0].start > self._resolution:
            self._ring.append(_joined(self._parts))
            self._parts = []
        self._parts.append(snapshot)
        self.gauges = self._kept_gauges(snapshot)
        same = self.recent is self.total
        total = self._with(self.total.snapshot, snapshot)
        recent = total if same else self._with(self.recent.snapshot, snapshot)
        # An entry stays while any part of it is inside the span: a window is never shorter than asked for.
        while self._ring and self._ring[0].end <= snapshot.end - self._span:
            recent = self._without(recent, self._ring.popleft())
        self.total = Window(total)
        self.recent = self.total if recent is total else Window(recent)

    def _entries(self) -> list[Snapshot]:
        """The ring and what will be its next entry, oldest first."""
        return [*self._ring, *self._parts]

    def _kept_gauges(self, newest: Snapshot) -> SeriesMap[float]:
        seen = self._gauges_seen
        for series in newest.gauges.keys() - newest.observed:
            seen[series] = newest.end
            seen.move_to_end(series)
        gone = dict.fromkeys(set(self._observed) - newest.gauges.keys(), 0.0)
        self._observed = newest.observed
        while seen and (oldest := next(iter(seen.items())))[1] <= newest.end - _GAUGE_SECONDS:
            gone[oldest[0]] = seen.popitem(last=False)[1]
        gauges = self.gauges.changed(newest.gauges, lambda _series, _known, value: value)
        return gauges.changed(gone, lambda _series, _known, _value: None)

    def _with(self, window: Snapshot, newest: Snapshot) -> Snapshot:
        """`window` with what was measured after it."""
        histograms = SeriesMap.of(window.histograms).changed(newest.histograms, _recorded_too)
        sums = SeriesMap.of(window.sums).changed(newest.sums, _added)
        return Snapshot(window.start, newest.end, histograms, sums, self.gauges)

    def _without(self, window: Snapshot, oldest: Snapshot) -> Snapshot:
        """`window` less its oldest entry, which has just left the ring."""

        def taken_out(series: Series, whole: Histogram | None, part: Histogram) -> Histogram | None:
            if whole is None or whole.count == part.count:
                return None
            smallest, largest = whole.min, whole.max
            if part.min <= smallest or part.max >= largest:
                smallest, largest = self._extremes(series)
            return whole.minus(part, smallest=smallest, largest=largest)

        histograms = SeriesMap.of(window.histograms).changed(oldest.histograms, taken_out)
        sums = SeriesMap.of(window.sums).changed(oldest.sums, _subtracted)
        return Snapshot(self._entries()[0].start, window.end, histograms, sums, window.gauges)

    def _extremes(self, series: Series) -> tuple[float, float]:
        found = [entry.histograms[series] for entry in self._entries() if series in entry.histograms]
        return min((h.min for h in found), default=math.inf), max((h.max for h in found), default=-math.inf)


def _recorded_too(_series: Series, known: Histogram | None, new: Histogram) -> Histogram:
    return known.plus(new) if known is not None else new


def _added(_series: Series, known: float | None, new: float) -> float:
    return (known or 0) + new


def _subtracted(_series: Series, known: float | None, part: float) -> float:
    return (known or 0) - part


def _joined(snapshots: Sequence[Snapshot]) -> Snapshot:
    """One snapshot over consecutive ones."""
    histograms: dict[Series, Histogram] = {}
    sums: dict[Series, float] = {}
    gauges: dict[Series, float] = {}
    for snapshot in snapshots:
        for series, histogram in snapshot.histograms.items():
            histograms[series] = _recorded_too(series, histograms.get(series), histogram)
        for series, value in snapshot.sums.items():
            sums[series] = sums.get(series, 0) + value
        gauges.update(snapshot.gauges)
    return Snapshot(snapshots[0].start, snapshots[-1].end, histograms, sums, gauges)
