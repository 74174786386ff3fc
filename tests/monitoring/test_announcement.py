"""What a service says at its start: one line of what is on, without secrets, once in a process."""

import logging
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from pymongo import MongoClient

from otel_monitoring import MonitoringService
from otel_monitoring.alerts import AlertManager
from tests.asgi import served

pytestmark = pytest.mark.anyio

PUBLIC = "/api/health is public, details and /api/alerts"


@pytest.fixture(autouse=True)
def _announced(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "otel_monitoring")


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if " is monitored: " in record.getMessage()]


async def line(caplog: pytest.LogCaptureFixture, db: Any = None, **options: Any) -> str:
    app = FastAPI(title="orders")
    MonitoringService(db, **options).instrument(app)
    async with served(app):
        [only] = said(caplog)
    return only


async def test_nothing_is_set(caplog: pytest.LogCaptureFixture) -> None:
    assert await line(caplog) == (
        f"orders is monitored: {PUBLIC} are closed until OTEL_MONITORING_ADMIN_TOKEN is set; no database; "
        "alerts go to log and are kept in memory; no OTLP endpoint: nothing is exported"
    )


@pytest.mark.parametrize(
    ("options", "readers"),
    [
        ({"admin_token": "abcdefgh"}, "need the admin token"),
        ({"access": "open"}, "are open to everybody"),
        ({"admin": Depends(lambda: None)}, "are for whom the application's dependency lets in"),
    ],
)
async def test_who_may_read(options: dict[str, Any], readers: str, caplog: pytest.LogCaptureFixture) -> None:
    found = await line(caplog, **options)
    assert f"{PUBLIC} {readers}; " in found
    assert "abcdefgh" not in found


async def test_everything_is_set(caplog: pytest.LogCaptureFixture, tmp_path: Any) -> None:
    client: MongoClient[Any] = MongoClient(
        "mongodb://ana:hunter2@127.0.0.1:1/?authSource=x", connect=False, serverSelectionTimeoutMS=50
    )
    found = await line(
        caplog,
        client["shop"],
        prefix="/internal",
        store="sqlite",
        state_dir=tmp_path,
        slack_webhook_url="https://hooks.slack.com/services/T/B/hunter2",
        otlp_endpoint="http://ana:hunter2@127.0.0.1:1",
        shutdown_timeout=0.5,
        check_timeout=60,  # a process that is busy for a quarter of this knows nothing about its database
    )
    client.close()
    assert "/internal/health is public" in found
    assert "; database shop (unhealthy); alerts go to log, slack and are kept in " in found
    assert f"in {tmp_path}/orders-" in found
    assert "exporting traces, metrics, logs to http://127.0.0.1:1 (http/protobuf)" in found
    assert "hunter2" not in found


async def test_once_in_a_process_after_the_start_up(caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI(title="a\nb")
    monitoring = MonitoringService(None, alert_manager=AlertManager(channels=[])).instrument(app)
    assert said(caplog) == []
    async with served(app):
        assert len(said(caplog)) == 1
    async with served(app):
        await monitoring.start()
    [only] = said(caplog)
    assert only.startswith("a b is monitored: ")
    assert "alerts go to nobody" in only
