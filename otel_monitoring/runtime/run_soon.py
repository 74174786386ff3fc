"""`RunSoon`: work that begins soon after each request, once at a time, however long it takes."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from otel_monitoring.guard import fail_open, isolated


class RunSoon:
    """Runs `work` after each request; requests during a run have one more run. One event loop uses it.

    Args:
        work: Makes the coroutine of a run.
        name: Its name in log lines.
        elapsed: Returns monotonic time in seconds.

    Attributes:
        skipped: How many requests had no run of their own, because one was waiting already.
        took: Seconds that the last run took; None: none has ended.
    """

    def __init__(
        self, work: Callable[[], Awaitable[object]], *, name: str, elapsed: Callable[[], float] = time.monotonic
    ) -> None:
        self._work = work
        self._guard = fail_open(name)
        self._elapsed = elapsed
        self._wanted = False
        self._task: asyncio.Task[None] | None = None
        self._began_at: float | None = None
        self.skipped = 0
        self.took: float | None = None

    def request(self) -> None:
        """Have a run begin; returns at once. It begins after this call, as soon as the one in progress has ended."""
        self.skipped += self._wanted
        self._wanted = True
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._run())

    async def wait(self, timeout: float) -> bool:
        """Wait until nothing runs, at most `timeout` seconds; returns whether nothing does."""
        if self._task is None or self._task.done():
            return True
        await asyncio.wait({self._task}, timeout=timeout)
        return self._task.done()

    def seconds(self, now: float) -> float | None:
        """For how long the run in progress has lasted; None: there is none. Callable in any thread.

        Args:
            now: Seconds of the monotonic clock.
        """
        began_at = self._began_at
        return None if began_at is None else now - began_at

    async def _run(self) -> None:
        while self._wanted:
            self._wanted = False
            began_at = self._began_at = self._elapsed()
            try:
                with self._guard:
                    await isolated(self._work)
            finally:
                self._began_at = None
                self.took = self._elapsed() - began_at
