"""`give_way`: a thread that computes for long lets the application's event loop run in between.

CPython lets a thread compute for five milliseconds while another one waits (`sys.getswitchinterval`), and an event loop
may wait so long each time it wakes up.
"""

import threading
import time
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Final, TypeVar

T = TypeVar("T")

_TURN: Final = 0.001
_PAUSE: Final = 0.0001
"""Long enough for a thread that waits to take over: one that only yields takes the interpreter back at once."""
_FEW: Final = 32


class _Turn(threading.local):
    ends: float | None = None


_turn = _Turn()


def compute_in_turns() -> None:
    """Let `give_way` pause this thread from now on; in every other thread it does nothing."""
    _turn.ends = 0.0


def give_way() -> None:
    """Pause for a tenth of a millisecond, if this thread has computed for a millisecond since it last did."""
    ends = _turn.ends
    if ends is not None and time.monotonic() >= ends:
        time.sleep(_PAUSE)
        _turn.ends = time.monotonic() + _TURN


def giving_way(items: Iterable[T]) -> Iterator[T]:
    """The items; `give_way` before every few of them, which are taken ahead."""
    return chain.from_iterable(_batches(iter(items)))


def _batches(items: Iterator[T]) -> Iterator[tuple[T, ...]]:
    while batch := tuple(islice(items, _FEW)):
        give_way()
        yield batch
