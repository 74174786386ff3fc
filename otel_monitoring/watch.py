"""The watch thread: one background thread with its own event loop, in which everything periodic runs.

A blocked application loop cannot silence it, and a job that hangs delays no other. It is the only driver of time:
jobs are called with `now`, in seconds of the monotonic clock. What runs here is no traffic of the application:
instrumentations are suppressed.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from opentelemetry.instrumentation.utils import suppress_instrumentation

from otel_monitoring.guard import contained

T = TypeVar("T")

_FINISH_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Job:
    """Work to do again and again.

    Attributes:
        name: For the log line, should it fail.
        interval: Seconds from one start to the next; a run that takes longer skips the starts it missed.
        run: Called with the time of its start.
    """

    name: str
    interval: float
    run: Callable[[float], Awaitable[object]]


class WatchThread:
    """Runs jobs in a daemon thread. Start and stop it once; make another one to start again.

    Args:
        jobs: What to run. Each starts at once and then at its interval.
    """

    def __init__(self, jobs: tuple[Job, ...]) -> None:
        self._jobs = jobs
        self._loop = asyncio.new_event_loop()
        self._stopping: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._main, name="otel-monitoring-watch", daemon=True)
        self._running = threading.Event()

    def start(self) -> None:
        """Start the thread; returns when its loop runs."""
        self._thread.start()
        self._running.wait()

    def stop(self, timeout: float) -> bool:
        """Cancel the jobs and end the thread; False when it did not end within `timeout` seconds."""
        if not self._thread.is_alive():
            return True
        if self._thread is threading.current_thread():
            raise RuntimeError("the watch thread cannot wait for its own end")
        self._loop.call_soon_threadsafe(self._signal_stop)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def submit(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run `work` in the thread's loop.

        Raises:
            RuntimeError: The thread is not running.
        """
        if not self._thread.is_alive():
            work.close()
            raise RuntimeError("the watch thread is not running")
        return asyncio.run_coroutine_threadsafe(_suppressed(work), self._loop)

    def _signal_stop(self) -> None:
        if self._stopping is not None:
            self._stopping.set()

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._run())
        finally:
            self._loop.close()

    async def _run(self) -> None:
        self._stopping = asyncio.Event()
        tasks = [asyncio.create_task(_suppressed(_repeat(job)), name=job.name) for job in self._jobs]
        self._running.set()
        await self._stopping.wait()
        for task in tasks:
            task.cancel()
        leftover = asyncio.all_tasks() - {asyncio.current_task(), *tasks}
        if leftover:  # what was submitted just now, an alert say, may still finish
            await asyncio.wait(leftover, timeout=_FINISH_SECONDS)
        for task in leftover:
            task.cancel()
        await asyncio.gather(*tasks, *leftover, return_exceptions=True)


async def _suppressed(work: Coroutine[Any, Any, T]) -> T:
    with suppress_instrumentation():
        return await work


async def _repeat(job: Job) -> None:
    guard = contained(job.name)
    due = time.monotonic()
    while True:
        with guard:
            await job.run(time.monotonic())
        now = time.monotonic()
        due += job.interval
        if due <= now:
            due = now + job.interval - (now - due) % job.interval
        await asyncio.sleep(due - now)
