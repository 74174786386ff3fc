"""Several lifespans of one application at once: two servers of one process, a `TestClient` in a served application."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from anyio.from_thread import start_blocking_portal
from fastapi import FastAPI
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from pymongo import AsyncMongoClient

from otel_monitoring import MonitoringService
from tests.otlp_sink import HttpSink
from tests.ports import free_port
from tests.waiting import eventually, eventually_here
from tests.wire import wire_server

TIMEOUT = 60.0


def shop(lifespan: Any = None, **settings: Any) -> tuple[FastAPI, MonitoringService]:
    app = FastAPI(lifespan=lifespan)

    @app.get("/orders/{number}")
    async def order(number: int) -> int:
        return number

    return app, MonitoringService(None, access="open", check_interval=0.05, **settings).instrument(app)


class Server:
    """uvicorn, which serves `app` in the running loop from `start` to `stop`."""

    def __init__(self, app: FastAPI) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self._server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None))

    async def start(self) -> "Server":
        self._serving = asyncio.ensure_future(self._server.serve())
        await eventually_here(lambda: self._server.started or self._serving.done())
        assert not self._serving.done()
        return self

    async def stop(self) -> None:
        self._server.should_exit = True
        await self._serving

    async def ask(self, *numbers: int) -> None:
        async with httpx.AsyncClient(base_url=self.url) as http:
            for number in numbers:
                assert (await http.get(f"/orders/{number}")).json() == number

    async def readiness(self) -> int:
        async with httpx.AsyncClient(base_url=self.url) as http:
            return (await http.get("/api/health/ready")).status_code


@contextmanager
def live(app: FastAPI) -> Iterator[None]:
    """The lifespan of `app` in an event loop of its own, as `TestClient` runs it."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(app.router.lifespan_context(app)):
        yield


@contextmanager
def served_in_a_thread(app: FastAPI) -> Iterator[None]:
    """uvicorn with an event loop in a thread of its own."""
    server = uvicorn.Server(uvicorn.Config(app, port=free_port(), log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    eventually(lambda: server.started or not thread.is_alive())
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(TIMEOUT)
        assert not thread.is_alive()


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_what_is_served_after_one_of_two_servers_has_ended_is_exported(first_ends_first: bool) -> None:
    async def serve(sink: HttpSink) -> None:
        app, monitoring = shop(otlp_endpoint=sink.endpoint)
        servers = [await Server(app).start(), await Server(app).start()]
        ending, staying = servers if first_ends_first else reversed(servers)
        await ending.ask(*range(10))
        await staying.ask(*range(9))
        await ending.stop()
        assert await staying.readiness() == 200
        await staying.ask(*range(11))
        await staying.stop()
        assert not monitoring._worker.running, "it stops with the last one"
        again = await Server(app).start()
        assert monitoring.ready
        await again.stop()

    with HttpSink() as sink:
        asyncio.run(serve(sink))
        assert sum(span.kind == Span.SPAN_KIND_SERVER for span in sink.spans()) == 30


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_checks_and_the_lag_follow_the_loop_that_remains(first_ends_first: bool) -> None:
    app, monitoring = shop()
    loops: list[asyncio.AbstractEventLoop] = []

    async def check() -> None:
        loops.append(asyncio.get_running_loop())

    monitoring.add_check("own", check)
    first, second = served_in_a_thread(app), served_in_a_thread(app)
    ending, staying = (first, second) if first_ends_first else (second, first)
    first.__enter__()
    second.__enter__()
    try:
        ending.__exit__(None, None, None)
        loops.clear()
        eventually(lambda: any(loop.is_running() for loop in tuple(loops)), "a check in the loop that remains")
        eventually(lambda: monitoring._parts._loop_state()["max_lag_seconds"] is not None, "its lag")
        assert monitoring.ready
    finally:
        staying.__exit__(None, None, None)
    assert not monitoring._worker.running


def test_a_test_client_in_a_served_application_leaves_it_monitored() -> None:
    app, monitoring = shop()
    with live(app):
        with live(app):
            assert monitoring.ready
        assert monitoring._worker.running, "and no request of the outer one has to start it again"
        assert not monitoring._worker.draining
        assert monitoring.ready
    assert not monitoring._worker.running


class Databases:
    """The lifespan of an application that makes a client, and watches `orders1`, `orders2`, and so on.

    Args:
        uri: The server.
        fails: Whether the second startup fails.
    """

    def __init__(self, uri: str, *, fails: bool = False) -> None:
        self._uri, self._fails, self._begun = uri, fails, 0
        self.monitoring: MonitoringService | None = None

    @asynccontextmanager
    async def __call__(self, _: FastAPI) -> AsyncIterator[None]:
        assert self.monitoring is not None
        self._begun += 1
        client: AsyncMongoClient[Any] = AsyncMongoClient(self._uri)
        async with client:
            self.monitoring.watch_database(client[f"orders{self._begun}"])
            await eventually_here(lambda: self.healthy)
            if self._fails and self._begun > 1:
                raise RuntimeError("the second start fails")
            yield

    @property
    def healthy(self) -> bool:
        """Whether the database that is watched has answered in the loop of its client."""
        return self.monitoring is not None and self.monitoring.db_checker.status in ("healthy", "degraded")  # or slow


def test_a_failing_start_leaves_the_other_server_monitored() -> None:
    with wire_server(lambda _: {"ok": 1}) as uri:
        lifespan = Databases(uri, fails=True)
        app, monitoring = shop(lifespan)
        lifespan.monitoring = monitoring
        with live(app):
            with pytest.raises(RuntimeError, match="second start"), live(app):
                pass
            assert monitoring.ready
            assert not monitoring._worker.draining
            assert monitoring._db.name == "orders1"
            eventually(lambda: lifespan.healthy)
        assert not monitoring._worker.running


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_the_database_of_the_lifespan_that_remains_is_watched_in_its_loop(first_ends_first: bool) -> None:
    with wire_server(lambda _: {"ok": 1}) as uri:
        lifespan = Databases(uri)
        app, monitoring = shop(lifespan)
        lifespan.monitoring = monitoring
        first, second = live(app), live(app)
        ending, staying = (first, second) if first_ends_first else (second, first)
        first.__enter__()
        second.__enter__()
        ending.__exit__(None, None, None)
        assert monitoring._db.name == ("orders2" if first_ends_first else "orders1")
        eventually(lambda: lifespan.healthy)
        staying.__exit__(None, None, None)
        assert not monitoring._worker.running


def test_a_stop_in_the_shutdown_handler_leaves_the_other_server_monitored() -> None:
    """As documented: `start()` and `stop()` in handlers of the application."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await monitoring.start()
        yield
        await monitoring.stop()

    app, monitoring = shop(lifespan)
    with live(app):
        with live(app):
            pass
        assert monitoring.ready
    assert not monitoring._worker.running


def test_a_lifespan_that_begins_while_the_last_one_stops_is_monitored(monkeypatch: pytest.MonkeyPatch) -> None:
    app, monitoring = shop()
    stop_soon = monitoring._worker.stop_soon
    further = live(app)

    async def begin_and_stop() -> None:
        with monkeypatch.context() as once:
            once.setattr(monitoring._worker, "stop_soon", stop_soon)
            await asyncio.to_thread(further.__enter__)
        await stop_soon()

    with monkeypatch.context() as once:
        once.setattr(monitoring._worker, "stop_soon", begin_and_stop)
        with live(app):
            pass
    eventually(lambda: monitoring.ready)
    further.__exit__(None, None, None)
    assert not monitoring._worker.running


def test_a_signal_drains_while_one_server_shuts_down_already() -> None:
    drained: list[bool] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        drained.append(monitoring._worker.draining)
        monitoring._signalled()
        drained.append(monitoring._worker.draining)

    app, monitoring = shop(lifespan)

    async def serve() -> None:
        async with app.router.lifespan_context(app), app.router.lifespan_context(app):
            pass

    asyncio.run(serve())
    assert drained == [False, True, True, True]


CHILD = """
import asyncio, multiprocessing
from fastapi import FastAPI
from otel_monitoring import MonitoringService

app = FastAPI()
monitoring = MonitoringService(None).instrument(app)

async def live():
    async with app.router.lifespan_context(app):
        print(monitoring._worker.running, flush=True)
    print(monitoring._worker.running, flush=True)

async def live_and_fork():
    async with app.router.lifespan_context(app):
        child = multiprocessing.get_context("fork").Process(target=lambda: asyncio.run(live()))
        child.start()
        await asyncio.to_thread(child.join)
        print(monitoring._worker.running)

asyncio.run(live_and_fork())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no forks")
@pytest.mark.slow
def test_a_forked_child_does_not_count_the_lifespans_of_its_parent() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout.split() == ["True", "False", "True"], done.stderr
