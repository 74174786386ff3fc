"""What a fork leaves unusable is made anew in the child.

Only the thread that forks goes on in the child. A lock that another thread held at that moment stays held there for
ever, and what another thread was about to finish is never finished.
"""

import os
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

_PATIENCE = 1.0
"""Seconds that a fork waits, over all locks that it waits for."""

_renewed: "WeakKeyDictionary[object, dict[str, Callable[[], object]]]" = WeakKeyDictionary()
_waited_for: "WeakKeyDictionary[object, str]" = WeakKeyDictionary()


class _Held(threading.local):
    """The locks that the calling thread acquired for its fork."""

    def __init__(self) -> None:
        self.locks: list[Any] = []


_held = _Held()


def renewed(owner: object, attribute: str, make: Callable[[], T], *, wait: bool = False) -> T:
    """Make the value of `owner.attribute`, and another one in every child that is forked while `owner` lives.

    Args:
        owner: An instance, class or module; it is not kept alive.
        attribute: The attribute that the caller assigns the value to.
        make: Makes the value: `threading.Lock`, `dict` and the like. It must not refer to `owner`.
        wait: The value is a lock, and whoever holds it may hold locks of other libraries, which stay as they are in
            the child: a fork waits for it, up to a second.
    """
    _renewed.setdefault(owner, {})[attribute] = make
    if wait:
        _waited_for[owner] = attribute
    return make()


def _before() -> None:
    deadline = time.monotonic() + _PATIENCE
    for owner, attribute in list(_waited_for.items()):
        lock = getattr(owner, attribute)
        if lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            _held.locks.append(lock)


def _in_parent() -> None:
    while _held.locks:
        _held.locks.pop().release()


def _in_child() -> None:
    _held.locks.clear()
    for owner, attributes in list(_renewed.items()):
        for attribute, make in attributes.items():
            setattr(owner, attribute, make())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
