"""Which ends of requests and WebSockets are errors."""

from importlib.util import find_spec

import pytest
from starlette.requests import ClientDisconnect
from starlette.websockets import WebSocketDisconnect

from otel_monitoring.instrumentation.http_server.disconnects import client_left, socket_closed

native_only = pytest.mark.skipif(find_spec("fastapi.telemetry") is None, reason="no telemetry of its own")


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1010, 1012, 1015, 3000, 4999])
def test_a_close_is_no_error(code: int) -> None:
    assert socket_closed(WebSocketDisconnect(code))


@pytest.mark.parametrize("error", [WebSocketDisconnect(1011), WebSocketDisconnect(1013), ValueError(), None])
def test_a_failure_is_an_error(error: BaseException | None) -> None:
    assert not socket_closed(error)


def test_only_a_client_that_left_has_left() -> None:
    assert client_left(ClientDisconnect())
    assert not client_left(ConnectionResetError())
