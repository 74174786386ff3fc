"""The log channel: always there."""

import json
import logging

from otel_monitoring.events import AlertEvent, AlertSeverity, Notification, Status

logger = logging.getLogger("otel_monitoring.alerts")

_LEVELS = {
    AlertSeverity.INFO: logging.INFO,
    AlertSeverity.WARNING: logging.WARNING,
    AlertSeverity.ERROR: logging.ERROR,
    AlertSeverity.CRITICAL: logging.CRITICAL,
}


class LogChannel:
    """Writes each alert as one line to the logger `otel_monitoring.alerts`.

    At the level of its severity while it fires, at INFO when it is over.
    """

    name = "log"

    async def send(self, notification: Notification) -> None:
        """Log every event; never fails."""
        for event in notification.events:
            _log(event)


def _log(event: AlertEvent) -> None:
    details = f" {json.dumps(event.details, default=str, sort_keys=True)}" if event.details else ""
    if event.status is Status.RESOLVED:
        logger.info("%s resolved: %s%s", event.type.name, event.message, details)
    else:
        logger.log(_LEVELS[event.severity], "%s: %s%s", event.type.name, event.message, details)
