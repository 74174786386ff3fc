"""`Intake`: collects alerts that are raised at the same time, and has one thread handle them in batches."""

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

_BATCH_LIMIT = 200
"""The most items in one batch, which is one transaction: other processes wait for its end."""
_IDLE_SECONDS = 0.5
"""Seconds without items after which the thread ends."""
_PAUSE_SECONDS = 0.001
"""The pause before each batch. Locks are not fair: without it the delivery thread waits until a storm is over."""


class Intake(Generic[T, R]):
    """Takes items from any event loop; one thread handles all that wait as a batch, urgent items first.

    The thread starts with the first item and ends after half a second without items. Thread-safe; a forked process
    starts with an empty intake.

    Args:
        handle: Called in the thread with a batch, all urgent or none, in order of arrival; returns the result of each.
    """

    def __init__(self, handle: Callable[[Sequence[T]], Sequence[R]]) -> None:
        self._handle = handle
        self._urgent: deque[_Waiting[T, R]] = renewed(self, "_urgent", deque)
        self._waiting: deque[_Waiting[T, R]] = renewed(self, "_waiting", deque)
        self._changed = renewed(self, "_changed", threading.Condition)
        self._thread_runs = renewed(self, "_thread_runs", bool)

    async def take(self, item: T, *, urgent: bool = False) -> R:
        """Have `item` handled, and return its result; urgent items are handled before all others.

        Raises:
            Exception: The handling of the item raised it.
        """
        waiting = _Waiting[T, R](item)
        with self._changed:
            (self._urgent if urgent else self._waiting).append(waiting)
            if self._thread_runs:
                self._changed.notify()
            else:
                threading.Thread(target=self._run, name="otel-monitoring-alerts", daemon=True).start()
                self._thread_runs = True
        return await waiting.future

    def _run(self) -> None:
        while batch := self._next_batch():
            time.sleep(_PAUSE_SECONDS)
            try:
                results = self._handle([waiting.item for waiting in batch])
            except BaseException:  # noqa: BLE001 - one item fails the batch: handle each by itself
                for waiting in batch:
                    self._handle_alone(waiting)
            else:
                for waiting, result in zip(batch, results, strict=True):
                    waiting.set_result(result)

    def _handle_alone(self, waiting: "_Waiting[T, R]") -> None:
        try:
            (result,) = self._handle([waiting.item])
        except BaseException as error:  # noqa: BLE001 - raised where the item was taken
            waiting.set_exception(as_exception(error))
        else:
            waiting.set_result(result)

    def _next_batch(self) -> "list[_Waiting[T, R]]":
        """The next batch; empty when no item comes, and then the thread ends."""
        with self._changed:
            if not self._urgent and not self._waiting:
                self._changed.wait(_IDLE_SECONDS)
            queue = self._urgent or self._waiting
            batch = [queue.popleft() for _ in range(min(len(queue), _BATCH_LIMIT))]
            self._thread_runs = bool(batch)
            return batch


class _Waiting(Generic[T, R]):
    """An item, and the future of its result on the event loop that awaits it. Thread-safe."""

    def __init__(self, item: T) -> None:
        self.item = item
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[R] = self._loop.create_future()

    def set_result(self, result: R) -> None:
        self._on_loop(lambda: self.future.set_result(result))

    def set_exception(self, error: Exception) -> None:
        self._on_loop(lambda: self.future.set_exception(error))

    def _on_loop(self, finish: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(lambda: None if self.future.done() else finish())
        except RuntimeError:  # the loop is closed: nobody awaits the future
            return
