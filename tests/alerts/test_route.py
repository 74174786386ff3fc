"""Routes: which alerts go to which channel, and what is escalated while nobody acknowledges it."""

from collections.abc import Callable
from typing import Any

import pytest

from otel_monitoring.alerts import AlertManager, AlertSeverity, AlertType, Gauge, Route, Rule
from otel_monitoring.alerts.evaluation.escalation import escalate
from otel_monitoring.alerts.evaluation.worker_report import WorkerReport
from otel_monitoring.alerts.evaluator import Evaluator
from otel_monitoring.alerts.mute import Mute
from otel_monitoring.alerts.route import check_channels, routes_of
from otel_monitoring.alerts.selection import Selection
from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.metrics.snapshot import Snapshot
from otel_monitoring.metrics.window import Window
from otel_monitoring.testing import ManualClock, MemoryChannel
from tests.alerts.evaluation.test_acknowledgement import acknowledge_by
from tests.alerts.evaluation.test_transitions import DOWN, HOT, Watcher

pytestmark = pytest.mark.anyio


class Routed(Watcher):
    """A watcher with two channels and routes."""

    def __init__(self, *routes: Route) -> None:
        super().__init__(DOWN, HOT)
        self.policy = self.policy._replace(channels=("mail", "pager"), routes=routes)

    def on(self, channel: str) -> list[str]:
        return [
            f"{entry.event.type.value} {entry.event.status.value}" for entry in self.store.outbox.pending(channel, 100)
        ]


def test_a_channel_with_routes_gets_what_one_of_them_selects_and_its_end() -> None:
    watcher = Routed(Route("pager", severities="critical"), Route("pager", rules=["hot"], labels={"room": "1"}))
    watcher.see(up=0, heat=11)
    watcher.see(up=1, heat=1)
    assert watcher.on("mail") == ["database_down firing", "custom firing", "database_down resolved", "custom resolved"]
    assert watcher.on("pager") == ["database_down firing", "database_down resolved"]
    assert [sorted(event.channels) for event in watcher.history] == [["mail"], ["mail", "pager"]] * 2


def test_further_channels_are_notified_while_nobody_acknowledges_it_and_of_its_end() -> None:
    watcher = Routed(Route("pager", severities=["critical"], after=900))
    watcher.see(up=0, heat=11)
    watcher.see(890, up=0, heat=11)
    assert watcher.on("pager") == []
    watcher.see(10, up=0, heat=11)
    assert watcher.on("pager") == ["database_down firing"]
    (entry,) = watcher.store.outbox.pending("pager", 9)
    assert entry.event.details["unacknowledged_seconds"] == 900
    watcher.see(900, up=0, heat=11)
    assert watcher.on("pager") == ["database_down firing"], "once"
    assert watcher.on("mail") == ["database_down firing", "custom firing"], "those that have it are not told again"
    watcher.see(up=1, heat=11)
    assert watcher.on("pager") == ["database_down firing", "database_down resolved"]


def test_one_that_is_acknowledged_or_ends_in_time_is_not_escalated() -> None:
    for in_time in ("acknowledge", "end"):
        watcher = Routed(Route("pager", after=900))
        watcher.see(up=0)
        if in_time == "acknowledge":
            acknowledge_by(watcher, "ana")
            watcher.see(3000, up=0)
        watcher.see(up=1)
        assert watcher.on("pager") == [], in_time


def test_a_mute_stops_an_escalation_until_it_ends() -> None:
    watcher = Routed(Route("pager", after=900))
    watcher.see(up=0)
    watcher.store.mutes.add(Mute(Selection(), watcher.now + 2000))
    watcher.see(1500, up=0)
    assert watcher.on("pager") == []
    watcher.see(500, up=0)
    assert watcher.on("pager") == ["database_down firing"]


def test_a_channel_that_appears_later_is_not_told_as_an_escalation() -> None:
    watcher = Routed(Route("pager", severities="critical"))
    watcher.policy = watcher.policy._replace(channels=("mail",))
    watcher.see(up=0)
    watcher.policy = watcher.policy._replace(channels=("mail", "pager"))
    watcher.see(up=0)
    assert watcher.on("pager") == []


async def test_an_applications_alerts_are_routed_and_escalated_too() -> None:
    clock = ManualClock()
    mail, pager = MemoryChannel("mail"), MemoryChannel("pager")
    manager = AlertManager(channels=[mail, pager], clock=clock, elapsed=clock)
    manager.add_route(Route("pager", severities="critical", after=600))
    manager.add_route(Route("pager", labels={"team": "billing"}))
    await manager.send_alert("order_stuck", "7 wait", "critical")
    await manager.send_alert("order_stuck", "8 wait", "critical", dedup_key="acknowledged")
    await manager.send_alert("order_stuck", "9 wait", labels={"team": "billing"})
    assert [event.message for event in mail.alerts] == ["7 wait", "8 wait", "9 wait"]
    assert [event.message for event in pager.alerts] == ["9 wait"]
    await manager.acknowledge(mail.alerts[1].incident, author="ana")
    report = WorkerReport(Window(Snapshot(0, 300)))
    evaluator = Evaluator(manager, "worker", lambda: report, 10)
    for seconds in (590, 10, 10):
        clock.advance(seconds)
        evaluator.tick()
        await manager.delivery.flush(30)
    assert [event.message for event in pager.alerts] == ["9 wait", "7 wait"]
    assert pager.alerts[-1].details == {"unacknowledged_seconds": 600}
    manager.hand_over = lambda: True  # a service delivers in the background
    await manager.acknowledge(mail.alerts[0].incident, author="bo")
    evaluator.deliver()
    await manager.delivery.flush(30)
    assert [event.status.value for event in pager.alerts] == ["firing", "firing", "acknowledged"], "all that have it"
    await manager.acknowledge(mail.alerts[0].incident, author="cy")
    clock.advance(60)
    evaluator.deliver()
    await manager.delivery.flush(30)
    assert pager.alerts[-1].acknowledged is not None
    assert pager.alerts[-1].acknowledged.author == "cy", "who has it is told each time"
    assert await manager.take_back_acknowledgement(mail.alerts[0].incident)
    assert await manager.take_back_acknowledgement(mail.alerts[1].incident)
    pager.clear()
    clock.advance(60)
    evaluator.tick()
    await manager.delivery.flush(30)
    assert [event.message for event in pager.alerts] == ["8 wait"], "nobody takes care of it any more"
    clock.advance(86_401)
    evaluator.tick()
    assert not [key for key in manager.store.acknowledgements.saved() if key.startswith("waiting:")]


def test_what_cannot_be_read_is_forgotten() -> None:
    watcher = Routed(Route("pager", after=900))
    watcher.store.acknowledgements.save({"waiting:a": "{"})
    assert escalate(watcher.store, watcher.policy, watcher.now) == []
    assert watcher.store.acknowledgements.saved() == {}


def test_routes_are_read_from_a_text() -> None:
    text = "mail severity=critical|error; slack team=checkout type=custom\npager rule=backlog after=15m 'at=New York'"
    assert routes_of(text) == (
        Route("mail", severities=["critical", "error"], types=[], rules=[]),
        Route("slack", severities=[], types=["custom"], rules=[], labels={"team": "checkout"}),
        Route("pager", severities=[], types=[], rules=["backlog"], labels={"at": "New York"}, after=900.0),
    )
    assert routes_of(" ; ") == ()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: routes_of("email severity=fatal"), "ALERT_ROUTES: email: severities: .*critical"),
        (lambda: routes_of("email critical"), "ALERT_ROUTES: email: words are as severity=critical"),
        (lambda: routes_of("email after=soon"), "ALERT_ROUTES: email: after must be as 90, 15m or 2h"),
        (lambda: routes_of("email type=No"), "ALERT_ROUTES: email: types: "),
        (lambda: routes_of("email 'x=1"), "ALERT_ROUTES: "),
        (lambda: Route("", severities="critical"), "channel: "),
        (lambda: Route("email", after=-1), "after: "),
        (lambda: Route("email", severities="urgent"), "severities: "),
        (
            lambda: check_channels([Route("emial")], ["email", "slack"]),
            "ALERT_ROUTES: there is no channel emial; did",
        ),
        (
            lambda: check_channels([Route("pager")], ["email"]),
            "ALERT_ROUTES: there is no channel pager: there",
        ),
        (lambda: AlertManager(channels=[]).add_route(Route("x")), "ALERT_ROUTES: there is no channel x"),
        (
            lambda: AlertManager(settings=Settings.load(alert_routes="slack severity=critical")),
            "ALERT_ROUTES: there is no channel slack: there are none",
        ),
        (
            lambda: AlertManager(settings=Settings.load(alert_routes="log severity=critical")),
            "ALERT_ROUTES: there is no channel log",
        ),
    ],
)
def test_a_route_that_cannot_work_is_refused_by_name(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{message}"):
        make()


def test_the_severity_of_a_route_may_be_a_member() -> None:
    assert Route("x", severities=[AlertSeverity.ERROR]).selection == Route("x", severities="error").selection


@pytest.mark.parametrize(
    ("route", "warning"),
    [
        (
            Route("pager", types="billing_failur"),
            "ALERT_ROUTES: pager: there is no type billing_failur; did you mean bill",
        ),
        (
            Route("pager", rules=["high_cpu", "backlogg"]),
            "ALERT_ROUTES: pager: there is no rule backlogg; did you mean b",
        ),
        (Route("pager", types="queue_full", rules="backlog"), ""),
        (Route("pager", types="something_of_our_own"), ""),
    ],
)
def test_what_is_probably_misspelled_is_warned_of_at_the_start(
    route: Route, warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A channel whose routes select nothing gets nothing, and nobody notices."""
    manager = AlertManager(channels=[MemoryChannel("pager")])
    manager.add_route(route)
    manager.add_rule(Rule("backlog", Gauge("orders.waiting"), ">", 100, type=AlertType("queue_full")))
    Evaluator(manager, "worker", lambda: WorkerReport(Window(Snapshot(0, 300))), 10)
    assert (warning in caplog.text) if warning else not caplog.records
