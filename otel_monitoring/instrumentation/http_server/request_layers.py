"""The layers around every request: `ApplicationLayer`, the outermost of the stack, and `Gate`, before what measures."""

import asyncio
from collections.abc import Awaitable

from starlette.types import ASGIApp, Receive, Scope, Send

from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.http_server.current_request import request_path
from otel_monitoring.instrumentation.http_server.native import MEASURED, left_out_around
from otel_monitoring.instrumentation.http_server.open_connections import OpenConnections
from otel_monitoring.instrumentation.http_server.recorder import ORIGINAL_KEY, Recorder
from otel_monitoring.instrumentation.http_server.request_options import RequestOptions
from otel_monitoring.instrumentation.http_server.server_spans import RAW_SEND_KEY
from otel_monitoring.runtime.current_service import current_service


class Gate:
    """Decides what measures a request: contrib and the recorder, the recorder alone, or nothing.

    Args:
        recorder: The recorder behind contrib's layer.
        options: How requests are observed.
        tracing: Whether requests go through contrib.
    """

    app: ASGIApp
    """contrib's layer, or the recorder if there is none. FastAPI follows this attribute to find contrib."""

    def __init__(self, recorder: Recorder, options: RequestOptions, *, tracing: bool) -> None:
        self._tracing = tracing
        self._recorder = recorder
        self._leaves_out = options.leaves_out

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Handle one connection."""
        if scope["type"] not in ("http", "websocket"):
            return self._recorder.app(scope, receive, send)
        left_out = left_out_around(scope)
        # FastAPI's mark for a request that is left out: a mounted application does not measure it a second time.
        scope.setdefault(MEASURED, None)
        if left_out or self._leaves_out(scope):
            return self._recorder.app(scope, receive, send)
        if not self._tracing:
            return self._recorder(scope, receive, send)
        # contrib sets status 200 on the span at every message of a WebSocket, and ends the span at the last byte.
        scope[RAW_SEND_KEY] = send
        return self.app(_decodable(scope), receive, send)


def _decodable(scope: Scope) -> Scope:
    """`scope`, or a copy without the non-ASCII bytes that contrib cannot decode: its exception would be a 500."""
    headers = scope["headers"]
    query: bytes = scope.get("query_string", b"")
    if query.isascii() and all(value.isascii() and name.isascii() for name, value in headers):
        return scope
    clean = [(name, value) for name, value in headers if name.isascii() and value.isascii()]
    return {**scope, "headers": clean, "query_string": query if query.isascii() else b"", ORIGINAL_KEY: scope}


class ApplicationLayer:
    """The outermost layer of the stack: notes the first request, the current request and open connections.

    Args:
        app: The built middleware stack.
        options: How requests are observed.
        connections: The open connections.
    """

    def __init__(self, app: ASGIApp, options: RequestOptions, connections: OpenConnections) -> None:
        self.app = app
        self._connections = connections
        self._options = options
        self._service = options.service
        self._loop: object = self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        kind = scope["type"]
        if kind == "lifespan":
            with_service = current_service.set(self._service)
            try:
                await self.app(scope, receive, send)
            finally:
                current_service.reset(with_service)
            return
        if self._loop is not _running_loop():
            self._begin()
        with_service = current_service.set(self._service)
        with_path = request_path.set(scope["path"]) if kind == "http" else None
        self._connections.began(send)
        try:
            await self.app(scope, receive, send)
        finally:
            self._connections.ended(send)
            if with_path is not None:
                request_path.reset(with_path)
            current_service.reset(with_service)

    def _begin(self) -> None:
        self._loop = _running_loop()
        with fail_open("start on the first request"):
            self._options.on_first_request()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """The running asyncio loop; None under trio."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
