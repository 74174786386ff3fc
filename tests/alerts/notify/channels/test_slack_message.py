"""Slack's message: within its limits, and nothing in an alert can mention or link anybody."""

import json
from dataclasses import replace

import pytest

from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, AlertType
from otel_monitoring.alerts.notify.channels.slack_message import message_body, mrkdwn
from tests.notifications import STACK, event, notification, resolved


def test_the_whole_message() -> None:
    assert message_body(notification(event(details={"value": 7.5, "threshold": 5.0}))) == {
        "text": "[orders/production] CRITICAL DATABASE_DOWN firing: Database connection lost",
        "attachments": [
            {
                "color": "#c92a2a",
                "fallback": "CRITICAL DATABASE_DOWN firing: Database connection lost",
                "blocks": [
                    {
                        "type": "section",
                        "text": {
                            "type": "mrkdwn",
                            "text": "*CRITICAL DATABASE_DOWN firing: Database connection lost*\n"
                            "*Since:* 2026-05-28 20:26:28 UTC\n"
                            "*Value:* 7.5 (threshold 5)\n"
                            "*endpoint:* /api/orders/\n"
                            "*Trace:* 0af7651916cd43dd8448eb211c80319c\n"
                            "<https://runbooks.example.com/database-down|Runbook>",
                            "verbatim": True,
                        },
                    }
                ],
            },
            {
                "fallback": "orders, production, 1.4.2, web-1, https://orders.example.com",
                "blocks": [
                    {
                        "type": "section",
                        "text": {
                            "type": "mrkdwn",
                            "text": "*Service:* orders · *Environment:* production · *Version:* 1.4.2"
                            " · *Host:* web-1 · *URL:* https://orders.example.com",
                            "verbatim": True,
                        },
                    }
                ],
            },
        ],
    }


def test_each_alert_has_the_colour_of_its_severity_and_what_is_over_is_green() -> None:
    sent = message_body(notification(*(event(severity=severity) for severity in AlertSeverity), resolved()))
    colours = [attachment["color"] for attachment in sent["attachments"][:-1]]
    assert len(set(colours)) == 5
    assert colours[-1] == "#2f9e44"


def test_no_text_of_an_alert_mentions_or_links_anybody() -> None:
    attack = "<!channel> <@U012AB3CD> <https://evil.example|click> &lt;"
    hostile = event(
        attack, labels={attack: attack}, details={attack: f"{attack}\n{attack}"}, trace_id=attack, rule=attack
    )
    sent = json.dumps(message_body(notification(hostile, service=attack, environment=attack)))
    assert "&lt;!channel&gt;" in sent
    assert sent.count("<") == sent.count(">") == 1, "the runbook's link alone"


def test_the_largest_notification_keeps_slacks_limits() -> None:
    def huge(number: int) -> AlertEvent:
        return replace(one, rule=f"rule {number}")

    one = event(
        "&" * 5000,
        type=AlertType.CUSTOM,
        details={f"{'&' * 200}{i}": "&\n" * 3000 if i % 2 else "&" * 3000 for i in range(100)},
        labels={f"label{i}": "&" * 900 for i in range(30)},
        runbook="https://example.com/" + "&" * 470,
    )
    sent = message_body(notification(*(huge(number) for number in range(60)), service="&" * 300))
    blocks = [block for attachment in sent["attachments"] for block in attachment["blocks"]]
    assert len(sent["attachments"]) == 22
    assert len(blocks) <= 50
    assert all(0 < len(block["text"]["text"]) <= 3000 for block in blocks)
    assert len(sent["text"]) <= 4000
    assert sum(len(block["text"]["text"]) for block in blocks) <= 13_200
    assert blocks[-2]["text"]["text"] == "… and 40 more"
    alone = message_body(notification(one))["attachments"][0]["blocks"][0]["text"]["text"]
    assert alone.endswith("|Runbook>")


def test_a_stack_is_a_code_block() -> None:
    body = message_body(notification(event(details={"stack": STACK})))["attachments"][0]["blocks"][0]["text"]["text"]
    assert '*stack:*\n```File "/srv/orders.py", line 42, in create\n' in body


def test_of_a_long_stack_the_innermost_call_is_shown() -> None:
    stack = [f'File "/srv/module_{i}.py", line {i}, in <function_{i}>' for i in range(100)]
    body = message_body(notification(event(details={"stack": stack})))["attachments"][0]["blocks"][0]["text"]["text"]
    assert "in &lt;function_99&gt;```" in body


@pytest.mark.parametrize(
    ("plain", "limit", "escaped"),
    [
        ("a & b < c > d", 100, "a &amp; b &lt; c &gt; d"),
        ("&&&", 11, "&amp;&amp;…"),
        ("abc", 4, "abc"),
        ("", 5, ""),
    ],
)
def test_escapes_are_never_cut_in_two(plain: str, limit: int, escaped: str) -> None:
    assert mrkdwn(plain, limit) == escaped
    assert len(mrkdwn(plain, limit)) <= limit
