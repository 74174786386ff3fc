"""The past of a service of several processes: nothing is lost or doubled, whoever leads, is killed or starts anew."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.processes import Service, serving
from tests.integration.servers import nx27017
from tests.waiting import eventually

pytestmark = pytest.mark.integration

SOURCE = """
import os

from fastapi import FastAPI, HTTPException

from otel_monitoring import MonitoringService

app = FastAPI(title="orders", version=os.environ["VERSION"])
monitoring = MonitoringService(None, sample_interval=1).instrument(app)
sold = monitoring.meter.create_counter("orders.sold")
sizes = monitoring.meter.create_histogram("orders.size")


@app.get("/orders/{number}")
async def order(number: int):
    sold.add(2)
    sizes.record(number)
    return number


@app.get("/fail/{number}")
async def fail(number: int):
    if number % 2:
        raise HTTPException(503)
    raise RuntimeError("password=hunter2: no paper")


@app.get("/alert")
async def alert():
    await monitoring.add_alert("billing_failure", "no money")
"""


class Past:
    """A service, what was sent to it, and what its past has."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def send(self, path: str, count: int) -> None:
        """Each with a connection of its own, so that every worker has its turn."""
        for number in range(count):
            httpx.get(f"{self.service.url}{path}/{number}", timeout=60)

    def asked(self, *metrics: str, **query: str) -> dict[str, Any]:
        answer = self.service.client.get("/api/health/series", params={"metric": metrics, "range": "15m", **query})
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def total(self, metric: str, **query: str) -> float:
        points = self.asked(metric, **query)["points"]
        return round(float(sum(point["value"] * 10 for point in points if point["value"] is not None)), 3)

    def counted(self) -> int:
        return int(self.service.get("/api/health/metrics").json()["requests_recorded"])

    def has(self, count: int) -> None:
        eventually(lambda: self.total("requests") == count, f"{count} requests are in the past")

    def errors(self) -> dict[str, dict[str, Any]]:
        return {group["type"]: group for group in self.service.get("/api/health/errors").json()["errors"]}

    def leader(self) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            answer = self.service.ask("/api/health/detailed")
            listed = answer.json()["instances"] if answer is not None else []
            return next((one for one in listed if one["leads"]), None)

        return eventually(found, "one leads")


@pytest.fixture(params=["sqlite", "mongodb"])
def store(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    with ExitStack() as stack:
        if request.param == "sqlite":
            yield {}
        else:
            database = stack.enter_context(nx27017())
            yield {"OTEL_MONITORING_STORE": "mongodb", "OTEL_MONITORING_STORE_URI": f"{database.uri}/shop"}


@pytest.mark.long
def test_the_past_has_every_request_once(tmp_path: Path, store: dict[str, Any]) -> None:
    workers = ("uvicorn", "--workers", "2")
    with serving(tmp_path, SOURCE, runner=workers, VERSION="1.0", **store) as service:
        past = Past(service)
        past.send("/orders", 30)
        past.send("/fail", 10)
        service.get("/alert")
        eventually(lambda: past.counted() == 41, "all are published")
        killed = past.leader()
        os.kill(killed["pid"], signal.SIGKILL)
        eventually(lambda: past.leader()["instance_id"] != killed["instance_id"], "another one leads")
        past.send("/orders", 20)
        eventually(lambda: past.counted() == 61, "all are published")
        service.stop()
    with serving(tmp_path, SOURCE, runner=workers, VERSION="1.1", **store) as service:
        past = Past(service)
        past.send("/fail", 10)
        past.has(71)
        assert past.total("requests", endpoint="/fail/{number}") == 20
        assert past.total("orders.sold") == 100
        found = {point["value"] for point in past.asked("orders.size/p99")["points"]}
        assert max(value for value in found if value is not None) == pytest.approx(29, rel=0.05)
        marks = past.asked("requests")["marks"]
        assert [mark["version"] for mark in marks if mark["kind"] == "release"] == ["1.0", "1.1"]
        (alert,) = [mark for mark in marks if mark.get("type") == "billing_failure"]
        assert (alert["severity"], alert["end"]) == ("warning", alert["time"])
        polls = [service.get("/api/health/detailed").json() for _ in range(8)]
        assert {poll["performance"]["last_error"] for poll in polls} == {
            "HTTPException: 503: Service Unavailable (GET /fail/{number})"
        }
        groups = past.errors()
        assert {kind: group["count"] for kind, group in groups.items()} == {
            "RuntimeError": 10,
            "fastapi.exceptions.HTTPException": 10,
        }
        assert {group["version"] for group in groups.values()} == {"1.0"}
        assert {group["route"] for group in groups.values()} == {"GET /fail/{number}"}
        assert "in fail" in groups["RuntimeError"]["stack"]
        assert "hunter2" not in groups["RuntimeError"]["stack"]
