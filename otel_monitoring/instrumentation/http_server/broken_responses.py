"""Responses that break off: notes what a response body raises below middleware that completes the response.

Starlette's `BaseHTTPMiddleware`, which `@app.middleware("http")` uses, first sends the end of a response whose body has
raised, and raises after that (1.10 does, 0.38 did not). A measurement until the last byte would count a success.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from otel_monitoring.instrumentation.http_server.disconnects import client_left
from otel_monitoring.instrumentation.http_server.route_template import flat

REQUEST_KEY: Final = "otel_monitoring.request"


class BrokenResponseLayer:
    """The ASGI layer directly below a `BaseHTTPMiddleware`.

    Args:
        app: The wrapped layer. The attribute has this name because FastAPI follows `.app` to find contrib.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection; note an exception that is raised between the begin and the end of a response."""
        begun = False

        def watched_send(message: Message) -> Any:
            nonlocal begun
            begun = message["type"] == "http.response.start" or bool(message.get("more_body"))
            return send(message)

        try:
            await self.app(scope, receive, watched_send)
        except Exception as error:
            if begun and not client_left(error):
                _note(scope, error)
            raise


def _note(scope: Scope, error: Exception) -> None:
    request = scope.get(REQUEST_KEY)
    if request is not None and request.broken_by is None:
        request.broken_by = error


def observe(stack: Any) -> bool:
    """Add the layer in a built middleware stack, and in mounted applications as soon as their stacks are built.

    Returns:
        Whether there is, or may be, a `BaseHTTPMiddleware`.
    """
    found = False
    for layer in _reached(stack, set()):
        _place(layer)
        if isinstance(layer, Starlette):
            vars(layer)["build_middleware_stack"] = _watching(layer.build_middleware_stack)
        found = found or isinstance(layer, (BaseHTTPMiddleware, Starlette))
    return found


def layers(stack: Any) -> Iterator[Any]:
    """The layers of a middleware stack, outermost first, found by their `.app`."""
    seen: set[int] = set()
    while stack is not None and id(stack) not in seen:
        seen.add(id(stack))
        yield stack
        stack = getattr(stack, "app", None)


def _reached(stack: Any, seen: set[int]) -> Iterator[Any]:
    """The layers of a stack and of all mounted applications."""
    for layer in layers(stack):
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        yield layer
        yield from _reached(getattr(layer, "middleware_stack", None), seen)
        for route in flat(getattr(layer, "routes", None) or ()):
            yield from _reached(getattr(route, "app", None), seen)


def _place(layer: Any) -> None:
    if isinstance(layer, BaseHTTPMiddleware) and not isinstance(layer.app, BrokenResponseLayer):
        layer.app = BrokenResponseLayer(layer.app)


def _watching(build: Callable[[], ASGIApp]) -> Callable[[], ASGIApp]:
    def build_middleware_stack() -> ASGIApp:
        stack = build()
        for layer in layers(stack):
            _place(layer)
        return stack

    return build_middleware_stack
