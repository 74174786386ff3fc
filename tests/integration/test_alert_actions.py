"""What people do about alerts, in four workers; escalation, the heartbeat, and messages that are edited."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.alerts.notify.channels.test_slack_bot import CHANNEL, TOKEN, FakeSlack
from tests.http_server import HttpServer
from tests.integration.processes import Service, serving
from tests.waiting import eventually

pytestmark = pytest.mark.integration

SOURCE = """
import asyncio, logging, os
from fastapi import FastAPI
from otel_monitoring import MonitoringService
from otel_monitoring.alerts import Gauge, Rule

logging.basicConfig(level=logging.INFO)
app = FastAPI(title="orders")
monitoring = MonitoringService(None, sample_interval=1).instrument(app)
waiting = monitoring.meter.create_gauge("orders.waiting")
late = Rule("backlog", Gauge("orders.waiting"), ">", 100, "{value:.0f} wait", type="orders_late", severity="error")
monitoring.add_rule(late)
folder = os.path.dirname(__file__)

async def measure():
    while True:
        waiting.set(500 if os.path.exists(os.path.join(folder, "late")) else 0)
        await asyncio.sleep(0.05)

@app.get("/measure")
async def start():
    app.state.task = asyncio.ensure_future(measure())
    return os.getpid()

@app.get("/raise")
async def send():
    return await monitoring.add_alert("order_stuck", "7 orders wait", "critical")

@app.get("/pid")
async def pid():
    return os.getpid()
"""


def all_workers(service: Service, path: str, count: int) -> None:
    pids: set[int] = set()

    def seen() -> bool:
        pids.add(service.get(path).json())
        return len(pids) >= count

    eventually(seen, f"{count} workers answer")


def statuses(hook: HttpServer, rule: str = "backlog") -> list[str]:
    alerts = [alert for request in hook.requests for alert in json.loads(request.body)["data"]["alerts"]]
    return [alert["status"] for alert in alerts if alert.get("rule", "") == rule]


@pytest.mark.long
def test_four_workers_agree_on_what_people_did(tmp_path: Path) -> None:
    late = tmp_path / "late"
    slack = FakeSlack(time.time())
    with HttpServer() as hook, HttpServer() as watcher, HttpServer(slack) as api:
        env: dict[str, Any] = {
            "ALERT_WEBHOOK_URL": f"{hook.url}/alerts",
            "ALERT_WEBHOOK_ALLOW_PRIVATE": "true",
            "SLACK_BOT_TOKEN": TOKEN,
            "SLACK_CHANNEL": CHANNEL,
            "SLACK_API_URL": api.url,
            "ALERT_ROUTES": "webhook rule=backlog after=2; webhook type=order_stuck",
            "ALERT_HEARTBEAT_URL": f"{watcher.url}/ping",
            "ALERT_HEARTBEAT_INTERVAL": "1",
        }
        with serving(tmp_path, SOURCE, runner=("uvicorn", "--workers", "4"), **env) as service:
            all_workers(service, "/measure", 4)
            eventually(lambda: len(watcher.requests) > 1, "the heartbeat is sent")

            late.touch()
            eventually(lambda: slack.shown, "Slack is told at once")
            eventually(lambda: statuses(hook) == ["firing"], "nobody acknowledged it: the webhook is told")
            (alert,) = service.get("/api/alerts/firing").json()
            path = f"/api/alerts/{alert['incident']}/acknowledge"
            done = service.client.post(path, json={"author": "ana", "reason": "more workers"})
            assert done.status_code == 201
            eventually(lambda: statuses(hook) == ["firing", "acknowledged"], "the webhook is told who")
            eventually(lambda: "acknowledged" in slack.shown[0], "the message is edited")
            for _ in range(12):  # any worker answers for all
                (alert,) = service.get("/api/alerts/firing").json()
                assert alert["acknowledged"]["author"] == "ana"
                assert alert["type"] == "orders_late"

            window = {"from": "2020-01-01T00:00:00Z", "to": "2098-01-01T00:00:00Z", "labels": {}, "author": "bo"}
            planned = service.client.post("/api/alerts/maintenance", json=window).json()
            assert planned["open"]
            assert {service.get("/raise").json() for _ in range(12)} == {False}, "a window holds in every worker"
            assert service.client.delete(f"/api/alerts/maintenance/{planned['id']}").status_code == 204
            assert [service.get("/raise").json() for _ in range(12)].count(True) == 1, "one of all workers tells"
            eventually(lambda: statuses(hook, "") == ["firing"], "the route of its type")

            late.unlink()
            eventually(lambda: statuses(hook)[-1:] == ["resolved"], "its end is told")
            eventually(lambda: "resolved" in slack.shown[0], "and edited")
            assert service.get("/api/health/diagnostics").json()["alerting"]["channels"]["heartbeat"]["state"] == "ok"
    assert len([one for one in slack.messages.values() if "backlog" in json.dumps(one)]) == 1, "one message, edited"
