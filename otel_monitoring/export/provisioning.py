"""What Grafana finds at its start: where metrics, traces, logs and health are, and where its dashboards lie."""

from otel_monitoring.export.options import ExportOptions
from otel_monitoring.export.yaml_text import document

PROMETHEUS_UID = "otel-monitoring-prometheus"
TEMPO_UID = "otel-monitoring-tempo"
LOKI_UID = "otel-monitoring-loki"
HEALTH_UID = "otel-monitoring-health"
DASHBOARD_UID = "otel-monitoring"
HEALTH_DASHBOARD_UID = "otel-monitoring-health"


def datasources(options: ExportOptions | None = None) -> str:
    """The file for `provisioning/datasources/`.

    Addresses come from Grafana's environment: `PROMETHEUS_URL`, `TEMPO_URL`, `LOKI_URL`, and for the health endpoints
    (plugin `yesoreyeram-infinity-datasource`) `HEALTH_URL`, e.g. `http://api:8000`, and
    `OTEL_MONITORING_ADMIN_TOKEN`.

    Raises:
        ConfigurationError: PyYAML is not installed.
    """
    options = options or ExportOptions()
    prometheus = {
        "name": "Prometheus",
        "uid": PROMETHEUS_UID,
        "type": "prometheus",
        "access": "proxy",
        "url": "$PROMETHEUS_URL",
        "isDefault": True,
        "jsonData": {
            "httpMethod": "POST",
            "timeInterval": "60s",  # how often services export: OTEL_METRIC_EXPORT_INTERVAL
            "exemplarTraceIdDestinations": [{"name": "trace_id", "datasourceUid": TEMPO_UID}],
        },
    }
    tempo = {
        "name": "Tempo",
        "uid": TEMPO_UID,
        "type": "tempo",
        "access": "proxy",
        "url": "$TEMPO_URL",
        "jsonData": {
            "tracesToLogsV2": {
                "datasourceUid": LOKI_UID,
                "spanStartTimeShift": "-5m",
                "spanEndTimeShift": "5m",
                "tags": [{"key": "service.name", "value": "service_name"}],
                "filterByTraceID": False,
                "customQuery": True,
                "query": '{$${__tags}} | trace_id="$${__span.traceId}"',
            },
            "tracesToMetrics": {
                "datasourceUid": PROMETHEUS_UID,
                "tags": [{"key": "http.route", "value": "http_route"}],
                "queries": [
                    {"name": "Requests per second", "query": _rate(options)},
                ],
            },
            "serviceMap": {"datasourceUid": PROMETHEUS_UID},
            "nodeGraph": {"enabled": True},
        },
    }
    loki = {
        "name": "Loki",
        "uid": LOKI_UID,
        "type": "loki",
        "access": "proxy",
        "url": "$LOKI_URL",
        "jsonData": {
            "derivedFields": [
                {
                    "name": "trace",
                    "matcherType": "label",
                    "matcherRegex": "trace_id",
                    "url": "$${__value.raw}",
                    "datasourceUid": TEMPO_UID,
                }
            ]
        },
    }
    health = {
        "name": "Health endpoints",
        "uid": HEALTH_UID,
        "type": "yesoreyeram-infinity-datasource",
        "access": "proxy",
        "jsonData": {
            "auth_method": "bearerToken",
            "allowedHosts": ["$HEALTH_URL"],
            "customHealthCheckEnabled": True,
            "customHealthCheckUrl": "$HEALTH_URL/api/health/live",
        },
        "url": "$HEALTH_URL",
        "secureJsonData": {"bearerToken": "$OTEL_MONITORING_ADMIN_TOKEN"},
    }
    return document({"apiVersion": 1, "datasources": [prometheus, tempo, loki, health]})


def dashboard_provider() -> str:
    """The file for `provisioning/dashboards/`: dashboards are read from `/var/lib/grafana/dashboards`.

    Raises:
        ConfigurationError: PyYAML is not installed.
    """
    provider = {
        "name": "otel_monitoring",
        "folder": "otel_monitoring",
        "type": "file",
        "allowUiUpdates": False,
        "options": {"path": "/var/lib/grafana/dashboards"},
    }
    return document({"apiVersion": 1, "providers": [provider]})


def _rate(options: ExportOptions) -> str:
    series = "http_server_request_duration_seconds"
    if options.histograms == "native":
        return f"sum(histogram_count(rate({series}{{$$__tags}}[5m])))"
    return f"sum(rate({series}_count{{$$__tags}}[5m]))"
