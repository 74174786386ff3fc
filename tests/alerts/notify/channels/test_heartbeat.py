"""The heartbeat: it is sent while rules are really evaluated, by one worker, and says so of itself."""

import asyncio
import json
from collections.abc import Collection, Iterator, Sequence

import pytest

from otel_monitoring.alerts import AlertManager, Gauge, Rule
from otel_monitoring.alerts.evaluation.worker_report import WorkerReport
from otel_monitoring.alerts.evaluator import Evaluator
from otel_monitoring.alerts.rules.expressions import Reading
from otel_monitoring.alerts.store import MemoryStore
from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.metrics.snapshot import Snapshot
from otel_monitoring.metrics.window import Window
from otel_monitoring.testing import ManualClock
from tests.http_server import Answer, HttpServer, Request
from tests.ports import free_port
from tests.waiting import PATIENCE

pytestmark = pytest.mark.anyio

INTERVAL = 10.0


class Watched:
    """Workers of a service whose heartbeat goes to a server of the test."""

    def __init__(self, url: str, method: str = "GET") -> None:
        self.clock = ManualClock()
        self.store = MemoryStore()
        self.settings = Settings.load(
            alert_heartbeat_url=url, alert_heartbeat_method=method, alert_heartbeat_interval=60.0
        )

    def worker(self, name: str) -> tuple[AlertManager, Evaluator]:
        manager = AlertManager(settings=self.settings, store=self.store, clock=self.clock, elapsed=self.clock)
        report = WorkerReport(Window(Snapshot(0, 300)))
        return manager, Evaluator(manager, name, lambda: report, INTERVAL)


async def sent(manager: AlertManager) -> None:
    """Wait for the request that is under way, if one is."""
    assert manager.heartbeat is not None
    task = manager.heartbeat._task
    if task is not None:
        await asyncio.wait_for(asyncio.shield(task), PATIENCE)


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with HttpServer() as server:
        yield server


async def test_it_is_sent_each_interval_by_the_worker_that_evaluates(server: HttpServer) -> None:
    watched = Watched(f"{server.url}/ping/secret-uuid")
    (leader, evaluates), (other, waits) = watched.worker("a"), watched.worker("b")
    for _ in range(19):  # 190 seconds
        for evaluator in (evaluates, waits):
            evaluator.tick()
            evaluator.beat()
        await sent(leader)
        await sent(other)
        watched.clock.advance(INTERVAL)
    assert [(request.method, request.path) for request in server.requests] == [("GET", "/ping/secret-uuid")] * 4
    for manager in (leader, other):
        condition = manager.state()["channels"]["heartbeat"]
        assert (condition["state"], condition["failures"], condition["pending"]) == ("ok", 0, 0)
        assert condition["last_delivered"].startswith("2023-11-14T22:16:20")
    assert "secret-uuid" not in json.dumps(leader.state())


async def test_a_post_says_which_service_it_is(server: HttpServer) -> None:
    watched = Watched(server.url, "post")
    manager, evaluator = watched.worker("a")
    evaluator.tick()
    evaluator.beat()
    await sent(manager)
    (request,) = server.requests
    assert (request.method, request.headers["content-type"]) == ("POST", "application/json")
    said = json.loads(request.body)
    assert said.keys() == {"service", "environment", "version", "host", "evaluated_at"}
    assert said["evaluated_at"] == "2023-11-14T22:13:20.000+00:00"


async def test_it_stops_when_nothing_is_evaluated_any_more(server: HttpServer) -> None:
    watched = Watched(server.url)
    manager, evaluator = watched.worker("a")
    evaluator.beat()  # a new leader evaluates
    await sent(manager)
    for _ in range(200):  # the samples have stopped, and with them the evaluation; the lease is renewed all the same
        watched.clock.advance(1)
        evaluator.beat()
        await sent(manager)
    assert len(server.requests) == 1


async def test_it_stops_when_every_rule_fails(server: HttpServer) -> None:
    class Broken(Gauge):
        def readings(
            self, window: Window, *, above: float | None = None, known: Collection[str] = ()
        ) -> Sequence[Reading]:
            raise RuntimeError("broken")

    watched = Watched(server.url)
    manager, evaluator = watched.worker("a")
    for rule in manager.rules:
        manager.remove_rule(rule.name)
    manager.add_rule(Rule("broken", Broken("x"), ">", 1))
    evaluator.tick()
    evaluator.beat()
    await sent(manager)
    assert server.requests == []
    manager.add_rule(Rule("works", Gauge("x"), ">", 1))
    evaluator.tick()
    evaluator.beat()
    await sent(manager)
    assert len(server.requests) == 1


async def test_a_watcher_that_fails_is_told_once_and_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    answers = [Answer(503), Answer(503), Answer(200)]

    def answer(_: Request) -> Answer:
        return answers.pop(0)

    with HttpServer(answer) as server:
        watched = Watched(f"{server.url}/hunter2")
        manager, evaluator = watched.worker("a")
        states = []
        for _ in range(3):
            evaluator.tick()
            evaluator.beat()
            await sent(manager)
            states.append(manager.state()["channels"]["heartbeat"]["state"])
            watched.clock.advance(60)
    assert states == ["retrying", "retrying", "ok"]
    assert [line for line in caplog.messages if "heartbeat" in line] == [
        "the heartbeat fails, and is sent again with the next interval: The heartbeat answered 503"
    ]


async def test_a_watcher_that_is_not_there_harms_nothing() -> None:
    watched = Watched(f"http://127.0.0.1:{free_port()}/hunter2")
    manager, evaluator = watched.worker("a")
    evaluator.tick()
    evaluator.beat()
    await sent(manager)
    condition = manager.state()["channels"]["heartbeat"]
    assert condition["failures"] == 1
    assert "hunter2" not in condition["last_error"]
    await evaluator.stop(1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"alert_heartbeat_url": "ftp://x"}, "ALERT_HEARTBEAT_URL: "),
        ({"alert_heartbeat_url": "http://x", "alert_heartbeat_method": "PUT"}, "ALERT_HEARTBEAT_METHOD: "),
        ({"alert_heartbeat_url": "http://x", "alert_heartbeat_interval": 0}, "ALERT_HEARTBEAT_INTERVAL: "),
    ],
)
async def test_what_cannot_work_is_refused_by_name(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{message}"):
        Settings.load(**given)
