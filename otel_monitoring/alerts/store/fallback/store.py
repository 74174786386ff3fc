"""`FallbackStore`: uses another store, and memory while that one fails."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TypeVar

from otel_monitoring.alerts.store.fallback.parts import (
    FallbackConditions,
    FallbackHistory,
    FallbackIncidents,
    FallbackLeases,
    FallbackMeasurements,
    FallbackMutes,
    FallbackNotes,
    FallbackOutbox,
    FallbackReports,
)
from otel_monitoring.alerts.store.fallback.replay import replay
from otel_monitoring.alerts.store.history import HISTORY_LIMIT
from otel_monitoring.alerts.store.memory import MemoryStore
from otel_monitoring.alerts.store.memory.state import MemoryState
from otel_monitoring.alerts.store.outbox import OUTBOX_LIMIT
from otel_monitoring.alerts.store.protocol import Store
from otel_monitoring.errors import StoreError
from otel_monitoring.forks import renewed
from otel_monitoring.guard import fail_open, logger

T = TypeVar("T")

RETRY_SECONDS = 10.0
"""Seconds from a failure of the primary store to the next attempt to use it."""

_WARN_EVERY_SECONDS = 60.0


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
        memory: What is used while the primary fails; until then it has what is known of the primary.
        before: The known state of the primary when it failed.
        held_until: When the leases of this process expire that it holds in the primary, by name, in Unix seconds.
        held_at_failure: The leases that this process held when the primary failed.
    """

    def __init__(self, primary: Store, *, clock: Callable[[], float] = time.time, retry: float = RETRY_SECONDS) -> None:
        self.primary = primary
        self._clock = clock
        self._retry = retry
        self.memory = MemoryStore()
        self.before = MemoryState()
        self.held_until: dict[str, float] = {}
        self.held_at_failure: frozenset[str] = frozenset()
        self._lock = renewed(self, "_lock", threading.RLock)
        self._thread = renewed(self, "_thread", _ThreadTransaction)
        self._problem: str | None = None
        self._tried_at = float("-inf")
        self._warned_at = float("-inf")
        self.history = FallbackHistory(self)
        self.outbox = FallbackOutbox(self)
        self.mutes = FallbackMutes(self)
        self.notes = FallbackNotes(self)
        self.incidents = FallbackIncidents(self)
        self.leases = FallbackLeases(self)
        self.reports = FallbackReports(self)
        self.conditions = FallbackConditions(self)
        self.measurements = FallbackMeasurements(self)

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
                with self._transaction(self.memory):
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
        before, after = self.before, self.memory.state
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

    def do(self, work: Callable[[Store], T], learn: Callable[[T], object] | None = None) -> T:
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
                    return work(self.memory)
        try:
            result = work(self.primary)
        except StoreError as error:
            with self._lock:
                self._fall_back(error)
                return work(self.memory)
        if learn is not None:
            self._learn([partial(learn, result)])
        return result

    def _enter(self, stack: ExitStack) -> None:
        if self._problem is not None:
            stack.enter_context(self._lock)
            if not self._primary_works():
                stack.enter_context(self._transaction(self.memory))
                return
        try:
            stack.enter_context(self._transaction(self.primary))
        except StoreError as error:
            stack.enter_context(self._lock)
            self._fall_back(error)
            stack.enter_context(self._transaction(self.memory))

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
        state = self.memory.state
        self.held_at_failure = frozenset(name for name, until in self.held_until.items() if until > now)
        with suppress(StoreError):
            state.incidents = self.primary.incidents.saved()
            outbox = self.primary.outbox
            waiting = [row for name in outbox.backlog() for row in outbox.pending(name, OUTBOX_LIMIT)]
            self.memory.outbox.restore(waiting)
            for event in reversed(self.primary.history.events(limit=HISTORY_LIMIT)):
                state.add_to_history(event)
            state.counts.update(self.primary.history.counts())
            state.mutes = self.primary.mutes.in_force(now)
            state.conditions = self.primary.conditions.saved()
        self.before = state.copy()

    def _primary_works(self) -> bool:
        """Whether the primary is in use; after `retry` seconds it is tried again, and the changes are replayed."""
        now = self._clock()
        if self._problem is None or 0 <= now - self._tried_at < self._retry:
            return self._problem is None
        self._tried_at = now
        after = self.memory.state
        try:
            self.primary.run(lambda store: replay(store, self.before, after, now))
        except StoreError as error:
            self._problem = str(error)
            return False
        self.memory.state = MemoryState(
            largest_id=after.largest_id, mutes=after.mutes, notes=after.notes, incidents=after.incidents
        )
        self._problem = None
        logger.info("alert store: works again")
        return True


class _ThreadTransaction(threading.local):
    """The store whose transaction the thread is in, and what it learned about the primary there."""

    def __init__(self) -> None:
        self.store: Store | None = None
        self.learned: list[Callable[[], object]] = []
