"""`Reporter`: the documented answers, put together from values at hand."""

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


class Reporter:
    """Reads, never measures: every method answers from what the watch thread brought last.

    Args:
        thresholds: When CPU, memory, error rate degrade the status.
        classifier: What counts as an error.
        alert_manager: Answers whose alerts and deliveries are shown.
        started_at: When this process started, in seconds of the monotonic clock; None before.
        troubles: Why what is known may be out of date, at a moment of the monotonic clock.
    """

    def __init__(
        self,
        *,
        thresholds: Thresholds,
        classifier: RequestStatistics,
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
        self._classifier = classifier
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
        # The figures of a window never change: they are made once for each, not once for each question.
        self._errors_of: tuple[Window | None, tuple[int, int]] = (None, (0, 0))
        self._summary_of: tuple[Window | None, dict[str, Any]] = (None, {})

    def answer(self, what: str) -> dict[str, Any]:
        """`detailed`, `metrics` or `diagnostics`."""
        if what == "metrics":
            return self._summary()
        return self.diagnostics() if what == "diagnostics" else self.detailed()

    def basic(self) -> dict[str, Any]:
        """`status`, `timestamp`, `uptime_seconds`."""
        started = self._started_at()
        uptime = time.monotonic() - started if started is not None else 0.0
        return status.basic(self._status()[0], now=time.time(), uptime=uptime)

    def detailed(self) -> dict[str, Any]:
        """The basic answer with `reasons`, `database`, `system`, `performance`."""
        now = time.time()
        return {
            **self.basic(),
            "reasons": self._status()[1],
            "database": self._database.as_json(now),
            "system": self._system.summary(),
            "performance": self._summary(),
        }

    def diagnostics(self) -> dict[str, Any]:
        """The detailed answer with endpoints, alerts, checks, the event loop, telemetry, lost seams and the worker."""
        alerts = self._alert_manager()
        return {
            **self.detailed(),
            "endpoints": self._performance.endpoints,
            "alerts": alerts.recent(),
            "alerting": alerts.state(),
            "checks": self._checks.as_json(time.monotonic()),
            "event_loop": self._event_loop(),
            "telemetry": self._telemetry.state(time.monotonic()),
            "seams": seams.lost(),
            "worker": {
                "pid": os.getpid(),
                "instance_id": self._telemetry.resource.attributes.get("service.instance.id"),
                "scope": "this worker process",
                "contained_failures": dict(fail_open.failures),
            },
        }

    def _status(self) -> tuple[str, list[str]]:
        now = time.monotonic()
        critical, others = self._checks.failing()
        requests, errors = self._recent_errors()
        samples = self._system.recent(status.MIN_SAMPLES)
        facts = status.Facts(
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
        window = self._aggregator.history.recent
        if self._errors_of[0] is not window:
            self._errors_of = (window, self._classifier.errors(window))
        return self._errors_of[1]

    def _summary(self) -> dict[str, Any]:
        window = self._aggregator.history.recent
        if self._summary_of[0] is not window:
            self._summary_of = (window, self._performance.summary())
        return self._summary_of[1]
