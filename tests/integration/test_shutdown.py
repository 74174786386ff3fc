"""The end of a process by a signal: what the SDK has taken has left, under each server, with and without a lifespan."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from tests.integration.processes import Service, serving
from tests.otlp_sink import HttpSink
from tests.ports import free_port
from tests.waiting import PATIENCE, eventually

pytestmark = pytest.mark.integration

APPLICATION = """
import logging
import os

from fastapi import FastAPI
from otel_monitoring import MonitoringService
from starlette.applications import Starlette
from starlette.routing import Mount

inner = FastAPI()
monitoring = MonitoringService(None).instrument(inner)
orders = monitoring.meter.create_counter("shop.orders")

@inner.get("/ready")
async def ready():
    return os.getpid()

@inner.get("/orders/{number}")
async def order(number: int):
    orders.add(1)
    logging.getLogger("shop").warning("order %s", number)
    return number
"""
WITH_LIFESPAN = APPLICATION + "app = inner\n"
MOUNTED = APPLICATION + "app = Starlette(routes=[Mount('/', inner)])\n"
ANSWERED = (
    APPLICATION
    + """
async def app(scope, receive, send):
    if scope["type"] != "lifespan":
        await inner(scope, receive, send)
        return
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
"""
)
UVICORN_WORKER = ("gunicorn", "-k", "uvicorn.workers.UvicornWorker")
ASGI_WORKER = ("gunicorn", "-k", "asgi")
ORDERS = 12


def exporting(sink: HttpSink, folder: Path, source: str, runner: tuple[str, ...]) -> AbstractContextManager[Service]:
    """Serve `source`; nothing is due for export before the end."""
    return serving(
        folder,
        source,
        runner=runner,
        ready="/ready",
        OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
        OTEL_BSP_SCHEDULE_DELAY="600000",
        OTEL_BLRP_SCHEDULE_DELAY="600000",
        OTEL_METRIC_EXPORT_INTERVAL="600000",
    )


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with HttpSink() as sink:
        yield sink


def arrived(sink: HttpSink) -> dict[str, float]:
    """How many orders each signal tells of. A total may be sent more than once: the last one of each worker counts."""
    counted = {
        point.start_time_unix_nano: point.as_int
        for metric in sink.metrics()
        if metric.name == "shop.orders"
        for point in metric.sum.data_points
    }
    durations = {
        point.start_time_unix_nano: point.count
        for metric in sink.metrics()
        if metric.name == "http.server.request.duration"
        for point in metric.histogram.data_points
        if any(pair.value.string_value == "/orders/{number}" for pair in point.attributes)
    }
    return {
        "spans": sum(span.name == "GET /orders/{number}" for span in sink.spans()),
        "records": sum(record.body.string_value.startswith("order ") for record in sink.records()),
        "counted": sum(counted.values()),
        "durations": sum(durations.values()),
    }


ALL = dict.fromkeys(("spans", "records", "counted", "durations"), ORDERS)


def serve_orders(service: Service) -> None:
    for number in range(ORDERS):
        assert service.get(f"/orders/{number}").status_code == 200


def every_worker_runs(service: Service, workers: int) -> None:
    """granian waits for ever for a worker whose loop does not run yet when it is told to stop."""
    answered: set[str] = set()

    def all_answered() -> bool:
        answered.add(service.get("/ready").text)
        return len(answered) == workers

    eventually(all_answered, "all workers answer")


@pytest.mark.parametrize(
    ("source", "runner"),
    [
        pytest.param(WITH_LIFESPAN, ("uvicorn",), id="uvicorn"),
        pytest.param(WITH_LIFESPAN, ("uvicorn", "--lifespan", "off"), id="uvicorn-lifespan-off"),
        pytest.param(MOUNTED, ("uvicorn", "--loop", "uvloop"), id="uvicorn-mounted-uvloop"),
        pytest.param(ANSWERED, ("uvicorn", "--workers", "2"), id="uvicorn-workers-answered"),
        pytest.param(MOUNTED, ("uvicorn", "--reload"), id="uvicorn-reload-mounted"),
        pytest.param(WITH_LIFESPAN, ("uvicorn", "--workers", "2", "--lifespan", "off"), id="uvicorn-workers-off"),
        pytest.param(WITH_LIFESPAN, UVICORN_WORKER, id="gunicorn-uvicorn"),
        pytest.param(MOUNTED, UVICORN_WORKER, id="gunicorn-uvicorn-mounted"),
        pytest.param(MOUNTED, (*UVICORN_WORKER, "--preload", "-w", "2"), id="gunicorn-uvicorn-preload-mounted"),
        pytest.param(WITH_LIFESPAN, ASGI_WORKER, id="gunicorn-asgi"),
        pytest.param(ANSWERED, ASGI_WORKER, id="gunicorn-asgi-answered"),
        pytest.param(MOUNTED, (*ASGI_WORKER, "--preload"), id="gunicorn-asgi-preload-mounted"),
        pytest.param(WITH_LIFESPAN, ("hypercorn",), id="hypercorn"),
        pytest.param(MOUNTED, ("hypercorn",), id="hypercorn-mounted"),
        pytest.param(ANSWERED, ("hypercorn", "-w", "2"), id="hypercorn-workers-answered"),
        pytest.param(WITH_LIFESPAN, ("granian", "--interface", "asgi"), id="granian"),
        pytest.param(WITH_LIFESPAN, ("granian", "--interface", "asginl"), id="granian-lifespan-off"),
        pytest.param(MOUNTED, ("granian", "--interface", "asgi", "--workers", "2"), id="granian-workers-mounted"),
    ],
)
def test_nothing_is_lost_at_sigterm(sink: HttpSink, tmp_path: Path, source: str, runner: tuple[str, ...]) -> None:
    with exporting(sink, tmp_path, source, runner) as service:
        serve_orders(service)
        if runner[0] == "granian":
            every_worker_runs(service, 2 if "--workers" in runner else 1)
        output = service.stop()
    assert arrived(sink) == ALL, output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("source", "runner"),
    [
        pytest.param(MOUNTED, ("uvicorn",), id="uvicorn-mounted"),
        pytest.param(MOUNTED, UVICORN_WORKER, id="gunicorn-uvicorn-mounted"),
        pytest.param(MOUNTED, ASGI_WORKER, id="gunicorn-asgi-mounted"),
        pytest.param(ANSWERED, ("hypercorn",), id="hypercorn-answered"),
        pytest.param(WITH_LIFESPAN, ("granian", "--interface", "asginl"), id="granian-lifespan-off"),
    ],
)
def test_nothing_is_lost_at_ctrl_c(sink: HttpSink, tmp_path: Path, source: str, runner: tuple[str, ...]) -> None:
    with exporting(sink, tmp_path, source, runner) as service:
        serve_orders(service)
        os.killpg(service.process.pid, signal.SIGINT)  # as a terminal does, to every process of the group
        service.process.wait(PATIENCE)
    assert arrived(sink) == ALL, service.output
    assert "Traceback" not in service.output


EIGHT = """
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI
from otel_monitoring import MonitoringService

def told(stop, seconds):
    print(f"stops within {seconds:.3f}", flush=True)
    stop(seconds)
    print("stopped", flush=True)

inner = [FastAPI() for _ in range(8)]
for one in inner:
    telemetry = MonitoringService(None, shutdown_timeout=2).instrument(one)._parts.telemetry
    telemetry.stop = lambda seconds, stop=telemetry.stop: told(stop, seconds)

@asynccontextmanager
async def lifespan(app):
    async with AsyncExitStack() as stack:
        for one in inner:
            await stack.enter_async_context(one.router.lifespan_context(one))
        yield

app = FastAPI(lifespan=lifespan if LIFESPAN else None)
for number, one in enumerate(inner):
    app.mount(f"/{number}", one)

@app.get("/ready")
def ready():
    return "yes"
"""


@pytest.mark.parametrize("lifespan", [True, False], ids=["one after the other", "no lifespan"])
@pytest.mark.parametrize("runner", [("uvicorn",), ASGI_WORKER], ids=["uvicorn", "gunicorn"])
def test_all_services_of_a_process_stop_by_one_deadline(
    tmp_path: Path, lifespan: bool, runner: tuple[str, ...]
) -> None:
    """Nobody takes what they send: each one alone takes its whole time to give up."""
    source = EIGHT.replace("LIFESPAN", str(lifespan))
    endpoint = f"http://127.0.0.1:{free_port()}"
    with serving(tmp_path, source, runner=runner, ready="/ready", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as service:
        for number in range(8):
            assert service.get(f"/{number}/api/health").status_code == 200
        service.stop()
    given = [float(seconds) for seconds in re.findall(r"stops within ([\d.]+)", service.output)]
    assert len(given) == 8
    if lifespan:
        assert sum(given) < 3, "two seconds for all of them, and a little for those that would have none"
    else:
        assert max(given) <= 2
        assert re.findall(r"^stop\w+", service.output, re.MULTILINE)[:4] == ["stops"] * 4, "beside one another"


HANGING = APPLICATION.replace(
    "inner = FastAPI()",
    """
import asyncio
from contextlib import asynccontextmanager

@asynccontextmanager
async def lifespan(_):
    yield
    await asyncio.Event().wait()

app = inner = FastAPI(lifespan=lifespan)
""",
)


@pytest.mark.parametrize("runner", [("uvicorn",), UVICORN_WORKER], ids=["uvicorn", "gunicorn-uvicorn"])
def test_nothing_is_lost_where_a_shutdown_is_cut_short(sink: HttpSink, tmp_path: Path, runner: tuple[str, ...]) -> None:
    with exporting(sink, tmp_path, HANGING, runner) as service:
        serve_orders(service)
        service.process.send_signal(signal.SIGTERM)
        sink.wait(lambda _: arrived(sink) == ALL)
        assert service.process.poll() is None, "its shutdown never ends"
        os.killpg(service.process.pid, signal.SIGKILL)


STREAMS = (
    APPLICATION
    + """
import asyncio
from fastapi import WebSocket
from fastapi.responses import StreamingResponse

@inner.get("/events")
async def events():
    async def parts():
        try:
            yield b"data: 1\\\\n\\\\n"
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            await asyncio.to_thread(lambda: None)
    return StreamingResponse(parts(), media_type="text/event-stream")

@inner.get("/thread")
async def in_thread():
    def parts():
        while True:
            yield b"x"
            time.sleep(0.05)
    return StreamingResponse(parts())

@inner.websocket("/socket")
async def socket(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_text("hello")
    await asyncio.Event().wait()

import time
app = inner
"""
)


@pytest.mark.parametrize(
    "runner",
    [
        pytest.param(("uvicorn", "--timeout-graceful-shutdown", "1"), id="uvicorn"),
        pytest.param(("uvicorn", "--timeout-graceful-shutdown", "1", "--lifespan", "off"), id="uvicorn-lifespan-off"),
        pytest.param(("hypercorn", "--graceful-timeout", "1"), id="hypercorn"),
    ],
)
def test_streams_that_the_server_cancels_have_their_spans(
    sink: HttpSink, tmp_path: Path, runner: tuple[str, ...]
) -> None:
    with exporting(sink, tmp_path, STREAMS, runner) as service, ExitStack() as clients:
        for path in ("/events", "/thread"):
            answer = clients.enter_context(httpx.stream("GET", f"{service.url}{path}", timeout=PATIENCE))
            next(answer.iter_raw())
        socket = clients.enter_context(connect(service.url.replace("http", "ws") + "/socket"))
        assert socket.recv() == "hello"
        output = service.stop()
        clients.pop_all()  # the connections are gone
    names = sorted(span.name for span in sink.spans() if span.name != "GET /ready")
    assert names == ["GET /events", "GET /thread", "WS /socket"], output
    assert "ended span" not in output


@pytest.mark.parametrize(
    "runner",
    [
        pytest.param((*UVICORN_WORKER, "--graceful-timeout", "1"), id="gunicorn-uvicorn"),
        pytest.param((*ASGI_WORKER, "--graceful-timeout", "1"), id="gunicorn-asgi"),
        pytest.param(("granian", "--interface", "asgi", "--workers-kill-timeout", "1"), id="granian"),
    ],
)
def test_what_has_ended_is_not_lost_where_streams_outlast_the_server(
    sink: HttpSink, tmp_path: Path, runner: tuple[str, ...]
) -> None:
    """These servers kill a worker whose streams do not end in time, before the shutdown of its lifespan."""
    with exporting(sink, tmp_path, STREAMS, runner) as service, ExitStack() as clients:
        serve_orders(service)
        answer = clients.enter_context(httpx.stream("GET", f"{service.url}/events", timeout=PATIENCE))
        next(answer.iter_raw())
        socket = clients.enter_context(connect(service.url.replace("http", "ws") + "/socket"))
        assert socket.recv() == "hello"
        output = service.stop()
        clients.pop_all()
    assert arrived(sink) == ALL, output
