"""Slack with a bot token: a message for each alert, edited in place; the server answers as Slack documents."""

import itertools
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from otel_monitoring.alerts import AlertManager, AlertSeverity, AlertType
from otel_monitoring.alerts.model import Acknowledgement, AlertEvent, Notification, Status
from otel_monitoring.alerts.notify.channels import text
from otel_monitoring.alerts.notify.channels.from_settings import channels_from
from otel_monitoring.alerts.notify.channels.slack_bot import SlackBotChannel
from otel_monitoring.alerts.store import MemoryStore
from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import ConfigurationError, DeliveryError
from otel_monitoring.testing import ManualClock
from tests.http_server import Answer, HttpServer, Request

pytestmark = pytest.mark.anyio

TOKEN = "xoxb-not-a-real-token"
CHANNEL = "C0123456789"
NOW = 1_700_000_000.0


class FakeSlack:
    """`chat.postMessage` and `chat.update` as https://api.slack.com/methods documents them."""

    def __init__(self, now: float = NOW) -> None:
        self._now = now
        self.messages: dict[str, dict[str, Any]] = {}
        """What is in the channel, by `ts`, in the order of posting."""
        self.calls: list[str] = []
        self.errors: list[Answer] = []
        """What is answered next, in place of doing it."""
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Answer:
        with self._lock:
            return self._answer(request)

    def _answer(self, request: Request) -> Answer:
        method, body = request.path.rpartition("/")[2], json.loads(request.body)
        self.calls.append(method)
        if self.errors:
            return self.errors.pop(0)
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return said(ok=False, error="invalid_auth")
        if not request.headers["content-type"].startswith("application/json"):
            return said(ok=False, error="invalid_post_type")
        if body.get("channel") != CHANNEL:
            return said(ok=False, error="channel_not_found")
        if not body.get("text"):
            return said(ok=False, error="no_text")
        if method == "chat.postMessage":
            thread = body.get("thread_ts")
            if thread is not None and thread not in self.messages:
                return said(ok=False, error="thread_not_found")
            ts = f"{self._now + 0.000001 * next(self._numbers):.6f}"
            self.messages[ts] = body
            return said(ok=True, channel=CHANNEL, ts=ts, message={"text": body["text"], "ts": ts})
        assert method == "chat.update", method
        if body.get("ts") not in self.messages:
            return said(ok=False, error="message_not_found")
        self.messages[body["ts"]] = {**body, "edited": True}
        return said(ok=True, channel=CHANNEL, ts=body["ts"], text=body["text"])

    @property
    def shown(self) -> list[str]:
        """The first lines of the messages, with `> ` before those in a thread and `*` after those that were edited."""
        return [
            f"{'> ' if 'thread_ts' in one else ''}{one['text']}{'*' if one.get('edited') else ''}"
            for one in self.messages.values()
        ]


def said(**answer: Any) -> Answer:
    return Answer(200, json.dumps(answer).encode(), {"Content-Type": "application/json; charset=utf-8"})


@pytest.fixture
def slack() -> Iterator[tuple[FakeSlack, SlackBotChannel]]:
    fake = FakeSlack()
    with HttpServer(fake) as server:
        yield fake, SlackBotChannel(SecretStr(TOKEN), CHANNEL, api=f"{server.url}/api/")


def event(incident: str = "a", **changes: Any) -> AlertEvent:
    made = AlertEvent(
        NOW, AlertType.DATABASE_DOWN, AlertSeverity.CRITICAL, "Database connection lost", incident=incident
    )
    return replace(made, **{"since": NOW, "rule": "database_down", **changes})


def about(*events: AlertEvent) -> Notification:
    return Notification("id", events, "orders", "production")


async def test_a_message_is_edited_when_its_alert_is_acknowledged_and_resolved(slack: Any) -> None:
    fake, channel = slack
    await channel.send(about(event()))
    assert fake.shown == ["[orders/production] CRITICAL DATABASE_DOWN firing: Database connection lost"]
    by = Acknowledgement(NOW + 60, "ana", "on it")
    await channel.send(about(event(time=NOW + 60, status=Status.ACKNOWLEDGED, acknowledged=by)))
    (message,) = fake.messages.values()
    assert message["text"] == "[orders/production] CRITICAL DATABASE_DOWN acknowledged: Database connection lost"
    assert "*Acknowledged:* by ana: on it" in json.dumps(message["attachments"])
    await channel.send(about(event(time=NOW + 90, status=Status.RESOLVED)))
    assert fake.shown == ["[orders/production] CRITICAL DATABASE_DOWN resolved: Database connection lost*"]
    assert [one["color"] for one in message["attachments"] if "color" in one] == ["#c92a2a"]
    assert fake.calls == ["chat.postMessage", "chat.update", "chat.update"]


async def test_a_repetition_is_said_in_the_thread_because_nobody_is_notified_of_an_edit(slack: Any) -> None:
    fake, channel = slack
    await channel.send(about(event()))
    await channel.send(about(event(time=NOW + 4 * 3600)))
    assert fake.shown == [
        "[orders/production] CRITICAL DATABASE_DOWN firing: Database connection lost*",
        "> CRITICAL DATABASE_DOWN firing: Database connection lost (for 4 h)",
    ]
    assert list(fake.messages.values())[-1]["reply_broadcast"] is True


async def test_many_that_begin_together_are_one_message_with_a_thread(slack: Any) -> None:
    fake, channel = slack
    await channel.send(about(*(event(str(number)) for number in range(6))))
    assert fake.shown == ["[orders/production] CRITICAL 6 firing: DATABASE_DOWN"]
    await channel.send(about(event("3", status=Status.RESOLVED, time=NOW + 9)))
    assert fake.shown[1:] == ["> [orders/production] CRITICAL DATABASE_DOWN resolved: Database connection lost"]


async def test_another_attempt_posts_nothing_twice(slack: Any) -> None:
    fake, channel = slack
    fake.errors = [said(ok=True, channel=CHANNEL, ts=f"{NOW:.6f}"), Answer(500)]
    fake.messages[f"{NOW:.6f}"] = {"text": "the first"}
    with pytest.raises(DeliveryError, match="Slack answered 500"):
        await channel.send(about(event("a"), event("b")))
    await channel.send(about(event("a"), event("b")))
    assert len(fake.messages) == 2
    assert fake.calls == ["chat.postMessage"] * 2 + ["chat.update", "chat.postMessage"]


async def test_a_message_that_somebody_deleted_is_posted_again(slack: Any) -> None:
    fake, channel = slack
    await channel.send(about(event()))
    fake.messages.clear()
    await channel.send(about(event(status=Status.RESOLVED, time=NOW + 9)))
    assert fake.shown == ["[orders/production] CRITICAL DATABASE_DOWN resolved: Database connection lost"]


@pytest.mark.parametrize(
    ("answer", "message", "retryable", "wait"),
    [
        (said(ok=False, error="invalid_auth"), "Slack refused (invalid_auth)", True, None),
        (said(ok=False, error="msg_too_long"), "Slack refused (msg_too_long)", False, None),
        (said(ok=False), "Slack refused (no reason)", True, None),
        (said(ok=True), "Slack answered without the message's ts", True, None),
        (Answer(200, b"<html>"), "Slack answered without JSON", True, None),
        (Answer(429, b'{"ok":false,"error":"ratelimited"}', {"Retry-After": "30"}), "Slack answered 429", True, 30.0),
    ],
)
async def test_what_slack_does_not_accept_is_said_and_tried_again_where_that_helps(
    slack: Any, answer: Answer, message: str, retryable: bool, wait: float | None
) -> None:
    fake, channel = slack
    fake.errors = [answer]
    with pytest.raises(DeliveryError) as refused:
        await channel.send(about(event()))
    error = refused.value
    assert (str(error), error.retryable, error.retry_after) == (message, retryable, wait)
    assert TOKEN not in str(error)


async def test_another_worker_edits_the_message_too() -> None:
    """The store remembers which message it is: a new leader, or a restart, edits it."""
    fake, store, clock = FakeSlack(), MemoryStore(), ManualClock(NOW)
    with HttpServer(fake) as server:
        settings = Settings.load(
            slack_bot_token=TOKEN, slack_channel=CHANNEL, slack_api_url=server.url, slack_webhook_url="https://unused"
        )
        one, other = (AlertManager(settings=settings, store=store, clock=clock, elapsed=clock) for _ in range(2))
        assert [channel.name for channel in one.channels] == ["log", "slack"]
        await one.send_alert("billing_failure", "7 failed", "critical")
        (raised, *_) = await one.get_alert_history()
        await other.acknowledge(raised["incident"], author="ana")
    assert len(fake.messages) == 1
    assert "BILLING_FAILURE acknowledged: 7 failed*" in fake.shown[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"slack_bot_token": TOKEN}, "SLACK_CHANNEL: is needed where SLACK_BOT_TOKEN is set"),
        ({"slack_bot_token": TOKEN, "slack_channel": "#alerts"}, "SLACK_CHANNEL: it must be the channel's id"),
        ({"slack_bot_token": "xoxb two words", "slack_channel": CHANNEL}, "SLACK_BOT_TOKEN: it must be a token"),
        ({"slack_bot_token": TOKEN, "slack_channel": CHANNEL, "slack_api_url": "slack.com"}, "SLACK_API_URL: "),
    ],
)
async def test_what_cannot_work_is_refused_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{message}"):
        channels_from(Settings.load(**given))


async def test_a_title_of_ones_own_is_the_first_line_everywhere() -> None:
    template = "{severity}|{status}|{service}|{environment}|{name}|{labels}|{message}"
    one = replace(about(event(labels={"endpoint": "/a"})), title=template)
    expected = "critical|firing|orders|production|DATABASE_DOWN|endpoint=/a|Database connection lost"
    assert (text.first_line(one), text.subject(one)) == (expected, expected)
    both = replace(about(event(), event("b", status=Status.RESOLVED)), title=template)
    counted = "critical|firing|orders|production|DATABASE_DOWN||CRITICAL 1 firing, 1 resolved: DATABASE_DOWN"
    assert text.first_line(both) == counted
    broken = replace(one, title="{nothing}")
    assert text.first_line(broken).startswith("[orders/production] CRITICAL DATABASE_DOWN"), "as without one"
