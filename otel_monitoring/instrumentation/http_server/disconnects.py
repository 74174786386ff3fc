"""Clients that leave, and WebSockets that are closed: what of it is an error of the service.

A request whose client leaves before it has its answer ends as `ConnectionError`, the outcome that FastAPI's telemetry
gives it, whatever that made the application raise or send afterwards. A WebSocket may be closed by either side, or just
end: that is an error only where the close code says that an endpoint failed, as a status of 5xx does for a request.
"""

from typing import Final

from opentelemetry.trace import Span, StatusCode
from starlette.requests import ClientDisconnect
from starlette.types import Message, Send
from starlette.websockets import WebSocketDisconnect

from otel_monitoring import semconv
from otel_monitoring.instrumentation.http_server.headers import CapturedHeaders

# https://www.iana.org/assignments/websocket/: internal error, try again later, bad gateway.
FAILED_CLOSES: Final = frozenset({1011, 1013, 1014})


def client_left(error: BaseException | None) -> bool:
    """Whether `error` only says that the client of a request has left."""
    return isinstance(error, ClientDisconnect)


def request_error_type(error: BaseException) -> str:
    """`error.type` of what ended a request.

    `ConnectionError`, as the outcome of a client that left, was made for that and never raised: the application's own,
    of a connection to somebody else, is `builtins.ConnectionError`.
    """
    if client_left(error):
        return "ConnectionError"
    own = type(error) is ConnectionError and error.__traceback__ is not None
    return "builtins.ConnectionError" if own else semconv.error_type(error)


def socket_closed(error: BaseException | None) -> bool:
    """Whether `error` only says that a WebSocket was closed, or its client is gone."""
    return isinstance(error, WebSocketDisconnect) and error.code not in FAILED_CLOSES


def watched(send: Send, span: Span, headers: CapturedHeaders) -> Send:
    """`send` of a WebSocket that puts on `span` the captured headers and a failure that the client is told of."""

    async def watched_send(message: Message) -> None:
        kind = message["type"]
        failure: int | None = None
        if kind == "websocket.close" and message.get("code") in FAILED_CLOSES:
            failure = message["code"]
        elif kind == "websocket.http.response.start" and message["status"] >= 500:
            failure = message["status"]
        if failure is not None and span.is_recording():
            span.set_attribute(semconv.ERROR_TYPE, str(failure))
            span.set_status(StatusCode.ERROR)
        if kind in ("websocket.accept", "websocket.http.response.start"):
            headers.of_response(span, message.get("headers") or ())
        await send(message)

    return watched_send
