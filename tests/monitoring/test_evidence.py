"""Alerts of a served application say what changed."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from opentelemetry import trace
from opentelemetry.trace import format_trace_id

from otel_monitoring import MonitoringService
from otel_monitoring.alerts import AlertManager
from otel_monitoring.alerts.store import MemoryStore
from otel_monitoring.config.settings import Settings
from otel_monitoring.instrumentation.http_server.recorder import request_in
from tests.asgi import served
from tests.otlp_sink import HttpSink
from tests.waiting import eventually_answered

pytestmark = pytest.mark.anyio


def monitored(app: FastAPI) -> MonitoringService:
    manager = AlertManager(channels=[], store=MemoryStore())
    return MonitoringService(
        None, alert_manager=manager, access="open", public_url="https://orders.example.com"
    ).instrument(app)


async def test_an_alert_names_the_route_that_fails() -> None:
    app = FastAPI()
    monitoring = monitored(app)

    @app.get("/good/{number}")
    def good() -> str:
        return "ok"

    @app.get("/bad/{number}")
    def bad() -> None:
        raise HTTPException(503, "no")

    async with served(app) as http:
        for number in range(60):
            await http.get(f"/{'bad' if number % 3 == 0 else 'good'}/{number}")
        await monitoring._worker.call(monitoring._parts.alerting.evaluate_now, 10)

        async def recorded() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = (await http.get("/api/alerts/history?alert_type=high_error_rate")).json()
            return found

        history = await eventually_answered(recorded)
        firing: list[dict[str, Any]] = (await http.get("/api/alerts/firing")).json()
        update = (await http.get("/api/status/update")).json()
    evidence = history[0]["evidence"]
    assert evidence["culprits"][0]["names"] == ["GET /bad/{number}"]
    assert evidence["page_url"] == "https://orders.example.com/api/status"
    assert [alert["evidence"] for alert in firing if alert["rule"] == "high_error_rate"] == [evidence]
    assert [alert["evidence"] for alert in update["firing"] if alert["rule"] == "high_error_rate"] == [evidence]


async def test_the_request_whose_code_runs_is_found_in_the_stack() -> None:
    app = FastAPI()
    monitored(app)

    @app.get("/blocks/{number}")
    async def blocks() -> str:
        return request_in(sys._getframe())

    async with served(app) as http:
        assert (await http.get("/blocks/7")).json() == "GET /blocks/{number}"
    assert request_in(sys._getframe()) == ""


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    """Takes what is exported: where nobody does, a service waits for that when it stops."""
    with HttpSink() as made:
        yield made


@pytest.mark.parametrize("traced", [True, False])
async def test_the_slowest_traced_requests_are_remembered(traced: bool, sink: HttpSink) -> None:
    app = FastAPI()
    manager = AlertManager(channels=[], store=MemoryStore())
    settings = Settings.load(access="open", otlp_endpoint=sink.endpoint if traced else None)
    monitoring = MonitoringService(None, alert_manager=manager, settings=settings).instrument(app)

    @app.get("/a")
    def a() -> str:
        return format_trace_id(trace.get_current_span().get_span_context().trace_id)

    async with served(app) as http:
        ids = {(await http.get("/a")).json() for _ in range(3)}
        found = monitoring._parts._own_figures()["traces"]
    assert [row[1:4] for row in found] == ([["GET", "/a", 200]] * 3 if traced else [])
    assert {row[5] for row in found} == (ids if traced else set())
