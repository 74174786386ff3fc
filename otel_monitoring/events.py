"""What an alert is: its type, its severity, and the event that is kept and delivered."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import Enum
from types import MappingProxyType
from typing import Any


class AlertType(str, Enum):
    """The documented alert types, and two more: a blocked event loop, and whatever an application names itself."""

    DATABASE_DOWN = "database_down"
    DATABASE_SLOW = "database_slow"
    HIGH_ERROR_RATE = "high_error_rate"
    HIGH_CPU = "high_cpu"
    HIGH_MEMORY = "high_memory"
    API_TIMEOUT = "api_timeout"
    BILLING_FAILURE = "billing_failure"
    DELIVERY_ISSUE = "delivery_issue"
    SECURITY_ALERT = "security_alert"
    EVENT_LOOP_BLOCKED = "event_loop_blocked"
    CUSTOM = "custom"


class AlertSeverity(str, Enum):
    """How urgent an alert is, in rising order."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


DEFAULT_SEVERITY: Mapping[AlertType, AlertSeverity] = MappingProxyType(
    {
        AlertType.DATABASE_DOWN: AlertSeverity.CRITICAL,
        AlertType.DATABASE_SLOW: AlertSeverity.WARNING,
        AlertType.HIGH_ERROR_RATE: AlertSeverity.WARNING,
        AlertType.HIGH_CPU: AlertSeverity.WARNING,
        AlertType.HIGH_MEMORY: AlertSeverity.WARNING,
        AlertType.API_TIMEOUT: AlertSeverity.WARNING,
        AlertType.BILLING_FAILURE: AlertSeverity.CRITICAL,
        AlertType.DELIVERY_ISSUE: AlertSeverity.ERROR,
        AlertType.SECURITY_ALERT: AlertSeverity.CRITICAL,
        AlertType.EVENT_LOOP_BLOCKED: AlertSeverity.WARNING,
        AlertType.CUSTOM: AlertSeverity.WARNING,
    }
)
"""The documented severity of each type."""


class Outcome(str, Enum):
    """What became of an alert that was raised."""

    NOTIFIED = "notified"
    SUPPRESSED = "suppressed"
    """The same type and message was notified less than five minutes before."""
    MUTED = "muted"


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """One alert, as it stands in the history and as channels get it.

    Attributes:
        time: When it was raised, in Unix seconds.
        type: What it is about.
        severity: How urgent it is.
        message: One line for people.
        details: JSON-serialisable values that help to understand it.
        outcome: Whether it was notified, suppressed as a duplicate, or muted.
    """

    time: float
    type: AlertType
    severity: AlertSeverity
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)
    outcome: Outcome = Outcome.NOTIFIED

    def as_json(self) -> dict[str, Any]:
        """The documented form: `timestamp`, `type`, `message`, `severity`; and `details`, `outcome`."""
        return {
            "timestamp": rfc3339(self.time),
            "type": self.type.value,
            "message": self.message,
            "severity": self.severity.value,
            "details": dict(self.details),
            "outcome": self.outcome.value,
        }


def rfc3339(unix_seconds: float) -> str:
    """A moment as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(unix_seconds, timezone.utc).isoformat(timespec="milliseconds")
