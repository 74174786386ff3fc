"""`BackgroundThread`: a thread, with an event loop of its own, in which periodic work runs.

A blocked application loop does not stop it, a hanging job delays no other job, and an exception ends neither its job
nor the thread. What runs here is no traffic of the application: OpenTelemetry's instrumentations are suppressed.
A job that blocks, as one that waits for a store, has a `BlockingThread`.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from otel_monitoring.guard import fail_open, isolated, loop_safe
from otel_monitoring.runtime.current_service import current_service
from otel_monitoring.runtime.give_way import compute_in_turns
from otel_monitoring.runtime.suppression import suppress_instrumentation

if TYPE_CHECKING:
    from otel_monitoring.monitoring.service import MonitoringService

T = TypeVar("T")

_FINISH_SECONDS = 0.5
PAUSE_SECONDS = 0.1
"""Seconds before the thread's loop, or a job, is started again after something has ended it."""
_LATE_INTERVALS = 2.5
_LATE_SECONDS = 30.0

_guard = fail_open("the background thread", theirs=True)


class Job(NamedTuple):
    """Periodic work.

    Attributes:
        name: Its name in log lines.
        interval: Seconds from one start to the next; a longer run skips the starts it misses.
        run: Makes the coroutine of one run.
        due: Whether a run has anything to do; asking costs a hundredth of a run.
    """

    name: str
    interval: float
    run: Callable[[], Awaitable[object]]
    due: Callable[[], bool] = lambda: True


class BackgroundThread:
    """Runs jobs in a daemon thread. An instance is started and stopped once; a restart needs a new one.

    Args:
        jobs: What to run. Each job runs at the start and then at its interval.
        service: The current service inside the jobs: see `current_service`.
    """

    def __init__(self, jobs: tuple[Job, ...], service: "MonitoringService | None" = None) -> None:
        self._jobs = jobs
        self._service = service
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._finished = False
        self._main_task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._main, name="otel-monitoring-background", daemon=True)
        self._running = threading.Event()
        self._ran: dict[str, float] = {}

    def start(self) -> None:
        """Start the thread; returns when its loop runs.

        Raises:
            RuntimeError: There can be no further thread.
        """
        self._ran = dict.fromkeys((job.name for job in self._jobs), time.monotonic())
        try:
            self._thread.start()
        except BaseException:
            self._loop.close()
            raise
        self._running.wait()

    def stop(self, timeout: float) -> bool:
        """Cancel the jobs and end the thread; False if it is still alive after `timeout` seconds.

        Raises:
            RuntimeError: It was called in this very thread.
        """
        if not self._thread.is_alive():
            return True
        if self._thread is threading.current_thread():
            raise RuntimeError("the background thread cannot wait for its own end")
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def troubles(self, now: float) -> list[str]:
        """Why the figures may be out of date: the thread has ended, or no run of a job has ended for too long.

        Args:
            now: Seconds of the monotonic clock.
        """
        if not self._thread.is_alive():
            return ["the background thread has ended: nothing is measured or checked any more"]
        return [text for job in self._jobs for text in late(job.name, now - self._ran.get(job.name, now), job.interval)]

    def submit(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run `work` in the thread's loop; returns the future of its result.

        Raises:
            RuntimeError: The thread is not running.
        """
        if not self._thread.is_alive():
            work.close()
            raise RuntimeError("the background thread is not running")
        return asyncio.run_coroutine_threadsafe(self._as_service(work), self._loop)

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        compute_in_turns()
        while not self._finished and not self._loop.is_closed():
            with suppress(BaseException):  # another thread may raise one in this thread at any point
                self._drive()
        self._loop.close()

    def _drive(self) -> None:
        """Run the loop until the jobs have been stopped or an exception ends the loop; the next call continues it."""
        with _guard:
            if self._main_task is None or self._main_task.done():
                self._main_task = self._loop.create_task(self._run())
            self._loop.run_until_complete(self._main_task)
        if not self._finished:
            time.sleep(PAUSE_SECONDS)

    async def _run(self) -> None:
        stopping = asyncio.create_task(self._stopping.wait())
        tasks = {self._begin(job): job for job in self._jobs}
        self._running.set()
        try:
            while not stopping.done():
                await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
                for ended in [task for task in tasks if task.done()]:
                    job = tasks.pop(ended)
                    fail_open.note(job.name, RuntimeError("the job ended; it is started again"))
                    await asyncio.sleep(PAUSE_SECONDS)
                    tasks[self._begin(job)] = job
            self._finished = True
        finally:
            await _end(tasks)

    def _begin(self, job: Job) -> "asyncio.Task[None]":
        return asyncio.create_task(self._as_service(self._repeat(job)), name=job.name)

    async def _as_service(self, work: Coroutine[Any, Any, T]) -> T:
        current_service.set(self._service)  # for this task only
        with suppress_instrumentation():
            return await loop_safe(work)

    async def _repeat(self, job: Job) -> None:
        guard = fail_open(job.name)
        due = time.monotonic()
        while True:
            with guard:
                if job.due():
                    await isolated(job.run)
            now = self._ran[job.name] = time.monotonic()
            due = next_start(due, now, job.interval)
            await asyncio.sleep(due - now)


def late(name: str, seconds: float, interval: float) -> list[str]:
    """Says that no run of a job has ended for too long; empty if one has.

    Args:
        name: The job.
        seconds: For how long none has.
        interval: Seconds from one start of it to the next.
    """
    is_late = seconds > _LATE_INTERVALS * interval + _LATE_SECONDS
    return [f"{name}: no run has ended for {seconds:.0f} s"] if is_late else []


def next_start(due: float, now: float, interval: float) -> float:
    """When a job that was due at `due` starts next, in the rhythm of its `interval`; missed starts are left out."""
    due += interval
    return due if due > now else now + interval - (now - due) % interval


async def _end(jobs: "Iterable[asyncio.Task[None]]") -> None:
    tasks = set(jobs)
    for task in tasks:
        task.cancel()
    leftover = asyncio.all_tasks() - {asyncio.current_task(), *tasks}
    if leftover:  # submitted work, e.g. an alert, has this long to finish
        await asyncio.wait(leftover, timeout=_FINISH_SECONDS)
    for task in leftover:
        task.cancel()
    await asyncio.gather(*tasks, *leftover, return_exceptions=True)
