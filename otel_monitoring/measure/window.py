"""`Window`: rates and quantiles over a span of time; `History`: the ring of snapshots any window is cut from."""

import math
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property, reduce
from typing import Any, TypeVar

from otel_monitoring.measure.snapshot import AttributeValue, Histogram, Series, Snapshot, merged

T = TypeVar("T")

# As long as Prometheus looks back for a value: a gauge that is set by hand every few minutes does not come and go.
_GAUGE_SECONDS = 300.0


class Window:
    """Everything measured between two moments, ready for questions.

    What was measured never changes: a reader in any thread may keep one as long as it likes.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.memo: dict[Hashable, Any] = {}
        """What its readers worked out from it, by reader: it will never be anything else."""

    @property
    def seconds(self) -> float:
        """How long the window really is: whole snapshots, so up to one interval more than was asked for."""
        return self.snapshot.end - self.snapshot.start

    def histograms(self, name: str) -> list[tuple[Series, Histogram]]:
        """Every series of histogram `name` with what was recorded in it."""
        return self._histograms.get(name, [])

    def sums(self, name: str) -> list[tuple[Series, float]]:
        """Every series of counter `name` with its increase."""
        return self._sums.get(name, [])

    def gauges(self, name: str) -> list[tuple[Series, float]]:
        """Every series of gauge `name` with its last value."""
        return self._gauges.get(name, [])

    def histogram(self, name: str, where: Callable[[Series], bool] | None = None) -> Histogram:
        """All values of histogram `name`, of the series that `where` accepts; empty when there are none."""
        return merged(h for series, h in self.histograms(name) if where is None or where(series))

    def grouped(self, name: str, key: str) -> dict[AttributeValue | None, list[tuple[Series, Histogram]]]:
        """The series of histogram `name` by the value of attribute `key`; None collects those without it."""
        known: dict[AttributeValue | None, list[tuple[Series, Histogram]]] | None = self.memo.get((name, key))
        if known is None:
            known = self.memo[name, key] = {}
            for entry in self.histograms(name):
                known.setdefault(entry[0].get(key), []).append(entry)
        return known

    def count(self, name: str, where: Callable[[Series], bool] | None = None) -> int:
        """How many values histogram `name` recorded."""
        return sum(h.count for series, h in self.histograms(name) if where is None or where(series))

    def increase(self, name: str, where: Callable[[Series], bool] | None = None) -> float:
        """By how much counter `name` grew."""
        return sum(v for series, v in self.sums(name) if where is None or where(series))

    def rate(self, name: str, where: Callable[[Series], bool] | None = None) -> float | None:
        """Values of histogram `name` (or increase of counter `name`) per second; None for an empty span."""
        if self.seconds <= 0:
            return None
        return (self.count(name, where) + self.increase(name, where)) / self.seconds

    @cached_property
    def _histograms(self) -> dict[str, list[tuple[Series, Histogram]]]:
        return _by_name(self.snapshot.histograms)

    @cached_property
    def _sums(self) -> dict[str, list[tuple[Series, float]]]:
        return _by_name(self.snapshot.sums)

    @cached_property
    def _gauges(self) -> dict[str, list[tuple[Series, float]]]:
        return _by_name(self.snapshot.gauges)


class History:
    """A ring of snapshots, the total since the start, and the window over the last `span` seconds.

    One writer calls `add` and `last`; `total` and `recent` may be read from any thread: each is replaced whole.
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
        self.gauges: Mapping[Series, float] = {}
        """The gauges that were seen in the last five minutes, with their last values: the older ones are gone."""
        self._gauges_seen: dict[Series, float] = {}

    def add(self, snapshot: Snapshot) -> None:
        """Append what was measured since the last call."""
        if self._parts and snapshot.end - self._parts[0].start > self._resolution:
            self._ring.append(_joined(self._parts))
            self._parts = []
        self._parts.append(snapshot)
        same = self.recent is self.total
        self.total = Window(self.total.snapshot.followed_by(snapshot))
        recent = self.total.snapshot if same else self.recent.snapshot.followed_by(snapshot)
        # An entry stays while any part of it is inside the span: a window is never shorter than asked for.
        while self._ring and self._ring[0].end <= snapshot.end - self._span:
            recent = self._without(recent, self._ring.popleft())
        self.recent = self.total if recent is self.total.snapshot else Window(recent)
        self._keep_gauges(snapshot)

    def last(self, seconds: float) -> Window:
        """The window over the last `seconds`, at most the ring's span; whole entries, never less than asked for."""
        if seconds >= self._span:
            return self.recent
        entries = self._entries()
        if not entries:
            return self.recent
        begin = entries[-1].end - seconds
        return Window(_joined([entry for entry in entries if entry.end > begin or entry is entries[-1]]))

    def _entries(self) -> list[Snapshot]:
        """The ring and what will be its next entry, oldest first."""
        return [*self._ring, *self._parts]

    def _keep_gauges(self, newest: Snapshot) -> None:
        seen = {**self._gauges_seen, **dict.fromkeys(newest.gauges, newest.end)}
        self._gauges_seen = {series: at for series, at in seen.items() if at > newest.end - _GAUGE_SECONDS}
        known = {**self.gauges, **newest.gauges}
        self.gauges = {series: known[series] for series in self._gauges_seen}

    def _without(self, window: Snapshot, oldest: Snapshot) -> Snapshot:
        """`window` less its oldest entry, which has just left the ring."""
        histograms = dict(window.histograms)
        for series, part in oldest.histograms.items():
            whole = histograms[series]
            if whole.count == part.count:
                del histograms[series]
                continue
            smallest, largest = whole.min, whole.max
            if part.min <= smallest or part.max >= largest:
                smallest, largest = self._extremes(series)
            histograms[series] = whole.minus(part, smallest=smallest, largest=largest)
        sums = dict(window.sums)
        for series, value in oldest.sums.items():
            sums[series] -= value
        return Snapshot(self._entries()[0].start, window.end, histograms, sums, window.gauges)

    def _extremes(self, series: Series) -> tuple[float, float]:
        found = [entry.histograms[series] for entry in self._entries() if series in entry.histograms]
        return min((h.min for h in found), default=math.inf), max((h.max for h in found), default=-math.inf)


def _joined(snapshots: Sequence[Snapshot]) -> Snapshot:
    """One snapshot over consecutive ones."""
    return reduce(Snapshot.followed_by, snapshots)


def _by_name(values: Mapping[Series, T]) -> dict[str, list[tuple[Series, T]]]:
    by_name: dict[str, list[tuple[Series, T]]] = {}
    for series, value in values.items():
        by_name.setdefault(series.name, []).append((series, value))
    return by_name
