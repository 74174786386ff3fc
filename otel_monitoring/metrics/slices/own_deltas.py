"""`OwnDeltas`: what one process measured, for the slices of a service that consists of this process alone."""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from uuid import uuid4

from otel_monitoring.forks import renewed
from otel_monitoring.metrics.serialization import SnapshotCodec
from otel_monitoring.metrics.service_history import own_note
from otel_monitoring.metrics.snapshot import Snapshot
from otel_monitoring.metrics.stream import Delta
from otel_monitoring.metrics.window import joined

_PARTS = 8


class OwnDeltas:
    """The measurements that the slices do not contain yet, as `MeasurementStream.read` returns them; thread-safe.

    Args:
        own: Returns the names of the application's own metrics.
    """

    def __init__(self, own: Callable[[], Collection[str]]) -> None:
        self._own = own
        self._lock = renewed(self, "_lock", threading.Lock)
        self._codec = SnapshotCodec()
        self._writer = uuid4().hex[:16]
        self._parts: list[Snapshot] = []
        self._last = Delta(self._writer, 0, b"")

    def note(self, snapshots: Sequence[Snapshot]) -> None:
        """Keep what was measured until it is read."""
        with self._lock:
            self._parts += snapshots
            if len(self._parts) > _PARTS:
                self._parts = [joined(self._parts)]

    def read(self, known: Mapping[str, int]) -> tuple[Sequence[Delta], str]:
        """What was noted and is not in the slices; it is returned again until it is known."""
        with self._lock:
            if self._last.number <= known.get(self._writer, 0) and self._parts:
                number = max(self._last.number, known.get(self._writer, 0)) + 1
                self._last = Delta(self._writer, number, self._encoded(joined(self._parts)))
                self._parts = []
            return [self._last] if self._last.number > known.get(self._writer, 0) else [], ""

    def _encoded(self, whole: Snapshot) -> bytes:
        return self._codec.encode(whole, own_note(whole, self._own()))
