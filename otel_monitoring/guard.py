"""`fail_open`: the guard at every border between this package and the application, where failures stop."""

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from otel_monitoring.errors import MonitoringError
from otel_monitoring.forks import renewed
from otel_monitoring.redact.text import printable, redact, redacted_exception

T = TypeVar("T")

logger = logging.getLogger("otel_monitoring")
_ALERTS = logging.getLogger("otel_monitoring.alerts")

_LOG_EVERY_SECONDS = 60.0


class Escaped(Exception):  # noqa: N818 - an event, not an error of ours
    """Wraps a `BaseException` of the application's code, e.g. `SystemExit` or a cancellation, as its `__cause__`."""


class fail_open:  # noqa: N801 - reads as a statement: `with fail_open("tick"):`
    """Context manager that suppresses every `Exception` raised inside, counts it and logs it.

    The count is `fail_open.failures[what]`; a log line is written at most once a minute for each `what`. Cancellation,
    `KeyboardInterrupt` and `SystemExit` pass through: they are meant for the application. One instance may be entered
    any number of times, from any thread.

    Args:
        what: The guarded work, as the log line names it. A fixed text, never input.
        theirs: Whether the application's code runs inside: then every `BaseException` is suppressed. Such a block must
            not await, because it would suppress a cancellation of the awaiting task: use `isolated` there.
    """

    failures: ClassVar[Counter[str]] = Counter()
    _logged_at: ClassVar[dict[str, float]] = {}
    _lock: ClassVar[threading.Lock]

    __slots__ = ("_kind", "what")

    def __init__(self, what: str, *, theirs: bool = False) -> None:
        self.what = what
        self._kind: type[BaseException] = BaseException if theirs else Exception

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if not isinstance(error, self._kind):
            return False
        self.note(self.what, error)
        return True

    def caught(self, error: Exception) -> None:
        """Count and log what a `try` in place of this context manager has caught: where every microsecond counts."""
        self.note(self.what, error)

    @classmethod
    def note(cls, what: str, error: BaseException) -> None:
        """Count `error` under `what`, and log it unless that was done in the last minute; never raises."""
        now = time.monotonic()
        with cls._lock:
            cls.failures[what] += 1
            if now - cls._logged_at.get(what, float("-inf")) < _LOG_EVERY_SECONDS:
                return
            cls._logged_at[what] = now
        cause = original(error)
        with suppress(BaseException):  # a record factory of the application's
            if isinstance(
                cause, MonitoringError
            ):  # it says what is wrong, e.g. that the store fails: no code is at fault
                logger.warning("%s failed: %s", what, printable(redact(str(cause))))
            else:
                logger.warning("%s failed: %s", what, type(cause).__name__, exc_info=redacted_exception(cause))


fail_open._lock = renewed(fail_open, "_lock", threading.Lock)  # noqa: SLF001 - its own, once the class is there


def _survive_handlers(own: logging.Logger) -> None:
    """Suppress what filters and handlers of the application raise, `SystemExit` included, when we log to `own`."""
    handle = own.handle

    def handle_contained(record: logging.LogRecord) -> None:
        with suppress(BaseException):
            handle(record)

    own.handle = handle_contained  # type: ignore[method-assign]


_survive_handlers(logger)
_survive_handlers(_ALERTS)


def original(error: BaseException) -> BaseException:
    """The exception that an `Escaped` wraps; any other `error` itself."""
    return error.__cause__ if isinstance(error, Escaped) and error.__cause__ is not None else error


def as_exception(error: BaseException) -> Exception:
    """`error` if a future can hold it and a loop survives it, else an `Escaped` that wraps it."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    escaped = Escaped(type(error).__name__)
    escaped.__cause__ = error
    return escaped


async def isolated(work: Callable[[], Awaitable[T]]) -> T:
    """Await the application's `work` in a task of its own, so that nothing it raises ends the caller or the loop.

    The same holds for tasks that the work begins, e.g. by `asyncio.gather` or, until Python 3.11, `asyncio.wait_for`. A
    cancellation of the caller cancels the work and leaves as `CancelledError`; a cancellation that the work raises by
    itself leaves as `Escaped`.

    Raises:
        Escaped: The work raised a `BaseException` that is no `Exception`.
        Exception: The work raised it.
    """
    task = asyncio.ensure_future(_called_safely(work))
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # asyncio logs what nobody retrieves
        task.cancel()
        raise
    if task.cancelled():
        raise Escaped("CancelledError") from asyncio.CancelledError()
    error = task.exception()
    if error is not None:
        raise as_exception(error)
    return task.result()


async def loop_safe(work: Awaitable[T]) -> T:
    """Await `work`, with `Escaped` in place of `SystemExit` and `KeyboardInterrupt`, which would end the loop."""
    try:
        return await work
    except (KeyboardInterrupt, SystemExit) as error:
        raise as_exception(error) from error


def stepwise(work: Awaitable[T], each: Callable[[Callable[[], Any]], Any]) -> Generator[Any, Any, T]:
    """Drive `work` step by step through `each`; an awaitable returns this generator from its `__await__`.

    Args:
        work: The awaitable to drive.
        each: Called with each step; it must call the step once and return its result.
    """
    steps: Any = work.__await__()
    step: Callable[[], Any] = partial(steps.send, None)
    while True:
        try:
            awaited = each(step)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        try:
            step = partial(steps.send, (yield awaited))
        except BaseException as error:  # noqa: BLE001 - e.g. a cancellation: the work receives it
            step = partial(steps.throw, error)


class _LoopSafe(Awaitable[T]):
    """Awaits `work`, with every task that one of its steps begins made `loop_safe` too."""

    def __init__(self, work: Awaitable[T]) -> None:
        self._work = work

    def __await__(self) -> Generator[Any, Any, T]:
        return stepwise(self._work, partial(_run_step, asyncio.get_running_loop()))


def _run_step(loop: asyncio.AbstractEventLoop, step: Callable[[], Any]) -> Any:
    """Run `step` while `loop` makes `loop_safe` tasks."""
    before = loop.get_task_factory()
    ours = before if isinstance(before, _LoopSafeTasks) else _LoopSafeTasks(before)
    # Nothing else runs in this loop during the step: only the work's own tasks are made by this factory.
    loop.set_task_factory(ours)
    try:
        return step()
    finally:
        if loop.get_task_factory() is ours:
            loop.set_task_factory(before)


class _LoopSafeTasks:
    """A task factory that makes `loop_safe` tasks.

    Args:
        before: The application's task factory, which makes the tasks; None: asyncio's.
    """

    def __init__(self, before: Any) -> None:
        self._make = before or _task

    def __call__(self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> Any:
        return self._make(loop, _LoopSafeCoroutine(loop, work), **options)


class _LoopSafeCoroutine(Coroutine[Any, Any, Any]):
    """The coroutine of a task, with `Escaped` in place of exceptions that would end the loop, also in its own tasks.

    It runs the steps of `work` itself instead of awaiting it: if the task is cancelled before its first step, Python
    would warn that an inner coroutine was never awaited.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Any) -> None:
        self._loop = loop
        self._work = work

    def send(self, value: Any) -> Any:
        """Run the next step."""
        return self._safe(partial(self._work.send, value))

    def throw(self, *error: Any) -> Any:
        """Run the next step by raising an exception in the coroutine."""
        return self._safe(partial(self._work.throw, *error))

    def close(self) -> None:
        """Close the coroutine."""
        self._work.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._work.__await__()  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._work, name)  # name and code position, which asyncio shows for a task

    def _safe(self, step: Callable[[], Any]) -> Any:
        try:
            return _run_step(self._loop, step)
        except (KeyboardInterrupt, SystemExit) as error:
            raise as_exception(error) from error


def _task(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> Any:
    return asyncio.Task(work, loop=loop, **options)


async def _called_safely(work: Callable[[], Awaitable[T]]) -> T:
    # The inner coroutine is made here: of a task that is cancelled before its first step, it would never be awaited.
    return await loop_safe(_called(work))


async def _called(work: Callable[[], Awaitable[T]]) -> T:
    return await _LoopSafe(work())
