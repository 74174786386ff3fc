"""The Alertmanager channel: `POST /api/v2/alerts` of Prometheus' Alertmanager, as Prometheus itself uses it."""

import asyncio
import json
import logging
import socket
import time
from collections.abc import Callable, Sequence

import httpx
from pydantic import SecretStr

from otel_monitoring.alerts.model import Notification
from otel_monitoring.alerts.notify.channels.http_post import client, post
from otel_monitoring.errors import DeliveryError

logger = logging.getLogger("otel_monitoring")

_RESEND_SECONDS = 60.0
_EXPIRES_AFTER_INTERVALS = 4
"""An alert expires after four missing repetitions, as those of Prometheus do."""


class AlertmanagerChannel:
    """Posts alerts to every peer of an Alertmanager cluster, because peers do not share alerts.

    Grouping, silences and routing are left to the Alertmanager. The labels are the identity of an alert; what changes
    while it fires (message, value) is an annotation. Host and rule are labels: without them, the end of one host's or
    rule's alert would resolve that of another.

    Args:
        urls: The base URL of each peer, with its path prefix; `user:password@` becomes basic authentication.
        generator_url: The link from an alert back to this service; empty: none.
        host: The label `host`; None: the host of the notification, else this host.
        interval: Seconds between repetitions.
        clock: Returns Unix time in seconds.
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
        """Post it to all peers concurrently. One peer that accepts is enough: repetitions reach the others.

        Raises:
            DeliveryError: No peer accepted it; retryable if it is for one of them.
        """
        expires_at = self._clock() + _EXPIRES_AFTER_INTERVALS * self.interval
        # Imported with the first alert: most starts have none.
        from otel_monitoring.alerts.notify.channels.alertmanager_alert import alert

        host = notification.host or socket.gethostname() if self._host is None else self._host
        generator = {"generatorURL": self._generator_url} if self._generator_url else {}
        alerts = [{**alert(event, notification, host, expires_at), **generator} for event in notification.events]
        content = json.dumps(alerts).encode()
        async with client() as http:
            outcomes = await asyncio.gather(*(self._post(http, i, content) for i in range(len(self._urls))))
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
        """Post the firing alerts again, before they expire.

        Raises:
            DeliveryError: No peer accepted them.
        """
        await self.send(notification)

    def _warn(self, failures: set[str]) -> None:
        """Log each failure once, not with every repetition."""
        for failure in sorted(failures - self._warned):
            logger.warning("%s; another peer has the alerts", failure)
        self._warned = failures

    async def _post(self, http: httpx.AsyncClient, index: int, content: bytes) -> DeliveryError | None:
        url = httpx.URL(self._urls[index].get_secret_value())
        headers = {"Content-Type": "application/json"}
        target = url.copy_with(path=f"{url.path.rstrip('/')}/api/v2/alerts")
        request = http.build_request("POST", target, content=content, headers=headers)
        number = f" {index + 1} of {len(self._urls)}" if len(self._urls) > 1 else ""
        try:
            await post(http, request, f"Alertmanager{number}")
        except DeliveryError as error:
            return error
        return None
