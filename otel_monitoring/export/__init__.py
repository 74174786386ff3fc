"""The alert rules and dashboards of a service as files for Prometheus, Grafana and Datadog."""

from otel_monitoring.export.datadog_monitors import datadog
from otel_monitoring.export.datadog_slos import datadog_slos
from otel_monitoring.export.files import grafana, render, stale, write
from otel_monitoring.export.options import ExportOptions
from otel_monitoring.export.prometheus_rules import prometheus

__all__ = ["ExportOptions", "datadog", "datadog_slos", "grafana", "prometheus", "render", "stale", "write"]
