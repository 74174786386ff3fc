"""`Window`: what was measured in an interval; `History`: the ring of snapshots that the recent window covers."""

from collections import OrderedDict, deque
from collections.abc import Collection, Hashable, Iterable, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol, TypeVar

from otel_monitoring.metrics.event_sums import EventSums
from otel_monitoring.metrics.serialization import PackedSnapshot, extremes
from otel_monitoring.metrics.series_map import SeriesMap
from otel_monitoring.metrics.snapshot import AttributeValue, Histogram, Row, Series, Snapshot

T = TypeVar("T")

# Prometheus' lookback: a gauge that the application sets every few minutes keeps its value in between.
_GAUGE_SECONDS = 300.0


class Window:
    """Everything measured in an interval. It is immutable, so any thread may keep one.

    Args:
        snapshot: What was measured.
        event_sums: The sums over the slices of the past, for objectives; None: they are not known.
        before: The window that it follows in a history.
    """

    event_sums: EventSums | None = None

    def __init__(self, snapshot: Snapshot, event_sums: EventSums | None = None, before: "Window | None" = None) -> None:
        self._snapshot = snapshot
        self.event_sums = event_sums
        self.kept: dict[Hashable, Any] = {} if before is None else before.kept
        """Results of readers that later windows of the same history may use, where nothing has changed since."""
        self.memo: dict[Hashable, Any] = {} if before is None or self._differs(before) else before.memo
        """Results that readers have computed from the histograms and counters, by reader; these never change."""

    @property
    def snapshot(self) -> Snapshot:
        """What was measured."""
        return self._snapshot

    @property
    def is_empty(self) -> bool:
        """Whether no histogram and no counter has changed in it."""
        return not (self._snapshot.histograms or self._snapshot.sums)

    @property
    def seconds(self) -> float:
        """Length of the window. It consists of whole snapshots: up to one `resolution` longer than the `span`."""
        return self.end - self.start

    @property
    def start(self) -> float:
        """When it begins, in seconds of the monotonic clock."""
        return self._snapshot.start

    @property
    def end(self) -> float:
        """When it ends."""
        return self._snapshot.end

    def _differs(self, other: "Window") -> bool:
        own, others = self._snapshot, other.snapshot
        return own.histograms is not others.histograms or own.sums is not others.sums

    def histograms(self, name: str) -> list[tuple[Series, Histogram]]:
        """Every series of histogram `name` with its distribution."""
        return _items(self._histograms, name)

    def sums(self, name: str) -> list[tuple[Series, float]]:
        """Every series of counter `name` with its increase."""
        return _items(self._sums, name)

    def gauges(self, name: str) -> list[tuple[Series, float]]:
        """Every series of gauge `name` with its last value."""
        return _items(self._gauges, name)

    def grouped(self, name: str, key: str) -> dict[AttributeValue | None, list[tuple[Series, Histogram]]]:
        """The series of histogram `name` grouped by the value of attribute `key`, None for series without it."""
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


class Windows(Protocol):
    """What was measured since a start, and recently."""

    @property
    def total(self) -> Window:
        """Everything since the start."""

    @property
    def recent(self) -> Window:
        """The last seconds."""


class Moment(NamedTuple):
    """A history as it was at a moment.

    Attributes:
        total: Everything since the start.
        recent: The recent window.
        ring: The entries of the ring, oldest first.
        parts: The parts of its next entry.
    """

    total: Window
    recent: Window
    ring: Sequence[PackedSnapshot]
    parts: Sequence[Snapshot]

    def entries(self) -> list[PackedSnapshot]:
        """The entries of the ring, and the parts of its next entry as one, oldest first."""
        return [*self.ring, *([PackedSnapshot.of(joined(self.parts))] if self.parts else [])]


class History:
    """A ring of snapshots, the total since the start, and the window over the last `span` seconds.

    One thread calls `add`; `total` and `recent` may be read in any thread, because each is replaced as a whole. The
    ring keeps only what changed in each interval, packed. The cost of `add` is proportional to the series that changed:
    the newest snapshot is added to the recent window, and those that left the span are subtracted.

    Args:
        now: Start of the history, in seconds of a monotonic clock.
        span: Seconds that the ring and `recent` cover.
        resolution: Seconds of one entry of the ring; more frequent snapshots are joined into one entry.

    Attributes:
        total: Everything since the start.
        recent: The last `span` seconds; the same object as `total` until the first entry leaves it.
        gauges: The last values of gauges: this package's as last observed, the application's if seen in five minutes.
    """

    def __init__(self, now: float, *, span: float, resolution: float) -> None:
        self._span = span
        self._resolution = resolution
        self._ring: deque[PackedSnapshot] = deque()
        self._parts: list[Snapshot] = []  # of the ring's newest entry; they are joined when the next entry begins
        self.total = Window(Snapshot(now, now))
        self.recent = self.total
        self.gauges: SeriesMap[float] = SeriesMap({})
        self._gauges_seen: OrderedDict[Series, float] = OrderedDict()
        self._observed: Collection[Series] = ()

    @classmethod
    def restored(
        cls, total: Snapshot, recent: Snapshot, entries: Iterable[Snapshot], *, span: float, resolution: float
    ) -> "History":
        """A history that goes on from another one.

        Args:
            total: Everything since the start of the other.
            recent: The sum of `entries`.
            entries: The entries of its ring, oldest first.
            span: As in the constructor.
            resolution: As in the constructor.
        """
        history = cls(total.start, span=span, resolution=resolution)
        for entry in entries:
            history._keep(entry)
        history.total, history.recent = Window(total), Window(recent)
        return history

    @classmethod
    def continuing(cls, moment: Moment, *, span: float, resolution: float) -> "History":
        """A history that goes on from a moment of another one, without its gauges.

        Args:
            moment: Of the other.
            span: As in the constructor.
            resolution: As in the constructor.
        """
        history = cls(moment.total.start, span=span, resolution=resolution)
        history.total, history.recent = moment.total, moment.recent
        history._ring.extend(moment.ring)
        history._parts.extend(moment.parts)
        return history

    def add(self, snapshot: Snapshot) -> None:
        """Append a snapshot, which begins where the previous one ended."""
        if self._parts and snapshot.end - self._parts[0].start > self._resolution:
            self._keep(joined(self._parts))
            self._parts = []
        self._parts.append(snapshot)
        self.gauges = self._kept_gauges(snapshot)
        same = self.recent is self.total
        news = Snapshot(
            snapshot.start, snapshot.end, SeriesMap.of(snapshot.histograms), SeriesMap.of(snapshot.sums), self.gauges
        )
        total = _with(self.total.snapshot, news)
        recent = total if same else _with(self.recent.snapshot, news)
        # An entry stays while any part of it is inside the span, so that the window is never shorter than the span.
        while self._ring and self._ring[0].end <= snapshot.end - self._span:
            recent = self._without(recent, self._ring.popleft())
        self.total = Window(total, before=self.total)
        self.recent = self.total if recent is total else Window(recent, before=None if same else self.recent)

    @property
    def moment(self) -> Moment:
        """The history as it is now; the thread that calls `add` may read it."""
        return Moment(self.total, self.recent, tuple(self._ring), tuple(self._parts))

    def _keep(self, entry: Snapshot) -> None:
        self._ring.append(PackedSnapshot.of(entry, self._ring[-1] if self._ring else None))

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

    def _without(self, window: Snapshot, oldest: PackedSnapshot) -> Snapshot:
        """`window` less its oldest entry, which has left the ring."""

        def subtracted(series: Series, whole: Histogram | None, part: Row) -> Histogram | None:
            count, _, least, most, *_ = part
            if whole is None or whole.count == count:
                return None
            smallest, largest = whole.min, whole.max
            if least <= smallest or most >= largest:
                smallest, largest = self._extremes(series)
            return whole.minus(part, smallest=smallest, largest=largest)

        histograms = SeriesMap.of(window.histograms).changed(oldest.histograms(), subtracted)
        sums = SeriesMap.of(window.sums).changed(oldest.sums, _difference_of_counters)
        return Snapshot((self._ring or self._parts)[0].start, window.end, histograms, sums, window.gauges)

    def _extremes(self, series: Series) -> tuple[float, float]:
        smallest, largest = extremes(self._ring, series)
        for part in self._parts:
            if (histogram := part.histograms.get(series)) is not None:
                smallest, largest = min(smallest, histogram.min), max(largest, histogram.max)
        return smallest, largest


def _with(window: Snapshot, newest: Snapshot) -> Snapshot:
    """`window` extended by `newest`, which follows it and has all gauges."""
    histograms = SeriesMap.of(window.histograms).changed(newest.histograms, _sum_of_histograms)
    sums = SeriesMap.of(window.sums).changed(newest.sums, _sum_of_counters)
    return Snapshot(window.start, newest.end, histograms, sums, newest.gauges)


def _sum_of_histograms(_series: Series, known: Histogram | None, new: Histogram) -> Histogram:
    return known.plus(new) if known is not None else new


def _sum_of_counters(_series: Series, known: float | None, new: float) -> float:
    return (known or 0) + new


def _difference_of_counters(_series: Series, known: float | None, part: float) -> float:
    return (known or 0) - part


def joined(snapshots: Sequence[Snapshot]) -> Snapshot:
    """Consecutive snapshots, of which there is at least one, as one."""
    if len(snapshots) == 1:
        return snapshots[0]
    histograms, sums, gauges = dict(snapshots[0].histograms), dict(snapshots[0].sums), dict(snapshots[0].gauges)
    for snapshot in snapshots[1:]:
        for series, histogram in snapshot.histograms.items():
            histograms[series] = _sum_of_histograms(series, histograms.get(series), histogram)
        for series, value in snapshot.sums.items():
            sums[series] = sums.get(series, 0) + value
        gauges.update(snapshot.gauges)
    return Snapshot(snapshots[0].start, snapshots[-1].end, histograms, sums, gauges)
