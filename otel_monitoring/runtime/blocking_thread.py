"""`BlockingThread`: a thread in which one job runs that may block, at its interval and whenever it is asked for."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from otel_monitoring.guard import fail_open
from otel_monitoring.runtime.background import PAUSE_SECONDS, late, next_start
from otel_monitoring.runtime.current_service import current_service
from otel_monitoring.runtime.give_way import compute_in_turns
from otel_monitoring.runtime.suppression import suppress_instrumentation

if TYPE_CHECKING:
    from otel_monitoring.monitoring.service import MonitoringService


class BlockingJob(NamedTuple):
    """Periodic work that may block.

    Attributes:
        name: Its name in log lines.
        interval: Seconds from one start to the next; a longer run skips the starts it misses.
        run: One run.
    """

    name: str
    interval: float
    run: Callable[[], object]


class BlockingThread:
    """Runs a job in a daemon thread, at the start and then at its interval. Started and stopped once.

    It has no event loop: a job that runs every second, and has nothing to await, costs half as much without.

    Args:
        job: What to run.
        service: The current service inside the job: see `current_service`.
    """

    def __init__(self, job: BlockingJob, service: "MonitoringService | None" = None) -> None:
        self._job = job
        self._service = service
        self._guard = fail_open(job.name)
        self._wake = threading.Event()
        self._stopping = False
        self._ran = 0.0
        self._thread = threading.Thread(target=self._main, name="otel-monitoring-store", daemon=True)

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: There can be no further thread.
        """
        self._ran = time.monotonic()
        self._thread.start()

    def wake(self) -> bool:
        """Have the job run at once, or once more after the run in progress; False: the thread does not run."""
        self._wake.set()
        return self._thread.is_alive()

    def tell_to_stop(self) -> None:
        """Have the thread end after the run in progress; returns at once."""
        self._stopping = True
        self._wake.set()

    def stop(self, timeout: float) -> bool:
        """End the thread; False if it is still alive after `timeout` seconds: the job blocks."""
        self.tell_to_stop()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def troubles(self, now: float) -> list[str]:
        """Why the job is not done: the thread has ended, or no run has ended for too long.

        Args:
            now: Seconds of the monotonic clock.
        """
        if not self._thread.is_alive():
            return [f"{self._job.name}: the thread has ended"]
        return late(self._job.name, now - self._ran, self._job.interval)

    def _main(self) -> None:
        current_service.set(self._service)
        compute_in_turns()
        while not self._stopping:
            with suppress(BaseException):  # another thread may raise one in this thread at any point
                with suppress_instrumentation():
                    self._repeat()
                return
            time.sleep(PAUSE_SECONDS)

    def _repeat(self) -> None:
        due = time.monotonic()
        while True:
            self._wake.clear()
            if self._stopping:  # looked at after that: the stop, which is told before, is not overlooked
                return
            with self._guard:
                self._job.run()
            now = self._ran = time.monotonic()
            due = next_start(due, now, self._job.interval) if due <= now else due
            self._wake.wait(due - now)
