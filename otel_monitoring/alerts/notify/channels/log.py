"""The log channel: always there."""

import json
import logging

from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, Notification, Status
from otel_monitoring.alerts.notify.channels import text

logger = logging.getLogger("otel_monitoring.alerts")

_LEVELS = {
    AlertSeverity.INFO: logging.INFO,
    AlertSeverity.WARNING: logging.WARNING,
    AlertSeverity.ERROR: logging.ERROR,
    AlertSeverity.CRITICAL: logging.CRITICAL,
}


class LogChannel:
    """Writes each alert as one line to the logger `otel_monitoring.alerts`: name, message, and what is known as JSON.

    At the level of its severity while it fires, at INFO when it is over.
    """

    name = "log"

    async def send(self, notification: Notification) -> None:
        """Write every event; never fails."""
        for event in notification.events:
            self.write(event)

    def write(self, event: AlertEvent) -> None:
        """Write one event; never fails."""
        facts = {**event.labels, **event.details, "runbook": event.runbook, "trace_id": event.trace_id}
        known = {name: value for name, value in sorted(facts.items()) if value not in ("", None)}
        said = f"{text.one_line(event.message)} {json.dumps(known, ensure_ascii=False) if known else ''}".rstrip()
        if event.status is Status.RESOLVED:
            logger.info("%s resolved: %s", text.title(event), said)
        else:
            logger.log(_LEVELS[event.severity], "%s: %s", text.title(event), said)
