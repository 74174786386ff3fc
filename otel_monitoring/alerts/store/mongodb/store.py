"""`MongoStore`: the state of alerting in a MongoDB database that the workers of all hosts share."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from pymongo.database import Database

from otel_monitoring.alerts.store.memory.history import MemoryHistory
from otel_monitoring.alerts.store.memory.outbox import MemoryOutbox
from otel_monitoring.alerts.store.memory.state import MemoryState
from otel_monitoring.alerts.store.memory.values import MemoryConditions, MemoryMutes, MemoryNotes, MemoryTexts
from otel_monitoring.alerts.store.mongodb.documents import FRESH_SECONDS, Documents, Head
from otel_monitoring.alerts.store.mongodb.encoding import StateCodec
from otel_monitoring.alerts.store.mongodb.measurements import MongoMeasurements
from otel_monitoring.alerts.store.mongodb.slices import MongoSlices
from otel_monitoring.alerts.store.mongodb.workers import MongoLeases, MongoReports
from otel_monitoring.alerts.store.protocol import Store
from otel_monitoring.errors import StoreError
from otel_monitoring.forks import renewed

T = TypeVar("T")

_ATTEMPTS = 50
_LONGEST_PAUSE_SECONDS = 0.05


class MongoStore:
    """A `Store` in a MongoDB database, as the workers of all hosts share it.

    The parts are those in memory: they work on a copy of the latest state, and what has changed is saved as the next
    one. Where another worker has saved a state meanwhile, the work is done again on that. See `Documents`.

    Args:
        open_database: Makes a client, and returns the database. It may raise `StoreError`.
        service: The key of the service: each has its own state.
        clock: Returns Unix time in seconds.

    Attributes:
        place: Where the state is, for people.
    """

    place = "in the MongoDB database"

    def __init__(
        self,
        open_database: Callable[[], Database[dict[str, Any]]],
        service: str,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.problem: str | None = None
        self._documents = Documents(open_database, service, clock)
        self._codec = StateCodec()
        self._lock = renewed(self, "_lock", threading.RLock)
        self._state = MemoryState()
        self._copy: MemoryState | None = None
        self.history = MemoryHistory(self)
        self.outbox = MongoOutbox(self)
        self.mutes = MemoryMutes(self)
        self.notes = MemoryNotes(self)
        self.incidents = MemoryTexts(self, lambda state: state.incidents)
        self.acknowledgements = MemoryTexts(self, lambda state: state.acknowledgements)
        self.conditions = MemoryConditions(self)
        self.leases = MongoLeases(self._documents)
        self.reports = MongoReports(self._documents)
        self.measurements = MongoMeasurements(self._documents)
        self.slices = MongoSlices(self._documents)

    @property
    def clock_offset(self) -> float:
        return self._documents.clock_offset

    @property
    def known(self) -> MemoryState:
        """The latest state that this process has seen, with the leases; it may be read while the database is away."""
        return replace(self._state, leases=dict(self._documents.known_leases))

    def run(self, work: Callable[[Store], T]) -> T:
        with self._lock:
            if self._copy is not None:
                raise RuntimeError("a store's transactions are not nested")

            def inside(copy: MemoryState) -> T:
                self._copy = copy
                try:
                    return work(self)
                finally:
                    self._copy = None

            return self._transact(inside)

    def use(self, work: Callable[[MemoryState], T]) -> T:
        """Call `work` with the state, save what it changed, and return its result."""
        with self._lock:
            return self._transact(work) if self._copy is None else work(self._copy)

    def lately(self, work: Callable[[MemoryState], T]) -> T:
        """Call `work`, which only reads, with the state of at most `FRESH_SECONDS` ago.

        While another thread is in a transaction, it is the state of before: that one may wait for a slow database.
        """
        if not self._lock.acquire(blocking=False):
            return work(self._state)
        try:
            if self._copy is None:
                self._refresh(FRESH_SECONDS)
            return work(self._copy or self._state)
        finally:
            self._lock.release()

    def close(self) -> None:
        self._documents.close()

    def _transact(self, work: Callable[[MemoryState], T]) -> T:
        for attempt in range(_ATTEMPTS):
            head = self._refresh()
            copy = self._state.copy()
            result = work(copy)
            if copy == self._state:
                return result
            if self._documents.add("state", self._codec.encode(copy), head):
                copy.number += 1
                self._state = copy
                return result
            time.sleep(random.uniform(0, _LONGEST_PAUSE_SECONDS * min(1.0, attempt / 5)))  # noqa: S311 - spreads load
        raise StoreError("MongoDB: too many workers change the state at once", busy=True)

    def _refresh(self, max_age: float = 0.0) -> Head:
        """Read the latest state, where another one is known; returns the head that has its number."""
        for _ in range(_ATTEMPTS):
            head = self._documents.head(max_age)
            number = head.latest["state"].number
            if number == self._state.number:
                return head
            if number == 0:
                self._state = MemoryState()
                return head
            found = self._documents.content("state", number)
            if found is not None:
                state = self._codec.decode(found[0])
                state.number = number
                self._state = state
                return head
            max_age = 0.0
        raise StoreError("MongoDB: the state changes faster than it can be read")


class MongoOutbox(MemoryOutbox):
    """An `Outbox` in a MongoDB database."""

    def __init__(self, store: MongoStore) -> None:
        super().__init__(store)
        self._store = store

    def waiting(self) -> frozenset[str]:
        return self._store.lately(lambda state: frozenset(row.channel for row in state.outbox.values()))
