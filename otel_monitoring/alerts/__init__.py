"""Alerts: raise them, mute them, look them up. These names are the documented ones."""

from collections.abc import Mapping
from typing import Any

from otel_monitoring.alerts.manager import AlertManager
from otel_monitoring.events import AlertEvent, AlertSeverity, AlertType

__all__ = [
    "AlertEvent",
    "AlertManager",
    "AlertSeverity",
    "AlertType",
    "alert_database_down",
    "alert_high_error_rate",
    "alert_performance_issue",
    "get_alert_manager",
    "initialize_alerts",
    "set_alert_manager",
]

_manager: AlertManager | None = None


def initialize_alerts() -> AlertManager:
    """Make the process's alert manager, or return the one already made."""
    global _manager
    if _manager is None:
        _manager = AlertManager()
    return _manager


def set_alert_manager(manager: AlertManager | None) -> None:
    """Make `manager` the one that `get_alert_manager` and the helpers use."""
    global _manager
    _manager = manager


def get_alert_manager() -> AlertManager | None:
    """The process's alert manager; None before `initialize_alerts`, `set_alert_manager` or `instrument`."""
    return _manager


async def alert_database_down(details: Mapping[str, Any] | None = None) -> bool:
    """Raise DATABASE_DOWN, critical."""
    return await initialize_alerts().send_alert(
        AlertType.DATABASE_DOWN, "Database connection lost", AlertSeverity.CRITICAL, details
    )


async def alert_high_error_rate(error_rate: float, details: Mapping[str, Any] | None = None) -> bool:
    """Raise HIGH_ERROR_RATE, a warning; `error_rate` in percent."""
    return await initialize_alerts().send_alert(
        AlertType.HIGH_ERROR_RATE, f"High error rate: {error_rate:.2f}%", AlertSeverity.WARNING, details
    )


async def alert_performance_issue(
    endpoint: str, response_time_ms: float, details: Mapping[str, Any] | None = None
) -> bool:
    """Raise API_TIMEOUT, a warning, in the documented form; `response_time_ms` in milliseconds."""
    return await initialize_alerts().send_alert(
        AlertType.API_TIMEOUT,
        f"Slow API response: {endpoint} ({response_time_ms:.2f}ms)",
        AlertSeverity.WARNING,
        details,
    )
