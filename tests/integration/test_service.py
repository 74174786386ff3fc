"""Whole services as users write and run them: start, answer, fail, drain, stop."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.integration.processes import Service, serving
from tests.ports import free_port
from tests.waiting import eventually

PLAIN = """
from fastapi import FastAPI, HTTPException
from otel_monitoring import MonitoringService

app = FastAPI(title="orders", version="1.2")
monitoring = MonitoringService(None, sample_interval=0.2, check_interval=0.2).instrument(app)

@app.get("/orders/{number}")
async def order(number: int):
    if number == 13:
        raise ValueError("password=hunter2")
    if number == 404:
        raise HTTPException(404)
    return {"number": number}
"""


def figures(service_diagnostics: dict[str, object], key: str) -> dict[str, object]:
    block = service_diagnostics[key]
    assert isinstance(block, dict)
    return block


@pytest.mark.parametrize("path", ["detailed", "metrics", "diagnostics"])
def test_private_endpoints_need_the_token(tmp_path: Path, path: str) -> None:
    token = "correct-horse-battery"
    with serving(tmp_path, PLAIN, OTEL_MONITORING_ACCESS="admin", OTEL_MONITORING_ADMIN_TOKEN=token) as service:
        url = f"/api/health/{path}"
        assert service.get(url).status_code == 401
        assert service.get(url, headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert service.get(url, headers={"Authorization": f"Basic {token}"}).status_code == 401
        answer = service.get(url, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        assert service.get("/api/health").json().keys() == {"status", "timestamp", "uptime_seconds"}
        assert token not in service.output


def test_without_a_token_private_endpoints_say_what_to_set(tmp_path: Path) -> None:
    with serving(tmp_path, PLAIN, OTEL_MONITORING_ACCESS="admin") as service:
        answer = service.get("/api/alerts/summary")
        assert answer.status_code == 403
        assert "OTEL_MONITORING_ADMIN_TOKEN" in answer.text


def test_numbers_are_true_and_secrets_do_not_show(tmp_path: Path) -> None:
    with serving(tmp_path, PLAIN) as service:
        for number in (1, 2, 3, 13, 404):
            service.get(f"/orders/{number}")
        service.get("/no/such/path")
        service.calls(6)
        diagnostics = service.diagnostics()
        performance = diagnostics["performance"]
        assert {key: performance[key] for key in ("requests_recorded", "success_count", "error_count")} == {
            "requests_recorded": 6,
            "success_count": 5,
            "error_count": 1,
        }
        assert performance["client_error_count"] == 2
        assert performance["last_error"] == "ValueError: password=[REDACTED] (GET /orders/{number})"
        endpoints = diagnostics["endpoints"]
        assert {route: figures["call_count"] for route, figures in endpoints.items()} == {
            "/orders/{number}": 5,
            "(unmatched)": 1,
        }
        assert endpoints["/orders/{number}"]["error_rate"] == 20.0
        assert service.get("/api/health/metrics").json()["requests_recorded"] == 6, "our endpoints do not count"
        assert diagnostics["status"] == "healthy"
        assert {"cpu_percent", "memory_mb", "avg_cpu_percent", "max_memory_mb"} <= diagnostics["system"].keys()
        assert diagnostics["system"]["memory_mb"] > 10
        assert diagnostics["telemetry"]["traces"]["provider"] == "none"
        assert "Traceback" not in service.stop().split("Shutting down")[-1]


def test_health_json_by_accept(tmp_path: Path) -> None:
    with serving(tmp_path, PLAIN) as service:
        answer = service.get("/api/health", headers={"Accept": "application/health+json"})
        assert answer.headers["content-type"].startswith("application/health+json")
        assert answer.json()["status"] == "pass"


def test_the_alert_endpoints(tmp_path: Path) -> None:
    source = (
        PLAIN
        + """
from otel_monitoring.alerts import AlertSeverity, AlertType, get_alert_manager

@app.post("/fail")
async def fail():
    await get_alert_manager().send_alert(AlertType.BILLING_FAILURE, "Billing failed", AlertSeverity.CRITICAL)
"""
    )
    with serving(tmp_path, source) as service:
        service.client.post("/fail")
        summary = service.get("/api/alerts/summary").json()
        assert (summary["total_alerts"], summary["alerts_by_type"]) == (1, {"billing_failure": 1})
        history = service.get("/api/alerts/history", params={"severity": "critical", "limit": 5}).json()
        assert [alert["message"] for alert in history] == ["Billing failed"]
        assert service.diagnostics()["alerts"][0]["type"] == "billing_failure"
        wrong = service.get("/api/alerts/history", params={"alert_type": "nonsense"})
        assert wrong.status_code == 422
        assert "database_down" in wrong.text, "it lists the known ones"
        assert service.get("/api/alerts/history", params={"limit": 1001}).status_code == 422
        mute = {"type": "high_cpu", "duration_seconds": 60, "reason": "load test", "author": "ops"}
        assert service.client.post("/api/alerts/mutes", json=mute).status_code == 201
        assert "high_cpu" in service.get("/api/alerts/summary").json()["muted_alerts"]
        assert service.client.delete("/api/alerts/mutes/high_cpu").status_code == 204
        assert service.client.delete("/api/alerts/mutes/high_cpu").status_code == 404
        assert service.client.post("/api/alerts/test").json() == {"log": {"delivered": True}}


STYLES = {
    "on_event": """
app = FastAPI()
MonitoringService(None).instrument(app)
@app.on_event("startup")
async def up():
    print("user start-up", flush=True)
@app.on_event("shutdown")
async def down():
    print("user shutdown", flush=True)
""",
    "lifespan": """
from contextlib import asynccontextmanager
@asynccontextmanager
async def lifespan(app):
    print("user start-up", flush=True)
    yield {"state": 1}
    print("user shutdown", flush=True)
app = FastAPI(lifespan=lifespan)
MonitoringService(None).instrument(app)
""",
    "documented steps": """
from otel_monitoring.monitoring import MonitoringService, get_monitoring, set_monitoring
from otel_monitoring.alerts import AlertManager, initialize_alerts, set_alert_manager
app = FastAPI()
monitoring_service = MonitoringService(None, check_interval=30)
alert_manager = initialize_alerts()
set_monitoring(monitoring_service)
set_alert_manager(alert_manager)
@app.on_event("startup")
async def startup():
    await monitoring_service.start()
    print("user start-up", flush=True)
@app.on_event("shutdown")
async def shutdown():
    await monitoring_service.stop()
    print("user shutdown", flush=True)
@app.get("/api/health/live")
async def live():
    return (await get_monitoring().get_health_status())["status"]
""",
}


@pytest.mark.parametrize("style", STYLES)
def test_every_style_of_application_starts_answers_and_stops_cleanly(tmp_path: Path, style: str) -> None:
    source = "from fastapi import FastAPI\nfrom otel_monitoring import MonitoringService\n" + STYLES[style]
    with serving(tmp_path, source) as service:
        assert "user start-up" in service.output
        output = service.stop()
        assert "user shutdown" in output
        assert "Traceback" not in output


def test_the_documented_middleware_left_in_place_counts_once(tmp_path: Path) -> None:
    source = (
        PLAIN
        + """
import time
from otel_monitoring.monitoring import get_monitoring

@app.middleware("http")
async def record_metrics(request, call_next):
    start_time = time.time()
    try:
        response = await call_next(request)
        duration = time.time() - start_time
        monitor = get_monitoring()
        if monitor:
            endpoint = request.url.path
            await monitor.performance_metrics.record_request(
                endpoint=endpoint, duration=duration, status_code=response.status_code, error=None
            )
        return response
    except Exception as e:
        duration = time.time() - start_time
        monitor = get_monitoring()
        if monitor:
            endpoint = request.url.path
            await monitor.performance_metrics.record_request(
                endpoint=endpoint, duration=duration, status_code=500, error=str(e)
            )
        raise

@app.get("/complex")
async def complex_operation():
    await get_monitoring().performance_metrics.record_request(
        endpoint="/api/complex-op/", duration=0.5, status_code=200
    )
"""
    )
    with serving(tmp_path, source) as service:
        for path in ("/orders/1", "/orders/13", "/nowhere", "/complex", "/api/health"):
            service.get(path)
        assert service.calls(5) == {"/orders/{number}": 2, "(unmatched)": 1, "/complex": 1, "/api/complex-op/": 1}
        assert service.output.count("the middleware that calls it can be removed") == 1


def test_without_a_lifespan_the_first_request_starts_it(tmp_path: Path) -> None:
    with serving(tmp_path, PLAIN, runner=("uvicorn", "--lifespan", "off"), ready="/orders/1") as service:
        eventually(lambda: service.get("/api/health/ready").status_code == 200, "it becomes ready")
        service.get("/orders/2")
        assert service.calls(2) == {"/orders/{number}": 2}
        service.stop()


@pytest.mark.parametrize(
    "arguments",
    [("-k", "uvicorn.workers.UvicornWorker"), ("-k", "uvicorn.workers.UvicornWorker", "--preload"), ("-k", "asgi")],
    ids=["fork", "preload", "asgi worker"],
)
def test_gunicorn_workers_are_told_apart(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with serving(tmp_path, PLAIN, runner=("gunicorn", "-w", "2", *arguments)) as service:
        pids = instances_of(service)
        assert len(set(pids.values())) == 2, "each has an instance id of its own"
        assert "Traceback" not in service.stop()


def test_a_worker_of_a_preloaded_application_lives_whatever_its_parent_held(tmp_path: Path) -> None:
    """The parent's threads hold every lock of the package when gunicorn forks."""
    source = PLAIN + "\nfrom tests.forked import held\nheld()\n"
    runner = ("gunicorn", "-w", "2", "-k", "uvicorn.workers.UvicornWorker", "--preload")
    path = os.pathsep.join((str(tmp_path), str(Path(__file__).parents[2])))
    with serving(tmp_path, source, runner=runner, PYTHONPATH=path) as service:
        assert len(set(instances_of(service).values())) == 2
        service.get("/orders/1")
        assert service.calls(1) == {"/orders/{number}": 1}
        service.stop()


@pytest.mark.parametrize("signal", ["metrics", "traces", "logs"])
def test_each_signal_may_be_the_only_one(tmp_path: Path, signal: str) -> None:
    variables: dict[str, Any] = {f"OTEL_{name.upper()}_EXPORTER": "none" for name in ("metrics", "traces", "logs")}
    del variables[f"OTEL_{signal.upper()}_EXPORTER"]
    variables[f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"] = f"http://127.0.0.1:{free_port()}/v1/{signal}"
    with serving(tmp_path, PLAIN, runner=("uvicorn",), **variables) as service:
        assert service.diagnostics()["seams"] == [], "nothing of the SDK is missed that is not loaded"
        assert "is built differently" not in service.stop()


def instances_of(service: Service) -> dict[int, str]:
    """Process and instance id of two workers."""
    seen: dict[int, str] = {}

    def both() -> dict[int, str] | None:
        worker = service.diagnostics()["worker"]
        seen[worker["pid"]] = worker["instance_id"]
        return seen if len(seen) == 2 else None

    return eventually(both, "both workers answer")


def test_uvicorn_workers_are_told_apart(tmp_path: Path) -> None:
    with serving(tmp_path, PLAIN, runner=("uvicorn", "--workers", "2")) as service:
        assert len(set(instances_of(service).values())) == 2
        service.stop()


@pytest.mark.parametrize("chosen", ["", '"service.instance.id": "web-1"'], ids=["random", "chosen"])
@pytest.mark.parametrize(
    "runner",
    [("uvicorn", "--workers", "2"), ("gunicorn", "--preload", "-w", "2", "-k", "uvicorn.workers.UvicornWorker")],
    ids=["spawned", "preloaded"],
)
def test_workers_with_providers_of_the_application_are_told_apart(
    tmp_path: Path, runner: tuple[str, ...], chosen: str
) -> None:
    """Their resource has an id that the application has chosen for all of them, or that they have inherited."""
    source = f"""
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider(resource=Resource.create({{{chosen}}})))
{PLAIN}"""
    with serving(tmp_path, source, runner=runner) as service:
        assert len(set(instances_of(service).values())) == 2

        def all_know_each_other() -> bool:
            listed = service.get("/api/health/detailed").json()["instances"]
            return len({one["pid"] for one in listed}) == 2 and sum(one["leads"] for one in listed) == 1

        eventually(all_know_each_other, "both are listed, and one leads")
        service.stop()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("MonitoringService(None).instrument(object())", "FastAPI"),
        ("m = MonitoringService(None); m.instrument(app); m.instrument(app)", "twice"),
        ("MonitoringService(None).instrument(app); MonitoringService(None).instrument(app)", "already"),
        ("MonitoringService(None, check_interval=-1)", "OTEL_MONITORING_CHECK_INTERVAL: "),
        ("MonitoringService(None, settings=Settings.load(), window=5)", "settings: "),
        ("MonitoringService(None, admin=lambda: None).instrument(app)", "admin: "),
        ("MonitoringService(None, database_uri='mongodb://').instrument(app)", "OTEL_MONITORING_DATABASE_URI: "),
    ],
)
def test_mistakes_fail_with_a_clear_error(source: str, message: str) -> None:
    from fastapi import FastAPI

    from otel_monitoring import MonitoringError, MonitoringService, Settings

    with pytest.raises(MonitoringError, match=message):
        exec(source, {"MonitoringService": MonitoringService, "Settings": Settings, "app": FastAPI()})  # noqa: S102


def test_routes_that_would_swallow_ours_do_not(tmp_path: Path) -> None:
    source = """
from fastapi import FastAPI
from otel_monitoring import MonitoringService

app = FastAPI()

@app.get("/api/health/metrics")
async def own():
    return "the application's own"

@app.get("/{path:path}")
async def everything(path: str):
    return path

MonitoringService(None).instrument(app)
"""
    with serving(tmp_path, source) as service:
        assert service.get("/api/health").json()["status"] == "healthy"
        assert service.get("/api/health/metrics").json() == "the application's own"
        assert service.get("/elsewhere").json() == "elsewhere"


def test_failing_custom_checks_decide_the_status(tmp_path: Path) -> None:
    source = (
        PLAIN
        + """
from pathlib import Path
monitoring.add_check("cache", lambda: Path("cache").exists())
async def queue():
    if Path("queue-down").exists():
        raise ConnectionError("amqp://user:hunter2@queue refused")
monitoring.add_check("queue", queue, critical=True)
"""
    )
    with serving(tmp_path, source) as service:
        eventually(lambda: service.get("/api/health").json()["status"] == "degraded", "the cache is missed")
        assert service.get("/api/health").status_code == 200
        (tmp_path / "cache").touch()
        eventually(lambda: service.get("/api/health").json()["status"] == "healthy", "it recovers")
        (tmp_path / "queue-down").touch()
        eventually(lambda: service.get("/api/health").status_code == 503, "the queue is missed")
        checks = service.diagnostics()["checks"]
        assert checks["queue"]["error"] == "ConnectionError: amqp://[REDACTED]@queue refused"
        assert service.get("/api/health/live").status_code == 200


def test_a_database_that_is_down_at_the_start_is_reported_and_harms_nothing(tmp_path: Path) -> None:
    source = PLAIN.replace("MonitoringService(None", "MonitoringService(db").replace(
        "app = FastAPI",
        "from pymongo import AsyncMongoClient\n"
        f'db = AsyncMongoClient("mongodb://127.0.0.1:{free_port()}", serverSelectionTimeoutMS=500)["shop"]\n'
        "app = FastAPI",
    )
    with serving(tmp_path, source) as service:
        eventually(lambda: service.get("/api/health").status_code == 503, "it is reported")
        assert service.get("/orders/1").status_code == 200
        detailed = service.get("/api/health/detailed").json()
        assert (detailed["status"], detailed["database"]["status"]) == ("unhealthy", "unhealthy")
        assert service.get("/api/health/ready").status_code == 200
        service.stop()
