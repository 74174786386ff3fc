"""`HealthAnswers`: the JSON of the health endpoints, made from the latest results."""

import os
import time
from collections.abc import Callable
from typing import Any

from otel_monitoring import seams
from otel_monitoring.alerts.manager import AlertManager
from otel_monitoring.config.settings import Thresholds
from otel_monitoring.guard import fail_open
from otel_monitoring.health import status
from otel_monitoring.health.checks import Checks
from otel_monitoring.health.database import DatabaseHealthChecker
from otel_monitoring.health.requests import PerformanceMetrics, RequestStatistics
from otel_monitoring.instrumentation.system.sampler import SystemSampler
from otel_monitoring.metrics.aggregator import Aggregator
from otel_monitoring.metrics.window import Window
from otel_monitoring.telemetry.providers import Telemetry


class HealthAnswers:
    """Makes answers and measures nothing: the background thread keeps the results up to date.

    Args:
        thresholds: Limits of CPU, memory and error rate beyond which the status is degraded.
        statistics: Counts requests and errors of a window.
        aggregator: The history of measurements.
        performance: Request counts, times and errors.
        system: CPU and memory.
        database: The state of the database.
        checks: The results of the application's checks.
        telemetry: The state of exports.
        event_loop: Returns the figures of the application's event loop.
        alert_manager: Returns the alert manager whose alerts and deliveries are shown.
        started_at: Returns when this process started, in seconds of the monotonic clock; None before.
        troubles: Returns why the results may be out of date, given the monotonic time in seconds.
    """

    def __init__(
        self,
        *,
        thresholds: Thresholds,
        statistics: RequestStatistics,
        aggregator: Aggregator,
        performance: PerformanceMetrics,
        system: SystemSampler,
        database: DatabaseHealthChecker,
        checks: Checks,
        telemetry: Telemetry,
        event_loop: Callable[[], dict[str, Any]],
        alert_manager: Callable[[], AlertManager],
        started_at: Callable[[], float | None],
        troubles: Callable[[float], list[str]],
    ) -> None:
        self._thresholds = thresholds
        self._statistics = statistics
        self._aggregator = aggregator
        self._performance = performance
        self._system = system
        self._database = database
        self._checks = checks
        self._telemetry = telemetry
        self._event_loop = event_loop
        self._alert_manager = alert_manager
        self._started_at = started_at
        self._troubles = troubles
        # Figures of a window never change, so each is computed once and kept with its window.
        self._errors_of: tuple[Window | None, tuple[int, int]] = (None, (0, 0))
        self._summary_of: tuple[Window | None, dict[str, Any]] = (None, {})

    def answer(self, what: str) -> dict[str, Any]:
        """The answer of a private endpoint: `detailed`, `metrics` or `diagnostics`."""
        if what == "metrics":
            return self._summary()
        return self.diagnostics() if what == "diagnostics" else self.detailed()

    def basic(self) -> dict[str, Any]:
        """The answer of `/health`: `status`, `timestamp`, `uptime_seconds`."""
        started = self._started_at()
        uptime = time.monotonic() - started if started is not None else 0.0
        return status.basic(self._status()[0], now=time.time(), uptime=uptime)

    def detailed(self) -> dict[str, Any]:
        """The basic answer and `reasons`, `database`, `system`, `performance`."""
        now = time.time()
        return {
            **self.basic(),
            "reasons": self._status()[1],
            "database": self._database.as_json(now),
            "system": self._system.summary(),
            "performance": self._summary(),
        }

    def diagnostics(self) -> dict[str, Any]:
        """The detailed answer and endpoints, alerts, checks, event loop, telemetry, broken seams and the worker."""
        alerts = self._alert_manager()
        return {
            **self.detailed(),
            "endpoints": self._performance.endpoints,
            "alerts": alerts.recent(),
            "alerting": alerts.state(),
            "checks": self._checks.as_json(time.monotonic()),
            "event_loop": self._event_loop(),
            "telemetry": self._telemetry.state(time.monotonic()),
            "seams": seams.lost_seams(),
            "worker": {
                "pid": os.getpid(),
                "instance_id": self._telemetry.resource.attributes.get("service.instance.id"),
                "scope": "this worker process",
                "contained_failures": dict(fail_open.failures),
            },
        }

    def _status(self) -> tuple[str, list[str]]:
        """The status and the reasons for it."""
        now = time.monotonic()
        critical, others = self._checks.failing()
        requests, errors = self._recent_errors()
        samples = self._system.recent(status.MIN_SAMPLES)
        facts = status.ServiceFacts(
            database=self._database.status,
            database_problem=self._database.problem,
            critical_failures=critical,
            failures=others,
            errors=self._checks.errors(),
            troubles=self._troubles(now),
            cpu_percent=[s.cpu_pressure for s in samples if s.cpu_pressure is not None],
            memory_percent=[s.memory_pressure for s in samples if s.memory_pressure is not None],
            cpu_scope=samples[-1].cpu_scope if samples else "",
            memory_scope=samples[-1].memory_scope if samples else "",
            requests=requests,
            error_rate=100.0 * errors / requests if requests else 0.0,
        )
        return status.status(facts, self._thresholds)

    def _recent_errors(self) -> tuple[int, int]:
        """Requests and errors of the latest window."""
        window = self._aggregator.history.recent
        if self._errors_of[0] is not window:
            self._errors_of = (window, self._statistics.errors(window))
        return self._errors_of[1]

    def _summary(self) -> dict[str, Any]:
        window = self._aggregator.history.recent
        if self._summary_of[0] is not window:
            self._summary_of = (window, self._performance.summary())
        return self._summary_of[1]
