"""`MemorySlices`: slices of the past, in the memory of one process."""

import threading
from collections.abc import Sequence

from otel_monitoring.forks import renewed
from otel_monitoring.metrics.slices.model import ROUTES_LIMIT
from otel_monitoring.metrics.slices.table import Position, SliceRow


class MemorySlices:
    """A `SliceTable` in the memory of one process."""

    routes_limit = ROUTES_LIMIT

    def __init__(self) -> None:
        self._position: Position | None = None
        self._rows: dict[tuple[int, int], SliceRow] = {}
        self._lock = renewed(self, "_lock", threading.Lock)

    def position(self) -> Position | None:
        with self._lock:
            return self._position

    def advance(self, before: str, position: Position, rows: Sequence[SliceRow]) -> bool:
        with self._lock:
            if (self._position.version if self._position is not None else "") != before:
                return False
            self._position = position
            self._rows.update({(row.tier, row.start): row for row in rows})
            return True

    def read(self, tier: int, start: int, end: int, *, routes: bool = False) -> Sequence[SliceRow]:
        with self._lock:
            rows = [self._rows[tier, at] for at in self._starts(tier, start, end)]
        return rows if routes else [row._replace(routes=b"") for row in rows]

    def starts(self, tier: int, start: int, end: int) -> Sequence[int]:
        with self._lock:
            return self._starts(tier, start, end)

    def prune(self, tier: int, start: int, end: int) -> None:
        with self._lock:
            for key in [key for key in self._rows if key[0] == tier and not start <= key[1] < end]:
                del self._rows[key]

    def _starts(self, tier: int, start: int, end: int) -> list[int]:
        return sorted(at for of, at in self._rows if of == tier and start <= at < end)
