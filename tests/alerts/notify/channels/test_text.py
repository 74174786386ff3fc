"""The words every channel shares."""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from email import message_from_bytes
from email.policy import default
from typing import Any

import pytest

from otel_monitoring.alerts.model import LEFT_OUT, AlertEvent, AlertSeverity, AlertType, Notification
from otel_monitoring.alerts.notify.channels import alertmanager_alert, email_message, log, slack_message, text, webhook
from otel_monitoring.alerts.notify.origin import Origin
from otel_monitoring.config import Settings
from otel_monitoring.config.channels import Mailbox
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
    assert text.summary(notification()) == "CRITICAL DATABASE_DOWN firing: Database connection lost"
    assert text.summary(notification(resolved())) == "CRITICAL DATABASE_DOWN resolved: Database connection lost"
    several = notification(event(), event(type=AlertType.HIGH_CPU, severity=AlertSeverity.WARNING), resolved())
    assert text.summary(several) == "CRITICAL 2 firing, 1 resolved: DATABASE_DOWN, HIGH_CPU"


def test_the_subject_names_severity_and_state() -> None:
    firing = text.subject(notification(event("lost after 2 s", details={"value": 1})))
    assert firing == "[orders/production] CRITICAL DATABASE_DOWN firing (endpoint=/api/orders/)"
    over = text.subject(notification(resolved(severity=AlertSeverity.WARNING, labels={}), environment=""))
    assert over == "[orders] WARNING DATABASE_DOWN resolved"
    own = event("nightly import done", type=AlertType.CUSTOM, severity=AlertSeverity.INFO, labels={})
    assert text.subject(notification(own)) == "[orders/production] INFO CUSTOM firing: nightly import done"


def test_the_subject_of_a_group_counts_and_has_the_severity_of_what_fires() -> None:
    cpu: dict[str, Any] = {"type": AlertType.HIGH_CPU, "severity": AlertSeverity.WARNING, "labels": {}}
    group = notification(event(**cpu), resolved(), environment="")
    assert text.subject(group) == "[orders] WARNING 1 firing, 1 resolved: HIGH_CPU, DATABASE_DOWN"
    assert text.subject(notification(resolved(), resolved(**cpu), environment="")) == (
        "[orders] CRITICAL 2 resolved: DATABASE_DOWN, HIGH_CPU"
    )


def test_the_subject_says_that_an_alert_flaps() -> None:
    flapping: dict[str, Any] = {"rule": "database_down", "details": {"times": 3}, "labels": {}}
    cpu = event(type=AlertType.HIGH_CPU, severity=AlertSeverity.WARNING)
    assert (
        text.subject(notification(event(**flapping), environment=""))
        == "[orders] CRITICAL DATABASE_DOWN firing, flapping"
    )
    assert text.subject(notification(event(**flapping), cpu, environment="")) == (
        "[orders] CRITICAL 2 firing: DATABASE_DOWN (flapping), HIGH_CPU"
    )
    over = text.subject(notification(resolved(**flapping), environment=""))
    assert over == "[orders] CRITICAL DATABASE_DOWN resolved"
    own = event(details={"times": 3}, labels={})
    assert "flapping" not in text.subject(notification(own)), "the application's own word for something else"


def test_every_message_ends_with_where_it_comes_from() -> None:
    assert text.origin_lines(notification()) == (
        "Service: orders\nEnvironment: production\nVersion: 1.4.2\nHost: web-1\nURL: https://orders.example.com"
    )
    hostile = {"service": "orders\r\n\x1b[31m", "environment": "", "version": "1\n2", "url": "javascript:alert(1)"}
    assert text.origin_lines(notification(**hostile)) == "Service: orders [31m\nVersion: 1 2\nHost: web-1"


def test_a_custom_alert_is_called_by_its_rule() -> None:
    assert text.title(event(type=AlertType.CUSTOM, rule="queue_too_long")) == "queue_too_long"
    assert text.title(event(type=AlertType.HIGH_CPU, rule="cpu")) == "HIGH_CPU"
    assert text.title(event(type=AlertType.CUSTOM)) == "CUSTOM"
    assert dict(text.facts(event(type=AlertType.HIGH_CPU, rule="cpu")))["Rule"] == "cpu"
    assert "Rule" not in dict(text.facts(event(type=AlertType.HIGH_CPU, rule="high_cpu")))
    assert "Rule" not in dict(text.facts(event(type=AlertType.CUSTOM, rule="cpu")))


def test_facts_put_value_and_threshold_together_and_say_how_long_it_took() -> None:
    measured = {"value": 2345.67, "threshold": 2000.0, "value_now": 12.5, "duration_seconds": 200.0}
    facts = dict(text.facts(resolved(details={"p50": 0.123456789, "n": [1, 2], **measured})))
    assert facts == {
        "Since": "2026-05-28 20:23:20 UTC",
        "Resolved": "2026-05-28 20:26:40 UTC, after 3 min 20 s",
        "Value": "2345.67 (threshold 2000)",
        "Now": "12.5",
        "endpoint": "/api/orders/",
        "p50": "0.123457",
        "n": "[1, 2]",
        "Trace": "0af7651916cd43dd8448eb211c80319c",
    }


def test_how_long_it_fires_is_said_once_that_is_long() -> None:
    assert dict(text.facts(event(since=NOW - 59)))["Since"] == "2026-05-28 20:25:41 UTC"
    assert dict(text.facts(event(since=NOW - 4 * 3600)))["Since"] == "2026-05-28 16:26:40 UTC, for 4 h"


def test_of_what_is_over_the_worst_is_told_besides_the_last() -> None:
    over = resolved(
        type=AlertType.HIGH_ERROR_RATE, details={"value": 7.5, "threshold": 5, "worst": 97.6, "value_now": 0.0}
    )
    assert list(text.facts(over))[2:5] == [("Value", "7.5 (threshold 5)"), ("Worst", "97.6"), ("Now", "0")]


def test_a_yes_or_no_is_no_value() -> None:
    assert "Value" not in dict(text.facts(event(details={"value": 0, "threshold": 1})))
    assert not {"Value", "Now"} & set(dict(text.facts(resolved(details={"value": 0, "threshold": 1, "value_now": 1}))))
    failing = event(type=AlertType.CHECK_FAILED, details={"value": 1, "threshold": 0})
    assert "Value" not in dict(text.facts(failing))
    billing = event(type=AlertType.BILLING_FAILURE, details={"value": 1, "threshold": 0})
    assert dict(text.facts(billing))["Value"] == "1 (threshold 0)"


def test_a_detail_with_the_name_of_a_label_is_told_besides() -> None:
    facts = list(text.facts(event(details={"endpoint": "/other"})))
    assert facts[1:3] == [("endpoint", "/api/orders/"), ("endpoint", "/other")]
    assert len([name for name, _ in text.facts(event(details={"endpoint": "/api/orders/"})) if name == "endpoint"]) == 1


def test_what_an_application_throws_in_stays_bounded_and_printable() -> None:
    hostile = event(
        "line one\r\nSubject: two\x00\u202e\ud800",
        details={f"key {i}\n": "x" * 5000 for i in range(100)},
        labels={},
        trace_id="a\nb",
        since=None,
    )
    facts = list(text.facts(hostile))
    assert text.headline(hostile) == "CRITICAL DATABASE_DOWN firing: line one Subject: two"
    assert len(facts) == 1 + 20 + 1 + 1
    assert facts[0] == ("Since", text.moment(NOW))
    assert facts[-2] == ("…", "80 more")
    assert all(len(value) <= 1500 and "\n" not in name for name, value in facts)


def test_a_stack_keeps_its_lines() -> None:
    plain = text.plain_text(event(details={"stack": STACK}))
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


def test_of_many_what_fires_and_is_most_urgent_is_spelt_out_first() -> None:
    over = [resolved(message=f"over {number}") for number in range(25)]
    mild = [event(severity=AlertSeverity.WARNING, message=f"mild {number}") for number in range(25)]
    grave = event(severity=AlertSeverity.CRITICAL, message="grave")
    told, hidden = text.shown(notification(*over, *mild, grave))
    assert [one.message for one in told] == ["26 alerts", "25 alerts"]
    assert dict(text.facts(told[0]))["messages"].splitlines() == [
        "grave",
        *(f"mild {number}" for number in range(7)),
        "… and 18 more",
    ]
    assert (told[0].severity, hidden) == (AlertSeverity.CRITICAL, 0)
    told, hidden = text.shown(notification(*over[:2], mild[0]))
    assert [one.message for one in told] == ["mild 0", "over 0", "over 1"]
    assert hidden == 0


def test_what_stands_for_those_that_were_left_out_is_always_spelt_out() -> None:
    note = event("980 alerts were left out", severity=AlertSeverity.WARNING, rule=LEFT_OUT)
    rules = [event(severity=AlertSeverity.CRITICAL, type=AlertType.CUSTOM, rule=f"rule_{i}") for i in range(60)]
    told, hidden = text.shown(notification(note, *rules))
    assert (len(told), told[-1], hidden) == (text.EVENTS_SHOWN, note, 41)


def test_a_storm_of_one_type_is_told_with_its_count_its_first_messages_and_the_details_of_the_most_urgent() -> None:
    storm = [
        event(f"order {number}", type=AlertType.CUSTOM, severity=AlertSeverity.WARNING, details={"order": number})
        for number in range(900)
    ]
    storm[700] = event("the worst", type=AlertType.CUSTOM, severity=AlertSeverity.ERROR, details={"order": 700})
    note = event(
        "4100 alerts were left out",
        rule=LEFT_OUT,
        type=AlertType.CUSTOM,
        details={"count": 4100, "types": {"CUSTOM": 4100}},
    )
    told = notification(*storm, event(), note)
    assert text.subject(told) == "[orders/production] CRITICAL 5001 firing: DATABASE_DOWN, CUSTOM"
    (down, digest, left_out), hidden = text.shown(told)
    assert (down.message, left_out, hidden) == ("Database connection lost", note, 0)
    assert text.headline(digest) == "ERROR CUSTOM firing: 5000 alerts"
    facts = dict(text.facts(digest))
    assert facts["order"] == "700"
    assert facts["messages"].splitlines()[:2] == ["the worst", "order 0"]
    assert facts["messages"].splitlines()[-1] == "… and 4992 more"


def test_what_fires_and_what_is_over_are_told_apart_in_a_storm() -> None:
    told, _ = text.shown(notification(*[event(message=str(i)) for i in range(20)], *[resolved()] * 20))
    assert [(one.status.value, one.message) for one in told] == [("firing", "20 alerts"), ("resolved", "20 alerts")]


HOSTILE = (
    "x\ny\r\x1b[31m\x9b31m\u2028\u2029\x85\u202e\u2066\x00\ud800\u200b\ufeff\u3164\x0b\x1c <!channel> "
    "<https://e.example|click> *b* <script>alert(1)</script> \"' password=hunter2 end"
)
FORGERY = AlertEvent(
    NOW,
    AlertType.CUSTOM,
    AlertSeverity.ERROR,
    HOSTILE,
    {HOSTILE: HOSTILE, "nested": {HOSTILE: [HOSTILE, ValueError(HOSTILE)]}, "stack": [HOSTILE, HOSTILE]},
    labels={HOSTILE: HOSTILE, "tenant": HOSTILE},
    rule="queue_long",
)
ORIGIN = Origin.here(
    Settings.load(),
    {
        "service.name": HOSTILE,
        "deployment.environment.name": HOSTILE,
        "service.version": HOSTILE.replace("hunter2", ""),
        "host.name": HOSTILE.replace("hunter2", ""),
    },
)


def texts_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for pair in value.items() for one in pair for text in texts_in(one))
    elif isinstance(value, list):
        yield from (text for one in value for text in texts_in(one))


def webhook_of(told: Notification) -> object:
    return json.loads(webhook.body(told))


def mail_of(told: Notification) -> object:
    address = Mailbox("", "alerts", "example.com")
    sent = message_from_bytes(email_message.compose(told, address, [address], NOW).as_bytes(), policy=default)
    assert {name for name in sent if name.lower() in ("bcc", "y")} == set()
    return [sent["Subject"], *(part.get_content().replace("\r\n", "\n") for part in sent.iter_parts())]


def alertmanager_of(told: Notification) -> object:
    return [alertmanager_alert.labels(one, told) for one in told.events]


def log_of(told: Notification) -> object:
    handler, records = logging.Handler(), list[str]()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    log.logger.addHandler(handler)
    try:
        for one in told.events:
            log.LogChannel().write(one)
    finally:
        log.logger.removeHandler(handler)
    assert not any("\n" in line for line in records)
    return records


@pytest.mark.parametrize("count", [1, 30])
@pytest.mark.parametrize("channel", [webhook_of, mail_of, slack_message.message_body, alertmanager_of, log_of])
def test_no_text_from_outside_forges_a_line_a_mention_or_markup_or_tells_a_secret(
    channel: Callable[[Notification], object], count: int
) -> None:
    told = ORIGIN.message("1", [FORGERY.readable()] * count)
    found = list(texts_in(channel(told)))
    assert any("[REDACTED]" in one for one in found)
    for one in found:
        assert "hunter2" not in one
        assert one.replace("\n", "").isprintable()
        if channel is slack_message.message_body:
            assert not re.search(r"<[!@#h]", one)
        if one.startswith("<!doctype"):
            assert "<script" not in one
