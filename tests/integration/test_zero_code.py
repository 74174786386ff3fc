"""Applications that never heard of us, started by `opentelemetry-instrument`: every style, every server."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.integration import servers
from tests.integration.processes import Service, serving
from tests.integration.servers import Server
from tests.integration.test_service import instances_of
from tests.otlp_sink import HttpSink
from tests.waiting import eventually

pytestmark = pytest.mark.integration

INSTRUMENT = ("opentelemetry-instrument",)
# opentelemetry-distro is installed for the tests; not every user has it, and it sets providers that export by gRPC.
NO_DISTRO = {"OTEL_PYTHON_DISTRO": "none", "OTEL_PYTHON_CONFIGURATOR": "none"}


@pytest.fixture(scope="module")
def mongodb() -> Iterator[Server]:
    with servers.nx27017() as server:
        yield server


def started(folder: Path, source: str, **options: Any) -> AbstractContextManager[Service]:
    """Serve `source`, which must not name this package, under `opentelemetry-instrument`."""
    return serving(folder, source, **{"before": INSTRUMENT, **NO_DISTRO, **options})


STYLES = {
    "on_event, synchronous PyMongo": """
import os
from fastapi import FastAPI
from pymongo import MongoClient

client = MongoClient(os.environ["MONGODB_URI"])
app = FastAPI()

@app.on_event("startup")
def fill():
    client["shop"]["orders"].insert_one({"number": 1})

@app.on_event("shutdown")
def close():
    client.close()

@app.get("/orders/{number}")
def order(number: int):
    return client["shop"]["orders"].find_one({"number": number}, {"_id": 0})
""",
    "lifespan, AsyncMongoClient made in it": """
import os
from contextlib import asynccontextmanager
from fastapi import FastAPI, Request
from pymongo import AsyncMongoClient

@asynccontextmanager
async def lifespan(app):
    async with AsyncMongoClient(os.environ["MONGODB_URI"]) as client:
        await client.admin.command("ping")
        await client["shop"]["orders"].insert_one({"number": 1})
        yield {"orders": client["shop"]["orders"]}

app = FastAPI(lifespan=lifespan)

@app.get("/orders/{number}")
async def order(number: int, request: Request):
    return await request.state.orders.find_one({"number": number}, {"_id": 0})
""",
    "factory, Motor": """
import os
from fastapi import APIRouter, FastAPI, Request
from motor.motor_asyncio import AsyncIOMotorClient

router = APIRouter(prefix="/orders")

@router.get("/{number}")
async def order(number: int, request: Request):
    return await request.app.state.db.orders.find_one({"number": number}, {"_id": 0})

def app() -> FastAPI:
    api = FastAPI(title="orders")
    api.include_router(router)

    @api.on_event("startup")
    async def connect():
        api.state.db = AsyncIOMotorClient(os.environ["MONGODB_URI"]).get_database("shop")
        await api.state.db.orders.insert_one({"number": 1})

    return api
""",
    "mounted applications, a temporary client": """
import os
from fastapi import FastAPI
from pymongo import MongoClient

with MongoClient(os.environ["MONGODB_URI"]) as migrating:
    migrating["migrations"]["done"].insert_one({"version": 1})

db = MongoClient(os.environ["MONGODB_URI"])["shop"]
db["orders"].insert_one({"number": 1})
app, orders, admin = FastAPI(), FastAPI(), FastAPI()

@orders.get("/{number}")
def order(number: int):
    return db["orders"].find_one({"number": number}, {"_id": 0})

orders.mount("/admin", admin)
app.mount("/orders", orders)
""",
    "300 routes": """
import os
from fastapi import FastAPI
from pymongo import MongoClient

app = FastAPI()
for number in range(299):
    app.add_api_route(f"/static/{number}", lambda: None)

@app.get("/orders/{number}")
def order(number: int):
    return MONGODB["orders"].find_one({"number": number}, {"_id": 0})

MONGODB = MongoClient(os.environ["MONGODB_URI"]).get_default_database("shop")
MONGODB["orders"].insert_one({"number": 1})
""",
}


@pytest.mark.parametrize("style", STYLES)
def test_every_style_of_application_is_found_with_its_database(tmp_path: Path, mongodb: Server, style: str) -> None:
    runner = ("uvicorn", "--factory") if style.startswith("factory") else ("uvicorn",)
    with started(tmp_path, STYLES[style], runner=runner, MONGODB_URI=mongodb.uri) as service:
        assert [service.get(f"/orders/{number}").json() for number in (1, 1, 2)] == [{"number": 1}, {"number": 1}, None]
        service.get("/nowhere")
        assert service.get("/orders/api/health").status_code in (404, 422), "the endpoints are there once"
        counted = service.calls(5)
        assert counted["/orders/{number}"] == 3
        assert sum(counted.values()) == 5
        database = eventually(
            lambda: (found := documents(service)) and found["status"] == "healthy" and found, "collections are counted"
        )
        assert "orders" in database["collections"]
        assert "done" not in database["collections"]
        assert "Traceback" not in service.stop()


def documents(service: Service) -> dict[str, Any] | None:
    """The database block, once it holds collections."""
    block: dict[str, Any] = service.get("/api/health/detailed").json()["database"]
    return block if block["collections"] else None


PLAIN = """
from fastapi import FastAPI

app = FastAPI(title="orders")

@app.get("/orders")
def orders():
    return "first"
"""


@pytest.mark.parametrize(
    "runner",
    [
        # Its supervisor ends workers that do not answer in time, however busy the machine is.
        ("uvicorn", "--workers", "2", "--timeout-worker-healthcheck", "60"),
        ("gunicorn", "-w", "2", "-k", "uvicorn.workers.UvicornWorker"),
        ("gunicorn", "-w", "2", "-k", "asgi", "--preload"),
    ],
    ids=["uvicorn", "gunicorn", "preload"],
)
def test_each_worker_starts_for_itself(tmp_path: Path, runner: tuple[str, ...]) -> None:
    with started(tmp_path, PLAIN, runner=runner) as service:
        assert len(set(instances_of(service).values())) == 2
        assert service.get("/orders").json() == "first"
        assert "Traceback" not in service.stop()


def test_a_reload_starts_it_again(tmp_path: Path) -> None:
    with started(tmp_path, PLAIN, runner=("uvicorn", "--reload")) as service:
        before = service.diagnostics()["worker"]["pid"]
        (tmp_path / "service.py").write_text(PLAIN.replace("first", "second"))
        eventually(lambda: (answer := service.ask("/orders")) is not None and answer.json() == "second", "it reloads")
        assert service.diagnostics()["worker"]["pid"] != before
        assert service.calls(1).keys() == {"/orders"}


def test_the_command_of_fastapi(tmp_path: Path) -> None:
    with started(tmp_path, PLAIN, runner=("fastapi",)) as service:
        service.get("/orders")
        assert service.calls(1) == {"/orders": 1}


TRACED = """
import contextlib
import logging
import os
import httpx
from fastapi import FastAPI
from pymongo import MongoClient

db = MongoClient(os.environ["MONGODB_URI"])["shop"]
logging.basicConfig(level=logging.INFO)
app, reports = FastAPI(), FastAPI()

@app.get("/orders")
def orders():
    logging.getLogger("orders").info("asked for orders")
    with contextlib.suppress(httpx.ConnectError):
        httpx.get("http://127.0.0.1:1/stock?token=hunter2")
    return db["orders"].find_one({}, {"_id": 0})

@reports.get("/today")
def today():
    return db["orders"].count_documents({})

app.mount("/reports", reports)
"""


@pytest.mark.parametrize("distro", [False, True], ids=["alone", "opentelemetry-distro"])
def test_spans_metrics_and_logs_leave_once(tmp_path: Path, mongodb: Server, distro: bool) -> None:
    with HttpSink() as sink:
        environment: dict[str, Any] = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_SERVICE_NAME": "orders",
            "MONGODB_URI": mongodb.uri,
            **({} if distro else NO_DISTRO),
        }
        with serving(tmp_path, TRACED, before=INSTRUMENT, **environment) as service:
            service.get("/orders")
            service.get("/reports/today")
            assert service.calls(2) == {"/orders": 1, "/reports/today": 1}
            own = "application" if distro else "own"
            assert {block["provider"] for block in service.diagnostics()["telemetry"].values()} == {own}
            output = service.stop()
        assert "Traceback" not in output
        server, client = 2, 3
        spans = sink.spans()
        assert sorted(span.name for span in spans if span.kind == server) == ["GET /orders", "GET /reports/today"]
        of_handlers = [span for span in spans if span.kind == client and span.parent_span_id]
        assert sorted(span.name for span in of_handlers) == ["GET", "aggregate orders", "find orders"]
        assert "hunter2" not in str(spans), "contrib's instrumentation of httpx gave way to ours"
        assert [record.body.string_value for record in sink.records()].count("asked for orders") == 1
        durations = [metric for metric in sink.metrics() if metric.name == "http.server.request.duration"]
        points = list(histogram(durations[-1]).data_points)
        assert sorted(point.count for point in points) == [1, 1]
        assert not {"http.server.duration", "db.client.duration"} & {metric.name for metric in sink.metrics()}
        assert {resource["service.name"] for resource in sink.resources()} == {"orders"}


def histogram(metric: Any) -> Any:
    return getattr(metric, metric.WhichOneof("data"))


def test_an_application_that_instruments_itself_is_left_alone(tmp_path: Path) -> None:
    own = """
from otel_monitoring import MonitoringService
MonitoringService(None, prefix="/internal").instrument(app)
"""
    with started(tmp_path, PLAIN + own, ready="/internal/health/live") as service:
        service.get("/orders")
        assert service.get("/api/health").status_code == 404
        endpoints = service.get("/internal/health/diagnostics").json()["endpoints"]
        assert endpoints["/orders"]["call_count"] == 1


def test_a_wrong_setting_is_said_and_stops_nobody(tmp_path: Path) -> None:
    with started(tmp_path, PLAIN, ready="/orders", OTEL_MONITORING_CHECK_INTERVAL="never") as service:
        assert service.get("/api/health").status_code == 404
        assert service.output.count("not monitored: OTEL_MONITORING_CHECK_INTERVAL: ") == 1
        assert "Traceback" not in service.stop()


def test_it_can_be_switched_off_as_any_instrumentation(tmp_path: Path) -> None:
    off = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "logging, otel_monitoring"}
    with started(tmp_path, PLAIN, ready="/orders", **off) as service:
        assert service.get("/api/health").status_code == 404


def test_the_database_of_the_settings_wins(tmp_path: Path, mongodb: Server) -> None:
    uris = {"MONGODB_URI": mongodb.uri, "OTEL_MONITORING_DATABASE_URI": f"{mongodb.uri}/elsewhere"}
    with started(tmp_path, STYLES["300 routes"], **uris) as service:
        service.get("/orders/1")
        database = eventually(
            lambda: (found := service.get("/api/health/detailed").json()["database"])["status"] == "healthy" and found,
            "the database has answered",
        )
        assert database["collections"] == {}
