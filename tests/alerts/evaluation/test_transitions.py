"""What follows from what rules see: events, outcomes, inhibition, repeats; against a real store in memory."""

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from otel_monitoring.alerts.evaluation.application_alert import event_of, record
from otel_monitoring.alerts.evaluation.evaluate import Evaluation
from otel_monitoring.alerts.evaluation.incident import Incident, labels_by_rule, saved_incidents
from otel_monitoring.alerts.evaluation.lifecycle import AlertState, Phase
from otel_monitoring.alerts.evaluation.notification_policy import NotificationPolicy
from otel_monitoring.alerts.evaluation.transitions import Transitions
from otel_monitoring.alerts.evaluation.worker_report import WorkerReport
from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, AlertType, DeliveryState, Outcome
from otel_monitoring.alerts.mute import Mute
from otel_monitoring.alerts.overview import firing
from otel_monitoring.alerts.rules.expressions import Gauge, Reading
from otel_monitoring.alerts.rules.rule import NoData, Rule
from otel_monitoring.alerts.selection import Selection
from otel_monitoring.alerts.store import MemoryStore, Store
from otel_monitoring.metrics.snapshot import Series, Snapshot
from otel_monitoring.metrics.window import Window

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
HOT = Rule("hot", Gauge("heat"), ">", 10, "It is hot")
BLOCKED = Rule("blocked", Gauge("lag"), ">", 1, "Blocked {value:g}s", AlertType.EVENT_LOOP_BLOCKED, scope="instance")
WINDOW = 300.0


class Watcher:
    """Evaluates rules at times of its own, as the leading worker does."""

    def __init__(self, *rules: Rule, store: Store | None = None) -> None:
        self.rules = rules
        self.store = store or MemoryStore()
        self.now = 1_700_000_000.0
        self.policy = NotificationPolicy(("mail", "log"), repeat_interval=3600, window=WINDOW)
        self.measured = WINDOW
        """How long the workers have measured, in seconds."""

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
            worker: WorkerReport(
                Window(Snapshot(0, self.measured, gauges={Series(name): value for name, value in gauges.items()})),
                evidence,
            )
            for worker, gauges in workers.items()
        }
        known = {incident.key: incident for incident in saved_incidents(self.store.incidents)}
        transitions = Transitions(self.store, self.policy, self.now)
        results = Evaluation().evaluate(self.rules, reports, labels_by_rule(known.values()))
        transitions.apply(results, known, reports, self.rules)
        return [(f"{event.type.value} {event.status.value}", event.outcome.value) for event in transitions.events]

    def restart(self, seconds: float) -> None:
        """Stop for so long; what is measured then does not fill the window yet."""
        self.now += seconds
        self.measured = 0.0

    @property
    def told(self) -> list[tuple[str, str]]:
        """Type and status of what one channel was told, oldest first."""
        return [(event.type.value, event.status.value) for event in self.sent]

    @property
    def sent(self) -> list[AlertEvent]:
        """What waits for one channel, oldest first."""
        return [entry.event for entry in self.store.outbox.pending("mail", 100)]

    @property
    def firing(self) -> list[tuple[str, float]]:
        """Message and value of what fires now, as it is answered."""
        found = firing(saved_incidents(self.store.incidents), {rule.name: rule for rule in self.rules})
        return [(alert["message"], alert["value"]) for alert in found]

    @property
    def history(self) -> list[AlertEvent]:
        return list(self.store.history.events(limit=100))


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
    assert resolved.details == {"value": 0, "threshold": 1, "value_now": 1, "duration_seconds": 20}
    assert (fired.message, resolved.message) == ("Database connection lost", "Database connection lost")
    assert fired.since == resolved.since == fired.time
    assert [entry.event for entry in watcher.store.outbox.pending("log", 10)] == watcher.sent, "every channel gets all"
    watcher.see(600, up=1)
    assert saved_incidents(watcher.store.incidents) == [], "nothing is kept of what is over for good"


def test_message_and_value_agree_from_the_first_to_the_last() -> None:
    watcher = Watcher(replace(ERRORS, clear=4, keep_firing_for=60))
    for errors in (29.35, 39.88, 41.5):
        watcher.see(errors=errors)
    assert watcher.firing == [("High error rate: 41.50%", 41.5)]
    watcher.see(watcher.policy.repeat_interval, errors=39.88)
    watcher.see(errors=1.25)
    assert watcher.firing == [("High error rate: 1.25%", 1.25)], "it fires on for a minute"
    watcher.see()
    assert watcher.firing == [("High error rate: 39.88%", 39.88)], "nobody knows of now"
    watcher.see(60, errors=0.5)
    assert [(event.status.value, event.message, event.details["value"]) for event in watcher.sent] == [
        ("firing", "High error rate: 29.35%", 29.35),
        ("firing", "High error rate: 39.88%", 39.88),
        ("resolved", "High error rate: 41.50% (at worst, in 1 h 1 min)", 39.88),
    ]
    assert (watcher.sent[-1].details["value_now"], watcher.sent[-1].details["threshold"]) == (0.5, 5)


def test_without_data_a_message_names_no_figure() -> None:
    watcher = Watcher(replace(ERRORS, no_data=NoData.FIRE), replace(DOWN, no_data=NoData.FIRE, inhibits=frozenset()))
    watcher.see()
    assert {event.message for event in watcher.sent} == {"high_error_rate: no data", "Database connection lost"}
    assert all("value" not in event.details for event in watcher.sent)


def test_labels_of_a_rule_are_printable_lines() -> None:
    heat = Rule("heat", Gauge("heat", group_by="room"), ">", 1, "Heat in {room}", label="room")
    watcher = Watcher(heat)
    watcher.now += 10
    attributes = (("room", "a\n\x1b[31m password=hunter2"),)
    window = Window(Snapshot(0, WINDOW, gauges={Series("heat", attributes): 5.0}))
    results = Evaluation().evaluate([heat], {"a": WorkerReport(window)}, {})
    Transitions(watcher.store, watcher.policy, watcher.now).apply(results, {}, {"a": WorkerReport(window)}, [heat])
    (event,) = watcher.sent
    assert (event.message, event.labels) == (
        "Heat in a  [31m password=[REDACTED]",
        {"room": "a  [31m password=[REDACTED]"},
    )
    (alert,) = firing(saved_incidents(watcher.store.incidents), {"heat": heat})
    assert (alert["message"], alert["labels"]) == (event.message, event.labels)


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
    watcher.store.mutes.add(Mute(Selection.of(AlertType.HIGH_ERROR_RATE), watcher.now + 60))
    assert watcher.see(errors=50) == [("high_error_rate firing", "muted")]
    assert watcher.sent == []
    assert watcher.see(60, errors=50) == [("high_error_rate firing", "notified")]
    watcher.store.mutes.add(Mute(Selection.of(AlertType.HIGH_ERROR_RATE), watcher.now + 60))
    assert watcher.see(errors=0) == [("high_error_rate resolved", "muted")]
    assert [event.status.value for event in watcher.sent] == ["firing"]


def test_what_was_muted_from_its_beginning_to_its_end_is_never_told() -> None:
    watcher = Watcher(ERRORS)
    watcher.store.mutes.add(Mute(Selection.of(AlertType.HIGH_ERROR_RATE), watcher.now + 15))
    watcher.see(errors=50)
    assert watcher.see(errors=0) == [("high_error_rate resolved", "muted")], "though the mute has just ended"
    assert watcher.sent == []


def test_a_mute_may_be_for_one_instance() -> None:
    watcher = Watcher(BLOCKED)
    watcher.store.mutes.add(
        Mute(Selection.of(AlertType.EVENT_LOOP_BLOCKED, labels={"instance": "a"}), watcher.now + 60)
    )
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
    assert watcher.store.history.counts() == {AlertType.DATABASE_DOWN: 1}


def test_a_restart_keeps_what_fires_and_tells_it_no_second_time() -> None:
    before = Watcher(DOWN)
    before.see(up=0)
    after = Watcher(DOWN, store=before.store)
    after.now = before.now
    assert after.see(up=0) == []
    assert after.see(up=1) == [("database_down resolved", "notified")]
    assert len(after.sent) == 2


def test_what_the_application_tells_and_what_rules_tell_do_not_suppress_each_other() -> None:
    """Neither by type and labels, nor by the very message; in either order, and for two rules of one type."""
    own, other = (Rule(name, Gauge(name), ">", 1, "It is hot") for name in ("one", "two"))
    watcher = Watcher(own, other)
    said = event_of(own.type, "It is hot", AlertSeverity.INFO, {}, {}, watcher.now)
    rules = {rule.name: rule for rule in watcher.rules}
    assert record(watcher.store, [said], rules, watcher.policy)[0].outcome is Outcome.NOTIFIED
    assert watcher.see(one=2, two=0) == [("custom firing", "notified")]
    assert watcher.see(one=2, two=2) == [("custom firing", "notified")]
    again = event_of(own.type, "It is hotter", AlertSeverity.INFO, {}, {}, watcher.now)
    assert record(watcher.store, [again], rules, watcher.policy)[0].outcome is Outcome.NOTIFIED
    assert record(watcher.store, [again], rules, watcher.policy)[0].outcome is Outcome.SUPPRESSED
    assert watcher.see(one=0, two=2) == [("custom resolved", "notified")]
    assert watcher.see(3600, one=0, two=2) == []
    assert [event.rule for event in watcher.sent] == ["", "one", "two", "", "one", "two"], "and is repeated when due"


def test_the_application_is_known_by_type_message_and_labels() -> None:
    watcher = Watcher()

    def outcome(message: str, kind: AlertType = AlertType.CUSTOM, **labels: str) -> str:
        event = event_of(kind, message, AlertSeverity.INFO, {}, labels, watcher.now)
        return record(watcher.store, [event], {}, watcher.policy)[0].outcome.value

    assert outcome("slow") == outcome("slow", endpoint="/a") == outcome("slow", endpoint="/b") == "notified"
    assert outcome("slow", AlertType.API_TIMEOUT) == outcome("slower") == "notified"
    assert outcome('slow{"endpoint": "/a"}') == "notified", "however a message is written"
    assert outcome("slow") == outcome("slow", endpoint="/a") == "suppressed"


def test_what_an_earlier_version_kept_from_being_told_is_told_and_ends_without_a_word_otherwise() -> None:
    """It took the application's own alert for the rule's, and noted that the rule had told it."""
    saved = (
        '{"rule": "database_down", "message": "Database connection lost", "outcome": "suppressed", "labels": {}, '
        '"state": {"phase": "firing", "since": 1700000000.0, "held": 0.0, "quiet": null, "seen": 1700000000.0, '
        '"value": 0.0, "notified_at": 1700000000.0}}'
    )
    for up, told in ((0, [("database_down", "firing")]), (1, [])):
        watcher = Watcher(DOWN)
        watcher.store.incidents.save({"database_down{}": saved})
        watcher.see(up=up)
        assert watcher.told == told
    watcher = Watcher(DOWN)
    watcher.store.incidents.save({"database_down{}": saved.replace("suppressed", "notified")})
    watcher.see(up=1)
    assert watcher.told == [("database_down", "resolved")], "what it told is over"


def test_a_channel_hears_of_the_end_of_what_it_was_told() -> None:
    watcher = Watcher(DOWN)
    watcher.see(up=0)
    watcher.policy = NotificationPolicy(("mail", "slack"), repeat_interval=3600, window=WINDOW)
    watcher.see(up=1)
    assert [len(watcher.store.outbox.pending(name, 9)) for name in ("mail", "slack", "log")] == [2, 0, 2]


# Flapping


def test_a_database_that_flaps_is_told_at_once_then_as_flapping_and_once_when_it_is_over() -> None:
    watcher = Watcher(DOWN, ERRORS)
    for _ in range(10):
        watcher.see(3, up=0, errors=50)
        watcher.see(2, up=1, errors=50)
    first, _, _, _, flapping = watcher.sent
    assert watcher.told == [("database_down", status) for status in ("firing", "resolved") * 2] + [
        ("database_down", "firing")
    ]
    assert first.message == "Database connection lost"
    assert (flapping.message, flapping.details["times"]) == ("Database connection lost (flapping: 3 times so far)", 3)
    for _ in range(60):
        watcher.see(10, up=1, errors=1)
    over = watcher.sent[-1]
    assert len(watcher.sent) == 6
    assert (over.status.value, over.incident) == ("resolved", flapping.incident)
    assert over.message == "Database connection lost (was flapping: 10 times)"
    assert [event.type for event in watcher.sent] == [AlertType.DATABASE_DOWN] * 6, "what follows stays quiet"
    assert [event.message for event in watcher.history if event.details.get("times")] == [
        over.message,
        flapping.message,
    ]


def test_with_a_short_calm_bridged_flapping_is_three_messages() -> None:
    watcher = Watcher(replace(DOWN, keep_firing_for=10))
    for _ in range(10):
        watcher.see(3, up=0)
        watcher.see(2, up=1)
    for _ in range(40):
        watcher.see(10, up=1)
    assert [event.message.partition(" (")[2] for event in watcher.sent] == [
        "",
        "flapping: 3 times so far)",
        "was flapping: 10 times)",
    ]
    assert [event.status.value for event in watcher.sent] == ["firing", "firing", "resolved"]
    assert len({event.incident for event in watcher.sent}) == 1


@pytest.mark.parametrize("stopped", [0.0, 100.0, 3600.0])
def test_whoever_leads_goes_on_counting(stopped: float) -> None:
    """Each look is made by another worker, or after a restart: all they share is the store."""
    watcher = Watcher(DOWN)
    for up in (0, 1, 0, 1):
        watcher = _next(watcher)
        watcher.see(up=up)
    watcher = _next(watcher)
    watcher.restart(stopped)
    watcher.see(up=0)
    flaps = stopped < 600
    assert [event.details.get("times") for event in watcher.sent[-1:]] == [3 if flaps else None]
    watcher = _next(watcher)
    assert (watcher.see(up=1) == []) is flaps


def _next(watcher: Watcher) -> Watcher:
    other = Watcher(*watcher.rules, store=watcher.store)
    other.now, other.policy = watcher.now, watcher.policy
    return other


def test_each_alert_of_a_rule_flaps_for_itself() -> None:
    watcher = Watcher(BLOCKED)
    for _ in range(6):
        watcher.see_all({"a": {"lag": 3}, "b": {"lag": 3}})
        watcher.see_all({"a": {"lag": 0}, "b": {"lag": 3}})
    told = [event.status.value for event in watcher.sent if event.labels == {"instance": "a"}]
    assert told == ["firing", "resolved", "firing", "resolved", "firing"]
    assert len(watcher.sent) == len(told) + 1


def test_what_begins_to_flap_while_it_is_muted_is_told_as_flapping_when_the_mute_ends() -> None:
    watcher = Watcher(ERRORS)
    watcher.store.mutes.add(Mute(Selection.of(AlertType.HIGH_ERROR_RATE), watcher.now + 100))
    for errors in (50, 0) * 4:
        watcher.see(errors=errors)
    assert watcher.sent == []
    watcher.see(30, errors=0)
    assert watcher.sent == [], "the mute is over, but there is nothing to see"
    watcher.see(errors=50)
    assert [event.details["times"] for event in watcher.sent] == [5]


# Restart: nobody is told what nobody sees


@pytest.mark.parametrize("stopped", [20.0, WINDOW - 20, WINDOW + 20, 100_000.0])
@pytest.mark.parametrize("no_data", NoData)
@pytest.mark.parametrize("hindered", ["inhibited", "muted", "pending"])
def test_what_was_never_told_ends_without_a_word(hindered: str, no_data: NoData, stopped: float) -> None:
    errors = replace(ERRORS, no_data=no_data, hold=15.0 if hindered == "pending" else 0.0)
    watcher = Watcher(DOWN, errors)
    if hindered == "muted":
        watcher.store.mutes.add(Mute(Selection.of(AlertType.HIGH_ERROR_RATE), watcher.now + 15))
    watcher.see(up=0 if hindered == "inhibited" else 1, errors=50)
    before = watcher.told
    assert all(kind == "database_down" for kind, _ in before)
    watcher.restart(stopped)
    while watcher.measured < WINDOW - 10:
        watcher.measured += 10
        watcher.see(10, up=1)
    assert [told for told in watcher.told if told[0] != "database_down"] == [], "silence"
    watcher.see(10, up=1, errors=0)
    assert [told for told in watcher.told if told[0] != "database_down"] == []


@pytest.mark.parametrize("no_data", [NoData.RESOLVE, NoData.KEEP])
def test_what_is_not_seen_is_not_told_when_its_explanation_ends(no_data: NoData) -> None:
    watcher = Watcher(DOWN, replace(ERRORS, no_data=no_data, keep_firing_for=1000))
    watcher.see(up=0, errors=50)
    watcher.see(up=1)
    watcher.see(WINDOW + 1, up=1)
    assert [kind for kind, _ in watcher.told] == ["database_down"] * 2
    assert watcher.see(up=1, errors=50) == [("high_error_rate firing", "notified")], "but when it is seen"


@pytest.mark.parametrize("stopped", [20.0, WINDOW + 20, 100_000.0])
def test_what_was_told_is_not_repeated_for_nothing_and_its_end_is_told(stopped: float) -> None:
    watcher = Watcher(ERRORS)
    watcher.see(errors=50)
    watcher.restart(stopped)
    watcher.see(10)
    assert watcher.told == [("high_error_rate", "firing")], "though it is due after a day"
    watcher.measured = WINDOW
    watcher.see(10)
    assert watcher.told == [("high_error_rate", "firing"), ("high_error_rate", "resolved")]


def test_a_fresh_worker_of_several_is_not_taken_for_one_that_saw_nothing() -> None:
    """Its own window is what counts for alerts about it."""
    silent = Rule("silent", Gauge("beats"), "<", 1, no_data=NoData.FIRE, scope="instance")
    watcher = Watcher(silent)
    watcher.now += 10
    fresh = WorkerReport(Window(Snapshot(0, 10)))
    old = WorkerReport(Window(Snapshot(0, WINDOW, gauges={Series("beats"): 5.0})))
    transitions = Transitions(watcher.store, watcher.policy, watcher.now)
    reports = {"old": old, "fresh": fresh}
    transitions.apply(Evaluation().evaluate(watcher.rules, reports, {}), {}, reports, watcher.rules)
    assert transitions.events == []


def test_an_alert_whose_labels_its_rule_no_longer_has_is_over() -> None:
    """A deployment changed them: nothing is ever read of the former ones again."""
    watcher = Watcher(replace(DOWN, no_data=NoData.KEEP))
    watcher.see(up=0)
    watcher.rules = (replace(DOWN, no_data=NoData.KEEP, labels={"team": "shop"}),)
    watcher.see(up=0)
    assert [(event.labels, event.status.value) for event in watcher.sent] == [
        ({}, "firing"),
        ({"team": "shop"}, "firing"),
        ({}, "resolved"),
    ]


def test_an_alert_of_which_nothing_is_known_any_more_is_given_up_without_a_claim() -> None:
    """The database is not watched any more, or a redeploy has none."""
    watcher = Watcher(replace(DOWN, no_data=NoData.KEEP), ERRORS)
    watcher.see(up=0)
    seen = [watcher.see(60) for _ in range(59)]
    assert [found for found in seen if found] == []
    assert watcher.see(60, errors=50) == [
        ("database_down resolved", "notified"),
        ("high_error_rate firing", "inhibited"),
    ]
    over = watcher.sent[-1]
    assert over.message == "Database connection lost (no data for an hour: whether it is over is not known)"
    assert "value_now" not in over.details
    assert watcher.see(WINDOW + 1, errors=50) == [("high_error_rate firing", "notified")], "it inhibits no more"
    assert watcher.see(up=0, errors=0)[0] == ("database_down firing", "notified"), "it begins anew"


def test_the_alert_of_a_worker_that_is_gone_is_over() -> None:
    watcher = Watcher(BLOCKED)
    watcher.see_all({"a": {"lag": 0}, "b": {"lag": 3}})
    assert watcher.see_all({"a": {"lag": 0}}) == [("event_loop_blocked resolved", "notified")]


def test_evidence_is_that_of_the_worker_the_alert_is_about() -> None:
    watcher = Watcher(BLOCKED)
    watcher.now += 10
    reports = {
        worker: WorkerReport(
            Window(Snapshot(0, WINDOW, gauges={Series("lag"): 3.0})), {"event_loop_blocked": {"stack": [worker]}}
        )
        for worker in ("a", "b")
    }
    transitions = Transitions(watcher.store, watcher.policy, watcher.now)
    transitions.apply(Evaluation().evaluate(watcher.rules, reports, {}), {}, reports, watcher.rules)
    assert {event.labels["instance"]: event.details["stack"] for event in transitions.events} == {
        "a": ["a"],
        "b": ["b"],
    }


def test_the_end_waits_for_a_channel_that_was_told_and_that_no_worker_has_meanwhile() -> None:
    watcher = Watcher(DOWN)
    watcher.see(up=0)
    watcher.policy = watcher.policy._replace(channels=("mail", "later"), at_once=("log",))
    watcher.see(up=1)
    watcher.see(up=0)
    watcher.policy = watcher.policy._replace(channels=("later",))
    watcher.see(up=1)
    assert watcher.told == [("database_down", state) for state in ("firing", "resolved") * 2]
    assert len(watcher.store.outbox.pending("log", 9)) == 1, "it has everything at once now"
    assert watcher.history[0].channels["mail"].state is DeliveryState.WAITING


def test_the_history_says_which_channels_an_alert_waits_for() -> None:
    def states() -> list[dict[str, str]]:
        return [{name: result.state.value for name, result in event.channels.items()} for event in watcher.history]

    watcher = Watcher(DOWN)
    watcher.see(up=0)
    watcher.see(up=1)
    assert states() == [{"mail": "waiting", "log": "waiting"}] * 2
    watcher.policy = watcher.policy._replace(holding=frozenset({"log"}))
    watcher.see(up=0)
    watcher.store.mutes.add(Mute(Selection.of(AlertType.DATABASE_DOWN), watcher.now + 3600))
    watcher.see(up=1)
    assert states()[0] == {"mail": "muted", "log": "waiting"}, "who holds an alert hears of its end"
    watcher.policy = watcher.policy._replace(channels=("mail",), holding=frozenset(), at_once=("log",))
    watcher.see(up=0)
    assert states()[0] == {"mail": "muted", "log": "muted"}
    watcher.store.mutes.remove(Mute(Selection.of(AlertType.DATABASE_DOWN), 0.0))
    watcher.see(up=0)
    assert states()[0] == {"mail": "waiting", "log": "delivered"}


def test_what_is_over_is_told_at_its_worst_and_for_how_long() -> None:
    stall = Rule("stalls", Gauge("lag"), ">", 1000, "Event loop blocked for {value:.0f}ms")
    low = Rule("low", Gauge("left"), "<", 10, "{value:.0f} left")
    watcher = Watcher(stall, low)
    for lag, left in ((1011, 7), (30_000, 2), (4000, 5), (0, 50)):
        watcher.see(lag=lag, left=left)
    assert [event.message for event in watcher.sent] == [
        "Event loop blocked for 1011ms",
        "7 left",
        "Event loop blocked for 30000ms (at worst, in 30 s)",
        "2 left (at worst, in 30 s)",
    ]
    assert [event.details.get("worst") for event in watcher.sent] == [None, None, 30_000, 2]
    watcher.see(lag=2000, left=50)
    watcher.see(lag=0, left=50)
    assert watcher.sent[-1].message == "Event loop blocked for 2000ms (for 10 s)", "what was before is another matter"
    assert "worst" not in watcher.sent[-1].details


def test_the_end_of_an_alert_whose_rule_was_removed_is_told_once_where_its_beginning_was() -> None:
    watcher = Watcher(DOWN, HOT)
    watcher.see(up=0, heat=50)
    watcher.rules = (HOT,)
    watcher.policy = watcher.policy._replace(channels=("mail", "log", "later"))
    assert watcher.see(heat=50) == [], "an application may add its rules a moment after its start"
    assert watcher.see(heat=50) == [("database_down resolved", "notified")]
    assert watcher.see(heat=50) == []
    fired, _, resolved = watcher.sent
    assert (resolved.incident, resolved.severity) == (fired.incident, fired.severity)
    assert resolved.message == "Database connection lost (its rule was removed)"
    assert resolved.details == {"value": 0, "duration_seconds": 20}
    assert watcher.store.outbox.pending("later", 9) == [], "it was never told"
    assert [incident.rule for incident in saved_incidents(watcher.store.incidents)] == ["hot"]


def test_the_end_of_a_muted_alert_whose_rule_was_removed_is_in_the_history_alone() -> None:
    watcher = Watcher(DOWN)
    watcher.store.mutes.add(Mute(Selection.of(AlertType.DATABASE_DOWN), watcher.now + 3600))
    watcher.see(up=0)
    watcher.rules = ()
    watcher.see(up=0)
    assert watcher.see(up=0) == [("database_down resolved", "muted")]
    assert watcher.sent == []


def test_a_rule_that_is_added_a_moment_after_the_start_goes_on() -> None:
    watcher = Watcher(DOWN)
    watcher.see(up=0)
    watcher.rules = ()
    assert watcher.see(up=0) == []
    watcher.rules = (DOWN,)
    assert watcher.see(up=0) == []
    watcher.rules = ()
    assert watcher.see(up=0) == [], "that moment begins anew"


def test_the_alert_of_an_earlier_version_whose_rule_was_removed_is_over_too() -> None:
    watcher = Watcher(DOWN)
    watcher.see(up=0)
    ((key, text),) = watcher.store.incidents.saved().items()
    saved = json.loads(text)
    for name in ("type", "severity", "orphaned_at"):
        del saved[name]
    watcher.store.incidents.save({key: json.dumps(saved)})
    watcher.rules = ()
    watcher.see(up=0)
    assert watcher.see(up=0) == [("custom resolved", "notified")]
    assert watcher.sent[-1].rule == "database_down"


def test_pending_alerts_of_a_rule_that_was_removed_are_forgotten_those_of_a_broken_one_are_kept() -> None:
    watcher = Watcher(DOWN, replace(HOT, hold=60))
    watcher.see(up=0, heat=50)
    watcher.rules = (DOWN,)
    assert watcher.see(up=0) == []
    assert [incident.rule for incident in saved_incidents(watcher.store.incidents)] == ["database_down"]
    transitions = Transitions(watcher.store, watcher.policy, watcher.now)
    transitions.apply([], {i.key: i for i in saved_incidents(watcher.store.incidents)}, {}, [DOWN])
    assert [incident.rule for incident in saved_incidents(watcher.store.incidents)] == ["database_down"]


@pytest.mark.parametrize("damaged", ["", "{}", '{"rule": 1}', "null"])
def test_a_saved_state_that_cannot_be_read_is_left_out(damaged: str) -> None:
    watcher = Watcher(DOWN)
    watcher.see(up=0)
    watcher.store.incidents.save({"damaged": damaged})
    (incident,) = saved_incidents(watcher.store.incidents)
    assert Incident.decode(incident.encode()) == incident


RELEASED = """{"rule": "hot", "message": "m", "value": 7.2, "outcome": "notified", "labels": {"endpoint": "/a"},
"state": {"phase": "firing", "since": 10, "held": 0.0, "quiet": null, "seen": 0.0, "value": NaN, "notified_at": 12.0},
"unknown": 3.0, "unrest": {"starts": [1.0, 2.0], "times": 2, "flapping": false}, "told_on": ["log", "slack"]}"""


def test_a_state_of_the_first_version_is_read() -> None:
    read = Incident.decode(RELEASED)
    assert (read.rule, read.labels, read.message, read.value) == ("hot", {"endpoint": "/a"}, "m", 7.2)
    assert (read.outcome, read.notified_on) == (Outcome.NOTIFIED, frozenset({"log", "slack"}))
    state = replace(read.state, value=None)
    assert state == AlertState(Phase.FIRING, 10.0, unknown=3.0, notified_at=12.0, starts=(1.0, 2.0), times=2)
    assert (type(state.since), type(state.starts)) == (float, tuple)
    assert Incident.decode(RELEASED.replace('"told_on": ["log", "slack"]', '"further": 1')).notified_on is None


@pytest.mark.parametrize(("right", "wrong"), [('"firing"', '"burning"'), ('{"endpoint": "/a"}', "[1]"), ("10", '"x"')])
def test_a_state_with_a_value_of_another_kind_is_refused_where_it_is_read(right: str, wrong: str) -> None:
    with pytest.raises(ValueError, match="validation error"):
        Incident.decode(RELEASED.replace(right, wrong, 1))


def test_how_long_nothing_was_known_is_saved_apart_from_what_earlier_versions_read() -> None:
    incident = Incident("hot", {}, AlertState(Phase.FIRING, 10.0, unknown=600.0))
    saved = json.loads(incident.encode())
    assert Incident.decode(json.dumps(saved)) == incident
    assert "unknown" not in {**saved["state"], **saved["unrest"]}, "they refuse a field they do not know"
    del saved["unknown"]
    assert Incident.decode(json.dumps(saved)).state.unknown == 0


def test_a_rule_that_is_tried_out_is_recorded_and_shown_and_not_sent() -> None:
    watcher = Watcher(replace(HOT, dry_run=True))
    assert watcher.see(heat=11) == [("custom firing", "dry_run")]
    assert watcher.firing == [("It is hot", 11)]
    assert watcher.see(600, heat=1) == [("custom resolved", "dry_run")]
    assert watcher.told == []
    fired = watcher.history[-1]
    assert fired.channels["mail"].state is DeliveryState.DRY_RUN


def test_a_rule_that_is_switched_on_while_it_fires_is_notified_then() -> None:
    watcher = Watcher(replace(HOT, dry_run=True))
    watcher.see(heat=11)
    watcher.rules = (HOT,)
    assert watcher.see(heat=11) == [("custom firing", "notified")]


def test_the_slower_rule_is_silent_while_the_faster_one_fires_and_so_long_afterwards() -> None:
    """Of the same labels: the consequences of an incident that is over are still in the slower window."""
    fast = Rule("fast", Gauge("heat"), ">", 10, labels={"slo": "a"})
    slow = Rule("slow", Gauge("warmth"), ">", 1, labels={"slo": "a"}, yields_to=frozenset({"fast"}), yields_for=60)
    other = replace(slow, name="other", labels={"slo": "b"})
    watcher = Watcher(fast, slow, other)
    assert watcher.see(heat=11, warmth=2) == [
        ("custom firing", "notified"),
        ("custom firing", "inhibited"),
        ("custom firing", "notified"),
    ]
    assert watcher.see(heat=1, warmth=2) == [("custom resolved", "notified")]
    assert watcher.see(50, heat=1, warmth=2) == []
    assert watcher.see(heat=1, warmth=2) == [("custom firing", "notified")], "it goes on by itself"


def test_a_slower_rule_that_was_notified_first_goes_on() -> None:
    fast = Rule("fast", Gauge("heat"), ">", 10)
    slow = Rule("slow", Gauge("warmth"), ">", 1, yields_to=frozenset({"fast"}), yields_for=60)
    watcher = Watcher(fast, slow)
    assert watcher.see(heat=1, warmth=2) == [("custom firing", "notified")]
    assert watcher.see(heat=11, warmth=2) == [("custom firing", "notified")]
    assert watcher.see(heat=1, warmth=0) == [("custom resolved", "notified"), ("custom resolved", "notified")]


def test_the_details_of_a_reading_are_those_of_the_alert() -> None:
    class Explained(Gauge):
        def readings(self, window: Window, **_: object) -> list[Reading]:
            return [Reading(11, 1, "", {"budget": "62 % left"})]

    watcher = Watcher(replace(HOT, expression=Explained("heat")))
    watcher.see(heat=11)
    assert watcher.sent[0].details["budget"] == "62 % left"
