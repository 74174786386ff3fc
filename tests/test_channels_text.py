"""The words every channel shares."""

import pytest

from otel_monitoring.alerts.channels import text
from otel_monitoring.events import AlertSeverity, AlertType
from tests.notifications import NOW, STACK, event, notification, resolved


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "0 s"),
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (3660, "1 h 1 min"),
        (3605, "1 h"),
        (90_000, "1 d 1 h"),
        (86_400 * 400, "400 d"),
    ],
)
def test_durations_read_well(seconds: float, words: str) -> None:
    assert text.duration(seconds) == words


def test_one_alert_is_its_headline_and_several_are_counted() -> None:
    assert text.summary(notification()) == "CRITICAL DATABASE_DOWN: Database connection lost"
    assert text.summary(notification(resolved())) == "RESOLVED DATABASE_DOWN: Database connection lost"
    several = notification(event(), event(type=AlertType.HIGH_CPU, severity=AlertSeverity.WARNING), resolved())
    assert text.summary(several) == "2 firing, 1 resolved: DATABASE_DOWN, HIGH_CPU"


def test_the_subject_is_the_same_from_firing_to_resolved() -> None:
    firing = text.subject(notification(event("lost after 2 s", details={"value": 1})))
    assert firing == "[orders/production] DATABASE_DOWN (endpoint=/api/orders/)"
    assert firing == text.subject(notification(resolved(message="lost after 9 s", severity=AlertSeverity.WARNING)))


def test_a_group_is_named_after_the_worst_of_what_fires() -> None:
    group = notification(
        event(type=AlertType.HIGH_CPU, severity=AlertSeverity.WARNING, labels={}), resolved(), environment=""
    )
    assert text.subject(group) == "[orders] HIGH_CPU"


def test_a_custom_alert_is_called_by_its_rule() -> None:
    assert text.title(event(type=AlertType.CUSTOM, rule="queue_too_long")) == "queue_too_long"
    assert text.title(event(type=AlertType.HIGH_CPU, rule="cpu")) == "HIGH_CPU"
    assert text.title(event(type=AlertType.CUSTOM)) == "CUSTOM"


def test_facts_put_value_and_threshold_together_and_say_how_long_it_took() -> None:
    facts = dict(text.facts(resolved(details={"p50": 0.123456789, "value": 2345.67, "threshold": 2000.0, "n": [1, 2]})))
    assert facts == {
        "Since": "2026-05-28 20:23:20 UTC",
        "Over": "2026-05-28 20:26:40 UTC, after 3 min 20 s",
        "Value": "2345.67 (threshold 2000)",
        "endpoint": "/api/orders/",
        "p50": "0.123457",
        "n": "[1, 2]",
        "Trace": "0af7651916cd43dd8448eb211c80319c",
    }


def test_what_an_application_throws_in_stays_bounded_and_printable() -> None:
    hostile = event(
        "line one\r\nSubject: two\x00\u202e\ud800",
        details={f"key {i}\n": "x" * 5000 for i in range(100)},
        labels={},
        trace_id="a\nb",
        since=None,
    )
    facts = list(text.facts(hostile))
    assert text.headline(hostile) == "CRITICAL DATABASE_DOWN: line one Subject: two"
    assert len(facts) == 1 + 20 + 1 + 1
    assert facts[0] == ("Since", text.moment(NOW))
    assert facts[-2] == ("…", "80 more")
    assert all(len(value) <= 1500 and "\n" not in name for name, value in facts)


def test_a_stack_keeps_its_lines() -> None:
    plain = text.plain(event(details={"stack": STACK}))
    assert '  stack:\n    File "/srv/orders.py", line 42, in create\n      total(order)\n    File "/srv/pri' in plain
    assert plain.endswith("  Runbook: https://runbooks.example.com/database-down")


def test_of_a_long_stack_the_innermost_calls_are_kept() -> None:
    frames = [f'File "/srv/module_{i}.py", line {i}, in function_{i}' for i in range(100)]
    for stack in (frames, "\n".join(frames)):
        shown = dict(text.facts(event(details={"stack": stack})))["stack"]
        assert len(shown) <= 1500
        assert shown.startswith("…\nFile ")
        assert shown.endswith("in function_99")
    assert dict(text.facts(event(details={"names": ["orders", "users"]})))["names"] == "orders, users"


@pytest.mark.parametrize("url", ["javascript:alert(1)", "https://x y", 'https://x"onclick="', "https://x|y", "//x", ""])
def test_only_web_addresses_become_links(url: str) -> None:
    assert text.link(url) == ""
    assert text.link("https://x/y?a=b&c=d#e") == "https://x/y?a=b&c=d#e"
