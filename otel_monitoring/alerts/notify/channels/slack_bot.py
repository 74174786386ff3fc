"""The Slack channel with a bot token: a message for each alert, which is edited when the alert changes.

https://api.slack.com/methods/chat.postMessage, https://api.slack.com/methods/chat.update
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import httpx
from pydantic import SecretStr

from otel_monitoring.alerts.model import AlertEvent, Notification, Status, duration
from otel_monitoring.alerts.notify.channels import text
from otel_monitoring.alerts.notify.channels.http_post import client, post_json
from otel_monitoring.alerts.notify.channels.slack_message import message_body, mrkdwn
from otel_monitoring.errors import DeliveryError

_MESSAGES_LIMIT = 5
"""More new alerts than this are one message; Slack accepts about one message a second."""
_REPEATED_SECONDS = 60.0
"""A firing event that is these seconds later than its message is a repetition; before that it is another attempt."""
_GONE = frozenset({"message_not_found", "cant_update_message", "edit_window_closed"})
_MESSAGE_REFUSED = frozenset(
    {
        *("msg_too_long", "msg_blocks_too_long", "no_text", "invalid_arguments", "invalid_blocks"),
        *("invalid_attachments", "too_many_attachments", "invalid_blocks_format"),
    }
)
"""Errors that refuse this very message. Any other may be temporary: a token or a channel gets fixed."""


class Remembered(Protocol):
    """What all workers remember: a number for each key, for a day."""

    def noted_at(self, key: str) -> float | None:
        """The number of `key`; None: there is none."""

    def note(self, key: str, now: float) -> None:
        """Remember a number for `key`."""


class SlackBotChannel:
    """Posts a message for each alert, and edits it when the alert is acknowledged, repeated or resolved.

    Many alerts that begin together are one message; what becomes of them is said in its thread. A repetition is also
    said in the thread, because nobody is notified of an edited message.

    Args:
        token: The bot token, which needs the scope `chat:write`.
        channel: The id of the channel, e.g. `C0123456789`.
        api: The URL of Slack's API.

    Attributes:
        remembered: Returns what the workers remember; set by the alert manager.
    """

    name = "slack"
    latest_only = True

    def __init__(self, token: SecretStr, channel: str, *, api: str = "https://slack.com/api") -> None:
        self._token = token
        self._channel = channel
        self._api = api.rstrip("/")
        known = _Dictionary()
        self.remembered: Callable[[], Remembered] = lambda: known

    async def send(self, notification: Notification) -> None:
        """Post or edit what it contains. Another attempt edits what was posted before.

        Raises:
            DeliveryError: Slack did not accept all of it.
        """
        async with client() as http:
            new = [event for event in notification.events if not await self._edited(http, notification, event)]
            if len(new) > _MESSAGES_LIMIT:
                await self._post_together(http, notification, new)
                return
            for event in new:
                ts = await self._call(http, "chat.postMessage", _message(notification, [event]))
                self._remember(self._key(event), event, ts)

    async def _edited(self, http: httpx.AsyncClient, notification: Notification, event: AlertEvent) -> bool:
        """Edit the message of the alert, or say it in the thread of its message; returns whether there was one."""
        if not event.incident:
            return False
        thread = self.remembered().noted_at(self._thread_key(event))
        if thread:
            await self._call(http, "chat.postMessage", {**_message(notification, [event]), "thread_ts": _ts(thread)})
            return True
        known = self.remembered().noted_at(self._key(event))
        if not known:
            return False
        try:
            await self._call(http, "chat.update", {**_message(notification, [event]), "ts": _ts(known)})
        except DeliveryError as error:
            if not any(f"({reason})" in str(error) for reason in _GONE):
                raise
            return False
        if event.status is Status.FIRING and event.time - known > _REPEATED_SECONDS:
            since = event.since if event.since is not None else event.time
            said = f"{text.headline(event)} (for {duration(event.time - since)})"
            reply = {"text": mrkdwn(said, 2000), "thread_ts": _ts(known), "reply_broadcast": True}
            await self._call(http, "chat.postMessage", reply)
        return True

    async def _post_together(
        self, http: httpx.AsyncClient, notification: Notification, events: Sequence[AlertEvent]
    ) -> None:
        ts = await self._call(http, "chat.postMessage", _message(notification, events))
        for event in events:
            self._remember(self._thread_key(event), event, ts)

    async def _call(self, http: httpx.AsyncClient, method: str, body: dict[str, Any]) -> float:
        """Call a method of Slack's API; returns the `ts` of the message.

        Raises:
            DeliveryError: Slack did not accept it.
        """
        headers = {
            "Authorization": f"Bearer {self._token.get_secret_value()}",
            "Content-Type": "application/json; charset=utf-8",
        }
        content = json.dumps({"channel": self._channel, **body}).encode()
        request = http.build_request("POST", f"{self._api}/{method}", content=content, headers=headers)
        answer = await post_json(http, request, "Slack")
        if answer.get("ok") is not True:
            reason = text.one_line(str(answer.get("error") or "no reason"), 100)
            raise DeliveryError(f"Slack refused ({reason})", retryable=reason not in _MESSAGE_REFUSED)
        try:
            return float(answer["ts"])
        except (LookupError, TypeError, ValueError):
            raise DeliveryError("Slack answered without the message's ts", retryable=True) from None

    def _remember(self, key: str, event: AlertEvent, ts: float) -> None:
        if event.incident and event.status is not Status.RESOLVED:
            self.remembered().note(key, ts)

    def _key(self, event: AlertEvent) -> str:
        return f"slack:{self._channel}:{event.incident}"

    def _thread_key(self, event: AlertEvent) -> str:
        return f"slack thread:{self._channel}:{event.incident}"


class _Dictionary:
    """Remembers in this process alone."""

    def __init__(self) -> None:
        self._known: dict[str, float] = {}

    def noted_at(self, key: str) -> float | None:
        return self._known.get(key)

    def note(self, key: str, now: float) -> None:
        self._known[key] = now


def _message(notification: Notification, events: Sequence[AlertEvent]) -> dict[str, Any]:
    return {**message_body(replace(notification, events=tuple(events))), "unfurl_links": False}


def _ts(number: float) -> str:
    """The `ts` of a message, which has six digits after the point: a float holds them until the year 2112."""
    return f"{number:.6f}"
