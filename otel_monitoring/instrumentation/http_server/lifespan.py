"""Start and stop with the application: hooks around its lifespan."""

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
    """Wrap the lifespan of `app`, be it a `lifespan=` function or `on_event` handlers, added before or later.

    Args:
        app: The application, before it has started.
        within: The application's own start-up and shutdown run inside of it.
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
    """Enters and leaves `inner` inside `within`, which is left while the application serves."""

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
