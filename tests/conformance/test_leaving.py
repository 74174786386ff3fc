"""Clients that leave, and WebSockets that are closed by either side: told apart from errors in every engine."""

import base64
import logging
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse
from opentelemetry.trace import StatusCode
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.conformance.application import WAIT, CopyScope, Gates
from tests.conformance.conftest import Make
from tests.conformance.observed import ACTIVE, Observed
from tests.waiting import eventually


class Stream(Response):
    """A stream of a pure ASGI application, which looks whether the client is there."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass


def streams(app: FastAPI) -> None:
    async def forever() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1024
            await anyio.sleep(0.01)

    def in_thread() -> Iterator[bytes]:
        pause = threading.Event()
        while True:
            yield b"x" * 1024
            pause.wait(0.01)

    async def silent() -> AsyncIterator[bytes]:
        yield b"x"
        await anyio.sleep_forever()

    @app.get("/async")
    async def asynchronous() -> StreamingResponse:
        return StreamingResponse(forever())

    @app.get("/sync")
    async def synchronous() -> StreamingResponse:
        return StreamingResponse(in_thread())

    @app.get("/events")
    async def events() -> StreamingResponse:
        return StreamingResponse(silent(), media_type="text/event-stream")

    @app.get("/asgi")
    async def asgi() -> Response:
        return Stream()

    @app.post("/upload")
    async def upload(request: Request) -> int:
        return len(await request.body())


def pass_on(app: FastAPI) -> None:
    @app.middleware("http")
    async def middleware(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        return await call_next(request)


def zipped(app: FastAPI) -> None:
    app.add_middleware(GZipMiddleware, minimum_size=1)


MIDDLEWARE: dict[str, tuple[Callable[[FastAPI], None], ...]] = {
    "none": (),
    "http": (pass_on,),
    "http twice": (pass_on, pass_on),
    "gzip": (zipped,),
    "http in gzip": (pass_on, zipped),
    "gzip in http": (zipped, pass_on),
    "asgi": (lambda app: app.add_middleware(CopyScope),),
}


@pytest.mark.parametrize("body", ["async", "sync", "events", "asgi", "upload"])
@pytest.mark.parametrize("middleware", MIDDLEWARE)
@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings("ignore:.*MemoryObject.*:pytest.PytestUnraisableExceptionWarning")
def test_a_client_that_leaves_is_a_disconnect_behind_any_middleware(engine: str, body: str, middleware: str) -> None:
    app = FastAPI()
    streams(app)
    observed = Observed(engine, app, Gates())
    for add in MIDDLEWARE[middleware]:
        add(app)
    observed.serve()
    try:
        with socket.create_connection(("127.0.0.1", observed.port), timeout=WAIT) as connection:
            if body == "upload":
                connection.sendall(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\npart")
                eventually(lambda: observed.points(ACTIVE))
            else:
                connection.sendall(b"GET /" + body.encode() + b" HTTP/1.1\r\nHost: a\r\n\r\n")
                assert connection.recv(1024)
        eventually(lambda: observed.total() == 1)
    finally:
        observed.stop()
    ((attributes, count),) = observed.points()
    assert count == 1
    assert attributes["error.type"] == "ConnectionError"
    assert attributes.get("http.response.status_code") == (None if body == "upload" else 200)
    assert attributes["http.route"] == f"/{body}"
    assert observed.points(ACTIVE)[0][1] == 0
    assert observed.errors == []
    assert not observed.logs.get_finished_logs()
    assert (observed.span().attributes or {})["error.type"] == "ConnectionError"
    assert not observed.span().events


def test_an_error_after_the_client_has_left_is_an_error(engine: str) -> None:
    app = FastAPI()

    @app.post("/upload")
    async def upload(request: Request) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        raise ValueError("our own")

    observed = Observed(engine, app, Gates())
    observed.serve()
    with socket.create_connection(("127.0.0.1", observed.port), timeout=WAIT) as connection:
        connection.sendall(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\npart")
        eventually(lambda: observed.points(ACTIVE))
    eventually(lambda: observed.total() == 1)
    observed.stop()
    assert observed.points()[0][0]["error.type"] == "ValueError"
    assert [repr(error.exception) for error in observed.errors] == ["ValueError('our own')"]


@pytest.mark.parametrize("middleware", ["none", "http"])
@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings("ignore:.*MemoryObject.*:pytest.PytestUnraisableExceptionWarning")
def test_a_connection_error_of_the_application_is_no_client_that_left(engine: str, middleware: str) -> None:
    app = FastAPI()

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"first"
            raise ConnectionError("the upstream is gone")

        return StreamingResponse(parts())

    observed = Observed(engine, app, Gates())
    for add in MIDDLEWARE[middleware]:
        add(app)
    observed.serve()
    observed.raw(b"GET /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    observed.stop()
    assert observed.points()[0][0]["error.type"] == "builtins.ConnectionError"
    assert [repr(error.exception) for error in observed.errors] == ["ConnectionError('the upstream is gone')"]


# --- WebSockets ---


def sockets() -> FastAPI:
    app = FastAPI()

    @app.websocket("/talk")
    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("hello")
        while True:
            await websocket.receive_text()

    @app.websocket("/close/{code}")
    async def close(websocket: WebSocket, code: int) -> None:
        await websocket.accept()
        await websocket.close(code)

    @app.websocket("/raise/{code}")
    async def fail(websocket: WebSocket, code: int) -> None:
        await websocket.accept()
        raise WebSocketDisconnect(code) if code else ValueError("broken")

    return app


def drop(port: int) -> None:
    """Open a WebSocket and end its TCP connection, without a word."""
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as connection:
        key = base64.b64encode(bytes(16)).decode()
        connection.sendall(
            f"GET /talk HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        answer = b""
        while b"hello" not in answer:
            answer += connection.recv(1024)


def check_socket(observed: Observed, error: str | None) -> None:
    eventually(observed.spans.get_finished_spans)
    observed.stop()
    span: Any = observed.span()
    assert span.attributes.get("error.type") == error
    assert span.status.status_code is (StatusCode.UNSET if error is None else StatusCode.ERROR)
    if error is None:
        assert not span.events
        assert not observed.logs.get_finished_logs()
    assert observed.points() == []


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("drop", None),
        (1000, None),
        (1001, None),
        ("none", None),
        (1002, None),
        (1003, None),
        (1008, None),
        (4001, None),
        (1011, "starlette.websockets.WebSocketDisconnect"),
    ],
)
def test_a_websocket_that_its_client_closes(engine: str, code: int | str, error: str | None) -> None:
    observed = Observed(engine, sockets(), Gates())
    observed.serve()
    if code == "drop":
        drop(observed.port)
    else:
        with connect(f"ws://127.0.0.1:{observed.port}/talk") as client:
            assert client.recv() == "hello"
            if code == "none":
                client.socket.sendall(b"\x88\x80" + bytes(4))  # a close frame without a code
            else:
                client.close(int(code))
    check_socket(observed, error)


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/close/1000", None),
        ("/close/1001", None),
        ("/close/1008", None),
        ("/close/4400", None),
        ("/close/1011", "1011"),
        ("/close/1013", "1013"),
        ("/raise/1005", None),
        ("/raise/1006", None),
        ("/raise/1011", "starlette.websockets.WebSocketDisconnect"),
        ("/raise/0", "ValueError"),
    ],
)
def test_a_websocket_that_the_application_closes(engine: str, path: str, error: str | None) -> None:
    observed = Observed(engine, sockets(), Gates())
    observed.serve()
    with connect(f"ws://127.0.0.1:{observed.port}{path}") as client, pytest.raises(ConnectionClosed):
        client.recv()
    check_socket(observed, error)


def test_two_sockets_and_a_request_are_not_mixed(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    observed = make()
    caplog.set_level(logging.ERROR)
    with connect(f"ws://127.0.0.1:{observed.port}/ws/kitchen") as client:
        client.send("hello")
        client.recv()
    assert observed.get("/any").status_code == 200
    observed.stop()
    assert sorted(span.name for span in observed.spans.get_finished_spans()) == ["GET /any", "WS /ws/{room}"]
    assert not caplog.records
