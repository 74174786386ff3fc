"""What Prometheus fires and ends is in the history, once, whoever leads."""

from otel_monitoring.alerts.evaluation.incident import Incident
from otel_monitoring.alerts.evaluation.lifecycle import AlertState, Phase
from otel_monitoring.alerts.rules.defaults import default_rules
from otel_monitoring.alerts.store import MemoryStore
from otel_monitoring.config.settings import Thresholds
from otel_monitoring.prometheus.incident_history import IncidentHistory

RULES = {rule.name: rule for rule in default_rules(Thresholds())}


def incident(since: float, phase: Phase = Phase.FIRING) -> Incident:
    return Incident("high_error_rate", {}, AlertState(phase, since=since), message="5 % errors", value=5.0)


def recorded(store: MemoryStore) -> list[tuple[str, float, str]]:
    events = store.history.events(limit=100)
    return [(event.status.value, event.time, event.incident) for event in reversed(events)]


def test_a_beginning_and_an_end_are_recorded_once_also_by_the_next_process_that_leads() -> None:
    store, one = MemoryStore(), incident(10)
    history = IncidentHistory()
    history.record(store, [incident(10, Phase.PENDING)], RULES, 15)
    assert recorded(store) == []
    for leader in (history, history, IncidentHistory()):
        leader.record(store, [one], RULES, 20)
    assert recorded(store) == [("firing", 20, one.id)]
    (event,) = store.history.events(limit=1)
    assert event.details == {
        "value": 5.0,
        "threshold": RULES["high_error_rate"].threshold,
        "evaluated_by": "Prometheus",
    }
    for leader in (IncidentHistory(), history):
        leader.record(store, [], RULES, 30)
    assert recorded(store) == [("firing", 20, one.id), ("resolved", 30, one.id)]
    history.record(store, [incident(40)], RULES, 40)
    assert [status for status, *_ in recorded(store)] == ["firing", "resolved", "firing"]


def test_what_the_processes_evaluate_themselves_is_left_alone() -> None:
    store, own = MemoryStore(), incident(10)
    store.history.append(own.event(RULES["high_error_rate"], 12, {"value": 5.0}))
    IncidentHistory().record(store, [], RULES, 20)
    assert recorded(store) == [("firing", 12, own.id)]
