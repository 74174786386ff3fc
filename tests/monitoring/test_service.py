"""`MonitoringService` in process: whose providers are used, restarts, and what is asked before the start."""

import asyncio
import logging
import threading
import time
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_monitoring import MonitoringService
from otel_monitoring.alerts import AlertManager, Gauge, Rule
from otel_monitoring.alerts.store import MemoryStore
from otel_monitoring.config.settings import Thresholds
from otel_monitoring.errors import InstrumentationError
from otel_monitoring.guard import fail_open
from otel_monitoring.monitoring import get_monitoring
from otel_monitoring.runtime.background import Job
from otel_monitoring.runtime.blocking_thread import BlockingJob
from otel_monitoring.runtime.process_exit import stop_all
from otel_monitoring.runtime.worker import Worker
from otel_monitoring.testing import MemoryChannel
from tests.asgi import TIMEOUT, served
from tests.measured import metrics_of
from tests.waiting import eventually_here

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No provider that another test of this process made global and that would be joined."""
    monkeypatch.setattr("opentelemetry.metrics.get_meter_provider", NoOpMeterProvider)


ANYTHING = Thresholds(cpu_percent=100, memory_percent=100, event_loop_lag_ms=60_000)
"""What else the machine does decides no status."""


def refuse(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


async def test_the_application_starts_where_no_thread_can(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = FastAPI()
    caplog.set_level(logging.INFO, "otel_monitoring")
    monitoring = MonitoringService(None, access="open", thresholds=ANYTHING).instrument(app)
    async with AsyncExitStack() as serving:
        with monkeypatch.context() as full:
            full.setattr(threading.Thread, "start", refuse)
            http = await serving.enter_async_context(served(app))
            assert (await http.get("/api/health/ready")).status_code == 200, "traffic is welcome"
            detailed = (await http.get("/api/health/detailed")).json()
        assert detailed["status"] == "degraded"
        assert detailed["reasons"] == ["the monitoring has not started: RuntimeError: can't start new thread"]
        assert " is monitored: " not in caplog.text
        monitoring._start_again(implicit=False)
        assert (await http.get("/api/health")).json()["status"] == "healthy"
        assert " is monitored: " in caplog.text
    assert not monitoring.ready


async def test_the_application_stops_where_no_thread_can(monkeypatch: pytest.MonkeyPatch) -> None:
    app = FastAPI()
    monitoring = MonitoringService(None).instrument(app)
    with monkeypatch.context() as full:
        async with served(app) as http:
            assert (await http.get("/api/health/ready")).status_code == 200
            full.setattr(threading.Thread, "start", refuse)
    assert fail_open.failures["stopping"] == 1
    assert not monitoring.ready
    stop_all()  # as the end of the process does
    assert not monitoring._worker.running


async def test_a_start_that_waited_for_a_stop_may_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    stopping, going_on = threading.Event(), threading.Event()
    starts: list[ExitStack] = []

    def acquire(stack: ExitStack) -> None:
        starts.append(stack)
        if len(starts) > 1:
            raise RuntimeError("can't start new thread")

    def release(seconds: float) -> None:
        stopping.set()
        assert going_on.wait(TIMEOUT)

    async def drain(seconds: float) -> None: ...

    monkeypatch.setattr("otel_monitoring.runtime.worker._PATIENCE", 0.0)
    worker = Worker(
        (),
        acquire=acquire,
        bind=lambda _: None,
        signalled=lambda: None,
        drain=drain,
        finish=lambda _: None,
        release=release,
        timeout=TIMEOUT,
    )
    worker.start(asyncio.get_running_loop())
    stop = asyncio.ensure_future(asyncio.to_thread(worker.stop))
    assert await asyncio.to_thread(stopping.wait, TIMEOUT)
    assert not worker.start(asyncio.get_running_loop()), "the stop goes on to it"
    going_on.set()
    await stop
    assert (len(starts), worker.failure) == (2, "RuntimeError: can't start new thread")


async def test_a_job_that_blocks_delays_neither_others_nor_the_stop() -> None:
    blocked, going_on, counted = threading.Event(), threading.Event(), threading.Event()

    def blocks() -> None:
        blocked.set()
        assert going_on.wait(TIMEOUT)

    async def counts() -> None:
        if blocked.is_set():
            counted.set()

    async def drain(seconds: float) -> None: ...

    worker = Worker(
        (Job("counts", 0.001, counts),),
        blocking=BlockingJob("blocks", 0.001, blocks),
        acquire=lambda _: None,
        bind=lambda _: None,
        signalled=lambda: None,
        drain=drain,
        finish=lambda _: None,
        release=lambda _: None,
        timeout=0.1,
    )
    assert not worker.wake()
    worker.start(asyncio.get_running_loop())
    assert await asyncio.to_thread(counted.wait, TIMEOUT)
    assert worker.troubles(time.monotonic()) == []
    assert worker.troubles(time.monotonic() + 100)[-1].startswith("blocks: no run has ended for ")
    assert worker.wake()
    await asyncio.to_thread(worker.stop)
    assert not worker.running
    assert not worker.wake()
    going_on.set()


async def test_stop_and_start_are_idempotent_and_counting_goes_on() -> None:
    monitoring = MonitoringService(None)
    await monitoring.stop()
    await monitoring.start()
    await monitoring.start()
    await monitoring.performance_metrics.record_request("/a", 0.1)
    assert (await monitoring.performance_metrics.get_summary())["requests_recorded"] == 1
    await monitoring.stop()
    await monitoring.stop()
    assert not monitoring.ready
    await monitoring.start()
    await monitoring.performance_metrics.record_request("/a", 0.1)
    assert (await monitoring.performance_metrics.get_summary())["requests_recorded"] == 2
    await monitoring.stop()


async def test_before_the_start_every_answer_exists() -> None:
    monitoring = MonitoringService(None, thresholds=ANYTHING)
    health = await monitoring.get_health_status()
    assert (health["status"], health["uptime_seconds"]) == ("healthy", 0)
    assert (await monitoring.get_detailed_diagnostics())["endpoints"] == {}
    assert not monitoring.ready


async def test_draining_makes_it_not_ready_and_leaves_it_running() -> None:
    monitoring = MonitoringService(None, thresholds=ANYTHING)
    await monitoring.start()
    assert monitoring.ready
    monitoring.drain()
    assert not monitoring.ready
    assert (await monitoring.get_health_status())["status"] == "healthy"
    await monitoring.stop()


async def test_services_of_one_process_do_not_count_each_others_requests() -> None:
    one, two = MonitoringService(None), MonitoringService(None)
    await one.start()
    await two.start()
    await one.performance_metrics.record_request("/a", 0.1)
    assert (await one.performance_metrics.get_summary())["requests_recorded"] == 1
    assert (await two.performance_metrics.get_summary())["requests_recorded"] == 0
    await one.stop()
    await two.stop()


def test_instrument_makes_it_the_processs_service() -> None:
    monitoring = MonitoringService(None).instrument(FastAPI())
    assert get_monitoring() is monitoring


async def test_a_meter_provider_chosen_for_the_application_is_read() -> None:
    pytest.importorskip("fastapi.telemetry", reason="this FastAPI has no telemetry of its own")
    import httpx

    reader = InMemoryMetricReader()
    chosen = MeterProvider([reader], shutdown_on_exit=False)
    app = FastAPI(telemetry={"meter_provider": chosen})

    @app.get("/a")
    async def a() -> str:
        return "a"

    monitoring = MonitoringService(None).instrument(app)
    await monitoring.start()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        await client.get("/a")
    summary = await monitoring.performance_metrics.get_summary()
    await monitoring.stop()
    assert summary["requests_recorded"] == 1
    data = reader.get_metrics_data()
    assert data is not None
    names = {m.name for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics}
    assert {"http.server.request.duration", "process.cpu.utilization"} <= names


async def test_an_exporter_that_is_added_while_requests_run_gets_every_further_one() -> None:
    import httpx

    app = FastAPI()
    inside, go_on = asyncio.Event(), asyncio.Event()

    @app.get("/slow")
    async def slow() -> None:
        inside.set()
        await go_on.wait()

    monitoring = MonitoringService(None, store="memory").instrument(app)
    provider = monitoring._parts.telemetry.meter_provider
    assert isinstance(provider, MeterProvider)
    await monitoring.start()
    reader = InMemoryMetricReader()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        await client.get("/nowhere")
        under_way = asyncio.create_task(client.get("/slow"))
        await inside.wait()
        provider.add_metric_reader(reader)
        (active,) = [metric for metric in metrics_of(reader) if metric.name == "http.server.active_requests"]
        assert [point.value for point in active.data.data_points] == [1]  # type: ignore[union-attr]
        await client.get("/nowhere")
        await monitoring.performance_metrics.record_request("/job", 0.1)
        go_on.set()
        await under_way
        found = {metric.name: metric.data.data_points for metric in metrics_of(reader)}
        provider.remove_metric_reader(reader)
        await client.get("/nowhere")
    summary = await monitoring.performance_metrics.get_summary()
    await monitoring.stop()
    assert summary["requests_recorded"] == 5
    exported: list[Any] = list(found["http.server.request.duration"])
    counts = {point.attributes.get("http.route"): point.count for point in exported}
    assert counts == {None: 1, "/slow": 1, "/job": 1}
    assert [point.value for point in found["http.server.active_requests"]] == [0]  # type: ignore[union-attr]


class Pinged:
    """A database that says when it is pinged, and is closed in mid service."""

    name = "shop"

    def __init__(self) -> None:
        self.pings = 0
        self.closed = False
        self._changed = threading.Condition()

    def command(self, name: str) -> None:
        with self._changed:
            self.pings += 1
            self._changed.notify_all()
        if self.closed:
            raise ConnectionError("refused")

    def wait(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.pings >= count, 30)


async def test_from_the_drain_on_nothing_is_pinged_checked_or_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    database = Pinged()
    checked: list[bool] = []

    def queue() -> bool:
        checked.append(not database.closed)
        return checked[-1]

    manager = AlertManager(channels=[], store=MemoryStore())
    monitoring = MonitoringService(database, check_interval=0.05, alert_manager=manager)
    monitoring.add_check("queue", queue, critical=True)
    await monitoring.start()
    await asyncio.to_thread(database.wait, 3)
    monitoring.drain()
    database.closed = True
    seen = database.pings, len(checked)
    parts = monitoring._parts
    for job in (parts.check_database, parts.run_checks, parts.sample) * 3:
        await monitoring._worker.call(job, 30)
    # What was under way at that moment may still end, once.
    assert database.pings <= seen[0] + 1
    assert len(checked) <= seen[1] + 1
    health = await monitoring.get_health_status()
    assert (health["status"], health["database"]["status"]) == ("healthy", "healthy")
    await monitoring.stop()
    assert await manager.get_alert_history() == []

    database.closed = False
    await monitoring.start()
    assert monitoring.ready
    await asyncio.to_thread(database.wait, seen[0] + 2)
    await monitoring.stop()


async def test_a_start_ends_a_drain() -> None:
    database = Pinged()
    monitoring = MonitoringService(
        database, check_interval=0.05, alert_manager=AlertManager(channels=[], store=MemoryStore())
    )
    await monitoring.start()
    monitoring.drain()
    assert not monitoring.ready
    await monitoring.start()
    assert monitoring.ready
    await asyncio.to_thread(database.wait, database.pings + 3)
    database.closed = True
    await eventually_here(lambda: monitoring.basic_health()["status"] == "unhealthy")
    await monitoring.stop()


async def test_an_alert_of_the_application_leaves_while_it_drains() -> None:
    channel = MemoryChannel()
    manager = AlertManager(channels=[channel], store=MemoryStore())
    monitoring = MonitoringService(None, alert_manager=manager)
    await monitoring.start()
    monitoring.drain()
    assert await monitoring.add_alert("billing_failure", "card declined", "critical")
    await channel.arrived()
    await monitoring.stop()


async def test_a_failing_check_is_an_alert_and_a_reason_with_its_error() -> None:
    manager = AlertManager(channels=[], store=MemoryStore())
    monitoring = MonitoringService(None, check_interval=0.05, alert_manager=manager)
    failing = [True]

    def payments() -> None:
        if failing[0]:
            raise SystemExit("psp://user:hunter2@pay refused")

    async def cache() -> bool:
        return not failing[0]

    monitoring.add_check("payments", payments, critical=True)
    monitoring.add_check("cache", cache)
    await monitoring.start()
    health = await monitoring.get_health_status()
    assert health["status"] == "unhealthy"
    assert health["reasons"] == [
        "check payments fails: SystemExit: psp://[REDACTED]@pay refused",
        "check cache fails: the check returned False",
    ]
    await eventually_here(lambda: len(manager.recent()) == 2)
    told = {alert["labels"]["check"]: alert for alert in manager.recent()}
    assert {name: (alert["type"], alert["severity"]) for name, alert in told.items()} == {
        "payments": ("check_failed", "critical"),
        "cache": ("check_failed", "warning"),
    }
    assert told["payments"]["details"]["error"] == "SystemExit: psp://[REDACTED]@pay refused"
    failing[0] = False
    await eventually_here(lambda: len(manager.recent()) == 4)
    assert {alert["status"] for alert in manager.recent()[:2]} == {"resolved"}
    await monitoring.stop()


async def test_a_watch_thread_that_has_ended_shows_in_the_health() -> None:
    monitoring = MonitoringService(None)
    await monitoring.start()
    background = monitoring._worker._background
    assert background is not None
    assert background.stop(30)
    health = await monitoring.get_health_status()
    assert health["status"] == "degraded"
    assert health["reasons"] == ["the background thread has ended: nothing is measured or checked any more"]
    await monitoring.stop()


async def test_uptime_does_not_follow_a_clock_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monitoring = MonitoringService(None)
    await monitoring.start()
    wrong = time.time() - 7200
    monkeypatch.setattr("otel_monitoring.endpoints.answers.time.time", lambda: wrong)
    assert 0 <= monitoring.basic_health()["uptime_seconds"] < 60
    monkeypatch.undo()
    await monitoring.stop()


@pytest.mark.parametrize("app", [None, "main:app", APIRouter(), FastAPI], ids=lambda app: type(app).__name__)
def test_what_is_no_application_is_refused_before_anything_is_done(app: Any) -> None:
    monitoring = MonitoringService(None)
    with pytest.raises(InstrumentationError, match="needs the FastAPI application itself"):
        monitoring.instrument(app)
    monitoring.instrument(FastAPI())


USAGE = "process.memory.usage"


async def test_a_rule_on_an_up_down_counter_of_ours_has_its_values() -> None:
    app, channel = FastAPI(), MemoryChannel()
    manager = AlertManager(channels=[channel], store=MemoryStore())
    monitoring = MonitoringService(None, alert_manager=manager, sample_interval=0.05).instrument(app)
    monitoring.add_rule(Rule("resident", Gauge(USAGE, unit="By"), ">", 0, "resident: {value:.0f} bytes"))
    async with served(app):
        await eventually_here(lambda: "resident: " in repr(channel.alerts))


async def test_a_rule_that_comes_too_late_for_its_metric_is_told(caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI()
    monitoring = MonitoringService(None, sample_interval=0.05).instrument(app)
    async with served(app):
        await eventually_here(lambda: USAGE in monitoring._parts.aggregator.reader._up_and_down.dropped)
        monitoring.add_rule(Rule("resident", Gauge(USAGE, unit="By"), ">", 0, "{value:.0f} bytes"))
        monitoring.add_rule(Rule("mine", Gauge("orders.waiting"), ">", 0, "{value:.0f} wait"))
    said = f"rule resident: add it before the service starts; until a restart it has no {USAGE}"
    assert [line for line in caplog.messages if line.startswith("rule ")] == [said]
