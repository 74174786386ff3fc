"""What follows from what rules see: events, outcomes, inhibition, repeats; against a real store in memory."""

from collections.abc import Mapping

import pytest

from otel_monitoring.alerts.evaluation import Evaluation, Report
from otel_monitoring.alerts.expressions import Gauge
from otel_monitoring.alerts.incidents import Incidents, Policy, identity_key
from otel_monitoring.alerts.rules import Rule
from otel_monitoring.alerts.saved import Incident, labels_by_rule, saved_incidents
from otel_monitoring.events import AlertEvent, AlertType, Mute
from otel_monitoring.measure.snapshot import Series, Snapshot
from otel_monitoring.measure.window import Window
from otel_monitoring.store import MemoryStore, Store

DOWN = Rule(
    "database_down",
    Gauge("up"),
    "<",
    1,
    "Database connection lost",
    AlertType.DATABASE_DOWN,
    inhibits=frozenset({AlertType.HIGH_ERROR_RATE}),
)
ERRORS = Rule("high_error_rate", Gauge("errors"), ">", 5, "High error rate: {value:.2f}%", AlertType.HIGH_ERROR_RATE)
BLOCKED = Rule("blocked", Gauge("lag"), ">", 1, "Blocked {value:g}s", AlertType.EVENT_LOOP_BLOCKED, scope="instance")
WINDOW = 300.0


class Watcher:
    """Evaluates rules at times of its own, as the leading worker does."""

    def __init__(self, *rules: Rule, store: Store | None = None) -> None:
        self.rules = rules
        self.store = store or MemoryStore()
        self.now = 1_700_000_000.0
        self.policy = Policy(("mail", "log"), repeat_interval=3600, window=WINDOW)

    def see(
        self, seconds: float = 10, worker: str = "a", evidence: Mapping[str, Mapping[str, object]] = {}, **gauges: float
    ) -> list[tuple[str, str]]:
        """What one worker sees, `seconds` later; returns type and outcome of what happened."""
        return self.see_all({worker: gauges}, seconds, evidence)

    def see_all(
        self,
        workers: Mapping[str, Mapping[str, float]],
        seconds: float = 10,
        evidence: Mapping[str, Mapping[str, object]] = {},
    ) -> list[tuple[str, str]]:
        self.now += seconds
        reports = {
            worker: Report(
                Window(Snapshot(0, WINDOW, gauges={Series(name): value for name, value in gauges.items()})), evidence
            )
            for worker, gauges in workers.items()
        }
        known = {incident.key: incident for incident in saved_incidents(self.store)}
        incidents = Incidents(self.store, self.policy, self.now)
        looks = Evaluation().looks(self.rules, reports, labels_by_rule(known.values()))
        incidents.apply(looks, known, reports, self.rules)
        return [(f"{event.type.value} {event.status.value}", event.outcome.value) for event in incidents.events]

    @property
    def sent(self) -> list[AlertEvent]:
        """What waits for one channel, oldest first."""
        return [entry.event for entry in self.store.pending("mail", 100)]

    @property
    def history(self) -> list[AlertEvent]:
        return list(self.store.events(limit=100))


def test_an_incident_is_told_once_and_its_end_once() -> None:
    watcher = Watcher(DOWN)
    evidence = {"database_down": {"error": "refused"}}
    assert watcher.see(up=1) == []
    assert watcher.see(up=0, evidence=evidence) == [("database_down firing", "notified")]
    assert watcher.see(up=0) == []
    assert watcher.see(up=1) == [("database_down resolved", "notified")]
    assert watcher.see(up=1) == []
    fired, resolved = watcher.sent
    assert fired.incident == resolved.incident
    assert fired.details == {"value": 0, "threshold": 1, "error": "refused"}
    assert resolved.details == {"value": 1, "duration_seconds": 20}
    assert (fired.message, resolved.message) == ("Database connection lost", "Database connection lost")
    assert fired.since == resolved.since == fired.time
    assert [entry.event for entry in watcher.store.pending("log", 10)] == watcher.sent, "every channel gets all"
    assert saved_incidents(watcher.store) == [], "nothing is kept of what is over"


def test_a_new_firing_after_a_resolve_is_told_again() -> None:
    watcher = Watcher(DOWN)
    for up in (0, 1, 0, 1):
        watcher.see(up=up)
    assert [event.status.value for event in watcher.sent] == ["firing", "resolved", "firing", "resolved"]
    assert len({event.incident for event in watcher.sent}) == 2


def test_what_follows_from_an_alert_stays_quiet_until_the_window_has_forgotten_it() -> None:
    watcher = Watcher(DOWN, ERRORS)
    assert watcher.see(up=0, errors=50) == [
        ("database_down firing", "notified"),
        ("high_error_rate firing", "inhibited"),
    ]
    assert watcher.see(up=1, errors=40) == [("database_down resolved", "notified")]
    assert watcher.see(WINDOW - 1, up=1, errors=6) == [], "the window still shows what the database did"
    assert watcher.see(up=1, errors=1) == [("high_error_rate resolved", "inhibited")]
    assert [event.type for event in watcher.sent] == [AlertType.DATABASE_DOWN] * 2
    assert len(watcher.history) == 4


def test_what_outlasts_its_explanation_is_told() -> None:
    watcher = Watcher(DOWN, ERRORS)
    watcher.see(up=0, errors=50)
    watcher.see(up=1, errors=50)
    assert watcher.see(WINDOW + 1, up=1, errors=50) == [("high_error_rate firing", "notified")]
    assert watcher.see(up=1, errors=0) == [("high_error_rate resolved", "notified")]


def test_what_was_told_before_its_explanation_came_is_also_told_to_be_over() -> None:
    watcher = Watcher(DOWN, ERRORS)
    watcher.see(up=1, errors=50)
    watcher.see(up=0, errors=50)
    assert watcher.see(up=0, errors=0) == [("high_error_rate resolved", "notified")]


def test_muted_alerts_are_in_the_history_marked_and_told_when_the_mute_ends() -> None:
    watcher = Watcher(ERRORS)
    watcher.store.mute(Mute(AlertType.HIGH_ERROR_RATE, watcher.now + 60))
    assert watcher.see(errors=50) == [("high_error_rate firing", "muted")]
    assert watcher.sent == []
    assert watcher.see(60, errors=50) == [("high_error_rate firing", "notified")]
    watcher.store.mute(Mute(AlertType.HIGH_ERROR_RATE, watcher.now + 60))
    assert watcher.see(errors=0) == [("high_error_rate resolved", "muted")]
    assert [event.status.value for event in watcher.sent] == ["firing"]


def test_what_was_muted_from_its_beginning_to_its_end_is_never_told() -> None:
    watcher = Watcher(ERRORS)
    watcher.store.mute(Mute(AlertType.HIGH_ERROR_RATE, watcher.now + 15))
    watcher.see(errors=50)
    assert watcher.see(errors=0) == [("high_error_rate resolved", "muted")], "though the mute has just ended"
    assert watcher.sent == []


def test_a_mute_may_be_for_one_instance() -> None:
    watcher = Watcher(BLOCKED)
    watcher.store.mute(Mute(AlertType.EVENT_LOOP_BLOCKED, watcher.now + 60, {"instance": "a"}))
    watcher.see_all({"a": {"lag": 3}, "b": {"lag": 4}})
    assert [event.labels for event in watcher.sent] == [{"instance": "b"}]


def test_what_still_fires_is_repeated_at_the_interval_but_is_one_alert_in_the_history() -> None:
    watcher = Watcher(DOWN)
    watcher.see(up=0)
    watcher.see(3500, up=0)
    assert len(watcher.sent) == 1
    watcher.see(100, up=0)
    assert len(watcher.sent) == 2
    watcher.see(100, up=0)
    assert len(watcher.sent) == 2
    assert len({event.incident for event in watcher.sent}) == 1
    assert len(watcher.history) == 1
    assert watcher.store.counts() == {AlertType.DATABASE_DOWN: 1}


def test_a_restart_keeps_what_fires_and_tells_it_no_second_time() -> None:
    before = Watcher(DOWN)
    before.see(up=0)
    after = Watcher(DOWN, store=before.store)
    after.now = before.now
    assert after.see(up=0) == []
    assert after.see(up=1) == [("database_down resolved", "notified")]
    assert len(after.sent) == 2


def test_what_the_application_told_itself_is_not_told_again_but_its_end_is() -> None:
    watcher = Watcher(DOWN)
    watcher.store.note_notified(identity_key(AlertType.DATABASE_DOWN, {}), watcher.now)
    assert watcher.see(up=0) == [("database_down firing", "suppressed")]
    assert watcher.see(up=1) == [("database_down resolved", "notified")]


def test_the_alert_of_a_worker_that_is_gone_is_over() -> None:
    watcher = Watcher(BLOCKED)
    watcher.see_all({"a": {"lag": 0}, "b": {"lag": 3}})
    assert watcher.see_all({"a": {"lag": 0}}) == [("event_loop_blocked resolved", "notified")]


def test_evidence_is_that_of_the_worker_the_alert_is_about() -> None:
    watcher = Watcher(BLOCKED)
    watcher.now += 10
    reports = {
        worker: Report(
            Window(Snapshot(0, WINDOW, gauges={Series("lag"): 3.0})), {"event_loop_blocked": {"stack": [worker]}}
        )
        for worker in ("a", "b")
    }
    incidents = Incidents(watcher.store, watcher.policy, watcher.now)
    incidents.apply(Evaluation().looks(watcher.rules, reports, {}), {}, reports, watcher.rules)
    assert {event.labels["instance"]: event.details["stack"] for event in incidents.events} == {"a": ["a"], "b": ["b"]}


def test_the_state_of_a_rule_that_was_removed_is_forgotten_that_of_a_broken_one_is_kept() -> None:
    watcher = Watcher(DOWN, ERRORS)
    watcher.see(up=0, errors=50)
    watcher.rules = (DOWN,)
    assert watcher.see(up=0) == []
    assert [incident.rule for incident in saved_incidents(watcher.store)] == ["database_down"]
    incidents = Incidents(watcher.store, watcher.policy, watcher.now)
    incidents.apply([], {i.key: i for i in saved_incidents(watcher.store)}, {}, [DOWN])
    assert [incident.rule for incident in saved_incidents(watcher.store)] == ["database_down"]


@pytest.mark.parametrize("damaged", ["", "{}", '{"rule": 1}', "null"])
def test_a_saved_state_that_cannot_be_read_is_left_out(damaged: str) -> None:
    watcher = Watcher(DOWN)
    watcher.see(up=0)
    watcher.store.save_states({"damaged": damaged})
    (incident,) = saved_incidents(watcher.store)
    assert Incident.decode(incident.encode()) == incident
