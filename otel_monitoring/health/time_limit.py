"""Time limits that count only the time in which the limited work could run.

A blocked event loop, a paused container or a machine without a free core says nothing about a database or a check, so
such delays are subtracted.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

from otel_monitoring.guard import isolated, stepwise
from otel_monitoring.instrumentation.mongodb.driver_errors import is_timeout
from otel_monitoring.runtime.threads import NotStarted
from otel_monitoring.value import Value

T = TypeVar("T")

GRACE = 0.2
"""Seconds beyond a time limit in which the loop itself may still report that the limit has passed."""

_STEP = 0.05
"""Seconds of one wait; what a wait takes longer is a delay."""
_BUSY_SHARE = 0.25
"""Share of the time limit. After a longer delay a timeout may be this process's own fault: it proves nothing."""


class NoAnswer(TimeoutError):  # noqa: N818 - reads as what happened
    """The work did not end within its time limit."""


class TimedResult(Value, Generic[T]):
    """The result of limited work.

    Attributes:
        result: What the work returned.
        seconds: How long it took, without delays.
    """

    result: T
    seconds: float


async def on_loop(
    loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, T]], timeout: float
) -> TimedResult[T]:
    """Run the coroutine that `work` makes on `loop`, of this thread or another, for at most `timeout` seconds.

    Seconds in which the loop, or the whole process, could not run do not count.

    Raises:
        NotStarted: `loop` does not run, has ended meanwhile, or was too busy to begin or continue the work in time.
        NoAnswer: The work began and did not end within `timeout`; it is cancelled.
        Escaped: The work raised a `BaseException` that is no `Exception`; it does not reach the loop.
        Exception: The work raised it.
    """
    if loop is asyncio.get_running_loop():
        return await _undelayed(work, timeout)
    if not loop.is_running():
        raise NotStarted("the application's event loop does not run")
    outcome: Future[TimedResult[T]] = Future()
    begun: list[asyncio.Future[TimedResult[T]]] = []

    def begin() -> None:
        if outcome.set_running_or_notify_cancel():  # otherwise nobody waits any more
            task = asyncio.ensure_future(_undelayed(work, timeout))
            begun.append(task)
            task.add_done_callback(lambda done: _hand_over(done, outcome))

    _post(loop, begin)
    answer = asyncio.wrap_future(outcome)
    try:
        await _while_turning(loop, begun, answer, timeout + GRACE)
        return await answer
    finally:
        outcome.cancel()  # what has not begun never will
        answer.cancel()
        if begun and not begun[0].done():
            with suppress(NotStarted):
                _post(loop, begun[0].cancel)


def _post(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError as error:
        raise NotStarted("the application's event loop ended meanwhile") from error


async def _while_turning(
    loop: asyncio.AbstractEventLoop, turned: list[Any], answer: "asyncio.Future[Any]", period: float
) -> None:
    """Wait for `answer` as long as `loop` makes at least one turn in each `period` seconds.

    The time limit on the loop lets delays of the loop pass, so a busy loop answers later; only one that stands still
    never does.

    Args:
        loop: Where the answer is made.
        turned: Is filled by the first turn.
        answer: What is waited for.
        period: Seconds without a turn after which the loop counts as blocked.

    Raises:
        NotStarted: The loop made no turn, or ended.
    """
    while not (await asyncio.wait({answer}, timeout=period))[0]:
        if not turned:
            raise NotStarted("the application's event loop is blocked")
        turned = []
        _post(loop, partial(turned.append, True))


async def _undelayed(work: Callable[[], Coroutine[Any, Any, T]], timeout: float) -> TimedResult[T]:
    """Await what `work` makes for at most `timeout` seconds, delays not counted.

    Raises:
        NoAnswer: The work took longer.
        NotStarted: A time limit inside the work ran out because of delays.
        Exception: The work raised it.
    """
    own = _Timed(work)
    task = asyncio.ensure_future(isolated(lambda: own))
    started = time.perf_counter()
    try:
        delayed = await until(task, timeout, lambda: own.seconds)
        return TimedResult(answered(task, delayed, timeout), time.perf_counter() - started - delayed)
    finally:
        with suppress(RuntimeError):  # the loop is closed
            task.cancel()


class _Timed(Awaitable[T]):
    """Awaits what `work` makes, and sums up the seconds in which the work itself blocks the loop.

    PyMongo 4.9's asynchronous client, for example, blocks the loop while it waits for a server.
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
    """Wait for `future`; returns the seconds of delay by other work on this loop, or by other processes, meanwhile.

    Args:
        future: The future to wait for.
        timeout: Seconds that it may take, delays not counted.
        own: Returns the seconds for which the awaited work has blocked this loop itself; they are no delay.

    Raises:
        NoAnswer: The future took longer.
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
        future: A future that is done.
        delayed: Seconds of delay while it was awaited.
        timeout: Its time limit, in seconds.

    Raises:
        NotStarted: The future was cancelled, or timed out after delays of more than a quarter of `timeout`.
        Exception: What the future raised.
    """
    if future.cancelled():
        raise NotStarted("the question was cancelled")
    error = future.exception()
    if error is not None and delayed > _BUSY_SHARE * timeout and is_timeout(error):
        raise NotStarted("this process was too busy to hear an answer") from error
    return future.result()


def _hand_over(done: "asyncio.Future[T]", outcome: "Future[T]") -> None:
    # Retrieved in any case: asyncio logs an exception that nobody retrieves.
    error = None if done.cancelled() else done.exception()
    if done.cancelled():  # by the end of the loop: the waiting side has not cancelled it
        outcome.set_exception(NotStarted("the application's event loop ended meanwhile"))
    elif error is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(done.result())
