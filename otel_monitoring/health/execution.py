"""Running other people's code from the watch thread so that it can neither block nor outlive its timeout."""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from otel_monitoring.guard import apart, as_exception

T = TypeVar("T")


class NotStarted(Exception):  # noqa: N818 - a state, not an error: the work never began
    """The loop the work belongs to did not get to it in time: nothing is known about its result."""


async def in_thread(work: Callable[[], T], *, name: str) -> T:
    """Run blocking `work` in a daemon thread of its own, in the caller's context, and await its result.

    What it raises is raised here, as an `Exception` in any case: see `as_exception`. Cancelling the await (a timeout)
    leaves the thread behind: Python cannot end it, but as a daemon it does not keep the process alive. Callers run one
    at a time.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def deliver(result: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # None only where T is None

    def run() -> None:
        result: T | None = None
        failure: BaseException | None = None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - handed to whoever awaits
            failure = as_exception(error)
        try:
            loop.call_soon_threadsafe(deliver, result, failure)
        except RuntimeError:  # the loop was closed while we worked: nobody waits any more
            return

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(run,), name=name, daemon=True).start()
    return await done


async def on_loop(loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, T]], timeout: float) -> T:
    """Run the coroutine that `work` makes on another thread's `loop`, for at most `timeout` seconds.

    Raises:
        NotStarted: `loop` is closed, does not run, ended meanwhile, or was too busy to begin within `timeout`.
        TimeoutError: The work began and did not end within `timeout`; it is cancelled.
        Escaped: The work raised what is no `Exception`; the loop does not see it.
    """
    if loop is asyncio.get_running_loop():
        return await asyncio.wait_for(apart(work), timeout)
    outcome: Future[T] = Future()
    begun: list[asyncio.Future[T]] = []

    def begin() -> None:
        if not outcome.cancelled():  # else nobody waits any more, and no coroutine is made to be thrown away
            task = asyncio.ensure_future(apart(work))
            begun.append(task)
            task.add_done_callback(lambda done: _hand_over(done, outcome))

    try:
        loop.call_soon_threadsafe(begin)
    except RuntimeError as error:
        raise NotStarted(str(error)) from error
    try:
        return await asyncio.wait_for(asyncio.wrap_future(outcome), timeout)
    except asyncio.TimeoutError:
        if not outcome.cancelled():  # the work's own
            raise
        if loop.is_closed():
            raise NotStarted("the application's event loop ended meanwhile") from None
        if begun:
            raise TimeoutError(f"no answer within {timeout:g} s") from None
        raise NotStarted(f"the application's event loop did not get to it within {timeout:g} s") from None
    finally:
        if begun and not begun[0].done():
            with suppress(RuntimeError):  # the loop was closed: nothing runs there any more
                loop.call_soon_threadsafe(begun[0].cancel)


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
