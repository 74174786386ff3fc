"""`renewed`: locks and tables that are replaced by new ones in a forked child; `told`: what is called in one.

Only the forking thread exists in the child. A lock that another thread held at the fork stays held there for ever, and
work that another thread had begun is never finished.
"""

# The SDK's MeterProvider makes a thread pool in a forked child. A pool's lock is held during the fork, and renewed by a
# hook of its module: the module is imported first, so that its hook runs before that of any provider.
import concurrent.futures.thread  # noqa: F401
import os
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

_PATIENCE = 1.0
"""Seconds that a fork waits for locks, for all of them together."""

_renewed: "WeakKeyDictionary[object, dict[str, Callable[[], object]]]" = WeakKeyDictionary()
_waited_for: "WeakKeyDictionary[object, str]" = WeakKeyDictionary()
_told: "WeakKeyDictionary[object, Callable[[Any], object]]" = WeakKeyDictionary()


class _Held(threading.local):
    """The locks that the forking thread holds during the fork."""

    def __init__(self) -> None:
        self.locks: list[Any] = []


_held = _Held()


def renewed(owner: object, attribute: str, make: Callable[[], T], *, wait: bool = False) -> T:
    """Make the value of `owner.attribute`, and a new value in every child forked while `owner` lives.

    Args:
        owner: An instance, class or module; it is held by a weak reference.
        attribute: The attribute to which the caller assigns the returned value.
        make: Makes the value, e.g. `threading.Lock` or `dict`. It must not refer to `owner`.
        wait: For a lock: the fork acquires it first, waiting up to a second. Needed where its holder may also hold
            locks of other libraries, which are not replaced in the child.

    Returns:
        The value for this process.
    """
    _renewed.setdefault(owner, {})[attribute] = make
    if wait:
        _waited_for[owner] = attribute
    return make()


def told(owner: T, forked: Callable[[T], object]) -> None:
    """Call `forked` in every child forked while `owner` lives, when everything is renewed there.

    For what cannot be replaced, because others refer to it.

    Args:
        owner: What it is called with; it is held by a weak reference.
        forked: A function that never raises and does not refer to `owner`.
    """
    _told[owner] = forked


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
    for owner, forked in list(_told.items()):
        forked(owner)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
