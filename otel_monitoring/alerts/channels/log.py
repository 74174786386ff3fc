"""The log channel: always there."""

import json
import logging

from otel_monitoring.events import AlertEvent, AlertSeverity

logger = logging.getLogger("otel_monitoring.alerts")

_LEVELS = {
    AlertSeverity.INFO: logging.INFO,
    AlertSeverity.WARNING: logging.WARNING,
    AlertSeverity.ERROR: logging.ERROR,
    AlertSeverity.CRITICAL: logging.CRITICAL,
}


class LogChannel:
    """Writes each alert as one line to the logger `otel_monitoring.alerts`, at the level of its severity."""

    name = "log"

    async def send(self, event: AlertEvent) -> None:
        """Log `event`; never fails."""
        details = f" {json.dumps(event.details, default=str, sort_keys=True)}" if event.details else ""
        logger.log(_LEVELS[event.severity], "%s: %s%s", event.type.name, event.message, details)
