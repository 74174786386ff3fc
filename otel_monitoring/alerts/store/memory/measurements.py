"""`MemoryMeasurements`: what was measured, in the memory of one process."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from otel_monitoring.forks import renewed
from otel_monitoring.metrics.stream import Base, Delta


class MemoryMeasurements:
    """A `MeasurementStream` in the memory of one process.

    Args:
        clock: A monotonic clock, in seconds.
    """

    problem = None

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._deltas: dict[tuple[str, int], bytes] = {}
        self._base: tuple[str, bytes, float] | None = None
        self._lock = renewed(self, "_lock", threading.Lock)

    def add(self, *deltas: Delta) -> None:
        with self._lock:
            for delta in deltas:
                self._deltas.setdefault((delta.writer, delta.number), delta.content)

    def read(self, known: Mapping[str, int]) -> tuple[Sequence[Delta], str]:
        with self._lock:
            found = [Delta(*key, content) for key, content in self._deltas.items() if key[1] > known.get(key[0], 0)]
            return found, self._base[0] if self._base is not None else ""

    def base(self) -> Base | None:
        with self._lock:
            if self._base is None:
                return None
            version, content, at = self._base
            return Base(version, content, self._clock() - at)

    def replace_base(self, before: str, version: str, content: bytes, deleted: Mapping[str, int]) -> bool:
        with self._lock:
            if (self._base[0] if self._base is not None else "") != before:
                return False
            self._base = version, content, self._clock()
            for writer, number in [key for key in self._deltas if key[1] <= deleted.get(key[0], 0)]:
                del self._deltas[writer, number]
            return True

    def clear(self) -> None:
        with self._lock:
            self._deltas, self._base = {}, None
