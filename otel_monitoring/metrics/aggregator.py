"""`Aggregator`: brings the reader's snapshots into the history, on a tick or on demand, one at a time."""

import threading
from collections.abc import Callable

from otel_monitoring.forks import renewed
from otel_monitoring.metrics.reader import SnapshotReader
from otel_monitoring.metrics.window import History

_REUSE_FACTOR = 20
_REUSE_LIMIT = 1.0


class Aggregator:
    """Owns the reader and the history behind every in-process answer.

    Args:
        clock: Seconds of a monotonic clock.
        span: Seconds of the window behind rates and percentiles.
        resolution: Seconds between ticks: the grain of the window.
        cost_clock: What collecting is timed with, in seconds; the thread's own CPU time serves best.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        span: float,
        resolution: float,
        cost_clock: Callable[[], float],
    ) -> None:
        now = clock()
        self.reader = SnapshotReader(now)
        self.history = History(now, span=span, resolution=resolution)
        self._clock = clock
        self._cost_clock = cost_clock
        self._lock = renewed(self, "_lock", threading.Lock, wait=True)
        self._fresh_until = now
        self._wanted = True
        self._last_cost = 0.0

    def invalidate(self) -> None:
        """Something was recorded that the next answer has to show."""
        self._wanted = True

    def collect(self) -> None:
        """Bring the history up to date now. Blocks for as long as the provider's callbacks take."""
        with self._lock:
            self._wanted = False
            began = self._cost_clock()
            self.history.add(self.reader.take(self._clock()))
            # An answer is reused for twenty times what it cost, at most a second: whoever polls, collecting
            # takes no more than a twentieth of one core, and a small service always answers with its latest request.
            # The cheaper of the last two: a single slow one (the first, a machine under load) makes no answer stale.
            cost, self._last_cost = min(self._last_cost, took := self._cost_clock() - began), took
            self._fresh_until = self._clock() + min(_REUSE_LIMIT, _REUSE_FACTOR * cost)

    @property
    def fresh(self) -> bool:
        """Whether the history is recent enough to answer from."""
        return not self._wanted and self._clock() < self._fresh_until
