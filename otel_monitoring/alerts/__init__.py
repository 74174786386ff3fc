"""The documented names of alerting: raise, mute and look up alerts, and write rules."""

from collections.abc import Mapping
from typing import Any

from otel_monitoring.alerts.manager import AlertManager
from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, AlertType
from otel_monitoring.alerts.route import Route
from otel_monitoring.alerts.rules.by_group import by_group
from otel_monitoring.alerts.rules.expressions import Count, Gauge, Percent, Quantile, error_rate, requests
from otel_monitoring.alerts.rules.indicators import FasterThan, Succeeded
from otel_monitoring.alerts.rules.matchers import Attribute
from otel_monitoring.alerts.rules.rule import NoData, Rule
from otel_monitoring.alerts.rules.slo import Slo
from otel_monitoring.config.settings import THRESHOLDS, Settings
from otel_monitoring.runtime.current_service import current_service

__all__ = [
    "THRESHOLDS",
    "AlertEvent",
    "AlertManager",
    "AlertSeverity",
    "AlertType",
    "Attribute",
    "Count",
    "FasterThan",
    "Gauge",
    "NoData",
    "Percent",
    "Quantile",
    "Route",
    "Rule",
    "Slo",
    "Succeeded",
    "alert_database_down",
    "alert_high_error_rate",
    "alert_performance_issue",
    "by_group",
    "error_rate",
    "get_alert_manager",
    "initialize_alerts",
    "requests",
    "set_alert_manager",
]

_process_wide: AlertManager | None = None
"""The alert manager of `set_alert_manager` or `initialize_alerts`."""
_first_of_service: AlertManager | None = None
"""The alert manager of the first service, for code that runs outside of every application."""


def initialize_alerts(settings: Settings | None = None) -> AlertManager:
    """Return the alert manager that `get_alert_manager` finds; where there is none, make one for the whole process.

    Args:
        settings: The settings of its channels, store and thresholds; None: those of the environment.

    Raises:
        ConfigurationError: A setting is invalid; the message names it.
    """
    found = get_alert_manager()
    if found is None:
        found = AlertManager(settings=settings)
        set_alert_manager(found)
    return found


def set_alert_manager(manager: AlertManager | None) -> None:
    """Make `manager` the alert manager of the process: of every service without its own, and of the helpers here.

    Args:
        manager: The alert manager; None: forget every manager that `get_alert_manager` knows.
    """
    global _process_wide, _first_of_service
    _process_wide = manager
    if manager is None:
        _first_of_service = None


def get_alert_manager() -> AlertManager | None:
    """The alert manager of the service whose application is running: see `get_monitoring`.

    Outside of an application: the one of `set_alert_manager` or `initialize_alerts`, else that of the first service,
    else None.
    """
    service = current_service.get()
    return service.alert_manager if service is not None else _process_wide or _first_of_service


def chosen_alert_manager() -> AlertManager | None:
    """The alert manager of `set_alert_manager` or `initialize_alerts`, if there is one."""
    return _process_wide


def offer_alert_manager(manager: AlertManager) -> None:
    """Make `manager`, which belongs to a service, the answer of `get_alert_manager` unless an earlier service's is."""
    global _first_of_service
    if _first_of_service is None:
        _first_of_service = manager


async def alert_database_down(details: Mapping[str, Any] | None = None) -> bool:
    """Raise DATABASE_DOWN with severity critical; returns what `AlertManager.send_alert` does."""
    return await initialize_alerts().send_alert(
        AlertType.DATABASE_DOWN, "Database connection lost", AlertSeverity.CRITICAL, details
    )


async def alert_high_error_rate(error_rate: float, details: Mapping[str, Any] | None = None) -> bool:
    """Raise HIGH_ERROR_RATE with severity warning; notified once in five minutes, whatever the rate.

    Args:
        error_rate: The share of failed requests, in percent.
        details: See `AlertManager.send_alert`.
    """
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
    """Raise API_TIMEOUT with severity warning; notified once in five minutes for each endpoint.

    Args:
        endpoint: The path or route of the endpoint.
        response_time_ms: Milliseconds.
        details: See `AlertManager.send_alert`.
    """
    return await initialize_alerts().send_alert(
        AlertType.API_TIMEOUT,
        f"Slow API response: {endpoint} ({response_time_ms:.2f}ms)",
        AlertSeverity.WARNING,
        details,
        labels={"endpoint": endpoint},
        dedup_key="response time",
    )
