"""What tests of channels send."""

from collections.abc import Mapping
from typing import Any

from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, AlertType, Notification, Status

NOW = 1_780_000_000.0

STACK = '  File "/srv/orders.py", line 42, in create\n    total(order)\n  File "/srv/pricing.py", line 7, in total\n'


def event(message: str = "Database connection lost", **fields: Any) -> AlertEvent:
    given: Mapping[str, Any] = {
        "type": AlertType.DATABASE_DOWN,
        "severity": AlertSeverity.CRITICAL,
        "details": {"error": "connection refused"},
        "labels": {"endpoint": "/api/orders/"},
        "incident": "incident-1",
        "runbook": "https://runbooks.example.com/database-down",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "since": NOW - 12,
        **fields,
    }
    return AlertEvent(time=NOW, message=message, **given)


def resolved(**fields: Any) -> AlertEvent:
    return event(**{"status": Status.RESOLVED, "since": NOW - 200, **fields})


def notification(*events: AlertEvent, **fields: Any) -> Notification:
    given = {
        "id": "notification-1",
        "service": "orders",
        "environment": "production",
        "version": "1.4.2",
        "host": "web-1",
        "url": "https://orders.example.com",
        **fields,
    }
    return Notification(events=events or (event(),), **given)
