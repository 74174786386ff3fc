"""The end of the process: every service that still runs is stopped, by one deadline, before a signal ends it all.

A server need not give an application a lifespan. What there is in any case: the event loop ends, the interpreter exits,
or a signal kills the process as soon as the server has nothing more to do. uvicorn does the last, so signals that a
server handles are held back in the main thread until everything is stopped; its own handling stays as it is.
"""

import asyncio
import atexit
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Protocol

from otel_monitoring import seams
from otel_monitoring.forks import renewed
from otel_monitoring.guard import fail_open

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_MAX_IDLE = 8
"""How many services of this process may run without a loop; the one that has waited longest is parked then."""


class Stoppable(Protocol):
    """What runs until the process ends."""

    timeout: float
    """Seconds its stop may take."""

    def stop(self, deadline: float | None = None) -> None:
        """Stop by `deadline`, in seconds of the monotonic clock."""

    def park(self) -> None:
        """Stop without anybody waiting."""

    def drain_soon(self) -> None:
        """The process is about to end: watch nothing any more. Called by a signal handler: it must not take a lock."""


class _Process:
    """What is known of this process."""

    def __init__(self) -> None:
        self.running: dict[Stoppable, None] = {}
        self.idle: dict[Stoppable, None] = {}
        self.chained: dict[signal.Signals, _Chained] = {}
        self.signalled = False
        self.until: float | None = None
        self.finalized = False


_process = renewed(sys.modules[__name__], "_process", _Process)


class _Chained:
    """A server's handler of a signal, and before it: note the signal, and do not let it end the main thread yet.

    What runs drains from here on: without a lifespan of ours nobody else says that the application closes its clients.
    """

    def __init__(self, before: Callable[[int, FrameType | None], Any]) -> None:
        self.before = before

    def __call__(self, number: int, frame: FrameType | None) -> Any:
        if _process.running:
            _process.signalled = True
            for target in tuple(_process.running):
                target.drain_soon()
            if hasattr(signal, "pthread_sigmask"):
                # A second one is still delivered, to another thread; Python has the main thread handle it.
                signal.pthread_sigmask(signal.SIG_BLOCK, {number})
        return self.before(number, frame)


def enter(target: Stoppable) -> None:
    """`target` runs from now on: it is stopped at the end of the process at the latest."""
    _process.running[target] = None
    _process.idle.pop(target, None)
    atexit.unregister(stop_all)
    atexit.register(stop_all)
    if not _process.finalized:
        _process.finalized = True
        _finalize()
    if threading.current_thread() is threading.main_thread():
        _chain()


def _finalize() -> None:
    """Have a child of `multiprocessing`, which ends without `atexit` if it was forked, stop everything at its end."""
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is not None and multiprocessing.parent_process() is not None:
        with seams.FINALIZERS:
            from multiprocessing.util import Finalize

            Finalize(None, stop_all, exitpriority=0)


def leave(target: Stoppable) -> None:
    """`target` does not run any more."""
    _process.running.pop(target, None)
    _process.idle.pop(target, None)
    release()


def release() -> None:
    """Once nothing runs any more, let a signal that was held back do its work. Works in the main thread only."""
    process = _process
    if process.running or threading.current_thread() is not threading.main_thread():
        return
    process.signalled, process.until = False, None
    while process.chained:
        number, chained = process.chained.popitem()
        if signal.getsignal(number) is chained:
            signal.signal(number, chained.before)
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})


def deadline(timeout: float, *, alone: bool = True) -> float:
    """Until when a stop may take that may take `timeout` seconds, in seconds of the monotonic clock.

    At the end of the process all stops together have that time.

    Args:
        timeout: Seconds.
        alone: Those that still run wait for this one: it gets its share of the time. Otherwise they stop beside it.
    """
    process, now = _process, time.monotonic()
    if not process.signalled:
        return now + timeout
    if process.until is None:
        process.until = now + timeout
    left = max(0.0, process.until - now)
    return now + (left / max(1, len(process.running)) if alone else left)


def stop_all() -> None:
    """Stop whatever runs, all at once, by one deadline; and wait for what is being stopped."""
    process = _process
    process.signalled = True
    targets = list(process.running)
    if targets:
        until = deadline(max(target.timeout for target in targets), alone=False)
        threads = []
        for target in targets:
            thread = threading.Thread(target=target.stop, args=(until,), name="otel-monitoring-stop", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is going down and starts no more threads
                target.stop(deadline(target.timeout))
            else:
                threads.append(thread)
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        process.running.clear()
    release()


class LoopEnd:
    """Tells when an event loop ends: whoever runs one to its end closes the asynchronous generators begun in it.

    Args:
        ended: Awaited in the loop.
    """

    def __init__(self, ended: Callable[[], Any]) -> None:
        self._ended = ended
        self._waiting: Any = None

    def follow(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for the end of `loop`, if it is the one that runs here."""
        with suppress(RuntimeError):
            if asyncio.get_running_loop() is loop:
                self._waiting = self._wait()
                with suppress(StopIteration):
                    self._waiting.__anext__().send(None)

    async def _wait(self) -> Any:
        try:
            yield
        finally:
            with fail_open("the end of the event loop"):
                await self._ended()


async def loop_ended(target: Stoppable, stop: Callable[[], Any]) -> None:
    """The loop of `target` ends: with the process, if that was sent a signal; else another loop may come.

    Args:
        target: What runs.
        stop: Stops it, awaited.
    """
    process = _process
    if process.signalled:
        await stop()
        release()
        return
    if target in process.running:
        process.idle[target] = None
        while len(process.idle) > _MAX_IDLE:
            longest = next(iter(process.idle))
            process.idle.pop(longest)
            longest.park()


def _chain() -> None:
    """Get between a signal and the handler that a server has set; one that nobody handles is left alone.

    Where `asyncio.run` handles SIGINT, it raises `KeyboardInterrupt`, and the loop ends in order.
    """
    for number in _SIGNALS:
        handler = signal.getsignal(number)
        if not callable(handler) or isinstance(handler, _Chained) or handler is signal.default_int_handler:
            continue
        module = str(getattr(getattr(handler, "func", handler), "__module__", ""))
        if module != "asyncio.runners":
            _process.chained[number] = chained = _Chained(handler)
            signal.signal(number, chained)
