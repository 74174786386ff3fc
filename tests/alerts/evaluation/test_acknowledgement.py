"""Acknowledging: who takes care of an alert, what is repeated, and who is told."""

import json
from dataclasses import replace

import pytest

from otel_monitoring.alerts import AlertManager, AlertSeverity
from otel_monitoring.alerts.evaluation.acknowledgement import acknowledge, acknowledged, take_back
from otel_monitoring.alerts.evaluation.incident import saved_incidents
from otel_monitoring.alerts.model import Acknowledgement, AlertEvent
from otel_monitoring.alerts.mute import Mute
from otel_monitoring.alerts.notify.channels import text
from otel_monitoring.alerts.notify.channels.log import LogChannel
from otel_monitoring.alerts.overview import firing
from otel_monitoring.alerts.schedule import Once
from otel_monitoring.alerts.selection import Selection
from otel_monitoring.alerts.store import MemoryStore
from otel_monitoring.alerts.store.texts import BESIDE
from otel_monitoring.testing import ManualClock, MemoryChannel
from tests.alerts.evaluation.test_transitions import DOWN, HOT, Watcher

pytestmark = pytest.mark.anyio


def acknowledge_by(watcher: Watcher, author: str, reason: str = "") -> AlertEvent | None:
    (incident,) = (one for one in saved_incidents(watcher.store.incidents) if one.firing)
    by = Acknowledgement(watcher.now, author, reason)
    rules = {rule.name: rule for rule in watcher.rules}
    return watcher.store.run(lambda store: acknowledge(store, incident.id, by, rules, watcher.policy))


def test_an_acknowledged_alert_is_not_repeated_and_its_channels_are_told_who_and_why() -> None:
    watcher = Watcher(DOWN)
    watcher.see(up=0)
    assert acknowledge_by(watcher, "ana", "failing over") is not None
    watcher.see(3 * watcher.policy.repeat_interval, up=0)
    watcher.see(up=1)
    assert watcher.told == [
        ("database_down", "firing"),
        ("database_down", "acknowledged"),
        ("database_down", "resolved"),
    ]
    said = watcher.sent[1]
    assert said.incident == watcher.sent[0].incident
    assert dict(text.facts(said))["Acknowledged"] == "by ana: failing over"
    assert text.headline(said) == "CRITICAL DATABASE_DOWN acknowledged: Database connection lost"
    assert sum(watcher.store.history.counts().values()) == 1, "it is one alert"
    watcher.see(86_401, up=1)
    assert watcher.store.acknowledgements.saved() == {}, "nothing is kept of what is over for long"


def test_who_answers_to_what_a_host_told_that_was_apart_acknowledges_the_alert() -> None:
    watcher, apart = Watcher(DOWN), Watcher(DOWN)
    watcher.see(up=0)
    apart.see(20, up=0)
    [(key, told)] = apart.store.incidents.saved().items()
    watcher.store.incidents.save({f"{key}{BESIDE}1": told})
    by, rules = Acknowledgement(watcher.now, "ana"), {DOWN.name: DOWN}
    event = watcher.store.run(lambda store: acknowledge(store, apart.sent[0].incident, by, rules, watcher.policy))
    assert event is not None
    assert event.incident == watcher.sent[0].incident
    assert watcher.see(watcher.policy.repeat_interval, up=0) == []
    assert watcher.store.run(lambda store: take_back(store, apart.sent[0].incident))
    assert watcher.store.acknowledgements.saved() == {}


def test_the_next_incident_is_told_and_repeated_again() -> None:
    watcher = Watcher(DOWN)
    watcher.see(up=0)
    acknowledge_by(watcher, "ana")
    watcher.see(up=1)
    watcher.see(3600, up=0)
    watcher.see(watcher.policy.repeat_interval, up=0)
    assert [status for _, status in watcher.told] == ["firing", "acknowledged", "resolved", "firing", "firing"]


def test_one_that_flaps_is_not_told_again_while_somebody_takes_care_of_it() -> None:
    watcher = Watcher(HOT)
    for _ in range(2):
        watcher.see(heat=11)
        watcher.see(heat=1)
    watcher.see(heat=11)  # flapping from here on
    acknowledge_by(watcher, "ana")
    for _ in range(5):
        watcher.see(heat=1)
        watcher.see(heat=11)
    assert [status for _, status in watcher.told][-2:] == ["firing", "acknowledged"]


def test_it_is_shown_where_it_fires_until_it_is_taken_back() -> None:
    watcher = Watcher(DOWN)
    watcher.see(up=0)
    acknowledge_by(watcher, "ana", "on it")
    rules = {rule.name: rule for rule in watcher.rules}
    known = acknowledged(watcher.store.acknowledgements)
    (alert,) = firing(saved_incidents(watcher.store.incidents), rules, known)
    assert (alert["acknowledged"]["author"], alert["acknowledged"]["reason"]) == ("ana", "on it")
    assert watcher.store.run(lambda store: take_back(store, alert["incident"]))
    assert not watcher.store.run(lambda store: take_back(store, alert["incident"]))
    assert "acknowledged" not in firing(saved_incidents(watcher.store.incidents), rules, {})[0]
    watcher.see(watcher.policy.repeat_interval, up=0)
    assert [status for _, status in watcher.told] == ["firing", "acknowledged", "firing"]


def test_the_same_twice_is_told_once_and_another_person_again() -> None:
    watcher = Watcher(DOWN)
    watcher.see(up=0)
    for author in ("ana", "ana", "bo"):
        acknowledge_by(watcher, author)
    assert [event.acknowledged and event.acknowledged.author for event in watcher.sent] == [None, "ana", "bo"]


def test_what_nobody_was_told_of_is_acknowledged_without_a_word() -> None:
    watcher = Watcher(DOWN)
    mute = Mute(Selection(), watcher.now + 100)
    watcher.store.mutes.add(mute)
    watcher.see(up=0)
    acknowledge_by(watcher, "ana")
    assert watcher.told == []
    watcher.see(100, up=0)
    assert watcher.told == [("database_down", "firing")], "nobody was told: somebody should be"
    watcher.see(watcher.policy.repeat_interval, up=0)
    assert len(watcher.told) == 1


def test_one_that_cannot_be_read_is_left_out() -> None:
    store = MemoryStore()
    store.acknowledgements.save({"a": "{", "b": json.dumps({"at": 1.0, "author": "ana", "reason": ""}), "c": "[]"})
    assert acknowledged(store.acknowledgements) == {"b": Acknowledgement(1.0, "ana", "")}


async def test_an_applications_alert_is_not_repeated_for_hours_after_it_was_acknowledged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    channel, clock = MemoryChannel("recorder"), ManualClock()
    manager = AlertManager(channels=[channel, LogChannel()], clock=clock)
    await manager.send_alert("billing_failure", "7 failed", AlertSeverity.CRITICAL, dedup_key="billing")
    done = await manager.acknowledge(channel.alerts[0].incident, author="ana\n", reason="password=hunter2")
    assert done["reason"] == "password=[REDACTED]"
    assert [event.status.value for event in channel.alerts] == ["firing", "acknowledged"]
    assert "BILLING_FAILURE acknowledged by ana (password=[REDACTED]): 7 failed" in caplog.text
    clock.advance(3600)
    assert not await manager.send_alert("billing_failure", "8 failed", AlertSeverity.CRITICAL, dedup_key="billing")
    assert await manager.send_alert("billing_failure", "another one", AlertSeverity.CRITICAL)
    outcomes = [(event["status"], event["outcome"]) for event in await manager.get_alert_history()]
    assert outcomes[1:] == [("firing", "suppressed"), ("acknowledged", "notified"), ("firing", "notified")]
    assert await manager.take_back_acknowledgement(done["incident"])
    assert await manager.send_alert("billing_failure", "9 failed", AlertSeverity.CRITICAL, dedup_key="billing")


async def test_a_more_severe_one_is_told_although_somebody_takes_care_of_it() -> None:
    channel, clock = MemoryChannel(), ManualClock()
    manager = AlertManager(channels=[channel], clock=clock)
    await manager.send_alert("order_stuck", "7 wait", "error", dedup_key="orders")
    await manager.acknowledge(channel.alerts[0].incident, author="ana")
    clock.advance(3600)
    for severity, is_told in (("warning", False), ("error", False), ("critical", True), ("critical", False)):
        assert await manager.send_alert("order_stuck", "70 wait", severity, dedup_key="orders") is is_told, severity


async def test_what_does_not_fire_cannot_be_acknowledged() -> None:
    manager = AlertManager(channels=[])
    with pytest.raises(LookupError, match="no alert of 0123456789abcdef fires"):
        await manager.acknowledge("0123456789abcdef", author="ana")
    assert not await manager.take_back_acknowledgement("0123456789abcdef")


def test_what_begins_in_a_planned_window_is_told_when_it_closes_if_it_still_fires() -> None:
    watcher = Watcher(DOWN, HOT)
    opens = watcher.now + 100
    watcher.store.mutes.add(Mute(Selection(), opens + 100, schedule=Once(opens, opens + 100)))
    assert watcher.see(heat=11, up=1) == [("custom firing", "notified")], "it is not open yet"
    assert watcher.see(100, heat=11, up=0) == [("database_down firing", "muted")]
    assert watcher.see(heat=1, up=0) == [("custom resolved", "muted")]
    assert watcher.see(90, heat=1, up=0) == [("database_down firing", "notified")]
    assert watcher.store.mutes.all(watcher.now) == []


def test_an_alert_of_another_engine_is_acknowledged_too_and_told_by_that_engine_alone() -> None:
    watcher, elsewhere = Watcher(DOWN), Watcher(DOWN)
    elsewhere.see(up=0)
    (theirs,) = (
        replace(one, state=replace(one.state, notified_at=None)) for one in saved_incidents(elsewhere.store.incidents)
    )
    by = Acknowledgement(watcher.now, "ana")
    rules = {DOWN.name: DOWN}
    event = watcher.store.run(lambda store: acknowledge(store, theirs.id, by, rules, watcher.policy, [theirs]))
    assert event is not None
    assert (event.rule, watcher.told) == ("database_down", [])
    assert acknowledged(watcher.store.acknowledgements) == {theirs.id: by}
