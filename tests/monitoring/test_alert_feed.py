"""A store that hangs delays alerts, and neither samples nor checks nor answers nor the stop."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from opentelemetry.metrics import Observation

from otel_monitoring import MonitoringService
from otel_monitoring.alerts import AlertManager, Gauge, Rule
from otel_monitoring.alerts.store import Store
from otel_monitoring.monitoring import alert_feed
from otel_monitoring.runtime import single_flight
from otel_monitoring.testing import MemoryChannel
from tests.alerts.store.test_store import KINDS
from tests.asgi import served
from tests.waiting import PATIENCE, eventually_answered, eventually_here

pytestmark = pytest.mark.anyio

STORES = ["memory", "sqlite", pytest.param("nx-27017", marks=pytest.mark.integration)]


class Gated:
    """A store, or a part of one, whose every call waits until the gate is open."""

    def __init__(self, behind: Any, gate: threading.Event) -> None:
        self._behind = behind
        self._gate = gate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._behind, name)
        if not callable(found):
            return found if found is None or isinstance(found, str | float | int) else Gated(found, self._gate)

        def call(*arguments: Any, **options: Any) -> Any:
            assert self._gate.wait(PATIENCE)
            return found(*arguments, **options)

        return call


class Served:
    """An application whose rule fires at a heat above ten."""

    def __init__(self, store: Store) -> None:
        self.store, self.gate, self.channel = store, threading.Event(), MemoryChannel()
        self.gate.set()
        gated: Any = Gated(store, self.gate)
        self.manager = AlertManager(channels=[self.channel], store=gated)
        self.heat = 0.0
        self.checks = 0
        self.app = FastAPI(title="orders")
        self.monitoring = MonitoringService(
            None,
            access="open",
            sample_interval=0.05,
            check_interval=0.05,
            shutdown_timeout=2,
            alert_manager=self.manager,
        )
        self.monitoring.add_rule(Rule("hot", Gauge("heat"), ">", 10))
        self.monitoring.add_check("counted", self._check)
        self.monitoring.instrument(self.app)
        self.monitoring.meter.create_observable_gauge("heat", [lambda _: [Observation(self.heat)]])

        @self.app.get("/items")
        async def items() -> int:
            return 1

    def _check(self) -> None:
        self.checks += 1

    @property
    def samples(self) -> int:
        return len(self.monitoring.system_metrics.recent(10_000))

    def told(self) -> list[tuple[str, str]]:
        return [(event.rule, event.status.value) for event in self.channel.alerts if event.rule == "hot"]


@pytest.fixture(params=STORES)
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    store = KINDS[request.param](tmp_path)
    made = Served(store)
    yield made
    made.gate.set()
    store.close()


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single_flight, "SLOW_SECONDS", 0.01)
    monkeypatch.setattr(alert_feed, "_SLOW_SECONDS", 0.1)


async def test_while_the_store_hangs_everything_else_goes_on_and_an_alert_comes_once(
    shop: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(shop.app) as http:

        async def answer(path: str) -> Any:
            return (await http.get(f"/api{path}")).raise_for_status().json()

        await eventually_here(lambda: shop.monitoring._parts.alerting.leads)
        shop.gate.clear()
        hangs_since = time.monotonic()
        shop.heat = 11.0
        samples, checks = shop.samples, shop.checks
        evaluations = shop.monitoring._parts.alerting._evaluations
        before = evaluations.skipped
        await eventually_here(lambda: shop.samples > samples + 5 and shop.checks > checks + 5)
        await eventually_here(lambda: evaluations.skipped > before + 5)
        muting = asyncio.ensure_future(http.post("/api/alerts/mutes", json={"type": "billing_failure"}))
        for path in ("/health", "/health/ready", "/health/metrics", "/health/detailed"):
            await answer(path)
        said = (await answer("/health/diagnostics"))["alerting"]["store_problem"]
        assert said.startswith("the store has not answered within "), said
        assert shop.told() == []
        assert not muting.done()
        shop.gate.set()
        # However slow this machine is, nothing takes as long any more as what hung.
        monkeypatch.setattr(alert_feed, "_SLOW_SECONDS", time.monotonic() - hangs_since)
        monkeypatch.setattr(single_flight, "SLOW_SECONDS", PATIENCE)
        await eventually_here(lambda: shop.told() == [("hot", "firing")])
        assert (await muting).status_code == 201
        assert [mute["type"] for mute in await answer("/alerts/mutes")] == ["billing_failure"]
        shop.heat = 1.0
        await eventually_here(lambda: len(shop.told()) > 1)
        assert shop.told() == [("hot", "firing"), ("hot", "resolved")]

        async def is_quick() -> bool:
            return (await answer("/health/diagnostics"))["alerting"]["store_problem"] is None

        await eventually_answered(is_quick)


async def test_a_stop_waits_for_no_store_that_hangs_and_loses_nothing(shop: Served) -> None:
    async with served(shop.app):
        await eventually_here(lambda: shop.monitoring._parts.alerting.leads)
        shop.channel.error = ConnectionError("no route")
        assert await shop.manager.send_alert("billing_failure", "nobody pays")
        shop.gate.clear()
    assert not shop.monitoring._worker.running, "although the store hangs"
    shop.gate.set()
    assert shop.store.outbox.backlog() == {shop.channel.name: 1}
    await eventually_here(lambda: shop.store.leases.holders(shop.manager.clock()) == {})


async def test_an_alert_is_due_at_once_where_the_store_answers(shop: Served) -> None:
    async with served(shop.app):
        await eventually_here(lambda: shop.monitoring._parts.alerting.leads)
        assert await shop.manager.send_alert("billing_failure", "nobody pays")
        await eventually_here(lambda: [event.message for event in shop.channel.alerts] == ["nobody pays"])
        assert shop.monitoring._parts.alerting.stuck(0.0) is None
