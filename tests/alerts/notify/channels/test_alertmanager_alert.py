"""An alert's identity in Alertmanager."""

from otel_monitoring.alerts.model import AlertType
from otel_monitoring.alerts.notify.channels.alertmanager_alert import labels
from tests.notifications import event, notification

OURS = {
    "alertname": "DATABASE_DOWN",
    "alert_type": "database_down",
    "severity": "critical",
    "service": "orders",
    "environment": "production",
}


def test_identity_is_in_the_labels_and_changes_with_nothing_else() -> None:
    first = labels(event(), notification())
    assert first == {**OURS, "endpoint": "/api/orders/"}
    assert labels(event("other words", details={"value": 3}, trace_id="", runbook=""), notification()) == first


def test_label_names_are_prometheus_own_and_one_that_is_taken_is_exported() -> None:
    given = {"http.route": "/x", "9th": "nine", "naïve": "é", "severity": "none", "empty": "", "": "anonymous"}
    assert labels(event(labels=given), notification()) == {
        **OURS,
        "http_route": "/x",
        "_9th": "nine",
        "na_ve": "é",
        "exported_severity": "none",
        "_": "anonymous",
    }


def test_two_labels_never_become_one() -> None:
    """Two alerts that differ in one of them would be one alert there, which the end of either ends."""
    first, second = {"a.b": "1", "a_b": "2", "host": "x"}, {"a.b": "1", "a_b": "3", "host": "x"}
    assert labels(event(labels=first), notification(), "one") != labels(event(labels=second), notification(), "one")
    assert labels(event(labels=first), notification(), "one") == {
        **OURS,
        "host": "one",
        "exported_host": "x",
        "a_b": "1",
        "exported_a_b": "2",
    }


def test_hosts_and_rules_of_one_type_are_told_apart() -> None:
    sent = event(rule="database_down", labels={})
    assert labels(sent, notification(), "one") == {**OURS, "rule": "database_down", "host": "one"}
    others = (labels(sent, notification(), "two"), labels(event(rule="replica_down", labels={}), notification(), "one"))
    assert labels(sent, notification(), "one") not in others


def test_custom_alerts_are_told_apart_by_their_rule_and_no_environment_is_no_label() -> None:
    found = labels(event(type=AlertType.CUSTOM, rule="queue too long", labels={}), notification(environment=""))
    assert found == {"alertname": "queue too long", "alert_type": "custom", "severity": "critical", "service": "orders"}
