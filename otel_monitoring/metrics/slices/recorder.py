"""`SliceRecorder`: writes what the processes of a service measured as slices; one process at a time does it.

The position that is stored with the slices says which deltas of the processes they contain. A process that goes on
with another one's slices therefore adds exactly the deltas that are missing, and of two that write at the same time
one has no effect.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol
from uuid import uuid4

from otel_monitoring.metrics.outcome import OutcomeClassifier
from otel_monitoring.metrics.serialization import EncodedSnapshot, SnapshotCodec, readable
from otel_monitoring.metrics.slices.codec import decoded_slices, encoded_routes, encoded_service, reading
from otel_monitoring.metrics.slices.model import (
    FINEST,
    GAUGES_LIMIT,
    TIERS,
    GaugeFigures,
    Slice,
    bounded_routes,
    merged_slices,
    shares,
)
from otel_monitoring.metrics.slices.slice_maker import SliceMaker
from otel_monitoring.metrics.slices.table import Position, SliceRow, SliceTable
from otel_monitoring.metrics.stream import Delta

RELEASES_LIMIT = 100
"""The most releases that are remembered."""
_FORMAT = 1
_CONTINUOUS = 30.0
"""A pause between two writes of at most these seconds is no gap: the processes measured while the writer changed."""
LATE_SECONDS = 60.0
"""Seconds by which a delta may be older than the position; the clocks of hosts that differ by more are wrong."""
_SHARES = 60
"""The most slots that a delta is shared out to."""
_PRUNE_EVERY = 600
_FUTURE = 86_400
"""Seconds after which a slice of the future is void: it was written before the clock was set back."""
_WRITERS = 500
_OPEN = 3
_VERSION_LENGTH = 200
_COARSER = {finer.seconds: coarser for finer, coarser in pairwise(TIERS)}
_FINER = {coarser.seconds: finer for finer, coarser in pairwise(TIERS)}


class Deltas(Protocol):
    """The part of a `MeasurementStream` that slices are made of."""

    def read(self, known: Mapping[str, int]) -> tuple[Sequence[Delta], str]:
        """The deltas beyond those that are known; see `MeasurementStream.read`."""


class Readings(NamedTuple):
    """What is not in the deltas.

    Attributes:
        gauges: The present readings of gauges, by name, of all processes.
        version: The `service.version` that runs; None: it has none.
    """

    gauges: Mapping[str, Iterable[float]] = {}
    version: str | None = None


class WrittenUpTo(NamedTuple):
    """The content of a position.

    Attributes:
        at: When it was written, in Unix seconds.
        known: By process, the number of its last delta that the slices contain.
        releases: When each version began, in Unix seconds, the newest last.
    """

    at: float
    known: Mapping[str, int]
    releases: Sequence[tuple[float, str]]

    @classmethod
    def of(cls, position: Position | None) -> "WrittenUpTo | None":
        """What a position says; None: there is none, or another version of this package wrote it."""
        if position is None:
            return None
        with readable("the position of the slices", reading):
            content: dict[str, Any] = json.loads(position.content)
            if content["format"] != _FORMAT:
                raise ValueError("the position has another format")
            known = {str(writer): int(number) for writer, number in content["known"].items()}
            releases = [(float(at), str(version)) for at, version in content["releases"]]
            return cls(float(content["at"]), known, releases)
        return None

    @property
    def final(self) -> int:
        """The time before which no slice changes any more, in Unix seconds."""
        return FINEST.slot(self.at - LATE_SECONDS)

    def encoded(self) -> bytes:
        """The bytes of the position."""
        content = {"format": _FORMAT, "at": self.at, "known": self.known, "releases": self.releases}
        return json.dumps(content, separators=(",", ":")).encode()


class SliceRecorder:
    """Writes the slices of a service. One thread at a time uses it.

    Args:
        classify: Which requests are errors.
    """

    def __init__(self, classify: OutcomeClassifier) -> None:
        self._codec = SnapshotCodec()
        self._maker = SliceMaker(self._codec, classify)
        self._version: str | None = None
        self._forget()

    def _forget(self) -> None:
        self._open: dict[int, Slice] = {}
        self._due: set[tuple[int, int]] = set()

    def write(self, table: SliceTable, stream: Deltas, readings: Readings, now: float) -> bool:
        """Add what was published and the readings to the slices, and one coarser slice whose time is over.

        Args:
            table: The slices.
            stream: What the processes published. Nothing that the slices lack may be deleted from it: call this before
                the base of the stream is replaced.
            readings: What is not in it.
            now: Unix seconds.

        Returns:
            False: another process has written meanwhile, and this call had no effect.

        Raises:
            StoreError: The store failed. The next call does what this one did not.
        """
        position = table.position()
        before = WrittenUpTo.of(position)
        if position is None or position.version != self._version:
            self._forget()
            self._find_due(table, now)
        known = dict(before.known) if before is not None else {}
        deltas, _ = stream.read(known)
        measured = self._by_slot(deltas, before, now)
        for delta in deltas:
            known.pop(delta.writer, None)
            known[delta.writer] = delta.number
        rows = self._finest(table, measured, readings, before, now)
        rolled = self._rolled_up(table, now)
        after = WrittenUpTo(now, dict(list(known.items())[-_WRITERS:]), _with_release(before, readings.version, now))
        version, replaced = uuid4().hex, position.version if position is not None else ""
        self._version = None  # until it is known that this one was written
        if not table.advance(replaced, Position(version, after.encoded()), [*rows, *([rolled] if rolled else [])]):
            return False
        self._version = version
        self._written(rows, rolled)
        if FINEST.slot(now) % _PRUNE_EVERY == 0:
            self._prune(table, now)
        return True

    # The finest tier

    def _by_slot(self, deltas: Sequence[Delta], before: WrittenUpTo | None, now: float) -> dict[int, list[Slice]]:
        """What the deltas have, by slot: a delta lies where its middle is, a long one in several slots.

        It is long where the store was away, and its process kept what it measured meanwhile.
        """
        newest = FINEST.slot(now)
        oldest = (
            FINEST.slot(max(before.at - LATE_SECONDS, now - FINEST.kept + LATE_SECONDS))
            if before is not None
            else newest
        )
        parts: dict[int, list[EncodedSnapshot]] = {}
        found: dict[int, list[Slice]] = {}
        for delta in deltas:
            with readable("a delta of the measurements", reading):
                part = self._codec.decode(delta.content)
                end = float(part.note.get("at", now))
                number = min(_SHARES, max(1, round(part.seconds / FINEST.seconds)))
                middles = [end - part.seconds * (turn + 0.5) / number for turn in range(number)]
                slots = [min(newest, max(oldest, FINEST.slot(middle))) for middle in middles]
                if number == 1:
                    parts.setdefault(slots[0], []).append(part)
                    continue
                for slot, share in zip(slots, shares(self._maker.slice_of([part]), number), strict=True):
                    found.setdefault(slot, []).append(share)
        for slot, several in parts.items():
            found.setdefault(slot, []).append(self._maker.slice_of(several))
        return found

    def _finest(
        self,
        table: SliceTable,
        news: Mapping[int, Sequence[Slice]],
        readings: Readings,
        before: WrittenUpTo | None,
        now: float,
    ) -> list[SliceRow]:
        newest = FINEST.slot(now)
        first = newest
        if before is not None and 0 <= now - before.at <= _CONTINUOUS:
            first = FINEST.slot(before.at) + FINEST.seconds
        measured = range(min(first, newest), newest + 1, FINEST.seconds)
        gauges = {
            name: found for name, values in readings.gauges.items() if (found := GaugeFigures.of(values)) is not None
        }
        few = {name: gauges[name] for name in list(gauges)[:GAUGES_LIMIT]}
        rows = []
        for start in sorted({*measured, *news}):
            added = [*news.get(start, ()), *([Slice(gauges=few)] if start == newest else [])]
            whole = merged_slices([self._slice(table, start), *added])._replace(seconds=float(FINEST.seconds))
            self._open[start] = whole
            rows.append(_row(table, FINEST.seconds, start, whole))
        return rows

    def _slice(self, table: SliceTable, start: int) -> Slice:
        known = self._open.get(start)
        if known is None:
            known = merged_slices(decoded_slices(table.read(FINEST.seconds, start, start + 1, routes=True)))
        return known

    def _written(self, rows: Sequence[SliceRow], rolled: SliceRow | None) -> None:
        for start in sorted(self._open)[:-_OPEN]:
            del self._open[start]
        if rolled is not None:
            self._due.discard((rolled.tier, rolled.start))
        for row in (*rows, *([rolled] if rolled is not None else [])):
            self._add_due(row.tier, row.start)

    # The coarser tiers

    def _add_due(self, tier: int, start: int) -> None:
        coarser = _COARSER.get(tier)
        if coarser is not None:
            self._due.add((coarser.seconds, coarser.slot(start)))

    def _find_due(self, table: SliceTable, now: float) -> None:
        """The coarser slices that were not made yet, as when the process that wrote before has ended."""
        for finer, coarser in pairwise(TIERS):
            made = table.starts(coarser.seconds, 0, int(now) + 1)
            start = made[-1] + coarser.seconds if made else 0
            for found in table.starts(finer.seconds, start, int(now) + 1):
                self._add_due(finer.seconds, found)

    def _rolled_up(self, table: SliceTable, now: float) -> SliceRow | None:
        """One coarser slice whose slot is over, from the slices in it: the finest first, then the oldest."""
        for tier, start in sorted(self._due):
            if start + tier <= FINEST.slot(now):
                rows = table.read(_FINER[tier].seconds, start, start + tier, routes=True)
                if rows:
                    return _row(table, tier, start, merged_slices(decoded_slices(rows)))
                self._due.discard((tier, start))
        return None

    def _prune(self, table: SliceTable, now: float) -> None:
        """Delete slices that are too old, except those from which a coarser one has yet to be made."""
        for tier in TIERS:
            coarser = _COARSER.get(tier.seconds)
            due = [start for seconds, start in self._due if coarser is not None and seconds == coarser.seconds]
            table.prune(tier.seconds, min([int(now) - tier.kept, *due]), int(now) + _FUTURE)


def _with_release(before: WrittenUpTo | None, version: str | None, now: float) -> Sequence[tuple[float, str]]:
    releases = before.releases if before is not None else []
    if version is None or (releases and releases[-1][1] == version[:_VERSION_LENGTH]):
        return releases
    return [*releases, (now, version[:_VERSION_LENGTH])][-RELEASES_LIMIT:]


def _row(table: SliceTable, tier: int, start: int, content: Slice) -> SliceRow:
    routes = bounded_routes(content.routes, table.routes_limit)
    return SliceRow(tier, start, encoded_service(content), encoded_routes(routes))
