"""What happened in the past: alerts from start to end, and releases."""

from dataclasses import replace
from typing import Any

from otel_monitoring.alerts.evaluation.incident import Incident
from otel_monitoring.alerts.evaluation.lifecycle import AlertState, Phase
from otel_monitoring.alerts.model import LEFT_OUT, AlertEvent, AlertSeverity, AlertType, Status
from otel_monitoring.health.marks import ALERTS_LIMIT, marks
from otel_monitoring.timestamps import rfc3339

DOWN = AlertEvent(100.0, AlertType.DATABASE_DOWN, AlertSeverity.CRITICAL, "gone", rule="down", incident="a", since=90.0)
UP = replace(DOWN, time=150.0, status=Status.RESOLVED)
RAISED = AlertEvent(120.0, AlertType.CUSTOM, AlertSeverity.WARNING, "oh", incident="b")
FIRES = Incident(
    "slow",
    {},
    AlertState(phase=Phase.FIRING, since=110.0),
    type=AlertType.DATABASE_SLOW,
    severity=AlertSeverity.WARNING,
)


def alert(start: float, end: float | None, kind: AlertType, severity: AlertSeverity) -> dict[str, Any]:
    ended = None if end is None else rfc3339(end)
    return {"time": rfc3339(start), "kind": "alert", "end": ended, "type": kind.value, "severity": severity.value}


def shown(*events: AlertEvent, incidents: tuple[Incident, ...] = (), start: float = 0.0, end: float = 1000.0) -> Any:
    newest_first = sorted(events, key=lambda event: -event.time)
    return marks([], newest_first, incidents, start, end)


def test_an_alert_is_one_mark_from_its_start_to_its_end() -> None:
    assert shown(DOWN, UP) == [alert(90.0, 150.0, DOWN.type, DOWN.severity)]
    assert shown(UP) == shown(DOWN, UP)


def test_what_fires_has_no_end_though_the_history_forgot_when_it_began() -> None:
    open_one = alert(110.0, None, FIRES.type, FIRES.severity)
    assert shown(incidents=(FIRES,)) == [open_one]
    began = FIRES.event(None, 115.0, {})
    assert shown(began, incidents=(FIRES,)) == [open_one]
    assert shown(incidents=(replace(FIRES, state=AlertState(phase=Phase.PENDING, since=110.0)),)) == []


def test_an_alert_of_the_application_is_a_moment() -> None:
    assert shown(RAISED) == [alert(120.0, 120.0, RAISED.type, RAISED.severity)]


def test_what_fired_at_the_same_time_is_one_mark_of_each_type_and_severity() -> None:
    other = replace(DOWN, incident="c", since=140.0, time=140.0)
    later = replace(DOWN, incident="d", since=300.0, time=310.0)
    worse = replace(RAISED, severity=AlertSeverity.ERROR, incident="e")
    ended = replace(other, time=200.0, status=Status.RESOLVED)
    assert shown(DOWN, UP, other, ended, later, RAISED, worse) == [
        alert(90.0, 200.0, DOWN.type, DOWN.severity),
        alert(120.0, 120.0, RAISED.type, RAISED.severity),
        alert(120.0, 120.0, RAISED.type, AlertSeverity.ERROR),
        alert(300.0, 310.0, DOWN.type, DOWN.severity),
    ]
    again = replace(FIRES, type=DOWN.type, severity=DOWN.severity)
    assert shown(DOWN, UP, incidents=(again,)) == [alert(90.0, None, DOWN.type, DOWN.severity)]


def test_what_lies_outside_is_not_shown() -> None:
    assert shown(DOWN, UP, start=151.0) == []
    assert shown(DOWN, UP, start=149.0) == shown(DOWN, UP)
    assert shown(DOWN, UP, end=90.0) == []
    assert shown(incidents=(FIRES,), start=900.0) == shown(incidents=(FIRES,))
    assert shown(replace(RAISED, rule=LEFT_OUT)) == []


def test_releases_stand_among_the_alerts_which_never_push_them_out() -> None:
    many = [replace(RAISED, time=float(at), incident=str(at)) for at in range(200, 200 + 3 * ALERTS_LIMIT)]
    found = marks([(5.0, "1.0"), (150.0, "1.1")], many[::-1], [], 100.0, 1000.0)
    assert found[0] == {"time": rfc3339(150.0), "kind": "release", "version": "1.1"}
    assert len(found) == ALERTS_LIMIT + 1
    assert found[-1]["time"] == rfc3339(many[-1].time)
