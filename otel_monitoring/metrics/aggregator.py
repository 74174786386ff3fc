"""`Aggregator` adds snapshots to the history; `BackgroundCollection` does it in a thread of its own."""

import threading
from collections.abc import Callable

from otel_monitoring.errors import TimeLimitError
from otel_monitoring.forks import renewed
from otel_monitoring.guard import fail_open
from otel_monitoring.metrics.reader import SnapshotReader
from otel_monitoring.metrics.snapshot import Snapshot
from otel_monitoring.metrics.window import History
from otel_monitoring.runtime.single_flight import SingleFlight
from otel_monitoring.runtime.threads import wait_for
from otel_monitoring.runtime.worker import Worker

REUSE_FACTOR = 20
_REUSE_LIMIT = 1.0

_ANSWER_TIMEOUT = 2.0
_COLLECTION_TIMEOUT = 5.0
_LONG = 30.0
_THREAD = "otel-monitoring-collect"
_refreshing = fail_open("collecting for an answer")
_finishing = fail_open("collecting a last time")


class Aggregator:
    """The reader and the history from which the health endpoints and the rules get their figures.

    Args:
        clock: A monotonic clock, in seconds.
        span: Seconds covered by the recent window, from which rates and percentiles are computed.
        resolution: Seconds between collections: the granularity of the window.
        cost_clock: The clock, in seconds, that measures the cost of collecting; best the thread's own CPU time.
        in_place_of: The aggregator of a service that does not run: its histograms are read here.

    Attributes:
        listeners: Each is called with every snapshot that was added.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        span: float,
        resolution: float,
        cost_clock: Callable[[], float],
        in_place_of: "Aggregator | None" = None,
    ) -> None:
        now = clock()
        self.reader: SnapshotReader = SnapshotReader(
            now, in_place_of=None if in_place_of is None else in_place_of.reader
        )
        self.history = History(now, span=span, resolution=resolution)
        self.listeners: list[Callable[[Snapshot], object]] = []
        self._clock = clock
        self._cost_clock = cost_clock
        self._lock = renewed(self, "_lock", threading.Lock, wait=True)
        self._adding = renewed(self, "_adding", threading.Lock)
        self._fresh_until = now
        self._wanted = True
        self._last_cost = 0.0

    def invalidate(self) -> None:
        """Mark the history as out of date: something was recorded that the next answer has to show."""
        self._wanted = True

    def collect(self) -> None:
        """Add to the history what was measured since the last collection. Blocks while the provider's callbacks run."""
        with self._lock:
            self._wanted = False
            began = self._cost_clock()
            self._add(self.reader.take(self._clock()))
            # A collection is reused for twenty times its cost, at most a second: polling costs at most a twentieth of
            # one core, and a small service answers with its latest request. The cheaper of the last two counts, so
            # that a single slow collection (the first one, a machine under load) makes no answer stale.
            cost, self._last_cost = min(self._last_cost, took := self._cost_clock() - began), took
            self._fresh_until = self._clock() + min(_REUSE_LIMIT, REUSE_FACTOR * cost)

    def collect_direct(self) -> None:
        """Add what was measured without the SDK, requests above all; no callback is waited for."""
        if self.reader.has_values:
            self._add(self.reader.take_direct(self._clock()))

    def _add(self, snapshot: Snapshot) -> None:
        with self._adding:
            self.history.add(snapshot)
            for listener in self.listeners:
                listener(snapshot)

    @property
    def cost(self) -> float:
        """What the last collection cost, in seconds of the `cost_clock`."""
        return self._last_cost

    @property
    def fresh(self) -> bool:
        """Whether the history is recent enough to answer from."""
        return not self._wanted and self._clock() < self._fresh_until


class BackgroundCollection:
    """Collects in a thread of its own, because observable callbacks of the application may hang.

    Args:
        aggregator: The aggregator that collects.
        worker: The worker whose background thread waits for the collection.
    """

    def __init__(self, aggregator: Aggregator, worker: Worker) -> None:
        self._aggregator = aggregator
        self._worker = worker
        self._flight = SingleFlight(aggregator.collect, name=_THREAD)

    def reset_after_fork(self) -> None:
        """Forget a collection that was in progress in the parent process."""
        self._flight.reset_after_fork()

    async def collect(self) -> None:
        """Collect everything that was recorded before the call. Runs in the background thread.

        Raises:
            TimeLimitError: A collection takes longer than five seconds. It goes on, and later calls wait for it.
        """
        if not await self._flight.run(_COLLECTION_TIMEOUT):
            raise TimeLimitError("a callback of an observable instrument has not returned")

    def stale(self, now: float) -> str | None:
        """Why the figures are out of date: no collection has ended for too long. None while they are recent.

        Args:
            now: Seconds of the monotonic clock.
        """
        seconds = self._flight.seconds(now)
        return None if seconds is None or seconds < _LONG else f"metrics: no collection has ended for {seconds:.0f} s"

    def finish(self, seconds: float) -> None:
        """Collect a last time before the reader is removed.

        Where callbacks hang, or the interpreter exits and starts no more threads, what needs no callback is collected
        all the same: every request counts.

        Args:
            seconds: How long to wait for the callbacks.
        """
        wait_for(self._collect, seconds, name=_THREAD)
        with _finishing:
            self._aggregator.collect_direct()

    def _collect(self) -> None:
        with _finishing:
            self._aggregator.collect()

    async def refresh(self) -> None:
        """Collect for an answer, unless the history is fresh; callable on any loop, never raises.

        If the collection fails or takes longer than two seconds, the answer shows the last one.
        """
        if not self._worker.running or self._aggregator.fresh:
            return
        with _refreshing:
            await self._worker.call(self.collect, _ANSWER_TIMEOUT)
