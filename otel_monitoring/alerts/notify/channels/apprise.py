"""The apprise channel: any service that apprise supports, e.g. Telegram, Discord, Teams, PagerDuty or ntfy."""

from contextvars import copy_context
from functools import partial

from pydantic import SecretStr

from otel_monitoring.alerts.model import AlertSeverity, Notification, Status
from otel_monitoring.alerts.notify.channels import evidence, text
from otel_monitoring.alerts.notify.channels.http_post import without_http_logs_and_spans
from otel_monitoring.errors import ConfigurationError, DeliveryError
from otel_monitoring.runtime.threads import in_thread

_NOTIFY_TYPES = {
    AlertSeverity.INFO: "info",
    AlertSeverity.WARNING: "warning",
    AlertSeverity.ERROR: "failure",
    AlertSeverity.CRITICAL: "failure",
}


class AppriseChannel:
    """Sends a notification as text to the service of one apprise URL.

    Args:
        url: The apprise URL, which is a secret.
        name: The channel's name.

    Raises:
        ConfigurationError: apprise is not installed, or does not support the URL.
    """

    latest_only = True

    def __init__(self, url: SecretStr, name: str) -> None:
        self.name = name
        try:
            from apprise import Apprise
        except ImportError:
            raise ConfigurationError("ALERT_APPRISE_URLS: needs pip install 'otel-monitoring[apprise]'") from None
        self._service = Apprise()
        with without_http_logs_and_spans():
            known = self._service.add(url.get_secret_value())
        if not known:
            raise ConfigurationError(f"ALERT_APPRISE_URLS: apprise cannot use the URL of the channel {name}")

    async def send(self, notification: Notification) -> None:
        """Send it in a thread, because apprise blocks.

        Raises:
            DeliveryError: The service did not accept it. Always retryable: apprise does not tell the reason.
        """
        work = partial(copy_context().run, self._send, notification)
        if not await in_thread(work, name=f"otel-monitoring-{self.name}"):
            raise DeliveryError(f"{self.name}: apprise could not deliver", retryable=True)

    def _send(self, notification: Notification) -> bool:
        shown, hidden = text.shown(notification)
        paragraphs = [text.plain_text(event, evidence.plain_lines(event)) for event in shown]
        if hidden:
            paragraphs.append(f"… and {hidden} more")
        paragraphs.append(text.origin_lines(notification))
        resolved = notification.status is Status.RESOLVED
        with without_http_logs_and_spans():
            return bool(
                self._service.notify(
                    title=text.first_line(notification),
                    body="\n\n".join(paragraphs),
                    notify_type="success" if resolved else _NOTIFY_TYPES[notification.severity],
                    body_format="text",
                )
            )
