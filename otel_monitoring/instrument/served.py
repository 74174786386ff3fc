"""Finding the applications that are served, among all that a process makes."""

from collections.abc import Callable
from typing import cast

from fastapi.applications import FastAPI
from starlette.types import Receive, Scope, Send


def when_served(found: Callable[[FastAPI], None]) -> Callable[[], None]:
    """Call `found` with each FastAPI application that a server calls, before it handles its first call.

    That is the lifespan, or the first request where there is none. An application mounted in another FastAPI
    application is no application of its own. The seam is `FastAPI.__call__`: a process may serve a further application
    at any time, so it stays, and costs a request two comparisons.

    Returns:
        Stops looking.
    """
    original = FastAPI.__call__

    async def __call__(self: FastAPI, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: N807
        if self.middleware_stack is None and not isinstance(scope.get("app"), FastAPI):
            found(self)
        await original(self, scope, receive, send)

    def stop() -> None:
        if vars(FastAPI).get("__call__") is __call__:
            setattr(FastAPI, "__call__", original)  # noqa: B010 - a method, which mypy lets nobody assign

    setattr(FastAPI, "__call__", cast("object", __call__))  # noqa: B010
    return stop
