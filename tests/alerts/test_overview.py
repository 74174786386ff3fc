"""What fires, where every rule stands and how every channel fares, as JSON that any client can read."""

import json
import math
import sqlite3
from pathlib import Path
from typing import Any, NoReturn

import pytest

from otel_monitoring.alerts import Gauge, NoData, Rule, requests
from otel_monitoring.alerts.evaluation.evaluate import Evaluation
from otel_monitoring.alerts.evaluation.incident import Incident
from otel_monitoring.alerts.evaluation.lifecycle import AlertState, Phase
from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, AlertType, Outcome
from otel_monitoring.alerts.overview import channels, firing, results, rule_states
from otel_monitoring.alerts.rules.expressions import Reading
from otel_monitoring.alerts.store.sqlite import SqliteStore

START = 1_700_000_000.0
HOT = Rule("hot", Gauge("heat", group_by="room"), ">", 80, clear=70, hold=30, label="room", runbook="https://wiki/hot")
COLD = Rule("cold", Gauge("heat"), "<", 1, scope="instance", labels={"team": "shop"}, no_data=NoData.KEEP)


def incident(
    rule: Rule, phase: Phase, since: float = START, outcome: Outcome = Outcome.NOTIFIED, **labels: str
) -> Incident:
    return Incident(rule.name, labels, AlertState(phase, since, value=81.23456), f"{rule.name}!", outcome)


def states(*incidents: Incident, evaluation: Evaluation | None = None) -> dict[str, dict[str, Any]]:
    found = rule_states(incidents, [HOT, COLD], results([HOT, COLD], evaluation or Evaluation()))
    json.dumps(found, allow_nan=False)
    return {rule["name"]: rule for rule in found}


def test_what_fires_is_told_oldest_first_with_why_it_is_quiet() -> None:
    found = firing(
        [
            incident(HOT, Phase.FIRING, START + 10, room="bath"),
            incident(HOT, Phase.PENDING, room="hall"),
            incident(COLD, Phase.FIRING, START, Outcome.MUTED, instance="a", team="shop"),
            incident(Rule("gone", Gauge("x"), ">", 1), Phase.FIRING),
        ],
        {"hot": HOT, "cold": COLD},
    )
    assert [(alert["rule"], alert["labels"], alert["muted"]) for alert in found] == [
        ("cold", {"instance": "a", "team": "shop"}, True),
        ("hot", {"room": "bath"}, False),
    ]
    assert found[1] == {
        "rule": "hot",
        "type": "custom",
        "severity": "warning",
        "state": "firing",
        "since": "2023-11-14T22:13:30.000+00:00",
        "value": 81.2346,
        "labels": {"room": "bath"},
        "threshold": 80,
        "message": "hot: 81.23 (threshold 80)",
        "scope": "service",
        "incident": incident(HOT, Phase.FIRING, START + 10, room="bath").id,
        "muted": False,
        "inhibited": False,
        "dry_run": False,
    }


def test_what_comes_and_goes_is_shown_as_flapping() -> None:
    state = AlertState(Phase.FIRING, START, quiet=20.0, starts=(START,) * 3, times=7, flapping=True)
    (found,) = firing([Incident("hot", {"room": "bath"}, state)], {"hot": HOT})
    assert (found["flapping"], found["times"], found["state"]) == (True, 7, "firing")


def test_what_is_over_is_not_shown_though_it_is_remembered() -> None:
    over = incident(HOT, Phase.INACTIVE, room="bath")
    assert firing([over], {"hot": HOT}) == []
    assert states(over)["hot"]["alerts"] == []


def test_a_rule_stands_where_the_worst_of_its_alerts_does() -> None:
    alerts = [incident(HOT, Phase.PENDING, room="hall"), incident(HOT, Phase.FIRING, room="bath")]
    assert states(*alerts)["hot"]["state"] == "firing"
    assert states(alerts[0])["hot"]["state"] == "pending"
    assert states()["hot"]["state"] == "inactive"
    assert [alert["state"] for alert in states(*alerts)["hot"]["alerts"]] == ["pending", "firing"]


def test_a_rule_is_shown_as_it_is_defined() -> None:
    found = states()
    assert (
        found["hot"].items()
        >= {
            "promql": "max by (job, room) (heat) > 80",
            "comparison": ">",
            "threshold": 80,
            "clear": 70,
            "hold_seconds": 30,
            "runbook_url": "https://wiki/hot",
        }.items()
    )
    assert (
        found["cold"].items()
        >= {
            "clear": 1,
            "scope": "instance",
            "no_data": "keep",
            "labels": {"team": "shop"},
            "inhibits": [],
        }.items()
    )
    assert "runbook_url" not in found["cold"]
    inhibiting = Rule("down", Gauge("up"), "<", 1, inhibits=frozenset({AlertType.HIGH_CPU, AlertType.API_TIMEOUT}))
    assert rule_states([], [inhibiting], {})[0]["inhibits"] == ["api_timeout", "high_cpu"]


def test_values_are_the_worst_twenty_with_their_labels_and_numbers_only() -> None:
    evaluation = Evaluation()
    evaluation.readings = {
        "hot": {"": [Reading(float(i), 1, f"room {i}") for i in range(30)] + [Reading(math.nan, 1, "none")]},
        "cold": {"a": [Reading(2.0, 3)], "b": [Reading(-1.0, 3), Reading(math.inf, 1)]},
    }
    found = states(evaluation=evaluation)
    assert [value["labels"]["room"] for value in found["hot"]["values"]] == [f"room {i}" for i in range(29, 9, -1)]
    assert found["cold"]["values"] == [
        {"labels": {"team": "shop", "instance": "b"}, "value": -1.0, "samples": 3},
        {"labels": {"team": "shop", "instance": "a"}, "value": 2.0, "samples": 3},
    ]


def test_an_error_is_shown_with_its_rule() -> None:
    evaluation = Evaluation()
    evaluation.errors = {"hot": "ZeroDivisionError: by zero"}
    found = states(evaluation=evaluation)
    assert found["hot"]["error"] == "ZeroDivisionError: by zero"
    assert "error" not in found["cold"]


def test_a_rule_over_requests_is_shown_before_there_were_any() -> None:
    (found,) = rule_states([], [Rule("busy", requests(), ">", 5)], {})
    assert (found["values"], found["alerts"], found["state"]) == ([], [], "inactive")


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_an_expression_that_cannot_be_shown_hides_no_rule(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise error

    monkeypatch.setattr(Gauge, "promql", refuse)
    assert {name: rule["promql"] for name, rule in states().items()} == {"hot": "", "cold": ""}


def test_what_was_set_aside_because_it_cannot_be_read_is_counted_with_its_channel(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "alerts.db")
    event = AlertEvent(0.0, AlertType.CUSTOM, AlertSeverity.INFO, "1")
    store.outbox.enqueue([event], ["mail", "gone"], 0.0)
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE outbox SET event = '{'")
    connection.close()
    store.outbox.enqueue([event], ["mail"], 0.0)
    for name in ("mail", "gone"):
        store.outbox.pending(name, 9)
    assert channels(store, {"mail": {"state": "ok", "failures": 0}}, 0.0) == {
        "mail": {"state": "ok", "failures": 0, "pending": 1, "unreadable": 1},
        "gone": {"state": "ok", "failures": 0, "pending": 0, "unreadable": 1},
    }
    store.close()
