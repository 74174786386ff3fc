"""Several processes of one service, as far as one process can have them: every answer is the service's."""

import asyncio
import json
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from opentelemetry.metrics import CallbackOptions, NoOpMeterProvider, Observation
from opentelemetry.sdk.resources import Resource

from otel_monitoring import MonitoringService
from otel_monitoring.alerts import AlertManager, Count, Rule
from otel_monitoring.alerts.store.fallback import FallbackStore
from otel_monitoring.alerts.store.sqlite import SqliteStore, schema
from otel_monitoring.config.settings import Thresholds
from otel_monitoring.errors import StoreError
from otel_monitoring.metrics.stream import Delta
from otel_monitoring.monitoring import set_monitoring
from tests.asgi import served
from tests.waiting import eventually_answered

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    set_monitoring(None)
    monkeypatch.setattr("opentelemetry.metrics.get_meter_provider", NoOpMeterProvider)


class Process:
    """A process of the service: its own application and manager, and the file of all of them."""

    def __init__(self, path: Path) -> None:
        self.app = FastAPI(title="orders", version="1.2")
        self.store = FallbackStore(SqliteStore(path, busy_timeout=20))
        self.monitoring = MonitoringService(
            None,
            access="open",
            sample_interval=0.2,
            check_interval=0.2,
            # What else the machine does is no matter here.
            thresholds=Thresholds(cpu_percent=100, memory_percent=100, event_loop_lag_ms=60_000),
            alert_manager=AlertManager(channels=[], store=self.store),
        )
        self.monitoring.add_rule(Rule("sold", Count("sold"), ">", 1e9))
        self.monitoring.instrument(self.app)
        telemetry = self.monitoring._parts.telemetry
        telemetry.instance_id = uuid4().hex
        telemetry.resource = telemetry.resource.merge(Resource({"service.instance.id": telemetry.instance_id}))
        self.sold = self.monitoring.meter.create_counter("sold")
        self.http: httpx.AsyncClient

        @self.app.get("/items/{number}")
        async def item(number: int) -> int:
            self.sold.add(1)
            if number == 4:
                raise HTTPException(404)
            if number == 5:
                raise RuntimeError(f"{id(self)} fails")
            return number

    async def requests(self, *numbers: int) -> None:
        for number in numbers:
            with suppress(RuntimeError):
                await self.http.get(f"/items/{number}")

    async def get(self, path: str) -> Any:
        response = await self.http.get(f"/api{path}")
        assert response.status_code == 200, response.text
        return response.json()

    async def count(self, scope: str = "service") -> int:
        return int((await self.get(f"/health/metrics?scope={scope}"))["requests_recorded"])


@asynccontextmanager
async def running(number: int, folder: Path) -> AsyncIterator[list[Process]]:
    """Processes of a service that share a file in the folder."""
    async with AsyncExitStack() as stack:
        made = [Process(folder / "state.db") for _ in range(number)]
        for process in made:
            process.http = await stack.enter_async_context(served(process.app))
        yield made


@pytest.fixture
async def processes(tmp_path: Path) -> AsyncIterator[list[Process]]:
    async with running(3, tmp_path) as made:
        yield made


async def known_to_all(processes: list[Process]) -> None:
    async def all_listed() -> bool:
        answers = [await process.get("/health/detailed") for process in processes]
        return all(len(answer["instances"]) == len(processes) for answer in answers)

    await eventually_answered(all_listed, "every process lists every process")


async def has_counted(process: Process, number: int) -> None:
    """On a busy machine an answer may show the exchange before."""

    async def counted() -> bool:
        return await process.count() == number

    await eventually_answered(counted, f"{number} requests are counted")


async def test_whoever_is_asked_has_the_same_numbers(processes: list[Process]) -> None:
    one, two, three = processes
    await one.requests(1, 2, 3)
    await two.requests(4, 5)
    assert await one.count() >= 3
    assert await two.count() == 5
    assert await three.count() == 5
    assert await one.count() == 5
    assert [await process.count("instance") for process in processes] == [3, 2, 0]
    answers = [await process.get("/health/diagnostics") for process in processes]
    figures = [answer["endpoints"]["/items/{number}"] for answer in answers]
    assert figures[0] == figures[1] == figures[2]
    assert figures[0]["statuses"] == {"2xx": 3, "4xx": 1, "5xx": 1}
    assert figures[0]["window"]["call_count"] == 5
    for answer in answers:
        assert answer["performance"]["last_error"] == f"RuntimeError: {id(two)} fails (GET /items/{{number}})"
        assert answer["service"] == {**answers[0]["service"], "name": "orders", "version": "1.2"}
    assert len({answer["since"] for answer in answers}) == 1

    async def counters() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await three.get("/health/diagnostics"))["application"]["counters"]
        return found

    sold = await eventually_answered(counters, "the counter of the others is known")
    assert sold == [{"name": "sold", "attributes": {}, "total": 5, "window": 5}]
    alone = await one.get("/health/diagnostics?scope=instance")
    assert (alone["performance"]["requests_recorded"], alone["performance"]["last_error"]) == (3, None)
    assert len(alone["instances"]) == 1


async def test_no_answer_goes_back_whoever_gives_it(processes: list[Process]) -> None:
    shown: list[int] = []
    for step in range(40):
        await processes[step % 3].requests(1)
        shown.append(await processes[(step * 7 + 1) % 3].count())
        shown.append(await processes[(step * 5 + 2) % 3].count())
    assert shown == sorted(shown)
    for process in processes:
        await process.count()
    assert [await process.count() for process in processes] == [40, 40, 40]


async def test_many_who_ask_at_once_get_what_was_published_before_they_asked(processes: list[Process]) -> None:
    one, two, _ = processes
    for round_ in range(1, 8):
        await one.requests(1)
        assert await one.count() >= round_
        assert min(await asyncio.gather(*(two.count() for _ in range(10)))) >= round_


async def test_every_process_is_listed_and_leaves_its_counts_behind(processes: list[Process]) -> None:
    await known_to_all(processes)
    one, two, three = processes
    detailed = await one.get("/health/detailed")
    assert sum(instance["leads"] for instance in detailed["instances"]) == 1
    ids = {instance["instance_id"] for instance in detailed["instances"]}
    assert len(ids) == 3
    assert detailed["instances"][0]["report_age_seconds"] == 0
    await three.requests(1, 2)
    await three.monitoring.stop()

    async def gone() -> bool:
        return len((await one.get("/health/detailed"))["instances"]) == 2

    await eventually_answered(gone, "the one that ended is not listed")
    assert (await one.count(), await two.count()) == (2, 2)


async def test_what_others_see_degrades_and_what_it_sees_itself_makes_unhealthy(processes: list[Process]) -> None:
    one, two, _ = processes
    one.monitoring.add_check("stock", lambda: False, critical=True)

    async def status(process: Process) -> tuple[int, str]:
        response = await process.http.get("/api/health")
        return response.status_code, response.json()["status"]

    async def seen() -> bool:
        return await status(one) == (503, "unhealthy") and await status(two) == (200, "degraded")

    await eventually_answered(seen, "both say what they see")
    (reason,) = (await two.get("/health/detailed"))["reasons"]
    assert reason.startswith("check stock fails: the check returned False (host ")
    assert (await two.get("/health/detailed?scope=instance"))["status"] == "healthy"


async def test_errors_of_the_service_degrade_all_of_it(processes: list[Process]) -> None:
    await processes[0].requests(*([5] * 20))
    for process in processes:
        await process.count()
        assert (await process.get("/health"))["status"] == "degraded"
    assert (await processes[1].get("/health/detailed?scope=instance"))["status"] == "healthy"


async def test_rules_have_their_values_wherever_they_are_asked(processes: list[Process]) -> None:
    await processes[1].requests(1, 2)

    async def values() -> bool:
        answers = [await process.get("/alerts/rules") for process in processes]
        found = [next(rule for rule in answer if rule["name"] == "sold")["values"] for answer in answers]
        return all([value["value"] for value in each] == [2.0] for each in found)

    await eventually_answered(values, "every process has the values")


async def test_an_unknown_scope_is_refused(processes: list[Process]) -> None:
    response = await processes[0].http.get("/api/health/metrics?scope=planet")
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["query", "scope"]


async def test_a_store_that_hangs_lets_answers_go_on(processes: list[Process], monkeypatch: pytest.MonkeyPatch) -> None:
    one = processes[0]
    await one.requests(1)
    await has_counted(one, 1)
    going_on, asked = threading.Event(), threading.Event()
    stream = one.store.measurements
    add = stream.add

    def hang(delta: Delta) -> None:
        asked.set()
        assert going_on.wait(60)
        add(delta)

    monkeypatch.setattr(stream, "add", hang)
    monkeypatch.setattr("otel_monitoring.monitoring.service_exchange._ANSWER_TIMEOUT", 0.05)
    await one.requests(2)
    answer = await one.get("/health/metrics")
    assert (answer["requests_recorded"], "not exchanged" in answer["incomplete"]) == (1, True), "what was shown last"
    assert asked.is_set()
    going_on.set()

    await has_counted(one, 2)
    assert "incomplete" not in await one.get("/health/metrics")


async def test_a_store_that_fails_is_said_and_the_own_counts_go_on(processes: list[Process], tmp_path: Path) -> None:
    one, other = processes[:2]
    for process in processes:
        process.store._retry = 0.1
    await one.requests(1)
    await one.count()
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as outage:
        one.store.primary.close()
        outage.execute("PRAGMA user_version = 99")
        await one.requests(2)
        answer = await one.get("/health/metrics")
        assert answer["requests_recorded"] == 2
        assert "newer otel-monitoring" in answer["incomplete"]
        outage.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS)}")

    async def complete() -> bool:
        return "incomplete" not in await one.get("/health/metrics")

    await eventually_answered(complete, "the store works again")

    await has_counted(other, 2)


async def test_a_callback_that_hangs_keeps_no_request_from_the_others(processes: list[Process]) -> None:
    one, other = processes[:2]
    asked, going_on = threading.Event(), threading.Event()

    def hang(_: CallbackOptions) -> list[Observation]:
        asked.set()
        going_on.wait(60)
        return []

    await one.requests(1)
    one.monitoring.meter.create_observable_gauge("hanging", [hang])
    assert await asyncio.to_thread(asked.wait, 60)
    await one.requests(2, 3)
    await one.monitoring.stop()
    await has_counted(other, 3)
    going_on.set()


async def test_a_store_that_fails_at_the_end_is_tried_once_more(
    processes: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where many processes begin and end at once, and one waits for the file longer than it may."""
    one, other = processes[:2]
    stream, exchange = one.store.primary.measurements, one.monitoring._parts.exchange
    add, finish, failures = stream.add, exchange.finish, ["database is locked"]

    def fail_once(*deltas: Delta) -> None:
        if failures:
            raise StoreError(failures.pop())
        add(*deltas)

    def finish_while_locked(seconds: float) -> None:
        monkeypatch.setattr(stream, "add", fail_once)
        finish(seconds)

    monkeypatch.setattr(exchange, "finish", finish_while_locked)
    await one.requests(1, 2)
    await one.monitoring.stop()
    assert failures == []
    await has_counted(other, 2)


def test_the_answers_are_json(tmp_path: Path) -> None:
    answers = MonitoringService(None)._parts.answers
    for scope in ("service", "instance"):
        for what in ("detailed", "metrics", "diagnostics"):
            json.dumps(answers.answer(what, scope), allow_nan=False)


async def test_whoever_is_asked_has_the_errors_of_all(processes: list[Process]) -> None:
    one, two, three = processes
    await one.requests(5, 5)
    await two.requests(1, 5)
    assert [group["count"] for group in (await two.get("/health/errors"))["errors"]] in ([1], [2], [3])
    await one.get("/health/errors")
    answers = [await process.get("/health/errors") for process in (one, two, three)]
    for answer in answers:
        (group,) = answer["errors"]
        assert (group["type"], group["route"], group["count"]) == ("RuntimeError", "GET /items/{number}", 3)
        assert (group["new"], group["version"]) == (True, "1.2")
        assert "raise RuntimeError" in group["stack"]
        assert answer["scope"] == "service"
