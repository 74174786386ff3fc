"""Finds the FastAPI applications that a server calls, among all that a process makes."""

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
        Stops looking; with the last that looks, the seam goes.
    """
    if not _looking:
        setattr(FastAPI, "__call__", cast("object", _call))  # noqa: B010 - a method, which mypy lets nobody assign
    token = object()
    _looking[token] = found

    def stop() -> None:
        _looking.pop(token, None)
        if not _looking and vars(FastAPI).get("__call__") is _call:
            setattr(FastAPI, "__call__", _ORIGINAL)  # noqa: B010

    return stop


_ORIGINAL = FastAPI.__call__
_looking: dict[object, Callable[[FastAPI], None]] = {}


async def _call(self: FastAPI, scope: Scope, receive: Receive, send: Send) -> None:
    if self.middleware_stack is None and not isinstance(scope.get("app"), FastAPI):
        told: set[object] = set()
        # One that is found may be instrumented at that, which has others look.
        while waiting := [token for token in _looking if token not in told]:
            told.add(waiting[0])
            _looking[waiting[0]](self)
    await _ORIGINAL(self, scope, receive, send)
