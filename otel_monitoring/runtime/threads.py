"""Runs the application's blocking code in threads of its own, so that it never blocks the watch thread."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

from otel_monitoring.guard import as_exception

T = TypeVar("T")


class NotStarted(Exception):  # noqa: N818 - a state, not an error: the work never began
    """The event loop of the work was not free in time: nothing is known about its result."""


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
