"""`PausingBatch`: a batch that lets the application's threads run while it is encoded."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

_TURN_SECONDS = 0.00025
_PAUSE_SECONDS = 0.0001
_ROOMY = 0.25
"""How full a queue may be without any hurry: the next batch is as much, with the specification's defaults."""
_HURRY = 32
"""A full queue makes turns longer by so much: they take longer than the lock is waited for."""

T = TypeVar("T")


class PausingBatch(Sequence[T]):
    """The items of a batch. Iterating over them pauses after each quarter of a millisecond, so that other threads run.

    Encoding 512 spans takes tens of milliseconds, all of it Python code. Without pauses, an event loop that wakes up
    meanwhile gets the interpreter's lock after the switch interval of 5 ms, each time it wakes up. In a pause it gets
    the lock at once. `time.sleep(0)` is too short a pause: the thread takes the lock back before another one is awake.

    Where the application computes all the time, it is this thread that waits 5 ms for the lock after each pause. So it
    pauses less often once the queue fills up: nothing is lost for the sake of latency.

    Args:
        items: The batch.
        prepare: Makes the item that is encoded, when it is its turn.
        fill: How much of the queue is full, from 0 to 1.
    """

    def __init__(self, items: Sequence[T], prepare: Callable[[T], T], fill: Callable[[], float]) -> None:
        self._items = items
        self._prepare = prepare
        self._fill = fill

    def __iter__(self) -> Iterator[T]:
        ends = time.monotonic() + self._turn()
        for item in self._items:
            yield self._prepare(item)
            if time.monotonic() >= ends:
                time.sleep(_PAUSE_SECONDS)
                ends = time.monotonic() + self._turn()

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        item = self._items[index]
        return PausingBatch(item, self._prepare, self._fill) if isinstance(index, slice) else self._prepare(item)

    def _turn(self) -> float:
        return _TURN_SECONDS * (1 + _HURRY * max(0.0, self._fill() - _ROOMY))
