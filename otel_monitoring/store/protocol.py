"""`Store`: what the alert manager needs of a place that keeps its state."""

from collections.abc import Sequence
from typing import Protocol

from otel_monitoring.events import AlertEvent, AlertSeverity, AlertType

HISTORY_LIMIT = 1000
"""How many alerts the history keeps, as documented."""


class Store(Protocol):
    """History and mutes. Methods are called from several threads and return at once."""

    def append(self, event: AlertEvent) -> None:
        """Add `event` to the history, dropping the oldest beyond `HISTORY_LIMIT`."""

    def events(
        self, *, limit: int, alert_type: AlertType | None = None, severity: AlertSeverity | None = None
    ) -> Sequence[AlertEvent]:
        """The newest `limit` events that match, newest first."""

    def counts(self) -> dict[AlertType, int]:
        """How many events of each type the history has seen, dropped ones included."""

    def clear(self) -> None:
        """Forget history and counts; mutes stay."""

    def mute(self, alert_type: AlertType, until: float) -> None:
        """Mute a type until `until`, in Unix seconds, replacing an earlier mute of it."""

    def unmute(self, alert_type: AlertType) -> bool:
        """End a mute; False when there was none."""

    def mutes(self, now: float) -> dict[AlertType, float]:
        """The mutes in force at `now` with their ends, in Unix seconds; expired ones are forgotten."""
