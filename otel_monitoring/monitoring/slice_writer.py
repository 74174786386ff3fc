"""`SliceWriter`: the process that leads writes the slices of the past, once in each slot and before a compaction."""

import threading
from collections.abc import Callable

from otel_monitoring.forks import renewed
from otel_monitoring.guard import fail_open
from otel_monitoring.metrics.outcome import OutcomeClassifier
from otel_monitoring.metrics.slices.model import FINEST
from otel_monitoring.metrics.slices.recorder import Deltas, Readings, SliceRecorder
from otel_monitoring.metrics.slices.table import SliceTable
from otel_monitoring.runtime.threads import in_thread

_writing = fail_open("writing slices of the past")


class SliceWriter:
    """Writes the slices of a service.

    Args:
        classify: Which requests are errors.
        table: Returns the slices.
        deltas: Returns what the processes measured.
        readings: Returns what is not in the deltas.
        leads: Whether this process leads.
        clock: Returns Unix time in seconds.
    """

    def __init__(
        self,
        classify: OutcomeClassifier,
        *,
        table: Callable[[], SliceTable],
        deltas: Callable[[], Deltas],
        readings: Callable[[], Readings],
        leads: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._recorder = SliceRecorder(classify)
        self._table = table
        self._deltas = deltas
        self._readings = readings
        self._leads = leads
        self._clock = clock
        self._slot: int | None = None
        self._lock = renewed(self, "_lock", threading.Lock)

    @property
    def due(self) -> bool:
        """Whether this process leads, and a slot has begun since the last time."""
        return self._leads() and FINEST.slot(self._clock()) != self._slot

    async def tick(self) -> None:
        """Write where it is due, in a thread of its own. Runs in the background thread."""
        if self.due:
            with _writing:
                await in_thread(self.write, name="otel-monitoring-slices")

    def write(self) -> bool:
        """Write what was published until now.

        Returns:
            False: another process does it, too, and was faster.

        Raises:
            StoreError: The store failed.
        """
        with self._lock:
            now = self._clock()
            written = self._recorder.write(self._table(), self._deltas(), self._readings(), now)
            if written:
                self._slot = FINEST.slot(now)
            return written
