"""Time limits for the application's code on the application's event loop, without the delays of that loop.

A blocked loop, a paused container or a machine without a free core says nothing about the database or the check that
was asked.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from otel_monitoring.guard import isolated, stepwise
from otel_monitoring.instrumentation.mongodb.evidence import is_timeout
from otel_monitoring.runtime.threads import NotStarted

T = TypeVar("T")

GRACE = 0.2
"""Seconds that a loop may be late with saying that its own time limit has passed."""

_STEP = 0.05
_BUSY_SHARE = 0.25
"""Share of the time limit: in a process that was delayed by more, a late answer looks like none."""


class NoAnswer(TimeoutError):  # noqa: N818 - reads as what happened
    """No answer within the time limit."""


@dataclass(frozen=True)
class TimedResult(Generic[T]):
    """The result of some work.

    Attributes:
        result: What it returned.
        seconds: How long it took, without the delays of the loop.
    """

    result: T
    seconds: float


async def on_loop(
    loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, T]], timeout: float
) -> TimedResult[T]:
    """Run the coroutine that `work` makes on another thread's `loop`, for at most `timeout` seconds.

    Seconds in which the loop, or all of this process, stood still do not count.

    Raises:
        NotStarted: `loop` is closed, does not run, ended meanwhile, or was too busy to begin, or to go on, in time.
        NoAnswer: The work began and did not end within `timeout`; it is cancelled.
        Escaped: The work raised what is no `Exception`; the loop does not see it.
    """
    if loop is asyncio.get_running_loop():
        return await _undelayed(work, timeout)
    if not loop.is_running():
        raise NotStarted("the application's event loop does not run")
    outcome: Future[TimedResult[T]] = Future()
    begun: list[asyncio.Future[TimedResult[T]]] = []

    def begin() -> None:
        if not outcome.cancelled():  # else nobody waits any more, and no coroutine is made to be thrown away
            task = asyncio.ensure_future(_undelayed(work, timeout))
            begun.append(task)
            task.add_done_callback(lambda done: _hand_over(done, outcome))

    try:
        loop.call_soon_threadsafe(begin)
    except RuntimeError as error:
        raise NotStarted(str(error)) from error
    try:
        return await asyncio.wait_for(asyncio.wrap_future(outcome), timeout + GRACE)
    except asyncio.TimeoutError:
        if not outcome.cancelled():  # the work's own
            raise
        if loop.is_closed():
            raise NotStarted("the application's event loop ended meanwhile") from None
        # Its own limit, a little shorter, did not fire: the loop stood still meanwhile.
        raise NotStarted("the application's event loop is blocked") from None
    finally:
        if begun and not begun[0].done():
            with suppress(RuntimeError):  # the loop was closed: nothing runs there any more
                loop.call_soon_threadsafe(begun[0].cancel)


async def _undelayed(work: Callable[[], Coroutine[Any, Any, T]], timeout: float) -> TimedResult[T]:
    """Await `work` for at most `timeout` seconds, without the delays of the loop.

    Raises:
        NoAnswer: The work took longer.
        NotStarted: The work's own time limit ran out because the loop was delayed.
    """
    own = _Timed(work)
    task = asyncio.ensure_future(isolated(lambda: own))
    started = time.perf_counter()
    try:
        delayed = await until(task, timeout, lambda: own.seconds)
        return TimedResult(answered(task, delayed, timeout), time.perf_counter() - started - delayed)
    finally:
        with suppress(RuntimeError):  # the loop was closed over it
            task.cancel()


class _Timed(Awaitable[T]):
    """Awaits what `work` makes, and adds up the seconds in which the work itself blocks the loop.

    PyMongo 4.9's asynchronous client blocks it while it waits for a server.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._work = work
        self.seconds = 0.0

    def __await__(self) -> Generator[Any, Any, T]:
        return stepwise(self._work(), self._timed)

    def _timed(self, step: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        try:
            return step()
        finally:
            self.seconds += time.perf_counter() - began


async def until(future: "asyncio.Future[Any]", timeout: float, own: Callable[[], float] = lambda: 0.0) -> float:
    """Wait for `future`; returns the seconds by which other work delayed this loop, or all of this process, meanwhile.

    Args:
        future: What is waited for.
        timeout: Seconds it may take, without those delays.
        own: Tells the seconds for which it has blocked this loop itself.

    Raises:
        NoAnswer: It took longer.
    """
    started = time.perf_counter()
    delayed = 0.0
    while True:
        before = time.perf_counter()
        left = timeout - (before - started - delayed)
        if left <= 0:
            raise NoAnswer(f"no answer within {timeout:g} s")
        step, busy = min(left, _STEP), own()
        await asyncio.wait({future}, timeout=step)
        delayed += max(0.0, time.perf_counter() - before - step - (own() - busy))
        if future.done():
            return delayed


def answered(future: "asyncio.Future[T]", delayed: float, timeout: float) -> T:
    """The result of a future that is done.

    Args:
        future: What was waited for.
        delayed: Seconds by which the waiting was delayed.
        timeout: Seconds it was allowed.

    Raises:
        NotStarted: It was cancelled, or its time ran out while this process was too busy. Also what it raised.
    """
    if future.cancelled():
        raise NotStarted("the question was cancelled")
    error = future.exception()
    if error is not None and delayed > _BUSY_SHARE * timeout and is_timeout(error):
        raise NotStarted("this process was too busy to hear an answer") from error
    return future.result()


def _hand_over(done: "asyncio.Future[T]", outcome: "Future[T]") -> None:
    error = None if done.cancelled() else done.exception()  # asked for in any case: unasked, asyncio would log it
    if outcome.cancelled():
        return
    if done.cancelled():  # not by us, who wait for it: by whoever ends the loop
        outcome.set_exception(NotStarted("the application's event loop ended meanwhile"))
    elif error is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(done.result())
