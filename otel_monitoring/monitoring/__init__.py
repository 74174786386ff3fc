"""Wires it all: `MonitoringService`, its parts, its database, and the feed of the alerts."""

from otel_monitoring.monitoring.service import MonitoringService, get_monitoring, set_monitoring

__all__ = [
    "MonitoringService",
    "get_monitoring",
    "set_monitoring",
]
