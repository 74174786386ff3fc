"""A service on a real database, exporting for real: the numbers agree, and faults are told and survived."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.processes import Service, serving
from tests.integration.servers import Server, nx27017
from tests.otlp_sink import HttpSink, Sink
from tests.ports import free_port
from tests.waiting import eventually

HANDLES = {
    "async": "from pymongo import AsyncMongoClient as Client",
    "sync": "from pymongo import MongoClient as Client",
    "motor": "from motor.motor_asyncio import AsyncIOMotorClient as Client",
}

SOURCE = """
import logging, os
{client}
from fastapi import BackgroundTasks, FastAPI
from otel_monitoring import MonitoringService

logging.basicConfig(level=logging.INFO)
app = FastAPI(title="orders", version="1.2")
client = Client(os.environ["MONGODB_URI"], serverSelectionTimeoutMS=1000)
db = client["shop"]
monitoring = MonitoringService(db, check_interval=0.5, sample_interval=0.2, check_timeout=2).instrument(app)

async def value(result):
    return await result if hasattr(result, "__await__") else result

@app.get("/orders/{{number}}")
async def order(number: int):
    await value(db.orders.insert_one({{"number": number, "password": "hunter2"}}))
    logging.getLogger("shop").info("order %s stored", number)
    return {{"count": await value(db.orders.count_documents({{"password": "hunter2"}}))}}

@app.get("/fail")
async def fail():
    raise RuntimeError("billing is down")

@app.get("/plain")
async def plain():
    return "fine"

@app.on_event("shutdown")
async def close():
    await value(client.close())
"""


@pytest.fixture
def database() -> Iterator[Server]:
    with nx27017() as server:
        yield server


def status(service: Service) -> str:
    answer: str = service.get("/api/health").json()["status"]
    return answer


def points(sink: Sink, name: str) -> list[Any]:
    """The newest data points of a metric at the sink."""
    found = [metric for metric in sink.metrics() if metric.name == name]
    return list(getattr(found[-1], found[-1].WhichOneof("data")).data_points) if found else []


def attributes(point: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in point.attributes}


HISTOGRAMS = """
import gc, os
import httpx
from fastapi import FastAPI, Request
from pymongo import AsyncMongoClient
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from otel_monitoring import MonitoringService
from otel_monitoring.tracing import traced

app = FastAPI()
if os.environ["ENGINE"] == "contrib":
    FastAPIInstrumentor.instrument_app(app)
db = AsyncMongoClient(os.environ["MONGODB_URI"])["shop"]
monitoring = MonitoringService(db, sample_interval=0.2).instrument(app)

@app.get("/plain")
async def plain():
    return "fine"

@app.get("/all")
async def everything(request: Request):
    gc.collect()
    await db.orders.insert_one({})
    await monitoring.performance_metrics.record_request("/by-hand", 0.02)
    with traced("work"):
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.get(str(request.url_for("plain")))).json()
"""
SECONDS = {
    "http.server.request.duration",
    "http.client.request.duration",
    "db.client.operation.duration",
    "db.client.connection.create_time",
    "db.client.connection.wait_time",
    "db.client.connection.use_time",
    "otel_monitoring.gc.pause.duration",
    "otel_monitoring.operation.duration",
    "otel_monitoring.request.database.duration",
    "otel.sdk.exporter.operation.duration",
    "otel.sdk.metric_reader.collection.duration",
}


@pytest.mark.parametrize("engine", ["native", "contrib"])
def test_what_is_measured_in_seconds_has_buckets_below_a_second(tmp_path: Path, database: Server, engine: str) -> None:
    with HttpSink() as sink:
        env: dict[str, Any] = {
            "MONGODB_URI": database.uri,
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
            "ENGINE": engine,
            # Contrib, applied before us, reads it then, for all instrumentations.
            "OTEL_SEMCONV_STABILITY_OPT_IN": "http,database",
        }
        with serving(tmp_path, HISTOGRAMS, OTEL_METRIC_EXPORT_INTERVAL="300", **env) as service:
            assert service.get("/all").status_code == 200
            eventually(lambda: _histograms(sink).keys() >= SECONDS, "all arrive")
            exported = _histograms(sink)
        bounds = {name: list(p.explicit_bounds) for name, points in exported.items() for p in points}
        assert bounds.keys() == SECONDS, "no histogram that nobody looked at"
        assert all(min(found) < 1 <= max(found) for found in bounds.values()), bounds
        requests = {attributes(p)["http.route"]: p.bucket_counts for p in exported["http.server.request.duration"]}
        assert requests["/by-hand"][2] == 1, "0.02 s is between 0.01 and 0.025"
        assert bounds["http.server.request.duration"][:3] == [0.005, 0.01, 0.025]


def _histograms(sink: Sink) -> dict[str, list[Any]]:
    """All data points of every histogram in seconds, by name."""
    found: dict[str, list[Any]] = {}
    for metric in sink.metrics():
        if metric.WhichOneof("data") == "histogram" and metric.unit == "s":
            found.setdefault(metric.name, []).extend(metric.histogram.data_points)
    return found


@pytest.mark.parametrize("kind", HANDLES)
def test_the_same_numbers_arrive_and_are_answered(tmp_path: Path, database: Server, kind: str) -> None:
    with HttpSink() as sink:
        env: dict[str, Any] = {
            "MONGODB_URI": database.uri,
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
            "OTEL_METRIC_EXPORT_INTERVAL": "300",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        }
        with serving(tmp_path, SOURCE.format(client=HANDLES[kind]), **env) as service:
            for number in range(5):
                assert service.get(f"/orders/{number}").status_code == 200
            assert service.get("/fail").status_code == 500
            answered = service.calls(6)
            eventually(lambda: sum(p.count for p in points(sink, "http.server.request.duration")) == 6, "all arrive")
            exported = {
                (a["http.route"], a["http.response.status_code"]): p.count
                for p in points(sink, "http.server.request.duration")
                if (a := attributes(p))
            }
            assert exported == {("/orders/{number}", 200): 5, ("/fail", 500): 1}
            assert answered == {"/orders/{number}": 5, "/fail": 1}
            eventually(lambda: service.diagnostics()["telemetry"]["traces"]["last_success"], "traces are exported")
            commands = {
                (a["db.operation.name"], a["db.collection.name"]): p.count
                for p in points(sink, "db.client.operation.duration")
                if (a := attributes(p)).get("db.collection.name") == "orders"
            }
            assert commands[("insert", "orders")] == 5
            assert set(commands) == {("insert", "orders"), ("aggregate", "orders")}, "our own counts are left out"
            collections = eventually(lambda: service.diagnostics()["database"]["collections"], "documents are counted")
            eventually(
                lambda: service.diagnostics()["database"]["collections"]["orders"]["document_count"] == 5, "5 orders"
            )
            assert collections["orders"]["indexes"] == ["_id_"]
            assert "Traceback" not in service.stop().split("Shutting down")[-1]
        spans = sink.spans()
        names = [span.name for span in spans]
        assert names.count("GET /orders/{number}") == 5
        assert not any("ping" in name or "health" in name for name in names)
        inserts = [span for span in spans if attributes(span).get("db.operation.name") == "insert"]
        assert len(inserts) == 5
        servers = {span.span_id for span in spans if span.name == "GET /orders/{number}"}
        assert all(span.parent_span_id in servers for span in inserts), "commands hang on their request"
        assert "hunter2" not in str(spans)
        stored = [record for record in sink.records() if "stored" in record.body.string_value]
        assert len(stored) == 5
        assert {record.span_id for record in stored} == servers
        resource = next(sink.resources())
        assert (resource["service.name"], resource["service.version"]) == ("orders", "1.2")
        assert resource["deployment.environment.name"] == "test"


@pytest.mark.parametrize("kind", HANDLES)
def test_a_database_that_dies_hangs_and_returns_is_told(tmp_path: Path, database: Server, kind: str) -> None:
    with serving(tmp_path, SOURCE.format(client=HANDLES[kind]), MONGODB_URI=database.uri) as service:
        eventually(lambda: status(service) == "healthy", "it is up")
        database.kill()
        eventually(lambda: status(service) == "unhealthy", "the death is told")
        assert service.get("/api/health").status_code == 503
        assert service.get("/plain").status_code == 200
        database.start()
        eventually(lambda: status(service) == "healthy", "it recovers by itself")
        database.freeze()
        eventually(lambda: status(service) == "unhealthy", "the hang is told")
        assert service.get("/plain").status_code == 200, "the loop is not blocked"
        assert service.get("/api/health/live").status_code == 200
        database.thaw()
        eventually(lambda: status(service) == "healthy", "it recovers again")
        service.stop()


@pytest.mark.parametrize("mode", ["absent", "refuse", "hang"])
def test_a_bad_collector_changes_no_answer_and_is_told_once(tmp_path: Path, database: Server, mode: str) -> None:
    with HttpSink("hang") as sink:
        endpoint = sink.endpoint if mode == "hang" else f"http://127.0.0.1:{free_port()}"
        env: dict[str, Any] = {
            "MONGODB_URI": database.uri,
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_MONITORING_SHUTDOWN_TIMEOUT": "2",
        }
        with serving(tmp_path, SOURCE.format(client=HANDLES["async"]), **env) as service:
            for number in range(20):
                assert service.get(f"/orders/{number}").status_code == 200
            state = eventually(
                lambda: (t := service.diagnostics()["telemetry"])["metrics"]["failures"] > 1 and t, "failures are told"
            )
            assert state["metrics"]["last_success"] is None
            assert state["metrics"]["last_error"]
            output = service.stop()
            complaints = [line for line in output.splitlines() if "export" in line.lower() and "WARN" in line.upper()]
            assert len(complaints) <= 1, complaints
            assert "Traceback" not in output


def test_clients_that_the_application_makes_later_are_measured_too(tmp_path: Path, database: Server) -> None:
    source = (
        SOURCE.format(client=HANDLES["async"])
        + """
other = Client(os.environ["MONGODB_URI"])["archive"]

@app.get("/archive")
async def archive():
    await other.receipts.insert_one({"n": 1})
"""
    )
    with HttpSink() as sink:
        env: dict[str, Any] = {
            "MONGODB_URI": database.uri,
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
            "OTEL_METRIC_EXPORT_INTERVAL": "300",
        }
        with serving(tmp_path, source, **env) as service:
            assert service.get("/archive").status_code == 200
            service.stop()
        counted = [p for p in points(sink, "db.client.operation.duration") if "receipts" in attributes(p).values()]
        assert [(attributes(p)["db.namespace"], p.count) for p in counted] == [("archive", 1)]
        assert [attributes(s)["db.namespace"] for s in sink.spans() if "receipts" in attributes(s).values()] == [
            "archive"
        ]


def test_a_user_who_named_the_database_only_by_uri_gets_the_check(tmp_path: Path, database: Server) -> None:
    source = """
from fastapi import FastAPI
from otel_monitoring import MonitoringService
app = FastAPI()
MonitoringService(None, check_interval=0.5).instrument(app)
"""
    with serving(tmp_path, source, OTEL_MONITORING_DATABASE_URI=f"{database.uri}/shop") as service:
        answer = eventually(
            lambda: (d := service.diagnostics()["database"])["status"] == "healthy" and d, "the database is checked"
        )
        assert answer["response_time_ms"] > 0
        database.kill()
        eventually(lambda: status(service) == "unhealthy", "its death is told")


def test_a_blocked_loop_is_told_with_its_stack_and_is_not_a_dead_database(tmp_path: Path, database: Server) -> None:
    source = (
        SOURCE.format(client=HANDLES["async"])
        + """
@app.get("/block")
async def block():
    import time
    time.sleep(4)
"""
    )
    with serving(tmp_path, source, MONGODB_URI=database.uri) as service:
        eventually(lambda: status(service) == "healthy", "it is up")
        service.get("/block")
        diagnostics = service.diagnostics()
        assert any("block" in line for line in diagnostics["event_loop"]["last_stall"]["stack"])
        assert diagnostics["database"]["status"] != "unhealthy"
        eventually(lambda: service.diagnostics()["database"]["status"] == "healthy", "it is known again")
