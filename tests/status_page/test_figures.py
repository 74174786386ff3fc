"""The update of a large service is small, and says what the other endpoints say."""

import gzip
import random
import re
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from otel_monitoring import MonitoringService
from otel_monitoring.alerts import AlertManager
from otel_monitoring.alerts.store import MemoryStore
from otel_monitoring.status_page.figures import SHOWN, foremost
from tests.asgi import served
from tests.status_page.test_document import ASSETS

pytestmark = pytest.mark.anyio

LARGEST, EVERY = 20_000, 40_000
"""Bytes of an update, and of one with every endpoint."""


def service(app: FastAPI, **settings: Any) -> MonitoringService:
    manager = AlertManager(channels=[], store=MemoryStore())
    return MonitoringService(None, alert_manager=manager, access="open", **settings).instrument(app)


async def update(http: httpx.AsyncClient, endpoints: str = "first") -> tuple[int, dict[str, Any]]:
    answer = await http.get(f"/api/status/update?endpoints={endpoints}", headers={"accept-encoding": "identity"})
    found: dict[str, Any] = answer.json()
    return len(answer.content), found


async def test_an_update_is_small_at_300_routes_and_200_groups_of_errors() -> None:
    app = FastAPI(title="orders")
    monitoring = service(app)

    @app.get("/v1/part{number}/things/{thing}")
    def fail() -> None:
        raise ValueError("a message")

    async with served(app) as http:
        for number in range(300):
            for status, seconds in ((200, 0.0123), (404, 0.00456), (500, 1.23)):
                await monitoring.performance_metrics.record_request(
                    f"/api/v1/resource{number % 30}/{{id}}/part{number}", seconds, status
                )
        for number in range(200):
            kind = type(f"Failure{number}", (ValueError,), {})
            monitoring._parts.errors.note("GET", f"/api/v1/resource/{{id}}/part{number}", 500, kind("a"), 1.8e9)
        await monitoring.get_detailed_diagnostics()
        size, first = await update(http)
        size_of_all, whole = await update(http, "all")
    assert first["endpoint_count"] == whole["endpoint_count"] == len(whole["endpoints"]) == 300
    assert SHOWN <= len(first["endpoints"]) <= 3 * SHOWN
    assert all(row in whole["endpoints"] for row in first["endpoints"])
    assert size <= LARGEST
    assert size_of_all <= EVERY
    assert len(gzip.compress(str(whole).encode())) <= LARGEST


@pytest.mark.parametrize("count", [0, 1, SHOWN, 3 * SHOWN, 3 * SHOWN + 1, 500])
def test_what_the_page_shows_first_is_there_in_each_order(count: int) -> None:
    draw = random.Random(count)
    rows = [
        [
            f"/r{n:03}",
            "GET",
            draw.choice([0.0, 0.1, 5.0]),
            None,
            draw.choice([None, 0.1, 0.2]),
            draw.choice([0.0, 50.0]),
        ]
        for n in range(count)
    ]
    found = foremost(rows)
    for order in (
        lambda row: -row[2],
        lambda row: -(row[4] or 0),
        lambda row: (-row[5], -row[2]),
    ):
        assert sorted(found, key=order)[:SHOWN] == sorted(rows, key=order)[:SHOWN]


def test_the_page_shows_as_many_first() -> None:
    assert re.search(r"const SHOWN = (\d+);", (ASSETS / "endpoints.js").read_text())[1] == str(SHOWN)  # type: ignore[index]


async def test_it_says_what_the_other_endpoints_say() -> None:
    app = FastAPI(title="orders", version="2.3.1")
    monitoring = service(app)
    monitoring.add_check("stock", lambda: 1 / 0)

    @app.get("/orders/{order}")
    def read(order: str) -> None:
        if order == "bad":
            raise RuntimeError("no bread")

    async with served(app) as http:
        for order in ("1", "2", "3"):
            await http.get(f"/orders/{order}")
        with pytest.raises(RuntimeError):
            await http.get("/orders/bad")
        await http.post("/api/alerts/mutes", json={"type": "high_cpu", "reason": "known"})
        diagnostics = (await http.get("/api/health/diagnostics")).json()
        errors = (await http.get("/api/health/errors")).json()["errors"]
        mutes = (await http.get("/api/alerts/mutes")).json()
        _, found = await update(http)
    window = diagnostics["endpoints"]["/orders/{order}"]["window"]
    assert (found["status"], found["reasons"]) == (diagnostics["status"], diagnostics["reasons"])
    assert found["service"] == diagnostics["service"]
    ((name, methods, rate, p50, p95, failed),) = found["endpoints"]
    assert (name, methods) == ("/orders/{order}", "GET")
    assert rate > 0
    assert p50 == pytest.approx(window["p50_time"], rel=1e-3)
    assert p95 == pytest.approx(window["p95_time"], rel=1e-3)
    assert failed == window["error_rate"] == found["now"]["error_rate"] == 25.0
    (group,) = found["errors"]["groups"]
    assert group[:3] == [errors[0]["type"], errors[0]["route"], 1]
    assert found["mutes"] == mutes
    (instance,) = found["instances"]
    assert instance[1] == diagnostics["instances"][0]["pid"]
    assert found["since"] <= found["time"]
