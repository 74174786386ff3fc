"""`PausingBatch`: a batch that lets the application's threads run while it is encoded."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

_AT_ONCE = 8
_PAUSE_SECONDS = 0.0001

T = TypeVar("T")


class PausingBatch(Sequence[T]):
    """The items of a batch. Iterating over them pauses every few items, so that other threads run.

    Encoding 512 spans takes tens of milliseconds, all of it Python code. Without pauses, an event loop that wakes up
    meanwhile gets the interpreter's lock after the switch interval of 5 ms, each time it wakes up. In a pause it gets
    the lock at once. `time.sleep(0)` is too short a pause: the thread takes the lock back before another one is awake.

    Args:
        items: The batch.
        prepare: Makes the item that is encoded, when it is its turn.
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
        return PausingBatch(item, self._prepare) if isinstance(index, slice) else self._prepare(item)
