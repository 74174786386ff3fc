"""An outage of a store: how it begins in the store that is used meanwhile, and how both are merged afterwards."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar
from zlib import crc32

from otel_monitoring.alerts.model import AlertEvent, DeliveryState
from otel_monitoring.alerts.mute import Mute
from otel_monitoring.alerts.store.history import HISTORY_LIMIT
from otel_monitoring.alerts.store.memory.state import MemoryState
from otel_monitoring.alerts.store.outbox import OUTBOX_LIMIT, Queued
from otel_monitoring.alerts.store.protocol import Store
from otel_monitoring.alerts.store.serialization import decoded_mute, encoded_mute
from otel_monitoring.alerts.store.texts import BESIDE
from otel_monitoring.metrics.stream import Delta

T = TypeVar("T")

RECORD = "\x00outage:"
"""The beginning of the key of the record: it is saved among the conditions, which nothing clears, like no channel."""

_CLOCK = " clock"
"""Follows the key of the record in that of the clock offset."""
_SETTLED_LIMIT = 10_000


class Outage(NamedTuple):
    """The record of an outage, saved in the store that is used meanwhile, which several processes may share.

    Attributes:
        key: The key of the record, which begins with `RECORD`.
        incidents: The states of alerts as they were known when the outage began.
        acknowledgements: Who has acknowledged which alert, likewise.
        conditions: The conditions of channels likewise.
        mutes: The mutes likewise.
        measured: By process, the number of its last delta of measurements that the store that is away has.
        settled: The ids of events that wait in the store that is away, if they are not settled there by now, and are
            delivered from here, or were settled here.
        history_cleared: Whether the history was cleared meanwhile.
        notes_cleared: Whether the notes were cleared meanwhile.
        number: That of the state which was known when the outage began; another process may know a newer one.
        clock_offset: The clock offset by which times in the store are, if nobody could ask for it; None: the true one.
    """

    key: str
    incidents: Mapping[str, str] = {}
    acknowledgements: Mapping[str, str] = {}
    conditions: Mapping[str, str] = {}
    mutes: tuple[Mute, ...] = ()
    measured: Mapping[str, int] = {}
    settled: tuple[int, ...] = ()
    history_cleared: bool = False
    notes_cleared: bool = False
    number: int = 0
    clock_offset: float | None = None

    @staticmethod
    def of(store: Store, key: str) -> "Outage | None":
        """The record in `store`; None: it is not in use."""
        text = store.conditions.saved().get(key)
        if not text:
            return None
        try:
            found = json.loads(text)
            mutes, settled = tuple(map(decoded_mute, found["mutes"])), tuple(found["settled"])
            return Outage(key, **{**found, "mutes": mutes, "settled": settled})
        except (ValueError, TypeError, LookupError):
            return Outage(key)

    @property
    def settled_set(self) -> frozenset[int]:
        """`settled`, to look up ids."""
        return frozenset(self.settled)

    def save(self, store: Store) -> None:
        """Save the record in `store`."""
        record = {name: value for name, value in self._asdict().items() if name != "key"}
        store.conditions.save(self.key, json.dumps({**record, "mutes": [encoded_mute(mute) for mute in self.mutes]}))


def save_clock_offset(store: Store, key: str, offset: float) -> None:
    """Save in `store` how far the clock of the other one is ahead of this host's, for processes that cannot ask it."""
    if saved_clock_offset(store, key) != offset:
        store.conditions.save(key + _CLOCK, json.dumps(offset))


def saved_clock_offset(store: Store, key: str) -> float:
    """The last clock offset that a process of this host has saved in `store`, in seconds; 0: none has."""
    text = store.conditions.saved().get(key + _CLOCK)
    return float(json.loads(text)) if text else 0.0


def note_cleared(store: Store, key: str, *, history: bool = False, notes: bool = False) -> None:
    """Note in the record of the outage, if `store` has one, that its history or its notes were cleared."""
    record = Outage.of(store, key)
    if record is not None:
        record._replace(
            history_cleared=record.history_cleared or history,
            notes_cleared=record.notes_cleared or notes,
        ).save(store)


def note_settled(store: Store, key: str, ids: Collection[int]) -> None:
    """Note in the record of the outage that these events are settled: their delivery may have begun before it."""
    record = Outage.of(store, key)
    if record is not None and not record.settled_set.issuperset(ids):
        settled = (*record.settled, *ids)
        record._replace(settled=settled[-_SETTLED_LIMIT:]).save(store)


def begin(store: Store, record: Outage, known: MemoryState, read: Mapping[str, int], now: float) -> None:
    """Fill `store`, inside a transaction, with what is known of the one that is away.

    Args:
        store: The store.
        record: The record of the outage, without what is known.
        known: What is known of the other store.
        read: By process, the number of its last delta of measurements that this process had read there. What another
            process added to `store` in an outage before, and has merged since, is kept if it was not read.
        now: Unix seconds.
    """
    store.history.clear()
    for event in known.history:
        store.history.append(known.with_results(event))
    for mute in store.mutes.all(now):
        store.mutes.remove(mute)
    for mute in known.mutes:
        store.mutes.add(mute)
    for noted, at in known.notes.items():
        if (store.notes.noted_at(noted) or float("-inf")) < at:
            store.notes.note(noted, at)
    store.incidents.save({**dict.fromkeys(store.incidents.saved()), **known.incidents})
    store.acknowledgements.save({**dict.fromkeys(store.acknowledgements.saved()), **known.acknowledgements})
    for channel, condition in known.conditions.items():
        store.conditions.save(channel, condition)
    unread = [delta for delta in store.measurements.read(read)[0] if delta.writer in read]
    store.measurements.clear()
    store.measurements.add(*unread)
    _began_with(record, known).save(store)


def _began_with(record: Outage, known: MemoryState) -> Outage:
    return record._replace(
        incidents=known.incidents,
        acknowledgements=known.acknowledgements,
        conditions=known.conditions,
        mutes=tuple(known.mutes),
        number=known.number,
    )


def catch_up(store: Store, key: str, known: MemoryState, now: float) -> None:
    """Add to `store`, inside a transaction, what this process knows and the one that began the outage did not.

    Args:
        store: The store.
        key: The key of the record of the outage.
        known: What this process knows of the store that is away.
        now: Unix seconds.
    """
    record = Outage.of(store, key)
    if record is None or known.number <= record.number:
        return
    recorded = {event.identity for event in store.history.events(limit=HISTORY_LIMIT)}
    for event in known.history if not record.history_cleared else ():
        if event.identity not in recorded:
            store.history.append(known.with_results(event))
    _merge_values(store, record, known, {} if record.notes_cleared else known.notes, now)
    _began_with(record, known).save(store)


def keep_leases(store: Store, known: MemoryState) -> None:
    """Keep in `store`, inside a transaction, who leads and who delivers by a channel, until the leases are over.

    Their holders may be of this host, and go on: who leads knows more, and who delivers would not be alone.
    """
    for lease, row in known.leases.items():
        store.leases.lead(row.worker, row.taken, row.until, (lease,))


def begin_again(store: Store, key: str, known: MemoryState, now: float) -> None:
    """Go on in `store`, inside a transaction, from where an outage ended that another process has merged.

    It is newer than what this process knows of the store that is away. What was measured is in both.
    """
    waiting, _ = store.measurements.read({})
    saved = {name: text for name, text in store.conditions.saved().items() if not name.startswith(RECORD)}
    mutes = tuple(store.mutes.all(now))
    measured = {delta.writer: delta.number for delta in waiting}
    Outage(
        key, store.incidents.saved(), store.acknowledgements.saved(), saved, mutes, measured, number=known.number
    ).save(store)


def take_over(store: Store, key: str, known: MemoryState, channels: Collection[str]) -> None:
    """Deliver from `store`, inside a transaction, what waits for these channels in the one that is away."""
    rows = [row for row in known.outbox.values() if row.channel in channels]
    record = Outage.of(store, key)
    if rows and record is not None:
        store.outbox.restore(rows)
        record._replace(settled=(*record.settled, *(row.id for row in rows))).save(store)


def continue_measurements(store: Store, key: str, lately: Sequence[Delta]) -> None:
    """Go on in `store`, inside a transaction, from what this process has added to the other or read there lately."""
    record = Outage.of(store, key)
    if lately and record is not None:
        store.measurements.add(*lately)
        newest = dict(record.measured)
        for delta in lately:
            newest[delta.writer] = max(delta.number, newest.get(delta.writer, 0))
        record._replace(measured=newest).save(store)


def forward_measurements(to: Store, store: Store, key: str, forwarded: Mapping[str, int]) -> Sequence[Delta]:
    """Add to a store what the processes measured that use `store`; what it has already stays as it is.

    Args:
        to: The store.
        store: The store that is used meanwhile.
        key: The key of the record of the outage.
        forwarded: By process, the number of its last delta that was forwarded before.

    Returns:
        What was not forwarded before.
    """
    record = Outage.of(store, key)
    if record is None:
        return ()
    known = Counter(record.measured) | Counter(forwarded)  # of each process, the larger number
    waiting, _ = store.measurements.read(known)
    if waiting:
        present = {delta[:2] for delta in to.measurements.read(known)[0]}
        to.measurements.add(*[delta for delta in waiting if delta[:2] not in present])
    return waiting


def end(store: Store, meanwhile: "Meanwhile") -> None:
    """Leave `store`, inside a transaction, as one whose events and reports have moved.

    The rest is known until the next outage, which is to evaluate no report of this one.
    """
    store.outbox.settle(list(meanwhile.state.outbox))
    for worker in meanwhile.reports:
        store.reports.delete(worker)
    store.conditions.save(meanwhile.record.key, "")


class Meanwhile(NamedTuple):
    """What `merge` adds to the store that has returned.

    Attributes:
        record: The record of the outage.
        state: The state of the store that was used meanwhile.
        notes: Its notes.
        reports: The reports that workers published there.
        now: Unix seconds.
    """

    record: Outage
    state: MemoryState
    notes: Mapping[str, float]
    reports: Mapping[str, bytes]
    now: float

    @staticmethod
    def read(store: Store, key: str, clock: float, clock_offset: float) -> "Meanwhile | None":
        """Read `store`, inside a transaction; None: nothing happened there.

        Events may wait there without an outage: before the setting of the store was changed, it was the only one.

        Args:
            store: The store.
            key: The key of the record of the outage.
            clock: This host's time, in Unix seconds.
            clock_offset: How far the clock of the store that has returned is ahead of it, in seconds.
        """
        record, now = Outage.of(store, key), clock + clock_offset
        waiting = {row.id: row for row in _waiting(store)}
        if record is None:
            return Meanwhile(Outage(key), MemoryState(outbox=waiting), {}, {}, now) if waiting else None
        late = clock_offset - record.clock_offset if record.clock_offset is not None else 0.0
        mutes = [
            mute if mute.schedule else replace(mute, until=mute.until + late) for mute in store.mutes.all(now - late)
        ]
        state = MemoryState(mutes=mutes, incidents=store.incidents.saved())
        state.acknowledgements = store.acknowledgements.saved()
        state.conditions = {name: text for name, text in store.conditions.saved().items() if not name.startswith(key)}
        state.history.extend(reversed(store.history.events(limit=HISTORY_LIMIT)))
        state.outbox = waiting
        notes = {noted: at + late for noted, at in store.notes.all().items()}
        return Meanwhile(record, state, notes, _reports(store), now)


def merge(store: Store, meanwhile: Meanwhile) -> None:
    """Add to `store`, inside a transaction, what was done meanwhile, and keep what other workers did there.

    The history gets what it has not, by the events' identity; the outbox what waits, without what was delivered on the
    other side. A worker's report from before the outage gives way to its last one. Of everything else the side counts
    that has changed it since the outage began; if both have, what is there stays, but of a mute the later end, and of a
    note the later time. The state of an alert stays beside that: each side may have told an incident of its own.

    Args:
        store: The store that has returned.
        meanwhile: What the other store has now.
    """
    ours, record = meanwhile.state, meanwhile.record
    if record.history_cleared:
        store.history.clear()
    recorded = {event.identity: event for event in store.history.events(limit=HISTORY_LIMIT)}
    _merge_outbox(store, meanwhile, recorded)
    known = {(event.identity, event.message) for event in recorded.values()}
    for event in ours.history:
        if (event.identity, event.message) not in known:
            store.history.append(event)
    if record.notes_cleared:
        store.notes.clear()
    for worker, report in meanwhile.reports.items():
        store.reports.publish(worker, report, meanwhile.now)
    store.incidents.save(_beside(record.incidents, ours.incidents, store.incidents.saved()))
    _merge_values(store, record, ours, meanwhile.notes, meanwhile.now)


def _merge_values(store: Store, record: Outage, ours: MemoryState, notes: Mapping[str, float], now: float) -> None:
    noted = store.notes.all()
    for key, at in notes.items():
        if noted.get(key, float("-inf")) < at:
            store.notes.note(key, at)
    _merge_mutes(store, record.mutes, ours.mutes, now)
    for before, after, part in (
        (record.incidents, ours.incidents, store.incidents),
        (record.acknowledgements, ours.acknowledgements, store.acknowledgements),
    ):
        part.save(dict(_changed(before, after, part.saved())))
    for channel, condition in _changed(record.conditions, ours.conditions, store.conditions.saved()):
        if condition is not None:
            store.conditions.save(channel, condition)


def _merge_outbox(store: Store, meanwhile: Meanwhile, recorded: Mapping[str, AlertEvent]) -> None:
    here, there, settled = _waiting(store), meanwhile.state.outbox, meanwhile.record.settled_set
    results = {event.identity: event.channels for event in meanwhile.state.history}
    for row in here:
        result = results.get(row.event.identity, {}).get(row.channel)
        if row.id in there:
            if result is not None and result.state is DeliveryState.RETRYING:
                store.outbox.note([row.id], result)
            if (tried := there[row.id].attempts - row.attempts) > 0:
                store.outbox.tried([row.id], tried)
        elif row.id in settled or (result is not None and result.state.final):
            store.outbox.settle([row.id], result)
    # A transaction whose outcome was unknown may have taken effect on both sides.
    present = {(row.event.identity, row.channel) for row in here if row.event.identity in recorded}
    done = {
        (identity, channel)
        for identity, event in recorded.items()
        for channel, result in event.channels.items()
        if result.state.final
    }
    store.outbox.restore(
        [
            row
            for row in there.values()
            if row.id not in settled and (row.event.identity, row.channel) not in present | done
        ]
    )


def _merge_mutes(store: Store, known: Iterable[Mute], ours: Iterable[Mute], now: float) -> None:
    before, after, here = ({mute.key: mute for mute in mutes} for mutes in (known, ours, store.mutes.all(now)))
    for key in before.keys() | after.keys():
        mute, other = after.get(key), here.get(key)
        if mute == before.get(key):
            continue
        if mute is None:
            if other is not None and other == before[key]:
                store.mutes.remove(other)
        elif other is None or other == before.get(key) or other.until < mute.until:
            store.mutes.add(mute)


def _changed(before: Mapping[str, T], after: Mapping[str, T], here: Mapping[str, T]) -> Iterator[tuple[str, T | None]]:
    """What has changed from `before` to `after` and is `here` as it was before; None: it was removed."""
    for key in before.keys() | after.keys():
        if after.get(key) != before.get(key) and here.get(key) == before.get(key):
            yield key, after.get(key)


def _beside(before: Mapping[str, str], after: Mapping[str, str], here: Mapping[str, str]) -> dict[str, str]:
    """What both sides have changed in ways of their own, by further keys: what each has told is over for each."""
    return {
        f"{key}{BESIDE}{crc32(text.encode()):08x}": text
        for key, text in after.items()
        if BESIDE not in key and here.get(key, text) != text and before.get(key) not in (text, here[key])
    }


def _reports(store: Store) -> dict[str, bytes]:
    return {worker: report for worker, (_, report) in store.reports.published(float("inf")).items()}


def _waiting(store: Store) -> list[Queued]:
    return [row for channel in store.outbox.backlog() for row in store.outbox.pending(channel, OUTBOX_LIMIT)]
