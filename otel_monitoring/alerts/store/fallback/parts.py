"""The parts of a `FallbackStore`: each asks the store in use, and some tell the memory what they learned."""

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol, TypeVar

from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, AlertType, ChannelResult
from otel_monitoring.alerts.mute import Mute
from otel_monitoring.alerts.store.fallback.outage import note_cleared, note_settled
from otel_monitoring.alerts.store.leases import LEADER
from otel_monitoring.alerts.store.memory import MemoryStore
from otel_monitoring.alerts.store.memory.state import MemoryState
from otel_monitoring.alerts.store.outbox import Queued
from otel_monitoring.alerts.store.protocol import Store
from otel_monitoring.alerts.store.reports import Published
from otel_monitoring.alerts.store.texts import Texts
from otel_monitoring.errors import StoreError
from otel_monitoring.metrics.slices.table import Position, SliceRow
from otel_monitoring.metrics.stream import Base, Delta

T = TypeVar("T")

_LATELY_LIMIT = 200
"""The most deltas that are remembered: more than there are between two readings of the processes."""
_LATELY_BYTES_LIMIT = 1_000_000
"""The most bytes of these."""
_WAITING_LIMIT = 4_000_000
"""The most bytes of a process's deltas that wait in the file."""


class Chooser(Protocol):
    """What the parts use of the `FallbackStore`."""

    primary: Store
    learned: MemoryStore
    held_until: dict[str, float]
    record: str

    @property
    def shared_meanwhile(self) -> str | None:
        """Why the processes of a host share the secondary at present; None: they share the primary, or nothing."""

    def do(self, work: Callable[[Store], T], learn: Callable[[T], object] | None = None) -> T:
        """Run `work` on the store in use, and return its result."""

    def do_shared(self, work: Callable[[Store], T], learn: Callable[[T], object] | None = None) -> T:
        """Run `work` on the store in use, and return its result; on the primary, if other processes share no other."""

    def do_on_primary(self, work: Callable[[Store], T]) -> T:
        """Run `work` on the primary, and return its result."""

    def forward(self) -> None:
        """Add to the primary what other processes have measured that use the secondary still, if several share it."""


class FallbackHistory:
    """An `AlertHistory` of the store in use."""

    def __init__(self, stores: Chooser) -> None:
        self._stores = stores

    def append(self, event: AlertEvent) -> None:
        self._stores.do(lambda store: store.history.append(event))

    def events(
        self, *, limit: int, alert_type: AlertType | None = None, severity: AlertSeverity | None = None
    ) -> Sequence[AlertEvent]:
        return self._stores.do(
            lambda store: store.history.events(limit=limit, alert_type=alert_type, severity=severity)
        )

    def counts(self) -> dict[AlertType, int]:
        return self._stores.do(lambda store: store.history.counts())

    def clear(self) -> None:
        def work(store: Store) -> None:
            store.history.clear()
            if store is not self._stores.primary:
                note_cleared(store, self._stores.record, history=True)

        self._stores.do(work)


class FallbackOutbox:
    """An `Outbox` of the store in use."""

    def __init__(self, stores: Chooser) -> None:
        self._stores = stores

    def enqueue(self, events: Sequence[AlertEvent], channels: Collection[str], now: float) -> None:
        self._stores.do(lambda store: store.outbox.enqueue(events, channels, now))

    def restore(self, rows: Collection[Queued]) -> None:
        self._stores.do(lambda store: store.outbox.restore(rows))

    def pending(self, channel: str, limit: int) -> Sequence[Queued]:
        return self._stores.do(lambda store: store.outbox.pending(channel, limit))

    def waiting(self) -> frozenset[str]:
        return self._stores.do(lambda store: store.outbox.waiting())

    def backlog(self) -> dict[str, int]:
        return self._stores.do(lambda store: store.outbox.backlog())

    def tried(self, ids: Collection[int], attempts: int = 1) -> None:
        self._stores.do(lambda store: store.outbox.tried(ids, attempts))

    def note(self, ids: Collection[int], result: ChannelResult) -> None:
        self._stores.do(lambda store: store.outbox.note(ids, result))

    def settle(self, ids: Collection[int], result: ChannelResult | None = None) -> None:
        def work(store: Store) -> None:
            store.outbox.settle(ids, result)
            self._note_settled(store, ids)

        self._stores.do(work)

    def arrived(self, rows: Sequence[Queued], result: ChannelResult) -> None:
        def work(store: Store) -> None:
            store.outbox.arrived(rows, result)
            self._note_settled(store, [row.id for row in rows])

        self._stores.do(work)

    def _note_settled(self, store: Store, ids: Collection[int]) -> None:
        if store is not self._stores.primary:
            note_settled(store, self._stores.record, ids)


class FallbackMutes:
    """`Mutes` of the store in use."""

    def __init__(self, stores: Chooser) -> None:
        self._stores = stores

    def add(self, mute: Mute) -> None:
        self._stores.do(lambda store: store.mutes.add(mute), lambda _: self._stores.learned.mutes.add(mute))

    def remove(self, mute: Mute) -> bool:
        return self._stores.do(
            lambda store: store.mutes.remove(mute), lambda _: self._stores.learned.mutes.remove(mute)
        )

    def all(self, now: float) -> list[Mute]:
        def learn(mutes: list[Mute]) -> None:
            self._stores.learned.state.mutes = list(mutes)

        return self._stores.do(lambda store: store.mutes.all(now), learn)


class FallbackNotes:
    """`Notes` of the store in use."""

    def __init__(self, stores: Chooser) -> None:
        self._stores = stores

    def noted_at(self, key: str) -> float | None:
        return self._stores.do(lambda store: store.notes.noted_at(key))

    def note(self, key: str, now: float) -> None:
        self._stores.do(lambda store: store.notes.note(key, now), lambda _: self._stores.learned.notes.note(key, now))

    def clear(self) -> None:
        def work(store: Store) -> None:
            store.notes.clear()
            if store is not self._stores.primary:
                note_cleared(store, self._stores.record, notes=True)

        self._stores.do(work, lambda _: self._stores.learned.notes.clear())

    def all(self) -> dict[str, float]:
        return self._stores.do(lambda store: store.notes.all())


class FallbackTexts:
    """`Texts` of the store in use.

    Args:
        stores: The stores.
        part: The part of a store that they are.
        texts: The texts in the state of the memory.
    """

    def __init__(
        self, stores: Chooser, part: Callable[[Store], Texts], texts: Callable[[MemoryState], dict[str, str]]
    ) -> None:
        self._stores = stores
        self._part = part
        self._texts = texts

    def saved(self) -> dict[str, str]:
        def learn(states: dict[str, str]) -> None:
            known = self._texts(self._stores.learned.state)
            known.clear()
            known.update(states)

        return self._stores.do(lambda store: self._part(store).saved(), learn)

    def save(self, states: Mapping[str, str | None]) -> None:
        self._stores.do(
            lambda store: self._part(store).save(states), lambda _: self._part(self._stores.learned).save(states)
        )


class FallbackLeases:
    """`Leases` of the store in use."""

    def __init__(self, stores: Chooser) -> None:
        self._stores = stores

    def lead(self, worker: str, now: float, until: float, leases: Collection[str] = (LEADER,)) -> frozenset[str]:
        def learn(granted: frozenset[str]) -> None:
            self._stores.held_until.update({name: until if name in granted else float("-inf") for name in leases})

        return self._stores.do(lambda store: store.leases.lead(worker, now, until, leases), learn)

    def holders(self, now: float, within: float = 0.0) -> dict[str, str]:
        return self._stores.do(lambda store: store.leases.holders(now, within))

    def resign(self, worker: str) -> None:
        self._stores.do(lambda store: store.leases.resign(worker), lambda _: self._stores.held_until.clear())


class FallbackReports:
    """`Reports` of the store in use."""

    def __init__(self, stores: Chooser) -> None:
        self._stores = stores

    def publish(self, worker: str, report: bytes, now: float, *, urgent: bool = False) -> None:
        self._stores.do(lambda store: store.reports.publish(worker, report, now, urgent=urgent))

    def published(self, now: float) -> dict[str, Published]:
        return self._stores.do(lambda store: store.reports.published(now))

    def urgent_since(self, since: float) -> bool:
        return self._stores.do(lambda store: store.reports.urgent_since(since))

    def delete(self, worker: str) -> None:
        self._stores.do(lambda store: store.reports.delete(worker))


class FallbackConditions:
    """`Conditions` of the store in use."""

    def __init__(self, stores: Chooser) -> None:
        self._stores = stores

    def save(self, channel: str, condition: str) -> None:
        self._stores.do(
            lambda store: store.conditions.save(channel, condition),
            lambda _: self._stores.learned.conditions.save(channel, condition),
        )

    def saved(self) -> dict[str, str]:
        saved = self._stores.do(lambda store: store.conditions.saved())
        return {name: text for name, text in saved.items() if not name.startswith(self._stores.record)}


class FallbackMeasurements:
    """A `MeasurementStream` of the primary, and while that fails of the file that the processes of a host share.

    A delta is the same in both by its writer and number. An outage begins with what was added to the primary or read
    from it lately, because each process has read something else. It ends with adding to the primary what the file has,
    which stays there until the next one: others of the host may not have read it yet. A process that has the primary
    adds it before each reading, so that it shows no less than one that has not. Where memory is used while the primary
    fails, this fails, too: the process keeps what it measured.

    Attributes:
        known: By process, the number of its last delta that this one knew when it read last.
    """

    def __init__(self, stores: Chooser) -> None:
        self._stores = stores
        self.known: Mapping[str, int] = {}
        self._lately: deque[Delta] = deque()
        self._lately_bytes = self._waiting_bytes = 0

    @property
    def lately(self) -> Sequence[Delta]:
        """What was added to the primary, or read from it, last."""
        return tuple(self._lately)

    @property
    def problem(self) -> str | None:
        return self._stores.shared_meanwhile

    def add(self, *deltas: Delta) -> None:
        def work(store: Store) -> None:
            if store is not self._stores.primary:
                self._waiting_bytes += sum(len(delta.content) for delta in deltas)
            store.measurements.add(*deltas)

        if (problem := self._stores.shared_meanwhile) is not None and self._waiting_bytes >= _WAITING_LIMIT:
            raise StoreError(f"{problem}; {_WAITING_LIMIT // 1_000_000} MB of measurements wait for it")
        self._stores.do_shared(work, lambda _: self.learn(deltas))

    def read(self, known: Mapping[str, int]) -> tuple[Sequence[Delta], str]:
        def work(store: Store) -> tuple[Sequence[Delta], str]:
            self.known = known
            if store is self._stores.primary:
                # Another process of this host may be without the primary: what it has shown is only in the file.
                self._stores.forward()
            return store.measurements.read(known)

        return self._stores.do_shared(work, lambda result: self.learn(result[0]))

    def base(self) -> Base | None:
        return self._stores.do_shared(lambda store: store.measurements.base())

    def replace_base(self, before: str, version: str, content: bytes, deleted: Mapping[str, int]) -> bool:
        def work(store: Store) -> bool:
            if store is self._stores.primary:
                return store.measurements.replace_base(before, version, content, deleted)
            return store.measurements.replace_base(before, version, content, {})

        return self._stores.do_shared(work)

    def clear(self) -> None:
        self._stores.do_shared(lambda store: store.measurements.clear())

    def learn(self, deltas: Sequence[Delta]) -> None:
        """Remember that the primary has these."""
        self._waiting_bytes = 0
        self._lately.extend(deltas)
        self._lately_bytes += sum(len(delta.content) for delta in deltas)
        while len(self._lately) > _LATELY_LIMIT or self._lately_bytes > _LATELY_BYTES_LIMIT:
            self._lately_bytes -= len(self._lately.popleft().content)


class FallbackSlices:
    """A `SliceTable` of the primary; while that fails, so does this: slices are made of measurements, which wait."""

    def __init__(self, stores: Chooser) -> None:
        self._stores = stores

    @property
    def routes_limit(self) -> int:
        return self._stores.primary.slices.routes_limit

    def position(self) -> Position | None:
        return self._stores.do_on_primary(lambda store: store.slices.position())

    def advance(self, before: str, position: Position, rows: Sequence[SliceRow]) -> bool:
        return self._stores.do_on_primary(lambda store: store.slices.advance(before, position, rows))

    def read(self, tier: int, start: int, end: int, *, routes: bool = False) -> Sequence[SliceRow]:
        return self._stores.do_on_primary(lambda store: store.slices.read(tier, start, end, routes=routes))

    def starts(self, tier: int, start: int, end: int) -> Sequence[int]:
        return self._stores.do_on_primary(lambda store: store.slices.starts(tier, start, end))

    def prune(self, tier: int, start: int, end: int) -> None:
        self._stores.do_on_primary(lambda store: store.slices.prune(tier, start, end))
