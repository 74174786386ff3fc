"""`ExportOptions`: for whom files are written, and how the measurements are stored there."""

import re
from dataclasses import dataclass
from typing import Literal

from otel_monitoring.alerts.rules.promql import Dialect

Histograms = Literal["native", "classic"]

JOB = "job"
"""Where Prometheus keeps `service.namespace/service.name` of OTLP metrics."""
ENVIRONMENT = "deployment_environment_name"
"""Where it keeps the environment, once told to promote that attribute; grouping by a missing label changes nothing."""
INSTANCE = "instance"
"""Where it keeps `service.instance.id`."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What the files are for.

    Args:
        service: `service.name`, or `service.namespace/service.name`; empty: every service.
        histograms: How Prometheus stores them: `native` (exponential histograms, or explicit ones that it converts:
            `otlp.convert_histograms_to_nhcb`), or `classic` (`_bucket`, `_count`, `_sum`).
        window: Seconds that rules look back, as `OTEL_MONITORING_WINDOW`.
        interval: Seconds between evaluations.
        check_interval: Seconds between database checks, as `OTEL_MONITORING_CHECK_INTERVAL`: how often health
            dashboards ask.
        prefix: Where the health endpoints are mounted, as `OTEL_MONITORING_PREFIX`.
    """

    service: str = ""
    histograms: Histograms = "native"
    window: float = 300.0
    interval: float = 30.0
    check_interval: float = 30.0
    prefix: str = "/api"

    @property
    def dialect(self) -> Dialect:
        """How rules are written."""
        return Dialect(
            by=(JOB, ENVIRONMENT),
            span=duration(self.window),
            native=self.histograms == "native",
            selector=self._selector(),
            from_zero=True,
        )

    def _selector(self) -> str:
        if not self.service:
            return ""
        if "/" in self.service:
            return f'{JOB}="{_quoted(self.service)}"'
        return f'{JOB}=~"(.+/)?{_quoted(re.escape(self.service))}"'


def duration(seconds: float) -> str:
    """As Prometheus, Grafana and Datadog write it, in one unit: `30s`, `5m`, `1500ms`."""
    if seconds != int(seconds):
        return f"{round(seconds * 1000)}ms"
    for size, unit in ((3600, "h"), (60, "m")):
        if seconds and seconds % size == 0:
            return f"{int(seconds) // size}{unit}"
    return f"{int(seconds)}s"


def number(value: float) -> str:
    """A threshold, without the tail of binary fractions."""
    return f"{value:.12g}"


def _quoted(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"")
