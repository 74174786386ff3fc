"""Calls an ASGI application in process, as a server would: a task per request, a realistic scope, no sockets."""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

TOKEN = "Bearer benchmark-token"

_HEADERS: list[tuple[bytes, bytes]] = [
    (b"host", b"api.example.com"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"authorization", TOKEN.encode()),
    (b"x-forwarded-for", b"203.0.113.7"),
]


class Call(NamedTuple):
    """One request to make."""

    method: str
    path: str
    body: bytes = b""
    query: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def scope(self) -> dict[str, Any]:
        """The ASGI scope to copy for each request."""
        own = {name for name, _ in self.headers}
        headers = [*(pair for pair in _HEADERS if pair[0] not in own), *self.headers]
        if self.body:
            headers += [(b"content-type", b"application/json"), (b"content-length", str(len(self.body)).encode())]
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": ("127.0.0.1", 8000),
            "client": ("203.0.113.7", 51234),
            "scheme": "http",
            "method": self.method,
            "root_path": "",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": self.query,
            "headers": headers,
        }


class Client:
    """Makes requests to `app`, whose lifespan it runs.

    Args:
        app: Any ASGI application.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._loop = asyncio.get_running_loop()
        self._state: dict[str, Any] = {}
        self._stopping = asyncio.Event()
        self._answers: asyncio.Queue[str] = asyncio.Queue()
        self._lifespan: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Run the application's start-up."""
        sent = iter(("lifespan.startup",))

        async def receive() -> dict[str, Any]:
            for kind in sent:
                return {"type": kind}
            await self._stopping.wait()
            return {"type": "lifespan.shutdown"}

        async def send(message: dict[str, Any]) -> None:
            self._answers.put_nowait(message["type"])

        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self._state}
        self._lifespan = self._loop.create_task(self._app(scope, receive, send))
        await self._expect("lifespan.startup.complete")

    async def stop(self) -> None:
        """Run the application's shutdown."""
        self._stopping.set()
        await self._expect("lifespan.shutdown.complete")

    async def statuses(self, calls: Sequence[Call], count: int) -> set[int]:
        """Make `count` requests, one after the other, going round `calls`.

        Returns:
            Every status that was answered.
        """
        seen: set[int] = set()
        scopes = [(call.scope(), {"type": "http.request", "body": call.body, "more_body": False}) for call in calls]
        create_task, app, state = self._loop.create_task, self._app, self._state

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                seen.add(message["status"])

        for position in range(count):
            scope, request = scopes[position % len(scopes)]
            await create_task(app({**scope, "state": state.copy()}, _Receive(request), send))
        return seen

    async def get(self, path: str, query: bytes = b"") -> tuple[int, bytes]:
        """Status and body of one answer."""
        parts: list[bytes] = []
        status = 0

        async def send(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            parts.append(message.get("body", b""))

        scope = {**Call("GET", path, query=query).scope(), "state": self._state.copy()}
        receive = _Receive({"type": "http.request", "body": b"", "more_body": False})
        await self._loop.create_task(self._app(scope, receive, send))
        return status, b"".join(parts)

    async def _expect(self, kind: str) -> None:
        got = await asyncio.wait_for(self._answers.get(), 30)
        if got != kind:
            raise RuntimeError(f"the application's lifespan: {got}")


class _Receive:
    """The request's body, then a client that stays connected."""

    __slots__ = ("_message",)

    def __init__(self, message: dict[str, Any]) -> None:
        self._message: dict[str, Any] | None = message

    async def __call__(self) -> dict[str, Any]:
        message, self._message = self._message, None
        return message if message is not None else await _forever()


async def _forever() -> NoReturn:
    await asyncio.get_running_loop().create_future()
    raise AssertionError
