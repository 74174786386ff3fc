"""`FallbackStore`: uses a store, and another one while that fails."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from otel_monitoring.alerts.store.fallback.outage import (
    RECORD,
    Meanwhile,
    Outage,
    begin,
    begin_again,
    catch_up,
    continue_measurements,
    end,
    forward_measurements,
    keep_leases,
    merge,
    save_clock_offset,
    saved_clock_offset,
    take_over,
)
from otel_monitoring.alerts.store.fallback.parts import (
    FallbackConditions,
    FallbackHistory,
    FallbackLeases,
    FallbackMeasurements,
    FallbackMutes,
    FallbackNotes,
    FallbackOutbox,
    FallbackReports,
    FallbackSlices,
    FallbackTexts,
)
from otel_monitoring.alerts.store.fallback.store_probe import StoreProbe
from otel_monitoring.alerts.store.history import HISTORY_LIMIT
from otel_monitoring.alerts.store.leases import channel_of
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
BUSY_RETRY_SECONDS = 0.5
"""The same where others only kept it for too long; doubled with each attempt in vain, because each one waits for it."""

_WARN_EVERY_SECONDS = 60.0


class FallbackStore:
    """A `Store` that uses a primary store, and a secondary one while the primary fails: nothing is raised or lost.

    The secondary is memory, or a file that the processes of a host share. It continues with what is known of the
    primary: whoever shares it elects a leader there, so that an alert may be sent once for each secondary, but never
    by nobody. Events that waited when the primary failed are delivered by who delivered by their channel then. When
    the primary works again, what was done meanwhile is merged there: see `merge`.

    Args:
        primary: The store to use. It raises `StoreError` only.
        secondary: The store to use meanwhile, which never fails; None: memory.
        known: Returns the state of the primary that this process knows, also while the primary fails. None: it is read
            when the primary fails, if it can still be read; else it is what was read or written lately.
        clock: Returns Unix time in seconds.
        retry: Seconds from a failure to the next attempt, and the most where others only keep the primary for too long.

    Attributes:
        primary: The store to use.
        secondary: The store to use meanwhile.
        learned: What was read from the primary, or written to it.
        held_until: When the leases of this process expire that it holds in the primary, by name, in Unix seconds.
        record: The key of the record of an outage in the secondary.
    """

    def __init__(
        self,
        primary: Store,
        secondary: Store | None = None,
        *,
        known: Callable[[], MemoryState] | None = None,
        clock: Callable[[], float] = time.time,
        retry: float = RETRY_SECONDS,
    ) -> None:
        self.primary = primary
        self.secondary: Store = secondary if secondary is not None else MemoryStore()
        self.learned = MemoryStore()
        self.held_until: dict[str, float] = {}
        # Where the secondary is a fallback too, it has a record of its own in the same store.
        self.record = f"{RECORD}{type(primary).__name__}, {type(self.secondary).__name__}"
        self._known_to_primary = known
        self._known = MemoryState()
        """The state of the primary, as it was known when it failed."""
        self._to_take_over: frozenset[str] | None = frozenset()
        """The channels by which this process delivered then; None: the secondary has taken them over."""
        self._forwarded: dict[str, int] = {}
        self._clock = clock
        self._retry = self._pause = retry
        self._busy_pause = BUSY_RETRY_SECONDS
        self._lock = renewed(self, "_lock", threading.RLock)
        self._thread = renewed(self, "_thread", _ThreadTransaction)
        self._probe = StoreProbe(self._ask_primary)
        self._started = secondary is None  # a file may have what was not merged when a process ended
        self._remembered_offset: float | None = None if secondary is None else 0.0
        """The clock offset of the primary that the secondary remembers; None: the primary is asked."""
        self._problem: str | None = None
        self._tried_at = float("-inf")
        self._warned_at = float("-inf")
        self.history = FallbackHistory(self)
        self.outbox = FallbackOutbox(self)
        self.mutes = FallbackMutes(self)
        self.notes = FallbackNotes(self)
        self.incidents = FallbackTexts(self, lambda store: store.incidents, lambda state: state.incidents)
        self.acknowledgements = FallbackTexts(
            self, lambda store: store.acknowledgements, lambda state: state.acknowledgements
        )
        self.leases = FallbackLeases(self)
        self.reports = FallbackReports(self)
        self.conditions = FallbackConditions(self)
        self.measurements = FallbackMeasurements(self)
        self.slices = FallbackSlices(self)

    @property
    def problem(self) -> str | None:
        return self._problem or self.primary.problem

    @property
    def clock_offset(self) -> float:
        return self.primary.clock_offset if self._remembered_offset is None else self._remembered_offset

    @property
    def _now(self) -> float:
        """Unix time by the primary's clock, in seconds; mutes end by it."""
        return self._clock() + self.clock_offset

    def run(self, work: Callable[[Store], T]) -> T:
        if self._thread.store is not None:
            raise RuntimeError("a store's transactions are not nested")
        learned: list[Callable[[], object]] = []

        def inside(store: Store) -> T:
            learned.clear()
            self._thread.store, self._thread.learned = store, learned
            try:
                return work(self)
            finally:
                self._thread.store = None

        return self._choose(lambda: self.primary.run(inside), inside, lambda _: learned)

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
        return self._choose(
            lambda: work(self.primary), work, lambda result: [] if learn is None else [partial(learn, result)]
        )

    @property
    def shared_meanwhile(self) -> str | None:
        """Why the processes of a host share the secondary at present; None: they share the primary, or nothing."""
        return None if isinstance(self.secondary, MemoryStore) else self._problem

    def do_shared(self, work: Callable[[Store], T], learn: Callable[[T], object] | None = None) -> T:
        """Run `work` on the store in use, and return its result; on the primary, where the secondary is memory.

        Args:
            work: What to do.
            learn: As for `do`.

        Raises:
            StoreError: The primary fails, and no other process shares the secondary.
        """
        if self._thread.store is None and isinstance(self.secondary, MemoryStore):
            return self.do_on_primary(work)
        return self.do(work, learn)

    def do_on_primary(self, work: Callable[[Store], T]) -> T:
        """Run `work` on the primary, and return its result.

        Raises:
            StoreError: The primary fails.
        """
        if self._problem is not None or not self._started:
            with self._lock:
                if not self._primary_works():
                    raise StoreError(self._problem or "the store does not work")
        try:
            return work(self.primary)
        except StoreError as error:
            with self._lock:
                self._fall_back(error)
            raise

    def forward(self) -> None:
        """Add to the primary what other processes have measured that use the secondary still, if several share it.

        Raises:
            StoreError: The primary fails.
        """
        if not isinstance(self.secondary, MemoryStore):
            news = forward_measurements(self.primary, self.secondary, self.record, self._forwarded)
            self._forwarded.update({delta.writer: delta.number for delta in news})

    def close(self) -> None:
        with self._lock:
            with suppress(StoreError):
                self._tried_at = float("-inf")
                if self._problem is not None and not self._primary_works():
                    self._log_losses()
                self.primary.close()
            self.secondary.close()

    # Which store

    def _choose(
        self,
        on_primary: Callable[[], T],
        on_secondary: Callable[[Store], T],
        learned: Callable[[T], list[Callable[[], object]]],
    ) -> T:
        if self._problem is not None or not self._started:
            with self._lock:
                if not self._primary_works():
                    with suppress(_ReturnedError):
                        return self._do_meanwhile(on_secondary)
                    if not self._primary_works(patient=True):  # others use it
                        return self._do_meanwhile(on_secondary, anew=True)
        try:
            result = on_primary()
        except StoreError as error:
            with self._lock:
                self._fall_back(error)
                return self._do_meanwhile(on_secondary, anew=True)
        self._learn(learned(result))
        return result

    def _do_meanwhile(self, work: Callable[[Store], T], *, anew: bool = False) -> T:
        """Run `work` on the secondary.

        Raises:
            _ReturnedError: Another process has just merged the outage that this one is in, and it is not to begin anew.
        """

        def in_transaction(store: Store) -> T:
            if Outage.of(store, self.record) is None:
                if self._to_take_over is not None:
                    record = Outage(self.record, clock_offset=self._remembered_offset)
                    begin(store, record, self._known, self.measurements.known, self._now)
                elif anew:
                    begin_again(store, self.record, self._known, self._now)
                else:
                    raise _ReturnedError
            if self._to_take_over is not None:
                catch_up(store, self.record, self._known, self._now)
                keep_leases(store, self._known)
                take_over(store, self.record, self._known, self._to_take_over)
                continue_measurements(store, self.record, self.measurements.lately)
            return work(store)

        result = self.secondary.run(in_transaction)
        self._to_take_over = None
        return result

    def _learn(self, learned: list[Callable[[], object]]) -> None:
        with self._lock:
            if self._problem is None:
                for note in learned:
                    note()

    def _fall_back(self, error: StoreError) -> None:
        now = self._clock()
        self._tried_at = now
        self._pause = min(self._busy_pause, self._retry) if error.busy else self._retry
        fail_open.failures["alert store"] += 1
        if self._problem is None:
            self._remember_clock()
            held = [channel_of(name) for name, until in self.held_until.items() if until > now]
            self._to_take_over = frozenset(name for name in held if name is not None)
            self._known = self._known_state(self._now)
            if not 0 <= now - self._warned_at < _WARN_EVERY_SECONDS:
                self._warned_at = now
                logger.warning("alert store: %s; until it works again, alerts are kept %s", str(error), self._where())
        self._problem = str(error)
        self._started = True

    def _known_state(self, now: float) -> MemoryState:
        """What is known of the primary: when it cannot be written, e.g. on a full disk, it often can be read."""
        if self._known_to_primary is not None:
            return self._known_to_primary().copy()
        state = self.learned.state.copy()
        with suppress(StoreError):
            state.incidents = self.primary.incidents.saved()
            state.acknowledgements = self.primary.acknowledgements.saved()
            outbox = self.primary.outbox
            waiting = [row for name in outbox.backlog() for row in outbox.pending(name, OUTBOX_LIMIT)]
            state.outbox = {row.id: row for row in waiting}
            for event in reversed(self.primary.history.events(limit=HISTORY_LIMIT)):
                state.add_to_history(event)
            state.mutes = self.primary.mutes.all(now)
            state.conditions = self.primary.conditions.saved()
        return state

    def _primary_works(self, *, patient: bool = False) -> bool:
        """Whether the primary is in use; after a pause it is tried again, and what was done is merged.

        Args:
            patient: Whether to wait for its answer as long as it takes; else for a moment.
        """
        if self._problem is None and self._started:
            return True
        now = self._clock()
        due = not 0 <= now - self._tried_at < self._pause or self._probe.answered
        if self._problem is not None and not due and not self._returned_for_others():
            return False
        self._tried_at = now
        try:
            # First, because others wait for the secondary during the merge.
            if self._problem is None or isinstance(self.secondary, MemoryStore):
                self._ask_primary()
            elif not self._probe.works(patient=patient):
                return False
            forward_measurements(self.primary, self.secondary, self.record, {})  # most of them
            self.secondary.run(self._merge)
            if not isinstance(self.secondary, MemoryStore):
                self._ask_primary()  # another process may have merged since: what it did is known from now on
        except (StoreError, _MergeError) as error:
            self._busy_pause = min(2 * self._busy_pause, self._retry)
            self._fall_back(error.reason if isinstance(error, _MergeError) else error)
            return False
        self._known, self._remembered_offset = MemoryState(), None
        self._remember_clock()
        if self._problem is not None:
            logger.info("alert store: works again")
        self._problem, self._started, self._busy_pause = None, True, BUSY_RETRY_SECONDS
        return True

    def _remember_clock(self) -> None:
        """Have the processes of this host go by the primary's clock that start while it is away."""
        if self._remembered_offset is not None:
            self._remembered_offset = saved_clock_offset(self.secondary, self.record)
        elif not isinstance(self.secondary, MemoryStore):
            save_clock_offset(self.secondary, self.record, self.primary.clock_offset)

    def _ask_primary(self) -> None:
        self.primary.run(lambda _: None)

    def _merge(self, store: Store) -> None:
        meanwhile = Meanwhile.read(store, self.record, self._clock(), self.primary.clock_offset)
        if meanwhile is not None:
            try:
                self.primary.run(lambda primary: merge(primary, meanwhile))
                # Should it fail again, this process tells its siblings in the file what they may not have read there.
                self.measurements.learn(forward_measurements(self.primary, store, self.record, {}))
            except StoreError as error:
                raise _MergeError(error) from error
            end(store, meanwhile)

    def _returned_for_others(self) -> bool:
        """Whether another process that shares the secondary uses the primary again."""
        return self._to_take_over is None and not self.secondary.run(
            lambda store: Outage.of(store, self.record) is not None
        )

    def _where(self) -> str:
        return "in memory" if isinstance(self.secondary, MemoryStore) else "in the file of this host"

    def _log_losses(self) -> None:
        if not isinstance(self.secondary, MemoryStore):
            return  # the file keeps them until the next start
        meanwhile = Meanwhile.read(self.secondary, self.record, self._clock(), self.primary.clock_offset)
        if meanwhile is None:
            return
        known = {event.identity for event in self._known.history}
        alerts = sum(event.identity not in known for event in meanwhile.state.history)
        undelivered = len(meanwhile.state.outbox.keys() - meanwhile.record.settled_set)
        if alerts or undelivered:
            logger.error(
                "alert store: closed while it does not work (%s): "
                "%d alerts of its history and %d that were not delivered are lost",
                self._problem,
                alerts,
                undelivered,
            )


class _MergeError(Exception):
    """The primary failed again: no failure of the secondary, inside whose transaction that was.

    Attributes:
        reason: Its failure.
    """

    def __init__(self, reason: StoreError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class _ReturnedError(Exception):
    """The primary is in use again by another process that shares the secondary."""


class _ThreadTransaction(threading.local):
    """The store whose transaction the thread is in, and what it learned about the primary there."""

    def __init__(self) -> None:
        self.store: Store | None = None
        self.learned: list[Callable[[], object]] = []
