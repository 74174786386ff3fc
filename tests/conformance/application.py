"""The application both engines must measure alike: every kind of route and of answer."""

import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from fastapi import APIRouter, BackgroundTasks, FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.applications import Starlette
from starlette.middleware.base import RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

WAIT = 20.0


class TeapotError(Exception):
    """Its handler answers 200."""


class OverloadError(Exception):
    """Its handler answers 503."""


class Gates:
    """Events that let a test decide when the application goes on."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.entered = threading.Event()

    def wait(self) -> None:
        self.entered.set()
        assert self.release.wait(WAIT)


class CopyScope:
    """Middleware that hands a copy of the scope on, as some do."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(dict(scope), receive, send)


def make_app(gates: Gates, static: Path, **options: Any) -> FastAPI:
    app = FastAPI(**options)
    _answers(app)
    _failures(app)
    _slow(app, gates)
    app.include_router(_orders(), prefix="/api")
    _mounts(app, static)
    return app


def _answers(app: FastAPI) -> None:
    @app.get("/items/{item}")
    @app.get("/things/{item}")
    async def read_item(item: int) -> dict[str, int]:
        return {"item": item}

    @app.api_route("/any", methods=["GET", "HEAD", "OPTIONS", "PUT"], include_in_schema=False)
    def anything() -> dict[str, bool]:
        return {"ok": True}

    @app.post("/upload")
    async def upload(request: Request) -> dict[str, int]:
        return {"size": len(await request.body())}

    @app.get("/api/health")
    async def health() -> dict[str, str]:
        return {"status": "healthy"}

    @app.get("/large")
    async def large() -> PlainTextResponse:
        return PlainTextResponse("x" * 5000)

    @app.websocket("/ws/{room}")
    async def socket(websocket: WebSocket, room: str) -> None:
        await websocket.accept()
        await websocket.send_text(f"{room}: {await websocket.receive_text()}")
        if room == "broken":
            raise ValueError("broken room")
        await websocket.close()


def _failures(app: FastAPI) -> None:
    @app.get("/status/{code}")
    async def status(code: int) -> None:
        raise HTTPException(code, "as asked")

    @app.get("/answer/{code}")
    async def answer(code: int) -> Response:
        return Response(status_code=code)

    @app.get("/raise")
    async def fail() -> None:
        raise ValueError("unhandled")

    @app.get("/teapot")
    async def teapot() -> None:
        raise TeapotError

    @app.get("/overload")
    async def overload() -> None:
        raise OverloadError

    @app.exception_handler(TeapotError)
    async def on_teapot(_: Request, __: Exception) -> JSONResponse:
        return JSONResponse({"short": True}, 200)

    @app.exception_handler(OverloadError)
    async def on_overload(_: Request, __: Exception) -> JSONResponse:
        return JSONResponse({"later": True}, 503)

    @app.get("/raise-late")
    async def fail_late() -> StreamingResponse:
        def parts() -> Iterator[bytes]:
            yield b"first"
            raise ValueError("after the start")

        return StreamingResponse(parts())


def _slow(app: FastAPI, gates: Gates) -> None:
    @app.get("/stream")
    async def stream() -> StreamingResponse:
        def parts() -> Iterator[bytes]:
            yield b"first"
            gates.wait()
            yield b"last"

        return StreamingResponse(parts())

    @app.get("/endless")
    async def endless() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            import anyio

            while True:
                yield b"x" * 1024
                await anyio.sleep(0.01)

        return StreamingResponse(parts())

    @app.get("/background")
    async def background(tasks: BackgroundTasks) -> dict[str, bool]:
        tasks.add_task(gates.wait)
        return {"ok": True}

    @app.get("/background-fails")
    async def background_fails(tasks: BackgroundTasks) -> dict[str, bool]:
        def fail() -> None:
            raise ValueError("in the background")

        tasks.add_task(fail)
        return {"ok": True}


def _orders() -> APIRouter:
    orders = APIRouter(prefix="/orders")
    lines = APIRouter()

    @orders.get("/")
    async def list_orders() -> list[int]:
        return []

    @orders.get("/{order}")
    async def read_order(order: int) -> dict[str, int]:
        return {"order": order}

    @lines.get("/{order}/lines/{line}")
    async def read_line(order: int, line: int) -> dict[str, int]:
        return {"order": order, "line": line}

    orders.include_router(lines)
    return orders


def _mounts(app: FastAPI, static: Path) -> None:
    sub = FastAPI()
    router = APIRouter(prefix="/users")

    @router.get("/{user}")
    async def read_user(user: int) -> dict[str, int]:
        return {"user": user}

    @sub.get("/raise")
    async def fail() -> None:
        raise KeyError("in the mounted application")

    @sub.get("/overload")
    async def overload() -> None:
        raise OverloadError

    @sub.exception_handler(OverloadError)
    async def on_overload(_: Request, __: Exception) -> JSONResponse:
        return JSONResponse({"mounted": True}, 503)

    sub.include_router(router)
    inner = FastAPI()
    inner.include_router(router)
    sub.mount("/inner", inner)
    app.mount("/sub", sub)
    app.mount("/tenants/{tenant}", inner)

    async def plain(_: Any) -> PlainTextResponse:
        return PlainTextResponse("plain")

    app.mount("/plain", Starlette(routes=[Route("/deep/{name}", plain)]))
    app.mount("/static", StaticFiles(directory=static))
    app.add_route("/route/{name}", plain)


def with_middleware(app: FastAPI) -> None:
    app.add_middleware(GZipMiddleware, minimum_size=100)
    app.add_middleware(CopyScope)

    @app.middleware("http")
    async def pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)
