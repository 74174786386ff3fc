"""`Worker`: what runs in one worker process between start and stop, and in which order it comes and goes."""

import asyncio
import atexit
import os
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import ExitStack, suppress
from typing import Any, TypeVar

from otel_monitoring.guard import apart, contained
from otel_monitoring.health.execution import in_thread
from otel_monitoring.watch import Job, WatchThread

T = TypeVar("T")

_WATCH_STOP_SECONDS = 1.0
_DRAIN_SHARE = 0.4


class Worker:
    """Starts and stops the background work of this process; both are idempotent, and starting again works.

    A process forked after the start begins anew: threads do not survive a fork.

    Args:
        jobs: What the watch thread repeats.
        acquire: Called at the start with the application's loop and a stack that releases in reverse at the stop.
        drain: Run in the watch thread at the beginning of the stop, with the seconds it may take.
        release: Called at the very end of the stop with the seconds that are left.
        timeout: Seconds the whole stop may take.
    """

    def __init__(
        self,
        jobs: tuple[Job, ...],
        *,
        acquire: Callable[[asyncio.AbstractEventLoop, ExitStack], None],
        drain: Callable[[float], Coroutine[Any, Any, None]],
        release: Callable[[float], None],
        timeout: float,
    ) -> None:
        self._jobs = jobs
        self._acquire = acquire
        self._drain = drain
        self._release = release
        self._timeout = timeout
        self._watch: WatchThread | None = None
        self._stack = ExitStack()
        self._pid: int | None = None
        self.started_at: float | None = None
        """When this process started, in seconds of the monotonic clock; None before."""
        self.draining = False
        """Whether the stop has begun: from then on nothing new is measured, checked or evaluated."""

    @property
    def running(self) -> bool:
        """Whether this very process has started and not stopped."""
        return self._watch is not None and self._pid == os.getpid()

    def start(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Start for the application's `loop`; False when it runs already. A drain is over with it."""
        self.draining = False
        if self.running:
            return False
        self._pid = os.getpid()
        self._stack = ExitStack()
        self.started_at = time.monotonic()
        self._acquire(loop, self._stack)
        watch = WatchThread(self._jobs)
        watch.start()
        self._watch = watch
        atexit.register(self.stop)
        return True

    def troubles(self, now: float) -> list[str]:
        """Why what this process knows may be out of date; nothing before the start and from the drain on.

        Args:
            now: Seconds of the monotonic clock.
        """
        watch = self._watch
        return watch.troubles(now) if watch is not None and self.running and not self.draining else []

    def stop(self) -> None:
        """Stop everything within the timeout. Blocks: use `stop_soon` on an event loop."""
        self.draining = True
        watch, self._watch = self._watch, None
        if watch is None or self._pid != os.getpid():
            return
        atexit.unregister(self.stop)
        deadline = time.monotonic() + self._timeout
        seconds = self._timeout * _DRAIN_SHARE
        with contained("draining"), suppress(FutureTimeoutError):
            watch.submit(self._drain(seconds)).result(seconds)
        with contained("stopping"):
            watch.stop(min(_WATCH_STOP_SECONDS, self._timeout))
        with contained("stopping"):
            self._stack.close()
        with contained("stopping"):
            self._release(max(0.1, deadline - time.monotonic()))

    async def stop_soon(self) -> None:
        """Stop without blocking the caller's loop."""
        await in_thread(self.stop, name="otel-monitoring-stop")

    def poke(self, work: Callable[[], Coroutine[Any, Any, object]]) -> bool:
        """Have the watch thread run the coroutine that `work` makes; from any thread, without waiting.

        Returns:
            False when it does not run.
        """
        watch = self._watch
        if watch is None or not self.running:
            return False
        try:
            watch.submit(_guarded(work))
        except RuntimeError:  # it ended just now
            return False
        return True

    async def call(self, work: Callable[[], Coroutine[Any, Any, T]], timeout: float) -> T:
        """Run the coroutine that `work` makes in the watch thread, or right here while it does not run.

        Raises:
            TimeoutError: It took longer than `timeout` seconds.
        """
        watch = self._watch if self.running else None
        try:
            if watch is None:
                return await asyncio.wait_for(work(), timeout)
            future = watch.submit(work())
            return await asyncio.wait_for(asyncio.wrap_future(future), timeout)
        except asyncio.TimeoutError:
            raise TimeoutError(f"no answer within {timeout:g} s") from None


async def _guarded(work: Callable[[], Coroutine[Any, Any, object]]) -> None:
    with contained("work out of turn"):
        await apart(work)
