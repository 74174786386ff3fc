"""uvicorn in a thread of the test's process."""

import asyncio
import socket
import threading
from typing import Any

import uvicorn.server

from tests.waiting import PATIENCE, eventually


class _Impatient:
    """asyncio as uvicorn sees it: ten times a second it looks whether to end, and hundreds of tests wait for that."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 20)


uvicorn.server.asyncio = _Impatient()  # type: ignore[assignment, attr-defined]


class ThreadedServer:
    """An application that is served at a port of the loopback, from the start until `stop`.

    Args:
        app: The ASGI application.
        config: Further options of uvicorn.
    """

    def __init__(self, app: Any, **config: Any) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=10, **config))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self._thread.start()
        eventually(lambda: self._server.started or not self._thread.is_alive(), "it serves")

    def stop(self) -> None:
        """End it; every request has been answered when this returns."""
        self._server.should_exit = True
        self._thread.join(PATIENCE)
        self._socket.close()
        assert not self._thread.is_alive()
