"""The end of the process: every worker that still runs is stopped by one deadline before the process ends.

A server need not run an application's lifespan. In any case one of these happens: the event loop ends, the interpreter
exits, or a signal kills the process once the server is done. uvicorn raises the signal again for that; so a signal that
a server handles is blocked in the main thread until everything is stopped. The server's handler runs as before.
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
from weakref import finalize

from otel_monitoring import seams
from otel_monitoring.forks import renewed
from otel_monitoring.guard import fail_open

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_MAX_IDLE = 8
"""Workers that may run without an event loop; one more, and the one that has waited longest is parked."""


class Stoppable(Protocol):
    """A worker, as the end of the process sees it."""

    timeout: float
    """Seconds that `stop` may take."""

    def stop(self, deadline: float | None = None) -> None:
        """Stop by `deadline`, in seconds of the monotonic clock."""

    def park(self) -> None:
        """Stop in the background."""

    def drain_soon(self) -> None:
        """The process is about to end: measure and check nothing new. Runs in a signal handler, so it takes no lock."""


class _Process:
    """The state of this process.

    Attributes:
        running: Workers that run, in the order of their start.
        idle: Those of them whose event loop has ended.
        chained: Our handlers in front of a server's, by signal.
        signalled: Whether the process is about to end.
        until: By when every stop ends, in seconds of the monotonic clock; None before the first stop.
        finalized: Whether `multiprocessing` has been told to call `stop_all`.
    """

    def __init__(self) -> None:
        self.running: dict[Stoppable, None] = {}
        self.idle: dict[Stoppable, None] = {}
        self.chained: dict[signal.Signals, _Chained] = {}
        self.signalled = False
        self.until: float | None = None
        self.finalized = False


_process = renewed(sys.modules[__name__], "_process", _Process)


class _Chained:
    """A signal handler in front of a server's: it starts the drain and blocks the signal, then calls the server's.

    Every running worker drains from here on: without a lifespan nothing else says that the application will close its
    clients.
    """

    def __init__(self, before: Callable[[int, FrameType | None], Any]) -> None:
        self.before = before

    def __call__(self, number: int, frame: FrameType | None) -> Any:
        if _process.running:
            _process.signalled = True
            for target in tuple(_process.running):
                target.drain_soon()
            if hasattr(signal, "pthread_sigmask"):
                # A second signal is delivered to another thread, and Python still runs the handler in the main thread.
                signal.pthread_sigmask(signal.SIG_BLOCK, {number})
        return self.before(number, frame)


def enter(target: Stoppable) -> None:
    """`target` has started: it is stopped at the end of the process at the latest."""
    _process.running[target] = None
    _process.idle.pop(target, None)
    # The hook of all finalizers is registered with the first one: before ours, so that it runs after ours. It closes
    # connections that the stop still needs.
    finalize(_process, stop_all).detach()
    atexit.unregister(stop_all)
    atexit.register(stop_all)
    if not _process.finalized:
        _process.finalized = True
        _finalize()
    if threading.current_thread() is threading.main_thread():
        _chain()


def _finalize() -> None:
    """Have `multiprocessing` call `stop_all` at the end of its child: a forked child ends without `atexit`."""
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is not None and multiprocessing.parent_process() is not None:
        with seams.FINALIZERS:
            from multiprocessing.util import Finalize

            Finalize(None, stop_all, exitpriority=0)


def leave(target: Stoppable) -> None:
    """`target` has stopped."""
    _process.running.pop(target, None)
    _process.idle.pop(target, None)
    release()


def release() -> None:
    """When no worker runs any more, restore the server's handlers and unblock the signals; in the main thread only."""
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
    """By when a stop has to end, in seconds of the monotonic clock.

    At the end of the process all stops share one deadline, `timeout` seconds after the first stop began.

    Args:
        timeout: Seconds that the stop may take.
        alone: Whether the other workers stop after this one: then it gets its share of the time that is left. False:
            they stop at the same time.
    """
    process, now = _process, time.monotonic()
    if not process.signalled:
        return now + timeout
    if process.until is None:
        process.until = now + timeout
    left = max(0.0, process.until - now)
    return now + (left / max(1, len(process.running)) if alone else left)


def stop_all() -> None:
    """Stop every running worker, at the same time and by one deadline, and wait for them."""
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
            except RuntimeError:  # the interpreter exits and starts no more threads
                target.stop(deadline(target.timeout))
            else:
                threads.append(thread)
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        process.running.clear()
    release()


class LoopEnd:
    """Tells when an event loop ends, by an asynchronous generator: `asyncio.run` closes those at the loop's end.

    Args:
        ended: Makes what is awaited in the loop at its end.
    """

    def __init__(self, ended: Callable[[], Any]) -> None:
        self._ended = ended
        self._waiting: Any = None

    def follow(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for the end of `loop`, if it is the running loop."""
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
    """The event loop of `target` has ended: stop it if the process ends, else keep it for another loop.

    Args:
        target: The worker.
        stop: Makes the coroutine that stops it.
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
    """Put our handler in front of the one that a server has set; signals without a handler are left alone.

    The handler of `asyncio.run` for SIGINT is left alone, too: it raises `KeyboardInterrupt`, and the loop ends in
    order.
    """
    for number in _SIGNALS:
        handler = signal.getsignal(number)
        if not callable(handler) or isinstance(handler, _Chained) or handler is signal.default_int_handler:
            continue
        module = str(getattr(getattr(handler, "func", handler), "__module__", ""))
        if module != "asyncio.runners":
            _process.chained[number] = chained = _Chained(handler)
            signal.signal(number, chained)
