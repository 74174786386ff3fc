"""`follow_lifespan`: hooks around the lifespan of an application."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from types import TracebackType
from typing import Any

from fastapi import FastAPI


def follow_lifespan(
    app: FastAPI,
    *,
    within: Callable[[], AbstractContextManager[None]],
    starting: Callable[[], Awaitable[None]],
    started: Callable[[], None],
    stopping: Callable[[], None],
    stopped: Callable[[], Awaitable[None]],
) -> None:
    """Wrap the lifespan of `app`: a `lifespan=` function, or `on_event` handlers, including those added later.

    Args:
        app: The application, before it has started.
        within: Makes the context manager in which the application's own startup and shutdown run.
        starting: Awaited before the application's startup, so that what happens there is measured.
        started: Called when the application's startup has succeeded.
        stopping: Called before the application's shutdown, which may close its clients.
        stopped: Awaited after the application's shutdown, whether or not it succeeded, or after a failed startup.
    """
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(application: Any) -> AsyncIterator[Any]:
        await starting()
        try:
            async with _InnerLifespan(inner(application), within) as state:
                started()
                try:
                    yield state
                finally:
                    stopping()
        finally:
            await stopped()

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
