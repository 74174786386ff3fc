"""The EarlyBird example: its API behaves, and monitoring counts exactly what its traffic sent."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from pymongo import version_tuple

from examples.earlybird import processes, traffic
from examples.earlybird.demo_options import DemoOptions, UsageError
from examples.earlybird.visitors import NO_ANSWER, Report
from tests.integration.servers import nx27017
from tests.ports import free_port
from tests.waiting import eventually

pytestmark = pytest.mark.slow

ADMIN_TOKEN = "admin-token-of-the-test"
STAFF_TOKEN = "staff-token-of-the-test"
ROOT = Path(__file__).parent.parent
EMBEDDED = version_tuple >= (4, 18)
"""With an older PyMongo nx-27017 cannot be installed. Where it can, it is there."""


@dataclass
class EarlyBird:
    url: str

    def traffic(self, requests: int, seed: int) -> Report:
        return asyncio.run(traffic.run(self.url, requests=requests, rate=None, seed=seed, staff_token=STAFF_TOKEN))

    def monitoring(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        return httpx.get(f"{self.url}/api{path}", headers=headers, trust_env=False).raise_for_status().json()

    def client(self, token: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"}
        unshared = httpx.Limits(max_keepalive_connections=0)  # uvicorn closes the connection of an unhandled exception
        return httpx.Client(base_url=f"{self.url}/api", headers=headers, trust_env=False, timeout=30, limits=unshared)


@pytest.fixture(scope="module")
def mongodb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if EMBEDDED:
        with processes.running(processes.embedded_mongodb(tmp_path_factory.mktemp("mongodb"))) as part:
            yield processes.mongodb_uri(part)
    else:
        with nx27017() as other:
            yield other.uri


@pytest.fixture
def earlybird(mongodb: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[EarlyBird]:
    env = {
        "MONGODB_URI": mongodb,
        "EARLYBIRD_STAFF_TOKEN": STAFF_TOKEN,
        "OTEL_MONITORING_ADMIN_TOKEN": ADMIN_TOKEN,
        **getattr(request, "param", {}),
    }
    port = DemoOptions.from_environment({"PORT": "0"}).port
    with processes.running(processes.api(port, tmp_path, env)) as part:
        processes.api_ready(part, f"http://127.0.0.1:{port}/api/health/ready")
        yield EarlyBird(f"http://127.0.0.1:{port}")


def test_monitoring_counts_what_the_traffic_sent(earlybird: EarlyBird) -> None:
    sent = earlybird.traffic(400, seed=7)
    assert sent.requests == 400
    assert sent.by_status()[NO_ANSWER] == 0
    assert {200, 201, 401, 404, 422} <= sent.by_status().keys()

    assert eventually(lambda: earlybird.monitoring("/health/metrics")["requests_recorded"] >= 400)
    diagnostics = earlybird.monitoring("/health/diagnostics")
    assert {route: of["call_count"] for route, of in diagnostics["endpoints"].items()} == dict(sent.by_route())
    assert diagnostics["performance"]["requests_recorded"] == 400
    assert diagnostics["performance"]["error_count"] == sent.errors
    assert diagnostics["database"]["status"] == "healthy"


def test_the_same_seed_sends_the_same_requests(earlybird: EarlyBird) -> None:
    def sent(seed: int) -> dict[tuple[str, str], int]:
        counts: dict[tuple[str, str], int] = {}
        for (method, route, _), count in earlybird.traffic(150, seed).answers.items():
            counts[method, route] = counts.get((method, route), 0) + count
        return counts

    first = sent(1)
    assert sent(1) == first
    assert sent(2) != first


def test_breakfast_from_order_to_bill(earlybird: EarlyBird) -> None:
    robin = {"email": f"robin-{time.time_ns()}@example.com", "name": "Robin", "address": "1 Dawn Road"}
    with earlybird.client("nobody") as anyone:
        token = anyone.post("/users/", json=robin).raise_for_status().json()["token"]
        assert anyone.post("/users/", json=robin).status_code == 409
        assert anyone.get("/orders/").status_code == 401
        assert anyone.post("/billing/run", json={}).status_code == 403

    with earlybird.client(token) as customer, earlybird.client(STAFF_TOKEN) as staff:
        new = {"items": [{"product": "milk", "quantity": 2}], "deliver_on": str(date.max - timedelta(days=1))}
        order = _until(201, {402, 502}, lambda: customer.post("/orders/", json=new))
        assert order["total_cents"] == 280
        assert customer.get("/orders/").json() == [order]

        packed = staff.patch(f"/orders/{order['id']}/status", json={"status": "packed"})
        assert packed.json() == {**order, "status": "packed"}
        planned = staff.get(f"/deliveries/?deliver_on={new['deliver_on']}").json()
        assert order["id"] in {delivery["order_id"] for delivery in planned}

        confirm = f"/deliveries/{order['delivery_id']}/confirm"
        _until(200, {500}, lambda: staff.post(confirm, json={"received_by": "Robin"}))
        assert customer.get(f"/orders/{order['id']}").json()["status"] == "delivered"
        _until(200, {502}, lambda: staff.post("/billing/run", json={"max_orders": 100}))
        assert _until(200, set(), lambda: staff.post("/billing/run", json={})) == {"billed": 0, "declined": 0}


NOBODY = {"DELIVERY_URL": f"http://127.0.0.1:{free_port()}", "EARLYBIRD_OUTAGES": "off"}


@pytest.mark.parametrize("earlybird", [NOBODY], indirect=True, ids=["nobody delivers"])
def test_a_delivery_service_that_is_down_is_an_alert(earlybird: EarlyBird) -> None:
    robin = {"email": f"robin-{time.time_ns()}@example.com", "name": "Robin", "address": "1 Dawn Road"}
    with earlybird.client("nobody") as anyone:
        token = anyone.post("/users/", json=robin).raise_for_status().json()["token"]
    new = {"items": [{"product": "milk", "quantity": 2}], "deliver_on": str(date.max - timedelta(days=1))}
    with earlybird.client(token) as customer:
        assert customer.post("/orders/", json=new).status_code == 502
        assert [order["status"] for order in customer.get("/orders/").json()] == ["cancelled"]
    assert eventually(lambda: bool(earlybird.monitoring("/alerts/history")))
    (alert,) = earlybird.monitoring("/alerts/history")
    assert (alert["type"], alert["severity"]) == ("delivery_issue", "error")
    assert alert["message"] == "delivery.plan failed: examples.earlybird.delivery_planner.DeliveryServiceError"


def _until(status: int, outages: set[int], ask: Callable[[], httpx.Response]) -> Any:
    """The outside services fail now and then, as outside services do: ask again."""
    for _ in range(20):
        answer = ask()
        if answer.status_code == status:
            return answer.json()
        assert answer.status_code in outages, answer.text
    pytest.fail(f"no {status} in 20 attempts")


@pytest.mark.skipif(not EMBEDDED, reason="nx-27017 needs a newer PyMongo than this environment has")
def test_a_part_ends_with_its_parent_even_if_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys, time\n"
        "from examples.earlybird import processes\n"
        "part = processes.embedded_mongodb(pathlib.Path(sys.argv[1]))\n"
        "processes.mongodb_uri(part)\n"
        "print(part.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        part = psutil.Process(int(parent.stdout.readline()))
        try:
            parent.kill()
            assert eventually(lambda: not part.is_running() or part.status() == psutil.STATUS_ZOMBIE)
        finally:
            parent.kill()
            if part.is_running():
                part.kill()


def test_a_part_that_ends_by_itself_is_reported_with_its_last_words(tmp_path: Path) -> None:
    complaint = pytest.raises(processes.PartFailedError, match=r"The API ended with exit code 1(.|\n)*InvalidURI")
    with processes.running(processes.api(1, tmp_path, {"MONGODB_URI": "http://localhost"})) as part, complaint:
        processes.api_ready(part, "http://127.0.0.1:1/")


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"PORT": "breakfast"}, "PORT: 'breakfast' is not a port"),
        ({"PORT": "70000"}, "PORT: '70000' is not a port"),
        ({"PORT": "0", "DEMO_SECONDS": "soon"}, "DEMO_SECONDS: 'soon' is not a number"),
        ({"PORT": "0", "DEMO_SECONDS": "-1"}, "DEMO_SECONDS: '-1' is not a number"),
    ],
)
def test_an_environment_that_cannot_work_is_named(environment: dict[str, str], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        DemoOptions.from_environment(environment)


def test_what_the_environment_gives_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OTEL_MONITORING_ADMIN_TOKEN", ADMIN_TOKEN)
    monkeypatch.setenv("OTEL_MONITORING_PREFIX", "/ops")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:pass@collector:4318")
    plan = DemoOptions.from_environment({"PORT": "0", "MONGODB_URI": "mongodb://db", "DEMO_SECONDS": "1.5"})
    assert (plan.mongodb_uri, plan.seconds, plan.admin_token) == ("mongodb://db", 1.5, ADMIN_TOKEN)
    text = plan.introduction("somewhere", tmp_path)
    assert f"curl -H 'Authorization: Bearer {ADMIN_TOKEN}' localhost:{plan.port}/ops/health/diagnostics" in text
    assert "traces, metrics, logs to http://" in text
    assert "user:pass" not in text


def test_tokens_are_made_for_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_MONITORING_ADMIN_TOKEN", raising=False)
    one, other = (DemoOptions.from_environment({"PORT": "0"}) for _ in range(2))
    assert len({one.admin_token, other.admin_token, one.staff_token, other.staff_token}) == 4
    assert os.environ.get("OTEL_MONITORING_ADMIN_TOKEN") is None
