"""`Worker`: the background work of one process, started and stopped in order."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from otel_monitoring.errors import TimeLimitError
from otel_monitoring.forks import renewed
from otel_monitoring.guard import fail_open, isolated
from otel_monitoring.redact import redact_error
from otel_monitoring.runtime import process_exit
from otel_monitoring.runtime.background import BackgroundThread, Job
from otel_monitoring.runtime.blocking_thread import BlockingJob, BlockingThread
from otel_monitoring.runtime.threads import in_thread

if TYPE_CHECKING:
    from otel_monitoring.monitoring.service import MonitoringService

T = TypeVar("T")

_BACKGROUND_STOP_SECONDS = 1.0
_DRAIN_SHARE = 0.4
_FINISH_SHARE = 0.6
_LEAST_SECONDS = 0.1
_PATIENCE = 0.5
"""Seconds that a start waits for a stop in progress; after that it is done when the stop has ended."""
_CHECK_LOOP_SECONDS = 1.0
"""Seconds between two checks whether the application's loop is closed."""


class Worker:
    """Starts and stops the background work of this process. Both are idempotent; a stopped worker can start again.

    A child forked after the start has to start again: threads do not survive a fork. The end of the process stops a
    worker that still runs.

    Args:
        jobs: The jobs of the background thread.
        blocking: A job that may block, which has a thread of its own.
        acquire: Called at the start with a stack; the stop releases in reverse what was put on it.
        bind: Called with the application's loop, at the start and when another loop replaces it.
        signalled: Called in the application's loop when the process receives the signal to end.
        drain: Makes the coroutine that the background thread runs first at the stop; its argument is how many seconds
            it may take.
        finish: Called at the stop when the background thread has ended, with the seconds it may take.
        release: Called last at the stop, with the seconds that are left.
        timeout: Seconds that the whole stop may take.
        service: The current service in the background thread: see `current_service`.
    """

    def __init__(
        self,
        jobs: tuple[Job, ...],
        *,
        blocking: BlockingJob | None = None,
        acquire: Callable[[ExitStack], None],
        bind: Callable[[asyncio.AbstractEventLoop], None],
        signalled: Callable[[], None],
        drain: Callable[[float], Coroutine[Any, Any, None]],
        finish: Callable[[float], None],
        release: Callable[[float], None],
        timeout: float,
        service: "MonitoringService | None" = None,
    ) -> None:
        self._jobs = jobs
        self._blocking_job = blocking
        self._service = service
        self._acquire = acquire
        self._bind = bind
        self._signalled = signalled
        self._drain = drain
        self._finish = finish
        self._release = release
        self.timeout = timeout
        self._background: BackgroundThread | None = None
        self._blocking: BlockingThread | None = None
        self._stack = ExitStack()
        self._pid: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next_loop: asyncio.AbstractEventLoop | None = None
        self._loop_end = process_exit.LoopEnd(self._loop_ended)
        self._implicit = False
        self._alone = 0
        self._stopping = renewed(self, "_stopping", threading.Lock)
        self.started_at: float | None = None
        """When this process started the work, in seconds of the monotonic clock; None before."""
        self.failure: str | None = None
        """Why the last start failed, redacted; None if it succeeded or there was none."""
        self.draining = False
        """Whether the drain or the stop has begun: nothing new is measured, checked or evaluated from then on."""

    @property
    def running(self) -> bool:
        """Whether this process, rather than its parent, has started and not stopped."""
        return self._background is not None and self._pid == os.getpid()

    def start(self, loop: asyncio.AbstractEventLoop, *, implicit: bool = False) -> bool:
        """Start for the application's `loop`; an explicit start also ends a drain.

        Args:
            loop: The application's event loop. It replaces a closed one.
            implicit: Whether nobody will call `stop`: the work then ends with the loop, or soon after it.

        Returns:
            False if the work runs already, or will start when the stop in progress has ended.

        Raises:
            Exception: Why the start failed, e.g. there can be no further thread; everything acquired is released.
        """
        if self.running:
            self.draining = self.draining and implicit
            self._rebind(loop)
            return False
        if not self._stopping.acquire(timeout=_PATIENCE):
            self._next_loop = loop
            return False
        self._stopping.release()
        self._pid = os.getpid()
        self._stack = ExitStack()
        self.draining = False
        self.started_at = time.monotonic()
        self._implicit = implicit
        jobs = (*self._jobs, Job("application loop", _CHECK_LOOP_SECONDS, self._check_loop))
        try:
            self._acquire(self._stack)
            self._loop = loop
            self._bind(loop)
            background = BackgroundThread(jobs, self._service)
            background.start()
            self._blocking = self._begin_blocking(background)
        except BaseException as error:
            self.failure = redact_error(error)
            self._release_all()
            raise
        self.failure = None
        self._background = background
        process_exit.enter(self)
        self._loop_end.follow(loop)
        return True

    def _begin_blocking(self, background: BackgroundThread) -> BlockingThread | None:
        if self._blocking_job is None:
            return None
        blocking = BlockingThread(self._blocking_job, self._service)
        try:
            blocking.start()
        except BaseException:
            background.stop(_BACKGROUND_STOP_SECONDS)
            raise
        return blocking

    def _release_all(self) -> None:
        with fail_open("stopping"):
            self._stack.close()
        with fail_open("stopping"):
            self._release(_LEAST_SECONDS)

    def troubles(self, now: float) -> list[str]:
        """Why the figures of this process may be out of date; empty before the start and during the drain.

        Args:
            now: Seconds of the monotonic clock.
        """
        if self.failure is not None:
            return [f"the monitoring has not started: {self.failure}"]
        if not self.running or self.draining:
            return []
        threads = (self._background, self._blocking)
        return [text for thread in threads if thread is not None for text in thread.troubles(now)]

    def stop(self, deadline: float | None = None) -> None:
        """Stop everything within the timeout. Blocks the calling thread: use `stop_soon` on an event loop.

        Args:
            deadline: By when to stop, in seconds of the monotonic clock; None: the timeout from now.
        """
        if self._pid != os.getpid():
            return
        until = process_exit.deadline(self.timeout) if deadline is None else deadline
        if not self._stopping.acquire(timeout=max(0.0, until - time.monotonic())):
            return
        try:
            self._stop(until)
        finally:
            self._stopping.release()
        loop, self._next_loop = self._next_loop, None
        if loop is not None and not loop.is_closed():
            with fail_open("starting the monitoring"):
                self.start(loop, implicit=self._implicit)

    def _stop(self, until: float) -> None:
        self.draining = True
        background, self._background = self._background, None
        blocking, self._blocking = self._blocking, None
        if background is None:
            return
        left = max(0.0, until - time.monotonic())
        seconds = left * _DRAIN_SHARE
        with fail_open("draining"), suppress(FutureTimeoutError):
            background.submit(self._drain(seconds)).result(seconds)
        with fail_open("stopping"):
            stopped = time.monotonic() + min(_BACKGROUND_STOP_SECONDS, left)
            if blocking is not None:
                blocking.tell_to_stop()
            background.stop(max(0.0, stopped - time.monotonic()))
            if blocking is not None:
                blocking.stop(max(0.0, stopped - time.monotonic()))
        with fail_open("stopping"):
            self._finish(max(_LEAST_SECONDS, until - time.monotonic()) * _FINISH_SHARE)
        with fail_open("stopping"):
            self._stack.close()
        with fail_open("stopping"):
            self._release(max(_LEAST_SECONDS, until - time.monotonic()))
        process_exit.leave(self)

    def park(self) -> None:
        """Stop in the background; the application's next loop starts the work again."""
        with suppress(RuntimeError):  # the interpreter exits: `stop_all` is at work
            threading.Thread(target=self.stop, name="otel-monitoring-park", daemon=True).start()

    def drain_soon(self) -> None:
        """Have the application's loop begin the drain; may be called in a signal handler."""
        if self._loop is not None and self.running:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._signalled)

    def move(self, loop: asyncio.AbstractEventLoop) -> None:
        """Work for another `loop` of the application, which goes on longer; callable in any thread."""
        if self.running and self._loop is not loop:
            self._loop = loop
            self._bind(loop)

    async def _loop_ended(self) -> None:
        if self._loop is asyncio.get_running_loop():  # otherwise the work goes on in another one
            await process_exit.loop_ended(self, self._stop_beside_others)

    def _rebind(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not loop and self._loop is not None and self._loop.is_closed():
            self._loop = loop
            self._bind(loop)
            process_exit.enter(self)
            self._loop_end.follow(loop)

    async def _check_loop(self) -> None:
        gone = self._implicit and self._loop is not None and self._loop.is_closed()
        self._alone = self._alone + 1 if gone else 0
        if self._alone > 1:
            self.park()

    async def _stop_beside_others(self) -> None:
        until = process_exit.deadline(self.timeout, alone=False)
        await in_thread(lambda: self.stop(until), name="otel-monitoring-stop")

    async def stop_soon(self) -> None:
        """Stop without blocking the caller's loop; where there can be no thread, the end of the process stops it."""
        with fail_open("stopping"):
            await in_thread(self.stop, name="otel-monitoring-stop")
        process_exit.release()

    def wake(self) -> bool:
        """Have the job that may block run at once, without waiting; callable in any thread.

        Returns:
            False if its thread does not run.
        """
        blocking = self._blocking
        return blocking is not None and self.running and blocking.wake()

    def submit(self, work: Callable[[], Coroutine[Any, Any, object]]) -> bool:
        """Have the background thread run the coroutine that `work` makes, without waiting; callable in any thread.

        Returns:
            False if the background thread does not run.
        """
        background = self._background
        if background is None or not self.running:
            return False
        try:
            background.submit(_guarded(work))
        except RuntimeError:  # the thread has just ended
            return False
        return True

    async def call(self, work: Callable[[], Coroutine[Any, Any, T]], timeout: float) -> T:
        """Run the coroutine that `work` makes in the background thread, or in the caller's loop if that does not run.

        Raises:
            TimeLimitError: It took longer than `timeout` seconds.
        """
        background = self._background if self.running else None
        try:
            if background is None:
                return await asyncio.wait_for(work(), timeout)
            future = background.submit(work())
            return await asyncio.wait_for(asyncio.wrap_future(future), timeout)
        except asyncio.TimeoutError:
            raise TimeLimitError(f"no answer within {timeout:g} s") from None


async def _guarded(work: Callable[[], Coroutine[Any, Any, object]]) -> None:
    with fail_open("work out of turn"):
        await isolated(work)
