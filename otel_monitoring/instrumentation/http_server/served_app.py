"""`when_served`: finds the FastAPI applications that a server calls, among all that a process makes."""

from collections.abc import Callable
from typing import cast

from fastapi.applications import FastAPI
from starlette.types import Receive, Scope, Send


def when_served(found: Callable[[FastAPI], None]) -> Callable[[], None]:
    """Call `found` with each FastAPI application that a server calls, before the application handles its first call.

    The first call is the lifespan, or a request if there is no lifespan. A mounted application is not reported.
    `FastAPI.__call__` is replaced, which costs each request two comparisons, and stays replaced, because a process may
    serve a further application at any time.

    Returns:
        Ends the reports; with the last one, `FastAPI.__call__` is restored.
    """
    if not _callbacks:
        setattr(FastAPI, "__call__", cast("object", _call))  # noqa: B010 - a method, which mypy lets nobody assign
    token = object()
    _callbacks[token] = found

    def stop() -> None:
        _callbacks.pop(token, None)
        if not _callbacks and vars(FastAPI).get("__call__") is _call:
            setattr(FastAPI, "__call__", _ORIGINAL)  # noqa: B010

    return stop


_ORIGINAL = FastAPI.__call__
_callbacks: dict[object, Callable[[FastAPI], None]] = {}


async def _call(self: FastAPI, scope: Scope, receive: Receive, send: Send) -> None:
    if self.middleware_stack is None and not isinstance(scope.get("app"), FastAPI):
        called: set[object] = set()
        # A reported application may be instrumented by that, which may add a callback.
        while waiting := [token for token in _callbacks if token not in called]:
            called.add(waiting[0])
            _callbacks[waiting[0]](self)
    await _ORIGINAL(self, scope, receive, send)
