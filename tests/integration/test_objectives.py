"""Objectives of a real service: known after a restart from the past in the store, by every worker, in plain words."""

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_replay import write_past
from tests.integration.processes import Service, serving
from tests.integration.receivers import Loop, http
from tests.waiting import eventually

pytestmark = pytest.mark.integration

SOURCE = """
from fastapi import FastAPI
from otel_monitoring import MonitoringService
from otel_monitoring.alerts import Slo

app = FastAPI(title="orders")
monitoring = MonitoringService(None, sample_interval=1).instrument(app)
monitoring.add_slo(Slo("each", objective=99.9, per="endpoint", dry_run=True))


@app.get("/orders")
async def orders():
    return []
"""
WORKERS = 2


def objectives(service: Service) -> dict[str, dict[str, Any]]:
    found = service.get("/api/health/objectives").raise_for_status().json()["objectives"]
    return {one["name"]: one for one in found}


def known(service: Service) -> dict[str, dict[str, Any]] | None:
    found = objectives(service)
    return found if found["availability"]["state"] != "blind" else None


def test_a_budget_that_burns_is_told_in_plain_words_after_a_restart_and_by_every_worker(tmp_path: Path) -> None:
    """All requests of three minutes failed: 5 % of an hour, 50 times too fast. The service begins to run after that."""
    write_past(tmp_path / "state", "orders", end=time.time(), failed=range(3, 6), hours=4)
    loop = Loop()
    with (
        closing(loop),
        loop.serve(http()) as hook,
        serving(
            tmp_path,
            SOURCE,
            runner=("uvicorn", "--workers", str(WORKERS)),
            OTEL_SERVICE_NAME="orders",
            OTEL_MONITORING_SLO_AVAILABILITY="99.9",
            ALERT_WEBHOOK_URL=f"http://127.0.0.1:{hook.port}/",
            ALERT_WEBHOOK_ALLOW_PRIVATE="true",
        ) as service,
    ):
        found = eventually(lambda: known(service), "the past is known")
        available = found["availability"]
        assert available["state"] == "burning"
        assert "the error budget is used up" in available["text"]
        assert "/a spends 100 % of it" in available["text"]
        assert available["spent_by"] == [{"endpoint": "/a", "percent": 100.0}]
        assert available["burn_rates"][0]["long"] == pytest.approx(50, rel=0.1)
        assert (available["dry_run"], found["latency"]["dry_run"]) == (False, True)
        assert found["latency"]["state"] == "ok"
        assert found["each"]["endpoints"][0]["endpoint"] == "/a"

        def told() -> list[dict[str, Any]]:
            return [alert for request in hook.requests for alert in request.json()["data"]["alerts"]]

        (alert,) = eventually(told, "it is told")
        assert (alert["rule"], alert["severity"], alert["labels"]) == (
            *("availability_fast_burn", "critical"),
            {"slo": "availability"},
        )
        assert alert["details"]["budget"].endswith("/a spends 100 % of it")
        assert alert["message"].startswith("availability: the error budget burns")
        outcomes = {one["rule"]: one["outcome"] for one in service.get("/api/alerts/history").json()}
        assert outcomes["availability_medium_burn"] == "inhibited"
        assert outcomes["each_fast_burn"] == "dry_run"
        firing = {one["rule"]: one for one in service.get("/api/alerts/firing").json()}
        assert firing["each_fast_burn"]["dry_run"]
        answering: set[int] = set()

        def another() -> bool:
            """Every worker knows it, whichever leads."""
            assert objectives(service)["availability"]["state"] == "burning"
            answering.add(service.diagnostics()["worker"]["pid"])
            return len(answering) == WORKERS

        eventually(another, "both workers answered")
        assert len(told()) == 1, "of both workers and all rules one message"
