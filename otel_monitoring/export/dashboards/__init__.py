"""Grafana dashboards, built with grafana-foundation-sdk."""

import json
from typing import Any

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from otel_monitoring.config import Thresholds
from otel_monitoring.export.dashboards.health import health_dashboard
from otel_monitoring.export.dashboards.service import service_dashboard
from otel_monitoring.export.options import ExportOptions


def dashboards(options: ExportOptions, thresholds: Thresholds) -> dict[str, str]:
    """The JSON of each dashboard, by name."""
    service = service_dashboard(native=options.histograms == "native", thresholds=thresholds)
    health = health_dashboard(prefix=options.prefix, thresholds=thresholds, interval=options.check_interval)
    return {"service": _text(service), "health": _text(health)}


def _text(made: Dashboard) -> str:
    content: dict[str, Any] = json.loads(JSONEncoder().encode(made.build()))
    for number, panel in enumerate(content["panels"], start=1):
        panel["id"] = number
    return f"{json.dumps(content, indent=2, ensure_ascii=False)}\n"
