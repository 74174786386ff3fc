"""Finding the application that is served, among all that a process makes."""

from collections.abc import Callable
from typing import cast

from fastapi.applications import FastAPI
from starlette.types import Receive, Scope, Send


def when_served(found: Callable[[FastAPI], None]) -> Callable[[], None]:
    """Call `found` with the first FastAPI application of this process that a server calls, before it handles that call.

    That is the one which gets the lifespan, or the first request where there is none. An application mounted in
    another is never called before it. The seam is `FastAPI.__call__`, and from the first call on it is FastAPI's again:
    nothing remains on the way of a request.

    Returns:
        Stops looking.
    """
    original = FastAPI.__call__

    async def __call__(self: FastAPI, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: N807
        if not isinstance(scope.get("app"), FastAPI):
            stop()
            found(self)
        await original(self, scope, receive, send)

    def stop() -> None:
        if vars(FastAPI).get("__call__") is __call__:
            setattr(FastAPI, "__call__", original)  # noqa: B010 - a method, which mypy lets nobody assign

    setattr(FastAPI, "__call__", cast("object", __call__))  # noqa: B010
    return stop
