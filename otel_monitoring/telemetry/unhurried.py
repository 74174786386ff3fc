"""`Unhurried`: a batch whose encoding does not keep the application waiting for the interpreter's lock."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

_AT_ONCE = 16
_PAUSE_SECONDS = 0.0001

T = TypeVar("T")


class Unhurried(Sequence[T]):
    """The items of a batch; who iterates over them pauses every few items, so that other threads run.

    To encode 512 spans takes tens of milliseconds, all of it Python. An application's loop that comes back from its
    sockets meanwhile gets the interpreter's lock after the switch interval of 5 ms, and loses it again when it next
    asks them; in a pause it gets the lock at once. `time.sleep(0)` is too short: who sleeps has the lock again before
    another thread is awake.

    Args:
        items: The batch.
        prepare: What to make of each item when it is its turn.
    """

    def __init__(self, items: Sequence[T], prepare: Callable[[T], T]) -> None:
        self._items = items
        self._prepare = prepare

    def __iter__(self) -> Iterator[T]:
        for number, item in enumerate(self._items, 1):
            yield self._prepare(item)
            if number % _AT_ONCE == 0:
                time.sleep(_PAUSE_SECONDS)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        item = self._items[index]
        return Unhurried(item, self._prepare) if isinstance(index, slice) else self._prepare(item)
