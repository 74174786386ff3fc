"""`InFlight`: keeps a value for each command from its start to its end."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

from pymongo.monitoring import CommandFailedEvent, CommandStartedEvent, CommandSucceededEvent

T = TypeVar("T")
CommandEvent = CommandStartedEvent | CommandSucceededEvent | CommandFailedEvent

_MAX_ALIKE: Final = 100


class InFlight(Generic[T]):
    """A bounded table of commands that have started and not ended, by the number of their request.

    The numbers are random. Those of an exhaust cursor's requests, for which the server sends further batches by itself,
    are all 0: there the reading thread or task is the key. Commands with the same key are kept in one list, and each
    end takes one of them.

    Args:
        limit: Maximum number of keys. The end of some commands is never published, so the oldest key is dropped.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: dict[object, list[T]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, event: CommandStartedEvent, value: T) -> Sequence[T]:
        """Keep `value` until the command ends; returns the values that were dropped for it."""
        waiting, key = self._waiting, event.request_id or _reader()
        alike = waiting.get(key)
        if alike is not None:
            alike.append(value)
            return [alike.pop(0)] if len(alike) > _MAX_ALIKE else ()
        lost = waiting.pop(next(iter(waiting)), ()) if len(waiting) >= self._limit else ()
        waiting[key] = [value]
        return lost

    def pop(self, event: CommandEvent) -> T | None:
        """Remove and return the value of the command that has ended; None if there is none."""
        key = event.request_id or _reader()
        alike = self._waiting.pop(key, None)
        if alike is None:
            return None
        value = alike.pop()
        if alike:
            self._waiting[key] = alike
        return value


def _reader() -> object:
    """A key for the current task that does not keep it alive, because the end of a command may never be published."""
    asking = requester()
    return ("thread", asking) if isinstance(asking, int) else ("task", id(asking))


def requester() -> object:
    """The current task; without one the id of the current thread."""
    # `current_task()` raises outside of a loop, which takes five times as long.
    loop = asyncio._get_running_loop()  # noqa: SLF001 - exported by asyncio
    task = asyncio.current_task(loop) if loop is not None else None
    return threading.get_ident() if task is None else task
