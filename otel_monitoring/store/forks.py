"""What a fork does to stores: a lock that another thread held, and a database connection, are no good in the child."""

import os
from typing import Protocol
from weakref import WeakSet

from otel_monitoring.guard import contained


class Forkable(Protocol):
    """An object that a forked child has to put in order before it uses it."""

    def after_fork_in_child(self) -> None:
        """Called in the child before anything else of it runs."""


class Connected(Forkable, Protocol):
    """An object that besides gives up what a child must not inherit."""

    def before_fork(self) -> None:
        """Called in the parent, in the thread that forks."""

    def after_fork_in_parent(self) -> None:
        """Called in the parent when the child exists."""


_forkable: "WeakSet[Forkable]" = WeakSet()
_connected: "WeakSet[Connected]" = WeakSet()


def at_fork(target: Forkable) -> None:
    """Have `target` called in every child from now on."""
    _forkable.add(target)


def around_fork(target: Connected) -> None:
    """Have `target` called before and after every fork from now on."""
    _forkable.add(target)
    _connected.add(target)


def _before() -> None:
    for target in list(_connected):
        with contained("store before a fork"):
            target.before_fork()


def _in_parent() -> None:
    for target in list(_connected):
        with contained("store after a fork"):
            target.after_fork_in_parent()


def _in_child() -> None:
    for target in list(_forkable):
        with contained("store after a fork"):
            target.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
