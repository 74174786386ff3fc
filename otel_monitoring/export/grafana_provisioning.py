"""Grafana's provisioning files for data sources (metrics, traces, logs, health) and for dashboards."""

from typing import Any

from otel_monitoring.alerts.rules.expressions import requests
from otel_monitoring.alerts.rules.promql import Dialect
from otel_monitoring.export.options import ExportOptions
from otel_monitoring.export.yaml_file import document

PROMETHEUS_UID = "prometheus"
TEMPO_UID = "tempo"
LOKI_UID = "loki"
HEALTH_UID = "health"
DASHBOARD_UID = "otel-monitoring"
HEALTH_DASHBOARD_UID = "otel-monitoring-health"


def datasources(options: ExportOptions | None = None) -> str:
    """The file for `provisioning/datasources/`.

    Prometheus, Tempo and Loki have the addresses of `docker-compose.yaml`. The health endpoints (plugin
    `yesoreyeram-infinity-datasource`) are found by two variables of Grafana's environment: `HEALTH_URL`, such as
    `http://api:8000`, and `OTEL_MONITORING_ADMIN_TOKEN`.

    Args:
        options: The form of histograms, and the prefix of the health endpoints.

    Raises:
        ConfigurationError: PyYAML is not installed.
    """
    options = options or ExportOptions()
    return document({"apiVersion": 1, "datasources": [_prometheus(), _tempo(options), _loki(), _health(options)]})


def _prometheus() -> dict[str, Any]:
    settings = {
        "httpMethod": "POST",
        "prometheusType": "Prometheus",
        "timeInterval": "60s",  # the default of OTEL_METRIC_EXPORT_INTERVAL
        "exemplarTraceIdDestinations": [{"name": "trace_id", "datasourceUid": TEMPO_UID}],
    }
    return {
        **_source("Prometheus", PROMETHEUS_UID, "prometheus", "http://prometheus:9090", settings),
        "isDefault": True,
    }


def _tempo(options: ExportOptions) -> dict[str, Any]:
    to_logs = {
        "datasourceUid": LOKI_UID,
        "spanStartTimeShift": "-5m",
        "spanEndTimeShift": "5m",
        "tags": [{"key": "service.name", "value": "service_name"}],
        "customQuery": True,
        "query": '{$${__tags}} | trace_id="$${__span.traceId}"',
    }
    to_metrics = {
        "datasourceUid": PROMETHEUS_UID,
        "tags": [{"key": "http.route", "value": "http_route"}],
        "queries": [{"name": "Requests per second", "query": _requests_per_second(options)}],
    }
    settings = {
        "tracesToLogsV2": to_logs,
        "tracesToMetrics": to_metrics,
        "serviceMap": {"datasourceUid": PROMETHEUS_UID},
        "nodeGraph": {"enabled": True},
    }
    return _source("Tempo", TEMPO_UID, "tempo", "http://tempo:3200", settings)


def _loki() -> dict[str, Any]:
    trace = {
        "name": "trace",
        "matcherType": "label",
        "matcherRegex": "trace_id",
        "url": "$${__value.raw}",
        "datasourceUid": TEMPO_UID,
    }
    return _source("Loki", LOKI_UID, "loki", "http://loki:3100", {"derivedFields": [trace]})


def _health(options: ExportOptions) -> dict[str, Any]:
    settings = {
        "auth_method": "bearerToken",
        "allowedHosts": ["$HEALTH_URL"],
        "customHealthCheckEnabled": True,
        "customHealthCheckUrl": f"$HEALTH_URL{options.prefix}/health/live",
    }
    source = _source("Health endpoints", HEALTH_UID, "yesoreyeram-infinity-datasource", "$HEALTH_URL", settings)
    return {**source, "secureJsonData": {"bearerToken": "$OTEL_MONITORING_ADMIN_TOKEN"}}


def _source(name: str, uid: str, kind: str, url: str, settings: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "uid": uid, "type": kind, "access": "proxy", "url": url, "jsonData": settings}


def dashboard_provider() -> str:
    """The file for `provisioning/dashboards/`, which has dashboards read from `/var/lib/grafana/dashboards`.

    Raises:
        ConfigurationError: PyYAML is not installed.
    """
    provider = {
        "name": "otel_monitoring",
        "folder": "otel_monitoring",
        "type": "file",
        "disableDeletion": True,
        "allowUiUpdates": False,
        "options": {"path": "/var/lib/grafana/dashboards"},
    }
    return document({"apiVersion": 1, "providers": [provider]})


def _requests_per_second(options: ExportOptions) -> str:
    dialect = Dialect(by=(), native=options.histograms == "native", selector="$$__tags", growth="rate")
    return requests().promql(dialect)
