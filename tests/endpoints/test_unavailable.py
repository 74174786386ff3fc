"""Answers that the background thread is too busy to give."""

import pytest
from fastapi import FastAPI

from otel_monitoring import MonitoringService
from otel_monitoring.alerts import AlertManager
from tests.asgi import served

pytestmark = pytest.mark.anyio

LATE = [
    "/api/health/detailed",
    "/api/health/metrics",
    "/api/health/diagnostics",
    "/api/health/errors",
    "/api/health/objectives",
    "/api/status/update",
    "/api/status/endpoints",
]


@pytest.mark.parametrize("path", LATE)
async def test_an_answer_that_is_late_is_503_with_the_reason(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_monitoring.monitoring.service._ANSWER_TIMEOUT", 0)
    app = FastAPI()
    MonitoringService(None, alert_manager=AlertManager(channels=[]), access="open").instrument(app)
    async with served(app) as http:
        answer = await http.get(path)
        assert (await http.get("/api/health")).status_code == 200
    assert answer.status_code == 503
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {"detail": "the monitoring is busy: no answer within 0 s"}
