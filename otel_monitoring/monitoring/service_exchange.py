"""`ServiceExchange`: publishes what this process measured, and reads what the others did, off every event loop."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from otel_monitoring.guard import fail_open
from otel_monitoring.health.instances import Instances
from otel_monitoring.metrics.aggregator import BackgroundCollection
from otel_monitoring.metrics.service_history import ErrorSeen, ServiceHistory
from otel_monitoring.metrics.snapshot import Snapshot
from otel_monitoring.metrics.stream import MeasurementStream
from otel_monitoring.runtime.single_flight import SingleFlight
from otel_monitoring.runtime.threads import wait_for
from otel_monitoring.runtime.worker import Worker

_ANSWER_TIMEOUT = 2.0
_TIMEOUT = 5.0
_LAST_ATTEMPTS = 2
_THREAD = "otel-monitoring-exchange"
_exchanging = fail_open("exchanging measurements")


class ServiceExchange:
    """Exchanges measurements and states with the other processes of the service.

    An answer that waits for an exchange waits for one that begins after it was asked for, and shows nothing of its own
    that was not published before: so no later answer of another process goes back.

    Args:
        service: The measurements of all processes.
        instances: The states of the other processes.
        collecting: Collects what this process measured.
        worker: Its background thread waits for the exchange.
        stream: Returns the stream of measurements; None: this process is the whole service.
        states: Reads the states of the other processes, by `service.instance.id`, and says which process leads.
        leads: Whether this process leads: then it replaces the base of the measurements where that is due.
        last_error: Returns the last error of this process.
        keep: Gets what this process measured where it is the whole service.
        close: Closes the store, after what was published last.
        pause: Seconds before more is published while only the processes of this host share the stream: until all do,
            nothing of it is deleted.

    Attributes:
        cost: CPU time of the last exchange, in seconds; publishing alone takes less.
    """

    def __init__(
        self,
        service: ServiceHistory,
        instances: Instances,
        *,
        collecting: BackgroundCollection,
        worker: Worker,
        stream: Callable[[], MeasurementStream | None],
        states: Callable[[], tuple[Mapping[str, Mapping[str, Any]], str | None]],
        leads: Callable[[], bool],
        last_error: Callable[[], ErrorSeen | None],
        keep: Callable[[Sequence[Snapshot]], object],
        close: Callable[[], object],
        pause: float = 0.0,
    ) -> None:
        self._service = service
        self._instances = instances
        self._collecting = collecting
        self._worker = worker
        self._stream = stream
        self._states = states
        self._leads = leads
        self._last_error = last_error
        self._keep = keep
        self._close = close
        self._pause = pause
        self._flight = SingleFlight(self._exchange, name=_THREAD)
        self._publishing = SingleFlight(self._publish, name=_THREAD)
        self._published_at = float("-inf")
        self.cost = 0.0

    def reset_after_fork(self) -> None:
        """Forget an exchange that was in progress in the parent process."""
        self._flight.reset_after_fork()
        self._publishing.reset_after_fork()

    async def refresh(self) -> None:
        """Collect and exchange for an answer; callable on any loop, never raises.

        If either fails or takes longer than two seconds, the answer shows the last one; where the store is slow, the
        next answers wait for one.
        """
        await self._collecting.refresh()
        if self._worker.running:
            timeout = self._flight.patience(_ANSWER_TIMEOUT)
            with _exchanging:
                try:
                    await self._worker.call(self.exchange, timeout)
                except TimeoutError:
                    self._service.problem = f"the measurements were not exchanged within {timeout:g} s"

    async def exchange(self) -> None:
        """Wait for an exchange that begins after this call, at most five seconds; never raises.

        Runs in the background thread.

        An exchange that takes longer, as with a store that is late, goes on, and later calls wait for it.
        """
        with _exchanging:
            await self._flight.run(_TIMEOUT)

    async def publish(self) -> None:
        """As `exchange`, without reading what the others did: that takes one operation of a store in a database."""
        with _exchanging:
            await self._publishing.run(_TIMEOUT)

    def _exchange(self) -> None:
        began = time.thread_time()
        with _exchanging:
            self._publish_and_read(self._pause)
        states, leader = self._states()
        self._instances.learn(states, leader, time.monotonic())
        self.cost = time.thread_time() - began

    def finish(self, seconds: float) -> None:
        """Publish what was collected last, before the process ends; waits at most `seconds`."""
        if not wait_for(self._publish_last, seconds, name=_THREAD):
            self._publish_last()

    def _publish_last(self) -> None:
        """Publish, and once more where the store fails: another process may have kept it for a moment."""
        for _ in range(_LAST_ATTEMPTS):
            published = False
            with _exchanging:
                self._publish_and_read(0.0)
                published = True
            with _exchanging:
                self._close()  # which tries a store that has failed
            if published:
                return

    def _publish(self) -> None:
        with _exchanging:
            self._publish_and_read(self._pause, read=False)

    def _publish_and_read(self, pause: float, *, read: bool = True) -> None:
        stream, now = self._stream(), time.monotonic()
        if stream is None:
            self._keep(self._service.skip())
            return
        publish = stream.problem is None or now - self._published_at >= pause
        self._published_at = now if publish else self._published_at
        self._service.exchange(stream, self._last_error(), publish=publish, read=read)
        if read and self._leads():
            self._service.compact(stream)
