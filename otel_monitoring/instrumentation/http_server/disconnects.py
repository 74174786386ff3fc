"""Clients that disconnect, and WebSockets that are closed: which of these are errors of the service.

A request whose client disconnects before the response is complete has the `error.type` `ConnectionError`, as in
FastAPI's telemetry, whatever the application raises or sends afterwards. The end of a WebSocket is an error only if the
close code says that an endpoint failed, as a status of 5xx does for a request.
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
    """Whether `error` means that the client of a request has disconnected."""
    return isinstance(error, ClientDisconnect)


def request_error_type(error: BaseException) -> str:
    """The value of `error.type` for the exception that ended a request.

    `ConnectionError` means that the client has disconnected. A `ConnectionError` that the application has raised, e.g.
    for another service, is `builtins.ConnectionError`.
    """
    if client_left(error):
        return "ConnectionError"
    own = type(error) is ConnectionError and error.__traceback__ is not None
    return "builtins.ConnectionError" if own else semconv.error_type(error)


def socket_closed(error: BaseException | None) -> bool:
    """Whether `error` means that a WebSocket was closed without a failure, or its client has disconnected."""
    return isinstance(error, WebSocketDisconnect) and error.code not in FAILED_CLOSES


def observed_send(send: Send, span: Span, headers: CapturedHeaders) -> Send:
    """`send` of a WebSocket that adds to `span` captured headers, and the failure that the server reports."""

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
