"""The log channel, which every service has."""

import json
import logging

from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, Notification, Status

logger = logging.getLogger("otel_monitoring.alerts")

_LEVELS = {
    AlertSeverity.INFO: logging.INFO,
    AlertSeverity.WARNING: logging.WARNING,
    AlertSeverity.ERROR: logging.ERROR,
    AlertSeverity.CRITICAL: logging.CRITICAL,
}


class LogChannel:
    """Writes each event as one line to the logger `otel_monitoring.alerts`: name, message, labels and details as JSON.

    The level is that of the severity for a firing event, INFO for an acknowledged or resolved one.
    """

    name = "log"

    async def send(self, notification: Notification) -> None:
        """Write every event; never raises."""
        for event in notification.events:
            self.write(event)

    def write(self, event: AlertEvent) -> None:
        """Write one event; never raises."""
        # Imported with the first alert: most starts have none.
        from otel_monitoring.alerts.notify.channels import evidence, text

        facts = {
            **event.labels,
            **event.details,
            "runbook": event.runbook,
            "trace_id": event.trace_id,
            **{name.lower().replace(" ", "_"): value for name, value in evidence.plain_lines(event)},
        }
        known = {name: value for name, value in sorted(facts.items()) if value not in ("", None)}
        line = f"{text.one_line(event.message)} {json.dumps(known, ensure_ascii=False) if known else ''}".rstrip()
        if event.acknowledged is not None:
            author, reason = (text.one_line(said) for said in (event.acknowledged.author, event.acknowledged.reason))
            logger.info("%s acknowledged by %s (%s): %s", text.title(event), author or "nobody", reason or "-", line)
        elif event.status is Status.RESOLVED:
            logger.info("%s resolved: %s", text.title(event), line)
        else:
            logger.log(_LEVELS[event.severity], "%s: %s", text.title(event), line)
