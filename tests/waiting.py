"""Waiting for what happens in another process, thread or task, where there is no event to wait for."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 180.0
"""Seconds until a test gives up. No test depends on how long anything takes: only one that fails waits so long."""
_PAUSE = 0.02


def _attempts(what: str) -> Iterator[None]:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        yield
    raise AssertionError(f"never happened: {what}")


def eventually(ask: Callable[[], T | None], what: str = "what is waited for") -> T:
    """Ask until there is a true answer, and return it."""
    for _ in _attempts(what):
        if answer := ask():
            return answer
        time.sleep(_PAUSE)
    raise AssertionError("unreachable")


async def eventually_here(ask: Callable[[], T | None], what: str = "what is waited for") -> T:
    """The same for what happens in the event loop of the test."""
    for _ in _attempts(what):
        if answer := ask():
            return answer
        await asyncio.sleep(_PAUSE)
    raise AssertionError("unreachable")


async def eventually_answered(ask: Callable[[], Awaitable[T | None]], what: str = "what is waited for") -> T:
    """The same for what is asked by a coroutine."""
    for _ in _attempts(what):
        if answer := await ask():
            return answer
        await asyncio.sleep(_PAUSE)
    raise AssertionError("unreachable")


@contextmanager
def long_before(seconds: float) -> Iterator[None]:
    """What is inside must not wait for something that takes so long: it ends in less than half of that time.

    So long that no busy machine makes the difference: a minute or more.
    """
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < seconds / 2
