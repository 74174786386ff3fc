"""Coming and going with the application: around its lifespan, whatever way it is written."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI


def follow_lifespan(
    app: FastAPI,
    *,
    starting: Callable[[], Awaitable[None]],
    started: Callable[[], None],
    stopping: Callable[[], None],
    stopped: Callable[[], Awaitable[None]],
) -> None:
    """Wrap the lifespan of `app`, be it a `lifespan=` function or `on_event` handlers, added before or later.

    Args:
        app: The application, before it has started.
        starting: Awaited before the application's own start-up, so that what that does is measured.
        started: Called when the application's start-up has succeeded.
        stopping: Called when the shutdown begins, before the application's own, which may close what we use.
        stopped: Awaited when the application's shutdown is over, however it went; also when its start-up failed.
    """
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(application: Any) -> AsyncIterator[Any]:
        await starting()
        try:
            async with inner(application) as state:
                started()
                try:
                    yield state
                finally:
                    stopping()
        finally:
            await stopped()

    app.router.lifespan_context = lifespan
