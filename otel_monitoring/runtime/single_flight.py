"""`SingleFlight`: blocking work in a thread, once at a time, that several callers wait for."""

import asyncio
import time
from collections.abc import Callable

from otel_monitoring.runtime.threads import in_thread

SLOW_SECONDS = 1.0
"""Who waits for work that has taken longer than this waits no longer than this the next time."""


class SingleFlight:
    """Runs `work` in a thread of its own, once at a time. One event loop calls `run`.

    Args:
        work: What to do.
        name: The name of its thread.
    """

    def __init__(self, work: Callable[[], None], *, name: str) -> None:
        self._work = work
        self._name = name
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Forget a run that was in progress in the parent process: it never ends in the child."""
        self._running: asyncio.Task[None] | None = None
        self._begun = self._ended = 0
        self._began_at = self._took = 0.0

    def patience(self, most: float) -> float:
        """Seconds to wait for a run: `most`, or a moment where runs take long, so that not everybody waits in vain.

        Args:
            most: Seconds to wait where they do not.
        """
        took = max(self._took, self.seconds(time.monotonic()) or 0.0)
        return most if took <= SLOW_SECONDS else min(most, SLOW_SECONDS)

    async def run(self, timeout: float) -> bool:
        """Wait for a run that begins after this call; all who wait share it.

        A run in progress may have passed what the caller wants done: it is awaited, and one more follows.

        Args:
            timeout: Seconds to wait for one run.

        Returns:
            False: a run has taken longer. It goes on, and later calls wait for it.

        Raises:
            Exception: `work` raised it.
        """
        needed = self._begun + 1
        while True:
            running = self._running
            if running is None or running.done():
                self._begun += 1
                self._began_at = time.monotonic()
                running = self._running = asyncio.ensure_future(self._run(self._begun))
                # Retrieved in any case: callers may be cancelled, and asyncio logs what nobody retrieves.
                running.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.wait({running}, timeout=timeout)
            if not running.done():
                return False
            if self._ended >= needed:
                running.result()
                return True

    def seconds(self, now: float) -> float | None:
        """For how long the run in progress has lasted; None: there is none.

        Args:
            now: Seconds of the monotonic clock.
        """
        return None if self._running is None or self._running.done() else now - self._began_at

    async def _run(self, number: int) -> None:
        try:
            await in_thread(self._work, name=self._name)
        finally:
            self._ended, self._took = number, time.monotonic() - self._began_at
