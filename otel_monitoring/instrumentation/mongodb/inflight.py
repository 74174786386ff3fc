"""`InFlight`: values kept from the start of a command to its end."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

from pymongo.monitoring import CommandFailedEvent, CommandStartedEvent, CommandSucceededEvent

T = TypeVar("T")
Key = tuple[object, object, object]
CommandEvent = CommandStartedEvent | CommandSucceededEvent | CommandFailedEvent

_MAX_ALIKE: Final = 100


class InFlight(Generic[T]):
    """A bounded table of the commands that were sent and have not ended.

    A command is known by its request, server and connection. The requests of an exhaust cursor all have the number 0:
    the server sends the next batch by itself; of those, the thread or task that reads is known. Commands that look
    alike even so are kept side by side, and each end takes one of them.

    Args:
        limit: How many are kept, leaving aside those that look alike. The end of some is never published: the oldest
            makes room.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: dict[Key, list[T]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, event: CommandStartedEvent, value: T) -> Sequence[T]:
        """Keep `value` until the command ends; returns the values that had to make room."""
        waiting, key = self._waiting, _key(event)
        alike = waiting.get(key)
        if alike is not None:
            alike.append(value)
            return [alike.pop(0)] if len(alike) > _MAX_ALIKE else ()
        lost = waiting.pop(next(iter(waiting)), ()) if len(waiting) >= self._limit else ()
        waiting[key] = [value]
        return lost

    def pop(self, event: CommandEvent) -> T | None:
        """The value kept for the command that ends; None without one."""
        key = _key(event)
        alike = self._waiting.get(key)
        if alike is None:
            return None
        if len(alike) == 1:
            self._waiting.pop(key, None)
        return alike.pop()


def _key(event: CommandEvent) -> Key:
    return event.request_id or _number(requester()), event.connection_id, event.server_connection_id


def _number(asking: object) -> object:
    """Identifies a task without keeping it alive: the end of a command may never be published."""
    return asking if isinstance(asking, int) else ("task", id(asking))


def requester() -> object:
    """The current task, or the thread where there is none."""
    try:
        return asyncio.current_task() or threading.get_ident()
    except RuntimeError:
        return threading.get_ident()
