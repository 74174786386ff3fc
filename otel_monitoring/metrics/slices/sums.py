"""`RunningSums`: how many events of the past were bad, over windows up to thirty days, without reading them each time.

Objectives are judged by these sums. A window consists of entries of one length; a new slice is added to the newest
entry and to the sum, and an entry that has left the window is subtracted.
"""

import operator
import zlib
from array import array
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

from otel_monitoring.compression import compressed
from otel_monitoring.metrics.event_sums import ALL, Counts, EventSums, Indicator, WindowSum
from otel_monitoring.metrics.slices.codec import decoded_slices
from otel_monitoring.metrics.slices.model import FINEST, OTHER_ROUTES, TIERS, Slice, Tier
from otel_monitoring.metrics.slices.recorder import WrittenUpTo
from otel_monitoring.metrics.slices.table import SliceTable

_LEAST_ENTRIES = 30
"""A window is at most a thirtieth longer than it should be: it consists of whole entries."""
_GROUPS_LIMIT = 2000
_ROWS_AT_ONCE = 60


class RunningSums:
    """The sums of several windows. Slices are added in the order of time; one thread at a time uses it.

    Args:
        wanted: The indicators, and the lengths of their windows in seconds.
    """

    def __init__(self, wanted: Collection[tuple[Indicator, int]]) -> None:
        self._groups: dict[Indicator, dict[str, int]] = {indicator: {ALL: 0} for indicator, _ in wanted}
        self._windows = {(indicator, seconds): _SlidingWindow(seconds) for indicator, seconds in wanted}
        self._since: float | None = None

    @property
    def steps(self) -> Mapping[int, int]:
        """The length of the longest window that has entries of a length, by this length, in seconds."""
        found: dict[int, int] = {}
        for window in self._windows.values():
            found[window.step] = max(window.seconds, found.get(window.step, 0))
        return found

    def add(self, start: int, end: int, content: Slice, *, step: int | None = None) -> None:
        """Add the slice of a slot.

        Args:
            start: The start of the slot, in Unix seconds.
            end: Its end.
            content: The slice.
            step: Only to the windows with entries of this length; None: to all.
        """
        figures = {indicator: self._figures(indicator, content) for indicator in self._groups}
        for (indicator, _), window in self._windows.items():
            if step is None or window.step == step:
                window.add(start, end, content.seconds, figures[indicator])
        self._since = float(start) if self._since is None else min(self._since, start)

    def at(self, now: float) -> EventSums:
        """The sums of the windows that end at `now`, in Unix seconds."""
        for window in self._windows.values():
            window.advance(now)
        sums = {
            (indicator, seconds): window.sum_by(self._groups[indicator])
            for (indicator, seconds), window in self._windows.items()
        }
        return EventSums(now, self._since, sums)

    def _figures(self, indicator: Indicator, content: Slice) -> "array[float]":
        """The events and the bad ones of each group, one after the other."""
        groups = self._groups[indicator]
        counts = indicator.counts(content)
        for name in counts.keys() - groups.keys():
            groups.setdefault(name if len(groups) < _GROUPS_LIMIT else OTHER_ROUTES, len(groups))
        figures = array("d", bytes(16 * len(groups)))
        for name, (events, bad) in counts.items():
            at = 2 * groups.get(name, groups.get(OTHER_ROUTES, 0))
            figures[at] += events
            figures[at + 1] += bad
        return figures


class _Entry(NamedTuple):
    """What was added to one entry of a window."""

    slot: int
    end: int
    measured: float
    figures: "array[float]"


class _SlidingWindow:
    """The sum of one window, and the entries that it consists of; only the newest one is not compressed."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        fitting = (tier.seconds for tier in reversed(TIERS) if tier.seconds * _LEAST_ENTRIES <= seconds)
        self.step = next(fitting, FINEST.seconds)
        self._closed: deque[tuple[int, float, bytes]] = deque()
        self._open: _Entry | None = None
        self._measured = 0.0
        self._sums: array[float] = array("d")

    def add(self, start: int, end: int, measured: float, figures: "array[float]") -> None:
        slot = start // self.step * self.step
        known = self._open
        if known is not None and known.slot == slot:
            self._open = _Entry(slot, max(known.end, end), known.measured + measured, _added(known.figures, figures))
        else:
            self._close()
            self._open = _Entry(slot, end, measured, figures)
        self._measured += measured
        self._sums = _added(self._sums, figures)

    def advance(self, now: float) -> None:
        if self._open is not None and self._open.end <= now - self.seconds:
            self._close()
        while self._closed and self._closed[0][0] <= now - self.seconds:
            _, measured, packed = self._closed.popleft()
            figures = array("d")
            figures.frombytes(zlib.decompress(packed))
            self._measured -= measured
            self._sums = _added(self._sums, figures, operator.sub)

    def sum_by(self, groups: Mapping[str, int]) -> WindowSum:
        """The sum, by the names of the groups; of those with events."""
        sums = self._sums
        found = {
            name: Counts(sums[2 * at], max(0.0, sums[2 * at + 1]))
            for name, at in groups.items()
            if 2 * at < len(sums) and sums[2 * at] > 0
        }
        return WindowSum(min(max(0.0, self._measured), float(self.seconds)), found)

    def _close(self) -> None:
        if self._open is not None:
            _, end, measured, figures = self._open
            self._closed.append((end, measured, compressed(figures.tobytes(), 1)))
            self._open = None


def _added(
    one: "array[float]", other: "array[float]", how: "Callable[[float, float], float]" = operator.add
) -> "array[float]":
    missing = len(other) - len(one)
    if missing > 0:
        one = one + array("d", bytes(8 * missing))
    together = array("d", map(how, one, other))
    return together + one[len(together) :] if len(one) > len(together) else together


class EventSumsReader:
    """Keeps the sums up to date with the slices of a service. One thread at a time uses it."""

    def __init__(self) -> None:
        self._wanted: frozenset[tuple[Indicator, int]] = frozenset()
        self._sums = RunningSums(())
        self._reached: int | None = None

    def read(self, table: SliceTable, wanted: Collection[tuple[Indicator, int]]) -> EventSums | None:
        """The sums over the slices that do not change any more.

        It reads all of them at first, and where the windows are others than before; else those that are new.

        Args:
            table: The slices.
            wanted: The indicators, and the lengths of their windows in seconds.

        Returns:
            None: there are no slices.

        Raises:
            StoreError: The store failed. The next call does what this one did not.
        """
        written = WrittenUpTo.of(table.position())
        if written is None:
            return None
        until = written.final
        if self._reached is None or frozenset(wanted) != self._wanted or not 0 <= until - self._reached < FINEST.kept:
            self._read_all(table, frozenset(wanted), until)
        else:
            for start, end, content in slices_between(table, FINEST, self._reached, until):
                self._sums.add(start, end, content)
        self._reached = until
        return self._sums.at(until)

    def _read_all(self, table: SliceTable, wanted: frozenset[tuple[Indicator, int]], until: int) -> None:
        self._reached = None
        self._wanted, self._sums = wanted, RunningSums(wanted)
        for step, seconds in self._sums.steps.items():
            tier = next(tier for tier in TIERS if tier.seconds == step)
            for start, end, content in slices_between(table, tier, tier.slot(until - seconds), until):
                self._sums.add(start, end, content, step=step)


def slices_between(table: SliceTable, tier: Tier, start: int, end: int) -> Iterator[tuple[int, int, Slice]]:
    """The slices of a tier with their starts and ends; finer ones where the newest were not made yet.

    Args:
        table: The slices.
        tier: The coarsest tier to read.
        start: The start of the first slot, in Unix seconds.
        end: No slot ends later, in Unix seconds.
    """
    reached = start
    for each in reversed(TIERS[: TIERS.index(tier) + 1]):
        chunk = each.seconds * _ROWS_AT_ONCE
        last = end // each.seconds * each.seconds
        # What a tier does not keep any more is not asked for: without coarser slices that would be a month of seconds.
        for begin in range(max(reached, each.slot(end - each.kept)), last, chunk):
            for row in table.read(each.seconds, begin, min(begin + chunk, last), routes=True):
                for content in decoded_slices([row]):
                    yield row.start, row.start + each.seconds, content
                reached = row.start + each.seconds
