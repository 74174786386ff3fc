"""The webhook channel: signed JSON by the rules of Standard Webhooks, https://www.standardwebhooks.com.

The body has `type` (`alert.firing`, `alert.acknowledged`, or `alert.resolved` if every event is), `timestamp` (RFC
3339, of the newest event) and `data`: `id`, `service`, `environment`, `version`, `host`, `url` (the service's public
URL), `status`, `severity` and `alerts`, a list in the form of `/api/alerts/history`. Headers: `webhook-id` (constant
over all attempts, so that receivers can drop repetitions), `webhook-timestamp` (Unix seconds of the attempt) and, with
a secret, `webhook-signature`: `v1,` and the base64 of HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body>`.
"""

import base64
import hmac
import time
from collections.abc import Callable

from pydantic import SecretStr

from otel_monitoring.alerts.model import Notification
from otel_monitoring.alerts.notify.channels.http_post import client, direct, post
from otel_monitoring.alerts.notify.channels.public_address import PinnedTransport
from otel_monitoring.config.channels import webhook_key
from otel_monitoring.redact.json_text import json_text
from otel_monitoring.timestamps import rfc3339


class WebhookChannel:
    """Posts a notification as signed JSON to a configured URL, always directly, never through a proxy.

    Args:
        url: The URL; it may contain a secret.
        secret: The key of the signature: `whsec_` and base64; None: unsigned.
        allow_private: Allow loopback, private and link-local addresses.
        clock: Returns Unix time in seconds.
    """

    name = "webhook"

    def __init__(
        self,
        url: SecretStr,
        secret: SecretStr | None = None,
        *,
        allow_private: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = url
        self._secret = secret
        self._allow_private = allow_private
        self._clock = clock

    async def send(self, notification: Notification) -> None:
        """Post it; any 2xx status is success.

        Raises:
            DeliveryError: The receiver did not accept it, or has no allowed address.
        """
        content = body(notification)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "otel-monitoring",
            "webhook-id": notification.id,
            "webhook-timestamp": str(int(self._clock())),
        }
        if self._secret is not None:
            key = webhook_key(self._secret.get_secret_value())
            headers["webhook-signature"] = signature(key, headers["webhook-id"], headers["webhook-timestamp"], content)
        async with client(PinnedTransport(direct(), allow_private=self._allow_private)) as http:
            request = http.build_request("POST", self._url.get_secret_value(), content=content, headers=headers)
            await post(http, request, "The webhook")


def body(notification: Notification) -> bytes:
    """The JSON body; every attempt has the same bytes, because they are signed."""
    document = {
        "type": f"alert.{notification.status.value}",
        "timestamp": rfc3339(max(event.time for event in notification.events)),
        "data": {
            "id": notification.id,
            "service": notification.service,
            "environment": notification.environment,
            "version": notification.version,
            "host": notification.host,
            "url": notification.url,
            "status": notification.status.value,
            "severity": notification.severity.value,
            "alerts": [event.as_json() for event in notification.events],
        },
    }
    return json_text(document).encode()


def signature(key: bytes, identifier: str, timestamp: str, content: bytes) -> str:
    """The value of the header `webhook-signature`.

    Args:
        key: The key, decoded.
        identifier: The value of `webhook-id`.
        timestamp: The value of `webhook-timestamp`.
        content: The body.
    """
    digest = hmac.digest(key, f"{identifier}.{timestamp}.".encode() + content, "sha256")
    return f"v1,{base64.b64encode(digest).decode()}"
