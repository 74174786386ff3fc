"""One service on two hosts, whose state is in its MongoDB database: leaders, hosts and the database are killed."""

import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.processes import Service, serving
from tests.integration.receivers import HttpReceiver, Loop, http
from tests.integration.servers import Server, ferretdb, nx27017
from tests.waiting import eventually

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SOURCE = """
import logging, os
from dataclasses import replace
from fastapi import FastAPI
from pymongo import AsyncMongoClient
from otel_monitoring import MonitoringService

logging.basicConfig(level=logging.INFO)
app = FastAPI(title="orders")
db = AsyncMongoClient(os.environ["MONGODB_URI"], serverSelectionTimeoutMS=500)["shop"]
monitoring = MonitoringService(db, check_interval=1, check_timeout=2).instrument(app)
[down] = [rule for rule in monitoring.alert_manager.rules if rule.name == "database_down"]
monitoring.add_rule(replace(down, keep_firing_for=1))

@app.get("/raise")
async def raise_alert(message: str):
    return await monitoring.add_alert("billing_failure", message, "critical")
"""
WORKERS = 2


class Hosts:
    """Two hosts with two workers each, one database, one receiver of notifications."""

    def __init__(self, database: Server, hook: HttpReceiver, services: list[Service]) -> None:
        self.database = database
        self.hook = hook
        self.services = services

    def told(self) -> Counter[tuple[str, str]]:
        """How often each alert was told: message and status."""
        bodies = [json.loads(request.body) for request in self.hook.requests]
        return Counter((event["message"], event["status"]) for body in bodies for event in body["data"]["alerts"])

    def raise_alert(self, host: int, message: str) -> None:
        assert self.services[host].get("/raise", params={"message": message}).json() is True

    def workers(self, host: int) -> dict[str, int]:
        """Instance id and process of each worker of a host, once both have answered."""
        found: dict[str, int] = {}

        def both() -> bool:
            worker = self.services[host].diagnostics()["worker"]
            found[worker["instance_id"]] = worker["pid"]
            return len(found) == WORKERS

        eventually(both, "both workers answer")
        return found

    def leader(self) -> str | None:
        found: str | None = self.services[0].diagnostics()["alerting"]["leader"]
        return found

    def problems(self) -> list[str | None]:
        """What each worker says of the store."""
        return [
            service.diagnostics()["alerting"]["store_problem"] for service in self.services for _ in range(3 * WORKERS)
        ]

    def history(self, host: int) -> Counter[tuple[str, str]]:
        events = self.services[host].get("/api/alerts/history?limit=1000").raise_for_status().json()
        return Counter((event["message"], event["status"]) for event in events)

    def waiting(self, host: int) -> int:
        channels = self.services[host].diagnostics()["alerting"]["channels"]
        return sum(channel["pending"] for channel in channels.values())


@pytest.fixture(params=["nx-27017", "FerretDB"])
def hosts(request: pytest.FixtureRequest, loop: Loop, tmp_path: Path) -> Iterator[Hosts]:
    kinds: dict[str, Callable[[], AbstractContextManager[Server]]] = {
        "nx-27017": lambda: nx27017("{directory}/shop.db"),
        "FerretDB": ferretdb,
    }
    with ExitStack() as stack:
        database = stack.enter_context(kinds[request.param]())
        hook = stack.enter_context(loop.serve(http()))
        env: dict[str, Any] = {
            "MONGODB_URI": database.uri,
            "OTEL_MONITORING_STORE": "mongodb",
            "ALERT_WEBHOOK_ALLOW_PRIVATE": "true",
            "ALERT_WEBHOOK_URL": f"http://127.0.0.1:{hook.port}/hook",
        }
        services = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            service = serving(
                tmp_path / name,
                SOURCE,
                runner=("uvicorn", "--workers", str(WORKERS)),
                OTEL_RESOURCE_ATTRIBUTES=f"host.name={name}",
                **env,
            )
            services.append(stack.enter_context(service))
        yield Hosts(database, hook, services)


def test_alerts_mutes_and_the_history_are_those_of_all_hosts_and_a_killed_leader_is_replaced(hosts: Hosts) -> None:
    pids = {**hosts.workers(0), **hosts.workers(1)}
    hosts.raise_alert(0, "no money")
    eventually(lambda: hosts.told(), "the alert is told")
    for host in (0, 1):
        assert hosts.history(host) == {("no money", "firing"): 1}
    mute = {"type": "billing_failure", "duration_seconds": 3600}
    assert hosts.services[0].client.post("/api/alerts/mutes", json=mute).status_code == 201
    for _ in range(2 * WORKERS):
        assert hosts.services[1].get("/raise", params={"message": "muted"}).json() is False, "on every worker at once"
    assert hosts.services[1].client.delete("/api/alerts/mutes/billing_failure").status_code == 204
    leader = eventually(hosts.leader, "somebody leads")
    os.kill(pids[leader], signal.SIGKILL)
    eventually(lambda: hosts.leader() not in (None, leader), "another worker leads")
    hosts.raise_alert(1, "no money again")
    eventually(lambda: ("no money again", "firing") in hosts.told(), "the alert is told")
    assert hosts.told() == {("no money", "firing"): 1, ("no money again", "firing"): 1}
    assert hosts.problems() == [None] * len(hosts.problems())


def test_while_the_database_is_away_each_host_goes_on_and_what_happened_is_merged(hosts: Hosts) -> None:
    hosts.raise_alert(0, "before")
    eventually(lambda: ("before", "firing") in hosts.told(), "the alert is told")
    mute = {"type": "delivery_issue", "duration_seconds": 3600}
    assert hosts.services[0].client.post("/api/alerts/mutes", json=mute).status_code == 201
    eventually(lambda: hosts.leader(), "somebody leads")
    hosts.database.kill()
    eventually(lambda: all(hosts.problems()), "every worker has noticed")
    for host in (0, 1):
        hosts.raise_alert(host, f"meanwhile on {host}")
        muted = {"type": f"{('custom', 'security_alert')[host]}", "duration_seconds": 3600}
        assert hosts.services[host].client.post("/api/alerts/mutes", json=muted).status_code == 201
    down = ("Database connection lost", "firing")
    eventually(lambda: hosts.told()[down] and all(hosts.told()[f"meanwhile on {n}", "firing"] for n in (0, 1)), "told")
    hosts.database.start()
    eventually(lambda: not any(hosts.problems()), "every worker uses the database again")
    eventually(lambda: any(status == "resolved" for _, status in hosts.told()), "the end is told")
    eventually(lambda: not hosts.waiting(0) and not hosts.waiting(1), "nothing waits any more")
    told, histories = hosts.told(), [hosts.history(0), hosts.history(1)]
    assert histories[0] == histories[1]
    for message in ("before", "meanwhile on 0", "meanwhile on 1"):
        assert (told[message, "firing"], histories[0][message, "firing"]) == (1, 1), message
    assert 1 <= told[down] <= 2, "at most once a host"
    assert all(count <= 2 for (_, status), count in told.items() if status == "resolved"), told
    for host in (0, 1):
        muted_types = hosts.services[host].get("/api/alerts/summary").json()["muted_alerts"]
        assert sorted(muted_types) == ["custom", "delivery_issue", "security_alert"]
