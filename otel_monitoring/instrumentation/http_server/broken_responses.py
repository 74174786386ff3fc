"""Answers that break off: below middleware that completes them all the same, what the body raised is noted in time.

Starlette's `BaseHTTPMiddleware`, also behind `@app.middleware("http")`, sends the end of an answer whose body raised
and raises only then (1.10 does, 0.38 did not): who measures until the last byte would have counted a success.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from otel_monitoring import seams
from otel_monitoring.instrumentation.http_server.disconnects import client_left
from otel_monitoring.instrumentation.http_server.route_template import flat

REQUEST_KEY: Final = "otel_monitoring.request"
MEASURED: Final = "fastapi.telemetry"
_BROKEN: Final = "otel_monitoring_broken"  # an attribute of what those keys hold


class BrokenResponseLayer:
    """The layer below such middleware.

    Args:
        app: What it is below, which keeps this name: FastAPI looks through `.app` for contrib.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Note an exception that is raised after an answer has begun and before it has ended."""
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


def broken_by(request: Any) -> Exception | None:
    """The exception that broke off the request's answer below middleware that completed it; None without one."""
    found: Exception | None = getattr(request, _BROKEN, None)
    return found


def _note(scope: Scope, error: Exception) -> None:
    request = scope.get(REQUEST_KEY) or scope.get(MEASURED)
    if request is not None and broken_by(request) is None:
        with seams.FASTAPI_BROKEN:
            setattr(request, _BROKEN, error)


def observe(stack: Any) -> bool:
    """Put the layer below such middleware in a built stack, and in all that its routes lead to, once that is built.

    Returns:
        Whether there is or may be such middleware.
    """
    found = False
    for layer in _reached(stack, set()):
        _place(layer)
        if isinstance(layer, Starlette):
            vars(layer)["build_middleware_stack"] = _watching(layer.build_middleware_stack)
        found = found or isinstance(layer, (BaseHTTPMiddleware, Starlette))
    return found


def layers(stack: Any) -> Iterator[Any]:
    """The layers of a middleware stack from the outside in, followed through their `.app`."""
    seen: set[int] = set()
    while stack is not None and id(stack) not in seen:
        seen.add(id(stack))
        yield stack
        stack = getattr(stack, "app", None)


def _reached(stack: Any, seen: set[int]) -> Iterator[Any]:
    """The layers of a stack, and of the applications that its routes lead to."""
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
