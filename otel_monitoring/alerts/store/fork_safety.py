"""What a fork does to a database connection: the child must not have it."""

import os
from typing import Protocol
from weakref import WeakSet

from otel_monitoring.guard import fail_open


class Connected(Protocol):
    """An object that gives up what a child must not inherit."""

    def before_fork(self) -> None:
        """Called in the parent, in the thread that forks."""

    def after_fork_in_parent(self) -> None:
        """Called in the parent when the child exists."""

    def after_fork_in_child(self) -> None:
        """Called in the child before anything else of it runs."""


_connected: "WeakSet[Connected]" = WeakSet()


def around_fork(target: Connected) -> None:
    """Have `target` called before and after every fork from now on."""
    _connected.add(target)


def _before() -> None:
    for target in list(_connected):
        with fail_open("store before a fork"):
            target.before_fork()


def _in_parent() -> None:
    for target in list(_connected):
        with fail_open("store after a fork"):
            target.after_fork_in_parent()


def _in_child() -> None:
    for target in list(_connected):
        with fail_open("store after a fork"):
            target.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
