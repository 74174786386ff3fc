"""Alerts: raise them, mute them, look them up. These names are the documented ones."""

from collections.abc import Mapping
from typing import Any

from otel_monitoring.alerts.manager import AlertManager
from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, AlertType
from otel_monitoring.alerts.rules.expressions import Count, Gauge, Percent, Quantile, error_rate, requests
from otel_monitoring.alerts.rules.matchers import Attribute
from otel_monitoring.alerts.rules.rule import NoData, Rule
from otel_monitoring.config.settings import THRESHOLDS, Settings
from otel_monitoring.runtime.current import running

__all__ = [
    "THRESHOLDS",
    "AlertEvent",
    "AlertManager",
    "AlertSeverity",
    "AlertType",
    "Attribute",
    "Count",
    "Gauge",
    "NoData",
    "Percent",
    "Quantile",
    "Rule",
    "alert_database_down",
    "alert_high_error_rate",
    "alert_performance_issue",
    "error_rate",
    "get_alert_manager",
    "initialize_alerts",
    "requests",
    "set_alert_manager",
]

_chosen: AlertManager | None = None
_first: AlertManager | None = None
"""The one of the first service, for code outside of every application."""


def initialize_alerts(settings: Settings | None = None) -> AlertManager:
    """Make the process's alert manager, for all its services, or return what `get_alert_manager` does.

    Args:
        settings: Where its channels, store and thresholds come from; the environment when not given.

    Raises:
        ConfigurationError: A setting cannot work; the message names it.
    """
    found = get_alert_manager()
    if found is None:
        found = AlertManager(settings=settings)
        set_alert_manager(found)
    return found


def set_alert_manager(manager: AlertManager | None) -> None:
    """Make `manager` the one of every service that was not given one, and of `get_alert_manager` and the helpers."""
    global _chosen, _first
    _chosen = manager
    if manager is None:
        _first = None


def get_alert_manager() -> AlertManager | None:
    """The alert manager of the service whose application is running, see `get_monitoring`.

    Elsewhere the one of `set_alert_manager` or `initialize_alerts`, or else that of the first service. None before.
    """
    service = running.get()
    return service.alert_manager if service is not None else _chosen or _first


def chosen_alert_manager() -> AlertManager | None:
    """The one of `set_alert_manager` or `initialize_alerts`."""
    return _chosen


def offer_alert_manager(manager: AlertManager) -> None:
    """Let `manager`, a service's own, be the one of `get_alert_manager` where there is none."""
    global _first
    if _first is None:
        _first = manager


async def alert_database_down(details: Mapping[str, Any] | None = None) -> bool:
    """Raise DATABASE_DOWN, critical."""
    return await initialize_alerts().send_alert(
        AlertType.DATABASE_DOWN, "Database connection lost", AlertSeverity.CRITICAL, details
    )


async def alert_high_error_rate(error_rate: float, details: Mapping[str, Any] | None = None) -> bool:
    """Raise HIGH_ERROR_RATE, a warning; `error_rate` in percent. Whichever it is, it is told once in five minutes."""
    return await initialize_alerts().send_alert(
        AlertType.HIGH_ERROR_RATE,
        f"High error rate: {error_rate:.2f}%",
        AlertSeverity.WARNING,
        details,
        dedup_key="error rate",
    )


async def alert_performance_issue(
    endpoint: str, response_time_ms: float, details: Mapping[str, Any] | None = None
) -> bool:
    """Raise API_TIMEOUT, a warning, in the documented form; `response_time_ms` in milliseconds.

    Each endpoint is told once in five minutes, however slow it is.
    """
    return await initialize_alerts().send_alert(
        AlertType.API_TIMEOUT,
        f"Slow API response: {endpoint} ({response_time_ms:.2f}ms)",
        AlertSeverity.WARNING,
        details,
        labels={"endpoint": endpoint},
        dedup_key="response time",
    )
