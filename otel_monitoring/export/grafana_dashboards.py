"""Grafana's dashboards: the JSON files of `dashboards/`, with the service's own values in place of their blanks.

A blank is a JSON text that begins with `@{name}`; a text with nothing else becomes the value itself, also a number.
`make dashboards` writes the files.
"""

import json
import re
from importlib.resources import files

from otel_monitoring.alerts.rules.promql import prometheus_duration
from otel_monitoring.config.settings import Thresholds
from otel_monitoring.export.options import ExportOptions

_BLANK = re.compile(r'"@\{(\w+)\}([^"\\]*)"')


def dashboards(options: ExportOptions, thresholds: Thresholds) -> dict[str, str]:
    """The JSON of each dashboard, by name.

    Args:
        options: The form of histograms, and the prefix and the interval at which the health dashboard asks.
        thresholds: Values at which colours change.
    """
    values = _values(options, thresholds)

    def fill(blank: re.Match[str]) -> str:
        value, rest = values[blank[1]], blank[2]
        return json.dumps(f"{value}{rest}" if rest else value, ensure_ascii=False)

    folder = files("otel_monitoring.export") / "dashboards"
    shipped = {"service": f"service-{options.histograms}.json", "health": "health.json"}
    return {name: _BLANK.sub(fill, (folder / file).read_text(encoding="utf-8")) for name, file in shipped.items()}


def _values(options: ExportOptions, thresholds: Thresholds) -> dict[str, str | float]:
    return {
        "prefix": options.prefix,
        "check_interval": prometheus_duration(options.check_interval),
        "cpu_percent": thresholds.cpu_percent,
        "cpu_percent_near": 0.8 * thresholds.cpu_percent,
        "memory_percent": thresholds.memory_percent,
        "memory_percent_near": 0.8 * thresholds.memory_percent,
        "error_rate_percent": thresholds.error_rate_percent,
        "api_response_time_s": thresholds.api_response_time_ms / 1000,
        "database_response_time_s": thresholds.database_response_time_ms / 1000,
        "database_response_time_ms": thresholds.database_response_time_ms,
    }
