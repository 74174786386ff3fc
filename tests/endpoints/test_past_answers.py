"""`/health/series` over HTTP: who may ask, what is refused, marks, and a store that is away."""

import time
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from otel_monitoring import MonitoringService
from otel_monitoring.alerts import AlertManager, AlertSeverity, AlertType
from otel_monitoring.alerts.store import MemoryStore
from otel_monitoring.errors import StoreError
from otel_monitoring.metrics.slices.model import FINEST
from otel_monitoring.metrics.slices.recorder import WrittenUpTo
from otel_monitoring.metrics.slices.table import Position
from tests.health.test_series import row

pytestmark = pytest.mark.anyio
SERIES = "/api/health/series"


class Service:
    """A service that does not run, with a past."""

    def __init__(self, **settings: Any) -> None:
        self.app = FastAPI(title="orders", version="1.1")
        self.manager = AlertManager(channels=[], store=MemoryStore())
        self.store = self.manager.store
        MonitoringService(None, alert_manager=self.manager, **{"access": "open", **settings}).instrument(self.app)
        now = time.time()
        written = WrittenUpTo(now, {}, [(now - 7200, "1.0"), (now - 60, "1.1")])
        self.store.slices.advance("", Position("one", written.encoded()), [row(FINEST.slot(now) - 600)])

    async def get(self, path: str = SERIES, **query: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path, params=query)


async def test_a_series_has_its_values_and_marks() -> None:
    service = Service()
    await service.manager.send_alert(AlertType.CUSTOM, "oh", AlertSeverity.WARNING)
    response = await service.get(metric="requests")
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    answer = response.json()
    assert [point["value"] for point in answer["points"] if point["value"] is not None] == [4.0]
    release, alert = answer["marks"]
    assert (release["kind"], release["version"]) == ("release", "1.1")
    assert alert == {
        "time": alert["time"],
        "kind": "alert",
        "end": alert["time"],
        "type": "custom",
        "severity": "warning",
    }


async def test_several_metrics_and_an_end_in_the_past() -> None:
    answer = (await Service().get(metric=["requests", "durations", "cpu"], step="10s")).json()
    assert [column["metric"] for column in answer["series"]] == ["requests", "durations", "cpu"]
    start = datetime.fromisoformat(answer["start"])
    for end in (start.isoformat(), f"{start.timestamp():.0f}", f"{start.timestamp() * 1000:.0f}"):
        before = (await Service().get(metric="requests", end=end, range="10m")).json()
        last = datetime.fromisoformat(before["points"][-1]["time"])
        assert timedelta(0) < start - last <= timedelta(seconds=before["step_seconds"] + 60)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({}, "metric"),
        ({"metric": "hunter2"}, "metric"),
        ({"metric": "p50", "range": "hunter2"}, "range"),
        ({"metric": "p50", "step": "hunter2"}, "step"),
        ({"metric": "p50", "endpoint": "hunter2"}, "endpoint"),
        ({"metric": "p50", "end": "hunter2"}, "end"),
        ({"metric": "p50", "end": "2001-01-01"}, "end"),
        ({"metric": ["p50"] * 21}, "metric"),
    ],
)
async def test_what_is_wrong_is_named_and_not_repeated(query: dict[str, Any], field: str) -> None:
    response = await Service().get(**query)
    assert response.status_code == 422
    (problem,) = response.json()["detail"]
    assert problem["loc"] == ["query", field]
    assert "hunter2" not in response.text


async def test_strangers_learn_nothing() -> None:
    assert (await Service(access="admin").get(metric="p50")).status_code == 403


async def test_a_store_that_is_away_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()

    def away(*_: object, **__: object) -> None:
        raise StoreError("orders.db: disk I/O error")

    monkeypatch.setattr(service.store.slices, "read", away)
    response = await service.get(metric="p50")
    assert response.status_code == 503
    assert response.json() == {"detail": "the past cannot be read: orders.db: disk I/O error"}
