"""What changed, as channels show it."""

import json
import logging
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from otel_monitoring.alerts.model import AlertType
from otel_monitoring.alerts.notify.channels import evidence, slack_message
from otel_monitoring.alerts.notify.channels.email_message import html_part, text_part
from otel_monitoring.alerts.notify.channels.log import LogChannel
from otel_monitoring.alerts.notify.channels.webhook import body
from otel_monitoring.alerts.store.serialization import decoded_event, encoded_event
from tests.notifications import event, notification

TRACE = "0af7651916cd43dd8448eb211c80319c"
EVIDENCE: dict[str, Any] = {
    "course": {"minutes": 4, "values": [None, 0.0, 0.5, 16.0, 32.0]},
    "culprits": [
        {"kind": "route", "names": ["GET /a"], "text": "route GET /a: 97 % of the errors, 12 % of the requests"},
        {"kind": "exception", "names": ["KeyError"], "text": "exception KeyError: 97 % of the errors"},
    ],
    "traces": [
        {"trace_id": TRACE, "request": "GET /a", "seconds": 1.934, "status": 500, "url": f"https://t.example.com/{TRACE}?a=1&b=2"},
        {"trace_id": "1" * 32, "request": "GET /a", "seconds": 0.5, "status": 500},
    ],
    "exception": {"type": "KeyError", "message": "KeyError: <total>", "place": "a.py:33 in new", "request": "GET /a"},
    "release": {"version": "1.1.0", "before": "1.0.0", "at": "2026-11-28T18:49:25.000+00:00", "seconds_before": 60},
    "page_url": "https://orders.example.com/api/status",
}  # fmt: skip


def told(**more: Any) -> Any:
    return event(type=AlertType.HIGH_ERROR_RATE, details={"value": 32.0, "threshold": 5.0}, evidence=EVIDENCE, **more)


def test_the_text_of_a_mail_says_what_changed_after_the_value() -> None:
    lines = text_part(notification(told())).splitlines()
    begin = next(place for place, line in enumerate(lines) if "Value:" in line)
    assert lines[begin + 1 : begin + 11] == [
        "  Course: ·▁▁▅█  0.5 → 32 in 4 min",
        "  Stands out: route GET /a: 97 % of the errors, 12 % of the requests",
        "  Also: exception KeyError: 97 % of the errors",
        "  Exception: KeyError: <total> (a.py:33 in new) in GET /a",
        "  Release: 1.1.0 at 2026-11-28 18:49:25 UTC",
        "  Traces:",
        f"    {TRACE} · 1.93 s · GET /a · 500  https://t.example.com/{TRACE}?a=1&b=2",
        f"    {'1' * 32} · 0.5 s · GET /a · 500",
        "  Status page: https://orders.example.com/api/status",
        "  endpoint: /api/orders/",
    ]


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if tag == "a" and name == "href"]


def test_the_html_of_a_mail_draws_the_course_and_links_the_traces() -> None:
    html = html_part(notification(told()))
    assert re.findall(r"height:(\d+)px;background", html) == ["1", "2", "19", "36"]
    found = _Links()
    found.feed(html)
    assert f"https://t.example.com/{TRACE}?a=1&b=2" in found.links
    assert "https://orders.example.com/api/status" in found.links
    assert "KeyError: &lt;total&gt;" in html
    assert "<svg" not in html
    assert "<img" not in html


def test_a_mail_of_many_alerts_is_shorter_than_what_gmail_cuts() -> None:
    values = [float(number) for number in range(31)]
    events = [
        event(
            f"number {number}", evidence={**EVIDENCE, "course": {"minutes": 30, "values": values}}, incident=str(number)
        )
        for number in range(20)
    ]
    assert len(html_part(notification(*events))) < 100_000


def test_slack_has_what_stands_out_and_links() -> None:
    (first, _) = slack_message.message_body(notification(told()))["attachments"]
    text = first["blocks"][0]["text"]["text"]
    assert "*Course:* ·▁▁▅█  0.5 → 32 in 4 min" in text
    assert "*Stands out:* route GET /a: 97 % of the errors" in text
    assert f"*Trace:* <https://t.example.com/{TRACE}?a=1&amp;b=2|{TRACE} · 1.93 s · GET /a · 500>" in text
    assert "<https://orders.example.com/api/status|Status page>" in text
    assert len(text) <= 2900


def test_a_webhook_has_it_as_json() -> None:
    (alert,) = json.loads(body(notification(told())))["data"]["alerts"]
    assert alert["evidence"] == EVIDENCE


def test_the_log_has_it_in_its_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "otel_monitoring.alerts"):
        LogChannel().write(told())
    (record,) = caplog.records
    assert '"stands_out": "route GET /a: 97 % of the errors, 12 % of the requests"' in record.getMessage()


def test_it_is_stored_with_the_event() -> None:
    assert decoded_event(encoded_event(told().readable())).evidence == EVIDENCE


def test_an_event_of_an_earlier_version_has_none() -> None:
    record = json.loads(encoded_event(event()))
    del record["evidence"]
    assert decoded_event(json.dumps(record)).evidence == {}


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"course": None, "culprits": "x", "traces": [1], "exception": [], "release": 5, "page_url": 7},
        {"course": {"values": [None, None]}, "traces": [{"url": "javascript:alert(1)", "trace_id": "a"}]},
        {"course": {"values": [0.0, 0.0]}, "culprits": [{}], "page_url": "javascript:alert(1)"},
    ],
)
def test_what_is_damaged_breaks_no_message(found: dict[str, Any]) -> None:
    one = event(evidence=found)
    assert text_part(notification(one))
    assert "javascript:" not in html_part(notification(one))
    assert slack_message.message_body(notification(one))


def test_bars_begin_at_zero_and_may_go_below() -> None:
    assert evidence.heights([50.0, 100.0], 8) == [5, 8]
    assert evidence.heights([-10.0, 0.0, 10.0], 3) == [1, 2, 3]
    assert evidence.heights([0.0, None], 8) == [1, None]
