"""`AlertManager`: raises alerts, suppresses duplicates, honours mutes, keeps the history."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.instrumentation.utils import suppress_instrumentation

from otel_monitoring.alerts.channels import Channel
from otel_monitoring.alerts.channels.log import LogChannel
from otel_monitoring.errors import DeliveryError
from otel_monitoring.events import AlertEvent, AlertSeverity, AlertType, Outcome, rfc3339
from otel_monitoring.guard import contained
from otel_monitoring.redact import redact
from otel_monitoring.store import MemoryStore, Store
from otel_monitoring.store.protocol import HISTORY_LIMIT

SUPPRESSION_SECONDS = 300.0
"""The same type and message is notified once in this time, as documented."""

_RECENT = 10


class AlertManager:
    """Raises, delivers, mutes and remembers alerts. Thread-safe; methods may be called from any event loop.

    Args:
        channels: Where alerts go; the log when not given.
        store: Where history and mutes are kept; this process when not given.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        *,
        channels: Sequence[Channel] | None = None,
        store: Store | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._channels = tuple(channels) if channels is not None else (LogChannel(),)
        self._store: Store = store if store is not None else MemoryStore()
        self._clock = clock
        self._notified_at: dict[tuple[AlertType, str], float] = {}
        self._delivery = contained("alert delivery")

    async def send_alert(
        self,
        alert_type: AlertType | str,
        message: str,
        severity: AlertSeverity | str = AlertSeverity.WARNING,
        details: Mapping[str, Any] | None = None,
    ) -> bool:
        """Raise an alert.

        Args:
            alert_type: One of `AlertType`, or its value.
            message: One line for people. Secrets in it are redacted.
            severity: One of `AlertSeverity`, or its value.
            details: Values that help to understand it; text among them is redacted.

        Returns:
            Whether it was notified: False when its type is muted or the same alert was notified within five minutes.
            It is in the history either way.

        Raises:
            ValueError: Unknown type or severity.
        """
        now = self._clock()
        kind, urgency, text = AlertType(alert_type), AlertSeverity(severity), redact(message)
        event = AlertEvent(now, kind, urgency, text, _redacted(details or {}), self._outcome(kind, text, now))
        self._store.append(event)
        if event.outcome is not Outcome.NOTIFIED:
            return False
        for channel in self._channels:
            with self._delivery, suppress_instrumentation():  # no traffic of the application's
                await channel.send(event)
        return True

    def mute_alert_type(self, alert_type: AlertType | str, duration_seconds: float = 300) -> float:
        """Mute a type: its alerts go to the history only.

        Returns:
            When the mute ends, in Unix seconds.

        Raises:
            ValueError: Unknown type, or a duration that is not positive.
        """
        if not duration_seconds > 0:
            raise ValueError(f"duration_seconds: must be greater than 0, not {duration_seconds!r}")
        until = self._clock() + duration_seconds
        self._store.mute(AlertType(alert_type), until)
        return until

    def unmute_alert_type(self, alert_type: AlertType | str) -> bool:
        """End the mute of a type; False when it was not muted."""
        return self._store.unmute(AlertType(alert_type))

    async def get_alert_summary(self) -> dict[str, Any]:
        """The documented summary: `total_alerts`, `alerts_by_type`, `muted_alerts` (with ends), `recent_alerts`."""
        counts = self._store.counts()
        mutes = self._store.mutes(self._clock())
        return {
            "total_alerts": sum(counts.values()),
            "alerts_by_type": {kind.value: count for kind, count in counts.items()},
            "muted_alerts": {kind.value: rfc3339(until) for kind, until in mutes.items()},
            "recent_alerts": self.recent(),
        }

    async def get_alert_history(
        self,
        limit: int = 100,
        alert_type: AlertType | str | None = None,
        severity: AlertSeverity | str | None = None,
    ) -> list[dict[str, Any]]:
        """The newest alerts first, each with `timestamp`, `type`, `message`, `severity`, `details`, `outcome`.

        Raises:
            ValueError: Unknown type or severity, or a limit outside 1 to 1000.
        """
        if not 1 <= limit <= HISTORY_LIMIT:
            raise ValueError(f"limit: must be from 1 to {HISTORY_LIMIT}, not {limit}")
        events = self._store.events(
            limit=limit,
            alert_type=AlertType(alert_type) if alert_type is not None else None,
            severity=AlertSeverity(severity) if severity is not None else None,
        )
        return [event.as_json() for event in events]

    async def test_channels(self) -> dict[str, dict[str, Any]]:
        """Send a test alert through every channel.

        Returns:
            By channel name: `delivered`, and `error` (redacted) where it was not.
        """
        event = AlertEvent(self._clock(), AlertType.CUSTOM, AlertSeverity.INFO, "Test alert from otel_monitoring")
        results: dict[str, dict[str, Any]] = {}
        for channel in self._channels:
            try:
                with suppress_instrumentation():
                    await channel.send(event)
            except DeliveryError as error:
                results[channel.name] = {"delivered": False, "error": redact(str(error))}
            else:
                results[channel.name] = {"delivered": True}
        return results

    def recent(self) -> list[dict[str, Any]]:
        """The last ten alerts, newest first."""
        return [event.as_json() for event in self._store.events(limit=_RECENT)]

    def reset_stats(self) -> None:
        """Forget history and counts; mutes stay."""
        self._store.clear()
        self._notified_at.clear()

    def _outcome(self, kind: AlertType, message: str, now: float) -> Outcome:
        if kind in self._store.mutes(now):
            return Outcome.MUTED
        horizon = now - SUPPRESSION_SECONDS
        self._notified_at = {key: at for key, at in self._notified_at.items() if at > horizon}
        if (kind, message) in self._notified_at:
            return Outcome.SUPPRESSED
        self._notified_at[kind, message] = now
        return Outcome.NOTIFIED


def _redacted(details: Mapping[str, Any]) -> dict[str, Any]:
    return {key: redact(value) if isinstance(value, str) else value for key, value in details.items()}
