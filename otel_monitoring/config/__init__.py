"""Every setting and every environment variable: `Settings`."""

from otel_monitoring.config.settings import THRESHOLDS, Settings

__all__ = [
    "THRESHOLDS",
    "Settings",
]
