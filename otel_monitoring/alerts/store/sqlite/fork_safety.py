"""Hooks that close database connections before a fork, so that the child does not inherit them."""

import os
from typing import Protocol
from weakref import WeakSet

from otel_monitoring.guard import fail_open


class ForkHooks(Protocol):
    """An object that is called before and after every fork."""

    def before_fork(self) -> None:
        """Called in the parent, in the thread that forks."""

    def after_fork_in_parent(self) -> None:
        """Called in the parent when the child exists."""

    def after_fork_in_child(self) -> None:
        """Called in the child before anything else of it runs."""


_registered: "WeakSet[ForkHooks]" = WeakSet()


def register_fork_hooks(hooks: ForkHooks) -> None:
    """Call `hooks` before and after every fork from now on; it is not kept alive."""
    _registered.add(hooks)


def _before() -> None:
    for hooks in list(_registered):
        with fail_open("store before a fork"):
            hooks.before_fork()


def _in_parent() -> None:
    for hooks in list(_registered):
        with fail_open("store after a fork"):
            hooks.after_fork_in_parent()


def _in_child() -> None:
    for hooks in list(_registered):
        with fail_open("store after a fork"):
            hooks.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
