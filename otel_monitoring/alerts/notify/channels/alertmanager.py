"""Hand-off to Prometheus' Alertmanager: its API v2, `POST /api/v2/alerts`, as Prometheus itself uses it."""

import asyncio
import json
import logging
import re
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx
from pydantic import SecretStr

from otel_monitoring.alerts.model import AlertEvent, Notification, Status
from otel_monitoring.alerts.notify.channels import text
from otel_monitoring.alerts.notify.channels.http_post import client, post
from otel_monitoring.errors import DeliveryError
from otel_monitoring.timestamps import rfc3339

logger = logging.getLogger("otel_monitoring")

_RESEND_SECONDS = 60.0
_INTERVALS_AHEAD = 4
"""Prometheus' own: an alert ends by itself after four repetitions that did not come."""


class AlertmanagerChannel:
    """Posts alerts to every peer of an Alertmanager cluster. Peers do not share alerts: each must be told.

    Grouping, silences and routing are the Alertmanager's. Identity is in the labels alone: what changes while an alert
    fires (message, value) is an annotation. Alerts of two hosts or two rules never share one: the end of one would be
    taken for the end of the other.

    Args:
        urls: Base URL of each peer, with a path prefix where it has one; `user:password@` becomes basic authentication.
        generator_url: Where the alerts come from, for people; empty: not said.
        host: Which host's alerts they are; when not given the one that the notification names, at last this one.
        interval: Seconds between repetitions.
        clock: Unix time in seconds.
    """

    name = "alertmanager"

    def __init__(
        self,
        urls: Sequence[SecretStr],
        *,
        generator_url: str = "",
        host: str | None = None,
        interval: float = _RESEND_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.interval = interval
        self._urls = tuple(urls)
        self._generator_url = generator_url
        self._host = host
        self._clock = clock
        self._warned: set[str] = set()

    async def send(self, notification: Notification) -> None:
        """Post it to all peers at once. One that takes it is enough: the others hear it with the next repetition.

        Raises:
            DeliveryError: No peer took it; retryable when one of them may take it later.
        """
        ahead = self._clock() + _INTERVALS_AHEAD * self.interval
        alerts = [self._alert(event, notification, ahead) for event in notification.events]
        content = json.dumps(alerts).encode()
        async with client() as sender:
            outcomes = await asyncio.gather(*(self._post(sender, i, content) for i in range(len(self._urls))))
        failures = [failure for failure in outcomes if failure is not None]
        if len(failures) < len(self._urls):
            self._warn({str(failure) for failure in failures})
            return
        waits = [failure.retry_after for failure in failures if failure.retry_after is not None]
        raise DeliveryError(
            "; ".join(dict.fromkeys(str(failure) for failure in failures)),
            retryable=any(failure.retryable for failure in failures),
            retry_after=min(waits) if waits else None,
        )

    async def repeat(self, notification: Notification) -> None:
        """Say again what fires, so that it does not end.

        Raises:
            DeliveryError: No peer took it.
        """
        await self.send(notification)

    def _alert(self, event: AlertEvent, notification: Notification, ahead: float) -> dict[str, Any]:
        begun = event.since if event.since is not None else event.time
        over = event.status is Status.RESOLVED
        host = notification.host or socket.gethostname() if self._host is None else self._host
        alert: dict[str, Any] = {
            "labels": labels(event, notification, host),
            "annotations": _annotations(event, notification),
            "startsAt": rfc3339(begun),
            "endsAt": rfc3339(max(event.time, begun) if over else ahead),
        }
        return {**alert, "generatorURL": self._generator_url} if self._generator_url else alert

    def _warn(self, failures: set[str]) -> None:
        """Once for each failure, not with every repetition."""
        for failure in sorted(failures - self._warned):
            logger.warning("%s; another peer has the alerts", failure)
        self._warned = failures

    async def _post(self, sender: httpx.AsyncClient, index: int, content: bytes) -> DeliveryError | None:
        url = httpx.URL(self._urls[index].get_secret_value())
        headers = {"Content-Type": "application/json"}
        target = url.copy_with(path=f"{url.path.rstrip('/')}/api/v2/alerts")
        request = sender.build_request("POST", target, content=content, headers=headers)
        number = f" {index + 1} of {len(self._urls)}" if len(self._urls) > 1 else ""
        try:
            await post(sender, request, f"Alertmanager{number}")
        except DeliveryError as error:
            return error
        return None


def labels(event: AlertEvent, notification: Notification, host: str = "") -> dict[str, str]:
    """The alert's identity; label names in Prometheus' alphabet, empty values left out, as they mean nothing there.

    An alert's own label whose name is taken is called `exported_…`, as Prometheus does.
    """
    title = text.title(event)
    found = {
        "alertname": title,
        "alert_type": event.type.value,
        "severity": event.severity.value,
        "service": notification.service,
        "environment": notification.environment,
        "host": host,
        "rule": event.rule if event.rule != title else "",
    }
    for key, value in sorted(event.labels.items()):
        name = re.sub(r"\W", "_", key, flags=re.ASCII)
        name = f"_{name}" if not name or name[0].isdigit() else name
        while name in found:
            name = f"exported_{name}"
        found[name] = value
    return {key: text.one_line(value) for key, value in found.items() if value}


def _annotations(event: AlertEvent, notification: Notification) -> dict[str, str]:
    found = {
        "summary": text.one_line(event.message),
        "description": f"{text.plain(event)}\n\n{text.signature(notification)}",
        "runbook_url": text.link(event.runbook),
        "value": str(event.details.get("value", "")),
        "threshold": str(event.details.get("threshold", "")),
        "trace_id": event.trace_id,
        "incident": event.incident,
    }
    return {key: text.printable(value) for key, value in found.items() if value}
