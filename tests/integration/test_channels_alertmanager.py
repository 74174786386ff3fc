"""Hand-off to Debian's Alertmanager: what fires appears and stays while it is repeated, what is over ends."""

import asyncio
import base64
import logging
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from otel_monitoring.alerts import AlertManager, Gauge, Rule
from otel_monitoring.alerts.evaluation.worker_report import WorkerReport
from otel_monitoring.alerts.evaluator import Evaluator
from otel_monitoring.alerts.model import AlertSeverity, AlertType
from otel_monitoring.alerts.notify.channels.alertmanager import AlertmanagerChannel
from otel_monitoring.alerts.notify.delivery import Delivery
from otel_monitoring.alerts.notify.origin import Origin
from otel_monitoring.alerts.store import MemoryStore
from otel_monitoring.errors import DeliveryError
from otel_monitoring.metrics.snapshot import Series, Snapshot
from otel_monitoring.metrics.window import Window
from tests.conftest import unavailable
from tests.integration.processes import serving
from tests.integration.receivers import answer, http
from tests.integration.servers import nx27017
from tests.integration.test_alerting import SOURCE
from tests.notifications import NOW, event, notification, resolved
from tests.ports import free_port
from tests.waiting import PATIENCE, eventually

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

CONFIGURATION = "route:\n  receiver: nobody\nreceivers:\n  - name: nobody\n"


@contextmanager
def alertmanager(directory: Path, configuration: str = CONFIGURATION) -> Iterator[str]:
    """A real one under a path prefix; its base URL."""
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if program is None:
        unavailable("no Alertmanager: apt-get install prometheus-alertmanager")
    port = free_port()
    directory.mkdir()
    (directory / "alertmanager.yml").write_text(configuration)
    command = [
        program,
        f"--config.file={directory}/alertmanager.yml",
        f"--storage.path={directory}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.route-prefix=/am",
        "--cluster.listen-address=",
    ]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}/am"
    try:
        eventually(lambda: _answers(f"{url}/-/ready"), f"{program} is ready: {(directory / 'log').read_text()}")
        yield url
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with alertmanager(tmp_path_factory.mktemp("peer") / "am") as url:
        yield url


def alerts(url: str, service: str) -> list[dict[str, Any]]:
    """What its API says fires now."""
    answered = httpx.get(f"{url}/api/v2/alerts", params={"filter": f'service="{service}"'}).raise_for_status()
    found: list[dict[str, Any]] = answered.json()
    return found


INTERVAL = 2.0
"""Seconds between repetitions; an alert ends after four of them, which a busy machine must not miss."""


def channel(*urls: str, **options: Any) -> AlertmanagerChannel:
    return AlertmanagerChannel([SecretStr(url) for url in urls], **options)


def now(**fields: Any) -> dict[str, Any]:
    """Alertmanager has a clock of its own: an alert that fires began a moment ago."""
    return {"since": round(time.time() - 5, 3), **fields}


async def test_what_fires_appears_with_everything_it_has(peer: str) -> None:
    fields = now(details={"value": 7.5, "threshold": 5.0}, labels={"endpoint": "/api/orders/", "http.method": "POST"})
    generator = "https://orders.example.com/api/alerts/firing"
    sender = channel(peer, generator_url=generator, host="orders-1")
    await sender.send(notification(event(**fields, rule="database_down"), service="whole"))
    (alert,) = alerts(peer, "whole")
    assert alert["labels"] == {
        "alertname": "DATABASE_DOWN",
        "alert_type": "database_down",
        "severity": "critical",
        "service": "whole",
        "environment": "production",
        "host": "orders-1",
        "rule": "database_down",
        "endpoint": "/api/orders/",
        "http_method": "POST",
    }
    assert {key: alert["annotations"][key] for key in ("summary", "value", "threshold", "runbook_url", "incident")} == {
        "summary": "Database connection lost",
        "value": "7.5",
        "threshold": "5.0",
        "runbook_url": "https://runbooks.example.com/database-down",
        "incident": "incident-1",
    }
    assert "Value: 7.5 (threshold 5)" in alert["annotations"]["description"]
    assert alert["generatorURL"] == generator
    assert alert["status"]["state"] in {"active", "unprocessed"}
    begun, ends = (_unix(alert[key]) for key in ("startsAt", "endsAt"))
    assert begun == pytest.approx(fields["since"], abs=0.002)
    assert 200 < ends - time.time() <= 240, "four repetitions of 60 s ahead"


async def test_it_stays_while_it_is_repeated_and_ends_by_itself_when_it_is_not(peer: str) -> None:
    sender = channel(peer, interval=INTERVAL)
    sent = notification(event(**now()), service="repeated")
    await sender.send(sent)
    ends = ends_at(peer, "repeated")
    for _ in range(3):
        await sender.repeat(sent)
        assert ends_at(peer, "repeated") > ends
        ends = ends_at(peer, "repeated")
    eventually(lambda: not alerts(peer, "repeated"), "it ended")
    assert time.time() > ends


async def test_resolved_ends_it_and_only_it(peer: str) -> None:
    cpu = event(type=AlertType.HIGH_CPU, severity=AlertSeverity.WARNING, **now(labels={}))
    await channel(peer).send(notification(event(**now()), cpu, service="resolved"))
    assert len(alerts(peer, "resolved")) == 2
    over = resolved(**now(), details={"value": 0})
    await channel(peer).send(notification(over, service="resolved"))
    eventually(lambda: [a["labels"]["alertname"] for a in alerts(peer, "resolved")] == ["HIGH_CPU"], "one of two ended")


async def test_the_end_on_one_host_or_of_one_rule_ends_no_other(peer: str) -> None:
    """The same labels everywhere; by default each process names the host it runs on."""
    first, second = channel(peer, host="one"), channel(peer, host="two")
    down, replica = (now(labels={}, rule=rule) for rule in ("database_down", "replica_down"))
    for sender in (first, second):
        await sender.send(notification(event(**down), event(**replica), service="hosts"))
    assert len(alerts(peer, "hosts")) == 4
    await first.send(notification(resolved(**down), service="hosts"))
    eventually(lambda: len(alerts(peer, "hosts")) == 3, "one of four ended")
    assert sorted((a["labels"]["host"], a["labels"]["rule"]) for a in alerts(peer, "hosts")) == [
        ("one", "replica_down"),
        ("two", "database_down"),
        ("two", "replica_down"),
    ]
    for named in ("web-1", ""):
        await channel(peer).send(notification(event(**down), service="here", host=named))
    assert {alert["labels"]["host"] for alert in alerts(peer, "here")} == {"web-1", socket.gethostname()}


def ends_at(peer: str, service: str) -> float:
    """When Alertmanager will forget the one alert of a service."""
    (alert,) = alerts(peer, service)
    return _unix(alert["endsAt"])


class Service:
    """The evaluating worker of a service, one after another, with a real Alertmanager that soon forgets."""

    def __init__(self, peer: str, name: str) -> None:
        self.peer, self.name, self.heat = peer, name, 0.0
        self.store = MemoryStore()
        self.start("first")

    def start(self, worker: str) -> None:
        hands_off = channel(self.peer, interval=INTERVAL)
        self.manager = AlertManager(channels=[hands_off], store=self.store)
        self.manager.origin = Origin(self.name)
        self.manager.delivery = Delivery([hands_off], self.manager.origin, clock=time.time)
        self.manager.add_rule(Rule("hot", Gauge("heat"), ">", 10))
        self.watch = Evaluator(self.manager, worker, self._report, interval=1.0)

    def _report(self) -> WorkerReport:
        return WorkerReport(Window(Snapshot(0, 300, gauges={Series("heat"): self.heat})))

    async def evaluate(self) -> None:
        self.watch.beat()
        self.watch.tick()
        await self.manager.delivery.flush(5)

    async def held(self) -> None:
        """It fires at every moment, until it was repeated once more."""
        before = ends_at(self.peer, self.name)
        while ends_at(self.peer, self.name) <= before:
            await self.evaluate()
            await asyncio.sleep(0.1)


async def test_neither_a_mute_nor_a_restart_nor_a_takeover_ends_what_fires(peer: str) -> None:
    service = Service(peer, "held")
    service.heat = 11.0
    await service.evaluate()
    await service.held()
    service.manager.mute_alert_type(AlertType.CUSTOM, 600)
    await service.held()
    await service.watch.stop(1)
    service.start("after a restart")
    await service.held()
    service.store.leases.resign("after a restart")  # as one that was killed, once its lease has run out
    service.start("after a takeover")
    await service.held()
    service.heat = 1.0
    while left := alerts(peer, "held"):  # it is over, and that is said though it is muted
        assert _unix(left[0]["endsAt"]) <= time.time() + 4 * INTERVAL
        await service.evaluate()


def test_of_two_hosts_with_the_same_outage_the_one_that_recovers_ends_its_own_alert(tmp_path: Path, peer: str) -> None:
    """Whole services, as two machines would run them: each with its own state, and told apart by their host alone."""

    def seen() -> list[str]:
        return sorted(alert["labels"]["host"] for alert in alerts(peer, "orders"))

    with ExitStack() as stack:
        databases, services = {}, {}
        for host in ("one", "two"):
            (tmp_path / host).mkdir()
            databases[host] = stack.enter_context(nx27017())
            env: dict[str, Any] = {"OTEL_RESOURCE_ATTRIBUTES": f"host.name={host}", "MONGODB_URI": databases[host].uri}
            services[host] = stack.enter_context(serving(tmp_path / host, SOURCE, ALERTMANAGER_URL=peer, **env))
            assert services[host].get("/order").status_code == 200
        for database in databases.values():
            database.kill()
        eventually(lambda: seen() == ["one", "two"], "both fire")
        services["two"].client.post("/api/alerts/mutes", json={"type": "database_down"}).raise_for_status()
        databases["one"].start()
        eventually(lambda: seen() == ["two"], "one of them is over")
        assert [alert["labels"]["alertname"] for alert in alerts(peer, "orders")] == ["DATABASE_DOWN"]
        databases["two"].start()
        eventually(lambda: seen() == [], "both are over")


async def test_an_end_before_its_beginning_is_still_taken(peer: str) -> None:
    """A clock that was set back between the two."""
    await channel(peer).send(notification(resolved(since=NOW + 60), service="backwards"))
    assert alerts(peer, "backwards") == []


async def test_every_peer_is_told_and_one_is_enough(
    peer: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dead = f"http://user:canary@127.0.0.1:{free_port()}"
    with alertmanager(tmp_path / "second") as second:
        sender = channel(dead, peer, second)
        for _ in range(2):
            await sender.send(notification(event(**now()), service="peers"))
        assert len(alerts(peer, "peers")) == len(alerts(second, "peers")) == 1
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "Alertmanager 1 of 3: All connection attempts failed; another peer has the alerts"
    ], "once, not with every repetition"
    assert "canary" not in caplog.text


@pytest.mark.parametrize(
    ("first", "second", "retryable", "wait"),
    [
        (answer("400 Bad Request", ""), answer("503 Unavailable", "", Retry_After="9"), True, 9),
        (answer("429 Too Many", "", Retry_After="7"), answer("503 Unavailable", "", Retry_After="9"), True, 7),
        (answer("400 Bad Request", ""), answer("401 Unauthorized", ""), True, None),
        (answer("400 Bad Request", ""), answer("422 Unprocessable", ""), False, None),
    ],
)
async def test_no_peer_takes_it(first: bytes, second: bytes, retryable: bool, wait: float | None) -> None:
    async with http(first) as one, http(second) as two:
        with pytest.raises(DeliveryError) as caught:
            await channel(f"http://127.0.0.1:{one.port}", f"http://127.0.0.1:{two.port}/").send(notification())
    assert (caught.value.retryable, caught.value.retry_after) == (retryable, wait)
    assert str(caught.value).startswith("Alertmanager 1 of 2 answered 4")
    assert one.requests[0].line == two.requests[0].line == "POST /api/v2/alerts HTTP/1.1"


async def test_a_user_in_the_url_is_basic_authentication() -> None:
    async with http() as receiver:
        await channel(f"http://user:canary@127.0.0.1:{receiver.port}/am").send(notification())
    (request,) = receiver.requests
    assert request.headers["authorization"] == f"Basic {base64.b64encode(b'user:canary').decode()}"
    assert request.line == "POST /am/api/v2/alerts HTTP/1.1"


def _unix(moment: str) -> float:
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()
