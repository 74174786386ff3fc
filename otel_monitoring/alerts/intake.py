"""`Intake`: one thread decides about all alerts that an application raises, however many are raised at once."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from otel_monitoring.forks import renewed
from otel_monitoring.guard import as_exception

T = TypeVar("T")
R = TypeVar("R")

_MOST_AT_ONCE = 200
"""How many are decided in one transaction: other processes wait for its end."""
_IDLE_SECONDS = 0.5
_PAUSE = 0.001
"""Seconds before each transaction: locks are not fair, and who delivers would wait until a storm is over."""


class Intake(Generic[T, R]):
    """Takes things in on event loops and handles what has come meanwhile together, in one thread, the urgent first.

    The thread begins with the first thing and ends when nothing comes any more. Thread-safe; a process that is forked
    begins anew.

    Args:
        handle: Called in the thread with what has come, urgent or not, in its order; returns the result of each.
    """

    def __init__(self, handle: Callable[[Sequence[T]], Sequence[R]]) -> None:
        self._handle = handle
        self._urgent: deque[_Waiting[T, R]] = renewed(self, "_urgent", deque)
        self._waiting: deque[_Waiting[T, R]] = renewed(self, "_waiting", deque)
        self._changed = renewed(self, "_changed", threading.Condition)
        self._runs = renewed(self, "_runs", bool)

    async def take(self, thing: T, *, urgent: bool = False) -> R:
        """What becomes of `thing`; an urgent one is handled before all that are not.

        Raises:
            Exception: What the handling raised.
        """
        waiting = _Waiting[T, R](thing)
        with self._changed:
            (self._urgent if urgent else self._waiting).append(waiting)
            if self._runs:
                self._changed.notify()
            else:
                threading.Thread(target=self._run, name="otel-monitoring-alerts", daemon=True).start()
                self._runs = True
        return await waiting.done

    def _run(self) -> None:
        while batch := self._next():
            time.sleep(_PAUSE)
            try:
                results = self._handle([waiting.thing for waiting in batch])
            except BaseException:  # noqa: BLE001 - one of them is the reason: each by itself
                for waiting in batch:
                    self._handle_alone(waiting)
            else:
                for waiting, result in zip(batch, results, strict=True):
                    waiting.end(result)

    def _handle_alone(self, waiting: "_Waiting[T, R]") -> None:
        try:
            (result,) = self._handle([waiting.thing])
        except BaseException as error:  # noqa: BLE001 - handed to whoever awaits
            waiting.fail(as_exception(error))
        else:
            waiting.end(result)

    def _next(self) -> "list[_Waiting[T, R]]":
        """What has come; nothing when it is over, and then the thread ends."""
        with self._changed:
            if not self._urgent and not self._waiting:
                self._changed.wait(_IDLE_SECONDS)
            first = self._urgent or self._waiting
            batch = [first.popleft() for _ in range(min(len(first), _MOST_AT_ONCE))]
            self._runs = bool(batch)
            return batch


class _Waiting(Generic[T, R]):
    """A thing, and whoever awaits what becomes of it."""

    def __init__(self, thing: T) -> None:
        self.thing = thing
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[R] = self._loop.create_future()

    def end(self, result: R) -> None:
        """It is done."""
        self._settle(lambda: self.done.set_result(result))

    def fail(self, error: Exception) -> None:
        """It is not."""
        self._settle(lambda: self.done.set_exception(error))

    def _settle(self, settle: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(lambda: None if self.done.done() else settle())
        except RuntimeError:  # the loop was closed meanwhile: nobody awaits
            return
