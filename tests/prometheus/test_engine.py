"""`PrometheusEngine`: what is asked when, what is said while there is no answer, and who evaluates then."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs

import pytest

from otel_monitoring.alerts.mute import Mute
from otel_monitoring.alerts.notify.origin import Origin
from otel_monitoring.alerts.rules.defaults import default_rules
from otel_monitoring.alerts.schedule import Once
from otel_monitoring.alerts.selection import Selection
from otel_monitoring.alerts.store import MemoryStore
from otel_monitoring.config.settings import Settings, Thresholds
from otel_monitoring.metrics.outcome import OutcomeClassifier
from otel_monitoring.metrics.window import History
from otel_monitoring.prometheus.engine import PrometheusEngine
from otel_monitoring.runtime.worker import Worker
from otel_monitoring.testing import ManualClock
from tests.http_server import Answer, HttpServer, Request

pytestmark = pytest.mark.anyio

NOW = 1_000_000.0


class Prometheus:
    """It answers while it is `up`, and has values of the rules while `rules` are loaded."""

    def __init__(self) -> None:
        self.up = True
        self.rules = True
        self.processes = True
        self.classic = False
        self.now = NOW
        self.asked: list[str] = []
        self.moments: list[str] = []

    def answer(self, request: Request) -> Answer:
        if not self.up:
            return Answer(503)
        form = parse_qs(request.body.decode())
        (expression,) = form.get("query", [request.path])
        self.asked.append(expression)
        self.moments += form.get("time", ())
        return Answer(body=json.dumps({"data": {"result": self._result(expression)}}).encode())

    def _result(self, expression: str) -> object:
        if expression == "time()":
            return [self.now, str(self.now)]
        if "ALERTS" in expression and self.rules:
            return [{"metric": {"__name__": "otel_monitoring:high_cpu", "job": "orders"}, "value": [NOW, "1"]}]
        if "__name__" in expression and self.classic:
            return [{"metric": {"__name__": "http_server_request_duration_seconds_bucket"}, "value": [NOW, "1"]}]
        if "timestamp(" in expression and self.processes:
            return [{"metric": {"instance": "one"}, "value": [NOW, str(NOW)]}]
        if "histogram_count" in expression or "http_server_request_duration" not in expression:
            return []
        buckets = [[0, "1", "2", "7"]]
        return [{"metric": {"http_route": "/a"}, "histogram": [NOW, {"count": "7", "sum": "9", "buckets": buckets}]}]

    @property
    def views(self) -> int:
        return self.asked.count("time()")


class World:
    """An engine with a clock set by hand, in a process whose background thread has no jobs."""

    def __init__(self, url: str, worker: Worker, **settings: object) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore()
        self.engine = PrometheusEngine(
            Settings.load(prometheus_url=url, sample_interval=10, prometheus_timeout=20, **settings),
            worker=worker,
            resource=lambda: {"service.name": "orders"},
            origin=lambda: Origin("orders"),
            store=lambda: self.store,
            rules=dict,
            own=lambda: History(0.0, span=300, resolution=10),
            units=dict,
            errors=dict,
            last_error=lambda: None,
            leader=lambda: "one",
            classify=OutcomeClassifier(),
            wall_clock=lambda: NOW,
            clock=self.clock,
        )

    @property
    def requests(self) -> int:
        return sum(
            histogram.count for _, histogram in self.engine.history.total.histograms("http.server.request.duration")
        )


@pytest.fixture
def prometheus() -> Prometheus:
    return Prometheus()


@asynccontextmanager
async def world(prometheus: Prometheus, **settings: object) -> AsyncIterator[World]:
    async def nothing(_: float) -> None:
        pass

    worker = Worker(
        (),
        acquire=lambda _: None,
        bind=lambda _: None,
        signalled=lambda: None,
        drain=nothing,
        finish=lambda _: None,
        release=lambda _: None,
        timeout=5,
    )
    with HttpServer(prometheus.answer) as server:
        worker.start(asyncio.get_running_loop())
        try:
            yield World(server.url, worker, **settings)
        finally:
            await worker.stop_soon()


async def test_an_answer_is_asked_for_once_and_kept_for_an_interval(prometheus: Prometheus) -> None:
    async with world(prometheus) as here:
        assert not here.engine.joined
        await here.engine.ask()
        assert prometheus.views == 0, "nobody has wanted an answer"
        await asyncio.gather(*(here.engine.refresh() for _ in range(5)))
        await here.engine.refresh()
        assert (here.engine.joined, here.requests, prometheus.views) == (True, 7, 1)
        here.clock.advance(10)
        await here.engine.refresh()
        assert prometheus.views == 2
        here.clock.advance(31)
        assert not here.engine.joined
        assert "31 s old" in str(here.engine.problem)


async def test_all_processes_ask_for_the_same_moment(prometheus: Prometheus) -> None:
    """The answer of one does not go back behind that of another, which asked later in the same interval."""
    async with world(prometheus) as early, world(prometheus) as late:

        async def pass_and_ask(seconds: float, *asking: World) -> set[str]:
            for each in (early, late):
                each.clock.advance(seconds)
            prometheus.now += seconds
            prometheus.moments.clear()
            for each in asking:
                await each.engine.refresh()
            return set(prometheus.moments)

        first = await pass_and_ask(3, early)
        assert len(first) == 1
        assert await pass_and_ask(9.5, late) == first
        assert await pass_and_ask(0.4, early, late) == set(), "what both have is of this interval"
        views = prometheus.views
        following = await pass_and_ask(0.2, early, late)
        assert (len(following), prometheus.views) == (1, views + 2)
        assert float(*following) - float(*first) == 10


async def test_who_takes_what_is_known_has_the_background_ask(prometheus: Prometheus) -> None:
    async with world(prometheus) as here:
        here.engine.want()
        assert prometheus.views == 0
        await here.engine.ask()
        await here.engine.ask()
        assert (here.engine.joined, prometheus.views) == (True, 1)


async def test_what_begins_and_ends_is_said_once(prometheus: Prometheus, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "otel_monitoring")

    def said(text: str) -> int:
        return sum(text in record.getMessage() for record in caplog.records)

    async with world(prometheus) as here:
        await here.engine.ask()
        await here.engine.refresh()
        prometheus.up = False
        here.clock.advance(11)
        await here.engine.refresh()
        assert here.engine.problem == "Prometheus answered 503"
        for _ in range(3):
            await here.engine.ask()
            asked = len(prometheus.asked)
            await here.engine.refresh()
            assert len(prometheus.asked) == asked, "no answer waits for what is known to be down"
        prometheus.up = True
        await here.engine.ask()
        await here.engine.ask()
        assert here.engine.joined
    assert (said("this process answers for itself"), said("answers again")) == (1, 1)


async def test_without_a_process_of_the_service_it_does_not_answer(
    prometheus: Prometheus, caplog: pytest.LogCaptureFixture
) -> None:
    """As with the header of another tenant, and before the first export: zeros would be no story of the service."""
    prometheus.processes = False
    async with world(prometheus) as here:
        await here.engine.refresh()
        assert not here.engine.joined
        problem = str(here.engine.problem)
        assert problem.startswith('Prometheus has no process of this service, {job="orders"')
        assert here.engine.state()["problem"] == problem
        assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
            f"{problem}; this process answers for itself"
        ]
        prometheus.processes = True
        await here.engine.refresh()
        assert not here.engine.joined, "the background asks"
        await here.engine.ask()
        assert here.engine.joined


async def test_the_processes_evaluate_after_a_minute_without_it(prometheus: Prometheus) -> None:
    async with world(prometheus) as here:
        assert here.engine.evaluates, "it is asked first"
        await here.engine.ask()
        here.clock.advance(3600)
        await here.engine.ask()
        assert here.engine.evaluates
        prometheus.up = False
        await here.engine.ask()
        here.clock.advance(59)
        assert here.engine.evaluates, "it may be starting again"
        here.clock.advance(2)
        assert not here.engine.evaluates
        prometheus.up = True
        await here.engine.ask()
        assert here.engine.evaluates


async def test_a_silence_that_alertmanager_does_not_list_is_made_once(prometheus: Prometheus) -> None:
    made: list[object] = []

    def answer(request: Request) -> Answer:
        if request.method == "POST":
            made.append(json.loads(request.body))
        return Answer(body=b"[]")

    with HttpServer(answer) as alertmanager:
        async with world(prometheus, alertmanager_url=[alertmanager.url]) as here:
            mute = Mute(Selection.of("high_cpu"), NOW + 600)
            here.store.mutes.add(mute)
            window = Mute(Selection.of("high_memory"), NOW + 900, schedule=Once(NOW - 1, NOW + 900))
            here.store.mutes.add(window)
            for _ in range(5):
                await here.engine.ask()
            assert len(made) == 2
            assert here.store.mutes.all(NOW) == [mute, window], "they hold where the store is"
            assert "does not list" in here.engine.state()["mutes_problem"]
            longer = Mute(Selection.of("high_cpu"), NOW + 6000)
            here.store.mutes.add(longer)
            for _ in range(3):
                await here.engine.ask()
            assert len(made) == 3


async def test_values_of_rules_are_asked_in_the_form_of_the_histograms_whoever_asks_first(
    prometheus: Prometheus,
) -> None:
    prometheus.classic = True
    rules = [rule for rule in default_rules(Thresholds()) if rule.name == "high_error_rate"]
    async with world(prometheus) as here:
        await here.engine.refresh_rules(rules)
        asked = [expression for expression in prometheus.asked if "increase(" in expression]
    assert asked
    assert all("histogram_count" not in expression for expression in asked)


async def test_the_processes_evaluate_where_the_rules_are_not_loaded(prometheus: Prometheus) -> None:
    prometheus.rules = False
    async with world(prometheus) as here:
        await here.engine.ask()
        assert here.engine.evaluates
        here.clock.advance(301)
        await here.engine.ask()
        assert not here.engine.evaluates
        assert "export prometheus" in here.engine.state()["problem"]
        prometheus.rules = True
        await here.engine.ask()
        assert here.engine.evaluates
        assert here.engine.state()["problem"] is None
