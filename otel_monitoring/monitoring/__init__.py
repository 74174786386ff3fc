"""Wires it all: `MonitoringService` and its parts. These names are the documented ones."""

from otel_monitoring.config.settings import THRESHOLDS
from otel_monitoring.health.database import DatabaseHealthChecker
from otel_monitoring.health.performance_metrics import PerformanceMetrics
from otel_monitoring.instrumentation.system.sampler import SystemSampler as SystemMetrics
from otel_monitoring.monitoring.service import MonitoringService
from otel_monitoring.runtime.current_service import get_monitoring, set_monitoring

__all__ = [
    "THRESHOLDS",
    "DatabaseHealthChecker",
    "MonitoringService",
    "PerformanceMetrics",
    "SystemMetrics",
    "get_monitoring",
    "set_monitoring",
]
