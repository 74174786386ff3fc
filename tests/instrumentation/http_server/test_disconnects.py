"""The private functions in which FastAPI decides what leaving means: replaced once, missed with one line."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.requests import ClientDisconnect
from starlette.websockets import WebSocketDisconnect

from otel_monitoring import seams
from otel_monitoring.instrumentation.http_server import native
from otel_monitoring.instrumentation.http_server.disconnects import client_left, socket_closed
from tests.conformance.application import Gates
from tests.conformance.observed import Observed

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


@native_only
def test_it_is_taught_once() -> None:
    native.configure_disconnects()
    before = vars(import_module("fastapi.telemetry._asgi"))["_exception"]
    native.configure_disconnects()
    assert vars(import_module("fastapi.telemetry._asgi"))["_exception"] is before


@native_only
@pytest.mark.anyio
@pytest.mark.parametrize("name", ["_exception", "_exception_type", "_normal_websocket_disconnect"])
async def test_without_one_of_them_requests_are_measured_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    monkeypatch.setattr(seams.FASTAPI_LEAVING, "error", None)
    asgi: Any = import_module("fastapi.telemetry._asgi")
    with monkeypatch.context() as gone:
        gone.delattr(asgi, name)
        observed = Observed("native", FastAPI(), Gates())
    assert observed.instrumentation.engine == "native"
    assert not seams.FASTAPI_LEAVING.holds
    (line,) = caplog.messages
    assert line.startswith("fastapi ")
    assert "1005 or 1006" in line
    monkeypatch.setattr(seams.FASTAPI_LEAVING, "error", None)
