"""`ExportOptions`: the service that files are made for, and how Prometheus stores its measurements."""

import re
from dataclasses import dataclass
from typing import Literal

from otel_monitoring.alerts.rules.matchers import quoted
from otel_monitoring.alerts.rules.promql import Dialect, prometheus_duration

Histograms = Literal["native", "classic"]

JOB = "job"
"""Prometheus' label for `service.namespace/service.name` of OTLP metrics."""
ENVIRONMENT = "deployment_environment_name"
"""Its label for the environment, where it promotes that attribute; grouping by a missing label changes nothing."""
INSTANCE = "instance"
"""Its label for `service.instance.id`."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """The service and the setting that files are made for.

    Args:
        service: `service.name`, or `service.namespace/service.name`. Empty: every service.
        histograms: How Prometheus stores histograms: `native` (exponential ones, and explicit ones that it converts by
            `otlp.convert_histograms_to_nhcb`), or `classic` (`_bucket`, `_count`, `_sum`).
        window: Seconds of measurements that a rule evaluates, as `OTEL_MONITORING_WINDOW`.
        interval: Seconds between evaluations.
        check_interval: Seconds between refreshes of the health dashboard, as `OTEL_MONITORING_CHECK_INTERVAL`.
        prefix: The prefix of the health endpoints, as `OTEL_MONITORING_PREFIX`.
    """

    service: str = ""
    histograms: Histograms = "native"
    window: float = 300.0
    interval: float = 30.0
    check_interval: float = 30.0
    prefix: str = "/api"

    @property
    def dialect(self) -> Dialect:
        """How rules are written in PromQL."""
        return Dialect(
            by=(JOB, ENVIRONMENT),
            span=prometheus_duration(self.window),
            native=self.histograms == "native",
            selector=self._selector(),
            from_zero=True,
        )

    def _selector(self) -> str:
        if not self.service:
            return ""
        if "/" in self.service:
            return f"{JOB}={quoted(self.service)}"
        return f"{JOB}=~{quoted(f'(.+/)?{re.escape(self.service)}')}"


def number_text(value: float) -> str:
    """A threshold as text, in twelve digits: `0.3` for 0.1 + 0.2."""
    return f"{value:.12g}"
