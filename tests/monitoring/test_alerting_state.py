"""What the diagnostics say about alerts while the store takes its time."""

import threading
from typing import Any

import pytest
from fastapi import FastAPI

from otel_monitoring import MonitoringService
from otel_monitoring.alerts import AlertManager
from otel_monitoring.alerts.store import MemoryStore
from tests.asgi import TIMEOUT, served
from tests.waiting import eventually_answered

pytestmark = pytest.mark.anyio


class Late(AlertManager):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__(store=MemoryStore(), channels=[])
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.readings = 0

    def diagnostics(self) -> dict[str, Any]:
        self.readings += 1
        assert self.may_answer.wait(TIMEOUT)
        return super().diagnostics()


async def test_a_store_that_is_late_holds_up_no_measurement_and_no_answer() -> None:
    manager, app = Late(), FastAPI()
    monitoring = MonitoringService(None, access="open", alert_manager=manager).instrument(app)
    monitoring._parts.alerting_state._timeout = 0.2

    async with served(app) as http:

        async def diagnostics() -> dict[str, Any]:
            found: dict[str, Any] = (await http.get("/api/health/diagnostics")).raise_for_status().json()
            return found

        async def in_time() -> dict[str, Any] | None:
            found = await diagnostics()
            return found if found["alerts"] and found["alerting"]["store_problem"] is None else None

        await manager.send_alert("custom", "first", "info")
        known = await eventually_answered(in_time, "the store answers")

        manager.may_answer.clear()
        before = manager.readings
        for _ in range(3):
            late = await diagnostics()
            assert late["alerting"]["store_problem"] == "the store has not answered within 0.2 s"
            assert late["alerts"] == known["alerts"]
        assert manager.readings == before + 1, "once at a time, however many ask"
        (await http.get("/api/health/metrics")).raise_for_status()

        manager.may_answer.set()
        await eventually_answered(in_time, "the store answers again")


async def test_a_store_that_fails_is_said() -> None:
    manager, app = Late(), FastAPI()
    MonitoringService(None, access="open", alert_manager=manager).instrument(app)

    def fails() -> dict[str, Any]:
        raise KeyError("password=sesame-street-1234")

    async with served(app) as http:
        manager.diagnostics = fails  # type: ignore[method-assign]
        found = (await http.get("/api/health/diagnostics")).raise_for_status().json()
    assert found["alerting"]["store_problem"].startswith("KeyError")
    assert "sesame" not in found["alerting"]["store_problem"]
