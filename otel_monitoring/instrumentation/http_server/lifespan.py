"""`follow_lifespan`: hooks around each lifespan of an application."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from types import TracebackType
from typing import Any

from fastapi import FastAPI


class Lifespan:
    """One lifespan of an application; several may go on at once, e.g. where two servers serve it on two ports.

    Attributes:
        loop: The event loop in which it began.
        ending: Whether its shutdown has begun.
        database: The database that is checked since its startup.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.ending = False
        self.database: Any = None


def follow_lifespan(
    app: FastAPI,
    *,
    within: Callable[[], AbstractContextManager[None]],
    starting: Callable[[Lifespan], Awaitable[None]],
    started: Callable[[Lifespan], None],
    stopping: Callable[[Lifespan], None],
    stopped: Callable[[Lifespan], Awaitable[None]],
) -> None:
    """Wrap the lifespan of `app`: a `lifespan=` function, or `on_event` handlers, including those added later.

    Args:
        app: The application, before it has started.
        within: Makes the context manager in which the application's own startup and shutdown run.
        starting: Awaited before the application's startup, so that what happens there is measured.
        started: Called when the application's startup has succeeded.
        stopping: Called before the application's shutdown, which may close its clients.
        stopped: Awaited after the application's shutdown, whether or not it succeeded, or after a failed start.
    """
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(application: Any) -> AsyncIterator[Any]:
        this = Lifespan()
        try:
            await starting(this)
            async with _InnerLifespan(inner(application), within) as state:
                started(this)
                try:
                    yield state
                finally:
                    stopping(this)
        finally:
            await stopped(this)

    app.router.lifespan_context = lifespan


class _InnerLifespan:
    """Enters and leaves `inner` inside `within`; `within` is not held in between, while the application serves."""

    def __init__(
        self, inner: AbstractAsyncContextManager[Any], within: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._inner = inner
        self._within = within

    async def __aenter__(self) -> Any:
        with self._within():
            return await self._inner.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        with self._within():
            return await self._inner.__aexit__(kind, error, trace)
