"""`MemoryStore`: the state of alerting in the memory of one process."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from otel_monitoring.alerts.store.memory.history import MemoryHistory
from otel_monitoring.alerts.store.memory.measurements import MemoryMeasurements
from otel_monitoring.alerts.store.memory.outbox import MemoryOutbox
from otel_monitoring.alerts.store.memory.slices import MemorySlices
from otel_monitoring.alerts.store.memory.state import MemoryState
from otel_monitoring.alerts.store.memory.values import MemoryConditions, MemoryMutes, MemoryNotes, MemoryTexts
from otel_monitoring.alerts.store.memory.workers import MemoryLeases, MemoryReports
from otel_monitoring.alerts.store.protocol import Store
from otel_monitoring.forks import renewed

T = TypeVar("T")


class MemoryStore:
    """A `Store` in memory, which is lost when the process ends.

    Args:
        problem: Why it is used in place of the configured store, if it is.

    Attributes:
        state: Its state.
    """

    def __init__(self, *, problem: str | None = None) -> None:
        self.problem = problem
        self.clock_offset = 0.0
        self.state = MemoryState()
        self._lock = renewed(self, "_lock", threading.RLock)
        self._inside = renewed(self, "_inside", bool)
        self.history = MemoryHistory(self)
        self.outbox = MemoryOutbox(self)
        self.mutes = MemoryMutes(self)
        self.notes = MemoryNotes(self)
        self.incidents = MemoryTexts(self, lambda state: state.incidents)
        self.acknowledgements = MemoryTexts(self, lambda state: state.acknowledgements)
        self.leases = MemoryLeases(self)
        self.reports = MemoryReports(self)
        self.conditions = MemoryConditions(self)
        self.measurements = MemoryMeasurements()
        self.slices = MemorySlices()

    def use(self, work: Callable[[MemoryState], T]) -> T:
        """Call `work` with the state while no other thread uses it, and return its result."""
        with self._lock:
            return work(self.state)

    def run(self, work: Callable[[Store], T]) -> T:
        with self.exclusive():
            return work(self)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        with self._lock:
            if self._inside:
                raise RuntimeError("a store's transactions are not nested")
            before = self.state.copy()
            self._inside = True
            try:
                yield
            except BaseException:
                self.state = before
                raise
            finally:
                self._inside = False

    def close(self) -> None:
        """Do nothing: there are no files."""
