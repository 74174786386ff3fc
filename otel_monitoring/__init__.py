"""OpenTelemetry traces, metrics, health endpoints and alerts for FastAPI + MongoDB services, in one call."""

from otel_monitoring.alerts import AlertManager, AlertSeverity, AlertType, get_alert_manager, set_alert_manager
from otel_monitoring.config import Settings
from otel_monitoring.errors import ConfigurationError, DeliveryError, InstrumentationError, MonitoringError
from otel_monitoring.monitoring import MonitoringService, get_monitoring, set_monitoring

__all__ = [
    "AlertManager",
    "AlertSeverity",
    "AlertType",
    "ConfigurationError",
    "DeliveryError",
    "InstrumentationError",
    "MonitoringError",
    "MonitoringService",
    "Settings",
    "get_alert_manager",
    "get_monitoring",
    "set_alert_manager",
    "set_monitoring",
]
