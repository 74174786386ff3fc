"""Blocking code in threads of its own: `in_thread` blocks no event loop, `wait_for` blocks for a limited time."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

from otel_monitoring.guard import as_exception
from otel_monitoring.runtime.give_way import compute_in_turns

T = TypeVar("T")


class NoThreadError(RuntimeError):
    """There can be no further thread."""


class NotStarted(Exception):  # noqa: N818 - a state, not an error: the work never began
    """The work did not run, because its event loop or this process was not free in time: its result is unknown."""


async def in_thread(work: Callable[[], T], *, name: str) -> T:
    """Run blocking `work` in a daemon thread of its own, in a copy of the caller's context, and await its result.

    A cancellation, e.g. by a timeout, leaves the thread behind: Python cannot end it, but a daemon thread does not keep
    the process alive. Callers therefore run one `work` of a kind at a time.

    Python 3.12.0 and 3.12.1 start no thread once the interpreter exits: there `work` runs in the calling thread. Nobody
    but the end of the process waits for an event loop then.

    Raises:
        Exception: What `work` raised; a `BaseException` that is no `Exception` is wrapped in `guard.Escaped`.
        NoThreadError: There can be no further thread.
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
        compute_in_turns()
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - raised in the awaiting coroutine
            failure = as_exception(error)
        try:
            loop.call_soon_threadsafe(deliver, result, failure)
        except RuntimeError:  # the loop was closed meanwhile: nobody awaits the result
            return

    context = contextvars.copy_context()
    try:
        threading.Thread(target=context.run, args=(run,), name=name, daemon=True).start()
    except RuntimeError as error:
        if not interpreter_exits(error):
            raise NoThreadError(str(error)) from error
        context.run(run)
    return await done


def wait_for(work: Callable[[], object], seconds: float, *, name: str) -> bool:
    """Run blocking `work` in a daemon thread of its own, and block for it, at most `seconds`; the thread may go on.

    Returns:
        False: the interpreter exits and starts no more threads, and `work` did not run.
    """
    thread = threading.Thread(target=work, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return False
    thread.join(seconds)
    return True


def interpreter_exits(error: RuntimeError) -> bool:
    """Whether a thread could not start because the interpreter exits, not because the machine has no room for it."""
    return "interpreter shutdown" in str(error)
