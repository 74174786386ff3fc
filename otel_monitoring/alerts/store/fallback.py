"""`FallbackStore`: uses another store, and memory while that one fails."""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, AlertType, ChannelResult, Mute
from otel_monitoring.alerts.store.memory import MemoryState, MemoryStore
from otel_monitoring.alerts.store.protocol import HISTORY_LIMIT, LEADER, OUTBOX_LIMIT, Queued, Store, lease_of
from otel_monitoring.alerts.store.replay import replay
from otel_monitoring.errors import StoreError
from otel_monitoring.forks import renewed
from otel_monitoring.guard import fail_open, logger

T = TypeVar("T")

RETRY_SECONDS = 10.0
"""Seconds from a failure of the primary store to the next attempt to use it."""

_WARN_EVERY_SECONDS = 60.0
_NEW_IDS_LIMIT = 10_000
_FIRST_ID = 1 << 60
"""The first id of events that are enqueued in memory: larger than every id in a store."""


class FallbackStore:
    """A `Store` that uses a primary store, and memory while the primary fails: nothing is raised, nothing is lost.

    While the primary is down, each process continues alone with the state that it last knew. It holds every lease, so
    an alert may be sent by several workers, but not by none. Events that waited when the primary failed are delivered
    from memory by the worker that held the lease of their channel. When the primary works again, everything that was
    done meanwhile is replayed there.

    Args:
        primary: The store to use. It raises `StoreError` only.
        clock: Returns Unix time in seconds.
        retry: Seconds from a failure to the next attempt.

    Attributes:
        primary: The store to use.
    """

    def __init__(self, primary: Store, *, clock: Callable[[], float] = time.time, retry: float = RETRY_SECONDS) -> None:
        self.primary = primary
        self._clock = clock
        self._retry = retry
        self._fallback = MemoryStore(first_id=_FIRST_ID)
        self._before = MemoryState()
        """The known state of the primary when it failed."""
        self._lock = renewed(self, "_lock", threading.RLock)
        self._thread = renewed(self, "_thread", _ThreadTransaction)
        self._problem: str | None = None
        self._tried_at = float("-inf")
        self._warned_at = float("-inf")
        self._held_until: dict[str, float] = {}
        self._held_at_failure: frozenset[str] = frozenset()
        self._new_ids: dict[int, int] = {}
        """The ids in the primary of events that were enqueued in memory, by their ids in memory."""

    @property
    def problem(self) -> str | None:
        return self._problem or self.primary.problem

    def run(self, work: Callable[[Store], T]) -> T:
        try:
            with self.exclusive():
                return work(self)
        except StoreError as error:
            with self._lock:
                self._fall_back(error)
                with self._transaction(self._fallback):
                    return work(self)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """As in the protocol. A failure inside raises `StoreError`; the next transaction then uses memory."""
        try:
            with ExitStack() as stack:
                self._enter(stack)
                yield
        except StoreError as error:
            with self._lock:
                self._fall_back(error)
            raise

    def close(self) -> None:
        with self._lock, suppress(StoreError):
            self._tried_at = float("-inf")
            if not self._primary_works():
                self._log_losses()
            self.primary.close()

    def _log_losses(self) -> None:
        before, after = self._before, self._fallback.state
        alerts, undelivered = after.appended - before.appended, len(after.outbox.keys() - before.outbox.keys())
        if alerts or undelivered:
            logger.error(
                "alert store: closed while it does not work (%s): "
                "%d alerts of its history and %d that were not delivered are lost",
                self._problem,
                alerts,
                undelivered,
            )

    # Which store

    def _do(self, work: Callable[[Store], T], learn: Callable[[T], object] | None = None) -> T:
        """Run `work` on the store in use, and return its result.

        Args:
            work: What to do.
            learn: Gets the result where it comes from the primary, after the transaction was committed.
        """
        if (store := self._thread.store) is not None:
            result = work(store)
            if learn is not None and store is self.primary:
                self._thread.learned.append(partial(learn, result))
            return result
        if self._problem is not None:
            with self._lock:
                if not self._primary_works():
                    return work(self._fallback)
        try:
            result = work(self.primary)
        except StoreError as error:
            with self._lock:
                self._fall_back(error)
                return work(self._fallback)
        if learn is not None:
            self._learn([partial(learn, result)])
        return result

    def _enter(self, stack: ExitStack) -> None:
        if self._problem is not None:
            stack.enter_context(self._lock)
            if not self._primary_works():
                stack.enter_context(self._transaction(self._fallback))
                return
        try:
            stack.enter_context(self._transaction(self.primary))
        except StoreError as error:
            stack.enter_context(self._lock)
            self._fall_back(error)
            stack.enter_context(self._transaction(self._fallback))

    @contextmanager
    def _transaction(self, store: Store) -> Iterator[None]:
        """A transaction of `store`, which this thread uses inside."""
        learned: list[Callable[[], object]] = []
        with store.exclusive():
            self._thread.store, self._thread.learned = store, learned
            try:
                yield
            finally:
                self._thread.store = None
        self._learn(learned)

    def _learn(self, learned: list[Callable[[], object]]) -> None:
        with self._lock:
            if self._problem is None:
                for note in learned:
                    note()

    def _fall_back(self, error: StoreError) -> None:
        now = self._clock()
        self._tried_at = now
        fail_open.failures["alert store"] += 1
        if self._problem is None:
            self._load_known_state(now)
            if not 0 <= now - self._warned_at < _WARN_EVERY_SECONDS:
                self._warned_at = now
                logger.warning("alert store: %s; this process goes on in memory until it works again", str(error))
        self._problem = str(error)

    def _load_known_state(self, now: float) -> None:
        """Read the state of the primary: when it cannot be written, e.g. on a full disk, it often can be read."""
        state = self._fallback.state
        self._held_at_failure = frozenset(name for name, until in self._held_until.items() if until > now)
        with suppress(StoreError):
            state.states = self.primary.states()
            waiting = [row for name in self.primary.backlog() for row in self.primary.pending(name, OUTBOX_LIMIT)]
            state.outbox = {row.id: row for row in waiting}
            for event in reversed(self.primary.events(limit=HISTORY_LIMIT)):
                state.add_to_history(event)
            state.counts.update(self.primary.counts())
            state.mutes = self.primary.mutes(now)
            state.conditions = self.primary.descriptions()
        self._before = state.copy()

    def _primary_works(self) -> bool:
        """Whether the primary is in use; after `retry` seconds it is tried again, and the changes are replayed."""
        now = self._clock()
        if self._problem is None or 0 <= now - self._tried_at < self._retry:
            return self._problem is None
        self._tried_at = now
        after = self._fallback.state
        try:
            new_ids = self.primary.run(lambda store: replay(store, self._before, after, now))
        except StoreError as error:
            self._problem = str(error)
            return False
        self._new_ids = dict([*self._new_ids.items(), *new_ids.items()][-_NEW_IDS_LIMIT:])
        self._fallback.state = MemoryState(
            next_id=after.next_id, mutes=after.mutes, notified=after.notified, states=after.states
        )
        self._problem = None
        logger.info("alert store: works again")
        return True

    def _ids_in(self, store: Store, ids: Collection[int]) -> Collection[int]:
        """The ids in `store` of events whose ids a caller may know from memory."""
        if store is self._fallback or not self._new_ids:
            return ids
        return [self._new_ids.get(number, number) for number in ids]

    # History

    def append(self, event: AlertEvent) -> None:
        self._do(lambda store: store.append(event))

    def events(
        self, *, limit: int, alert_type: AlertType | None = None, severity: AlertSeverity | None = None
    ) -> Sequence[AlertEvent]:
        return self._do(lambda store: store.events(limit=limit, alert_type=alert_type, severity=severity))

    def counts(self) -> dict[AlertType, int]:
        return self._do(lambda store: store.counts())

    def clear(self) -> None:
        self._do(lambda store: store.clear(), lambda _: self._fallback.clear())

    # Mutes, and notes about notifications

    def mute(self, mute: Mute) -> None:
        self._do(lambda store: store.mute(mute), lambda _: self._fallback.mute(mute))

    def unmute(self, alert_type: AlertType, labels: Mapping[str, str] | None = None) -> int:
        return self._do(
            lambda store: store.unmute(alert_type, labels), lambda _: self._fallback.unmute(alert_type, labels)
        )

    def mutes(self, now: float) -> list[Mute]:
        def learn(mutes: list[Mute]) -> None:
            self._fallback.state.mutes = list(mutes)

        return self._do(lambda store: store.mutes(now), learn)

    def notified_at(self, key: str) -> float | None:
        return self._do(lambda store: store.notified_at(key))

    def note_notified(self, key: str, now: float) -> None:
        self._do(lambda store: store.note_notified(key, now), lambda _: self._fallback.note_notified(key, now))

    # The states of alerts

    def states(self) -> dict[str, str]:
        def learn(states: dict[str, str]) -> None:
            self._fallback.state.states = dict(states)

        return self._do(lambda store: store.states(), learn)

    def save_states(self, states: Mapping[str, str | None]) -> None:
        self._do(lambda store: store.save_states(states), lambda _: self._fallback.save_states(states))

    # The outbox

    def enqueue(self, event: AlertEvent, channels: Collection[str], now: float) -> None:
        self.enqueue_all([event], channels, now)

    def enqueue_all(self, events: Sequence[AlertEvent], channels: Collection[str], now: float) -> None:
        self._do(lambda store: store.enqueue_all(events, channels, now))

    def pending(self, channel: str, limit: int) -> Sequence[Queued]:
        def work(store: Store) -> Sequence[Queued]:
            if store is not self._fallback or lease_of(channel) in self._held_at_failure:
                return store.pending(channel, limit)
            return [row for row in store.pending(channel, OUTBOX_LIMIT) if row.id >= _FIRST_ID][:limit]

        return self._do(work)

    def backlog(self) -> dict[str, int]:
        return self._do(lambda store: store.backlog())

    def tried(self, ids: Collection[int]) -> None:
        self._do(lambda store: store.tried(self._ids_in(store, ids)))

    def note(self, ids: Collection[int], result: ChannelResult) -> None:
        self._do(lambda store: store.note(self._ids_in(store, ids), result))

    def settle(self, ids: Collection[int], result: ChannelResult | None = None) -> None:
        self._do(lambda store: store.settle(self._ids_in(store, ids), result))

    def arrived(self, rows: Sequence[Queued], result: ChannelResult) -> None:
        def work(store: Store) -> None:
            numbers = self._ids_in(store, [row.id for row in rows])
            store.arrived([replace(row, id=n) for row, n in zip(rows, numbers, strict=True)], result)

        self._do(work)

    # Workers

    def lead(self, worker: str, now: float, until: float, leases: Collection[str] = (LEADER,)) -> frozenset[str]:
        def learn(granted: frozenset[str]) -> None:
            self._held_until.update({name: until if name in granted else float("-inf") for name in leases})

        return self._do(lambda store: store.lead(worker, now, until, leases), learn)

    def leaders(self, now: float, within: float = 0.0) -> dict[str, str]:
        return self._do(lambda store: store.leaders(now, within))

    def resign(self, worker: str) -> None:
        self._do(lambda store: store.resign(worker), lambda _: self._held_until.clear())

    def describe(self, channel: str, condition: str) -> None:
        self._do(
            lambda store: store.describe(channel, condition), lambda _: self._fallback.describe(channel, condition)
        )

    def descriptions(self) -> dict[str, str]:
        return self._do(lambda store: store.descriptions())

    def publish(self, worker: str, report: bytes, now: float, *, urgent: bool = False) -> None:
        self._do(lambda store: store.publish(worker, report, now, urgent=urgent))

    def reports(self, since: float, now: float) -> dict[str, bytes]:
        return self._do(lambda store: store.reports(since, now))

    def urgent_since(self, since: float) -> bool:
        return self._do(lambda store: store.urgent_since(since))


class _ThreadTransaction(threading.local):
    """The store whose transaction the thread is in, and what it learned about the primary there."""

    def __init__(self) -> None:
        self.store: Store | None = None
        self.learned: list[Callable[[], object]] = []
