"""The process's monitoring service, for code that was not handed it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_monitoring.monitoring import MonitoringService

_monitoring: "MonitoringService | None" = None


def set_monitoring(service: "MonitoringService | None") -> None:
    """Make `service` the one that `get_monitoring` returns."""
    global _monitoring
    _monitoring = service


def get_monitoring() -> "MonitoringService | None":
    """The process's service; None before `set_monitoring` or `instrument`."""
    return _monitoring
