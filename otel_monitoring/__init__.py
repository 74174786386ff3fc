"""OpenTelemetry traces, metrics, health endpoints and alerts for FastAPI + MongoDB services, in one call.

Each name is imported at its first use. A command that only asks a service for its health thus loads neither FastAPI nor
the OpenTelemetry SDK.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from otel_monitoring.environment import ignore_unusable

if TYPE_CHECKING:
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

_MODULES = {
    "alerts": ("AlertManager", "AlertSeverity", "AlertType", "get_alert_manager", "set_alert_manager"),
    "config": ("Settings",),
    "errors": ("ConfigurationError", "DeliveryError", "InstrumentationError", "MonitoringError"),
    "monitoring": ("MonitoringService", "get_monitoring", "set_monitoring"),
}
_HOMES = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}

# OpenTelemetry's modules raise at import for some values of these variables: this runs before they are imported.
ignore_unusable()


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
