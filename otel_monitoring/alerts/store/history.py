"""`AlertHistory`: what happened, and how many alerts of each type fired."""

from collections.abc import Sequence
from typing import Protocol

from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, AlertType

HISTORY_LIMIT = 1000
"""The number of events that the history keeps, as documented."""


class AlertHistory(Protocol):
    """The newest events, each with its state on each channel, which the outbox updates."""

    def append(self, event: AlertEvent) -> None:
        """Add `event`, dropping the oldest beyond `HISTORY_LIMIT`; firing events are counted."""

    def events(
        self, *, limit: int, alert_type: AlertType | None = None, severity: AlertSeverity | None = None
    ) -> Sequence[AlertEvent]:
        """The newest `limit` events of this type and severity, the newest first; None: any."""

    def counts(self) -> dict[AlertType, int]:
        """The number of firing events of each type since the last `clear`, including dropped ones."""

    def clear(self) -> None:
        """Delete the events and the counts."""
