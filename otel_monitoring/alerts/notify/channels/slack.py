"""The Slack channel: an incoming webhook, https://api.slack.com/messaging/webhooks."""

import json

from pydantic import SecretStr

from otel_monitoring.alerts.model import Notification
from otel_monitoring.alerts.notify.channels.http_post import client, post


class SlackChannel:
    """Posts a notification as one message: a summary, then each event with the colour of its severity.

    Args:
        url: The URL of the incoming webhook, which is a secret.
    """

    name = "slack"
    latest_only = True

    def __init__(self, url: SecretStr) -> None:
        self._url = url

    async def send(self, notification: Notification) -> None:
        """Post it.

        Raises:
            DeliveryError: Slack did not accept it: see `post`.
        """
        # Imported with the first alert: most starts have none.
        from otel_monitoring.alerts.notify.channels.slack_message import message_body

        body = json.dumps(message_body(notification)).encode()
        async with client() as http:
            request = http.build_request(
                "POST",
                self._url.get_secret_value(),
                content=body,
                headers={"Content-Type": "application/json; charset=utf-8"},
            )
            await post(http, request, "Slack")
