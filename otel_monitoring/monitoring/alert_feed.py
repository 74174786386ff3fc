"""`AlertFeed`: hands a service's measurements and evidence to the alert rules, and says when to evaluate them."""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from otel_monitoring.alerts.engine import AlertEngine
from otel_monitoring.alerts.evaluation.worker_report import WorkerReport, evidence_key
from otel_monitoring.alerts.evaluator import Evaluator
from otel_monitoring.alerts.evidence.collector import EvidenceCollector
from otel_monitoring.alerts.evidence.sources import EvidenceSources
from otel_monitoring.alerts.manager import AlertManager
from otel_monitoring.alerts.model import AlertType
from otel_monitoring.alerts.notify.origin import Origin
from otel_monitoring.alerts.otel_signals import AlertSignals
from otel_monitoring.alerts.store.application_database import ApplicationDatabase
from otel_monitoring.config.settings import Settings
from otel_monitoring.guard import fail_open
from otel_monitoring.health.checks import Checks
from otel_monitoring.health.database import DatabaseHealthChecker
from otel_monitoring.health.performance_metrics import PerformanceMetrics
from otel_monitoring.instrumentation.system.event_loop import LoopMonitor
from otel_monitoring.instrumentation.system.sampler import SystemSampler
from otel_monitoring.metrics.aggregator import Aggregator
from otel_monitoring.metrics.event_sums import EventSums
from otel_monitoring.metrics.service_history import SERVICE
from otel_monitoring.telemetry.providers import Telemetry

_PING_SECONDS = 1.0
"""How long an evaluation waits for a ping."""
_RESOURCE_FIGURES = {
    AlertType.HIGH_CPU: ("cpu_percent", "cpu_limit", "process_cpu_percent", "process_cpu_cores"),
    AlertType.HIGH_MEMORY: ("memory_percent", "memory_limit_mb", "memory_mb"),
}
"""Evidence of alerts about a resource: figures of the host or container, and of this process."""
_FRAMES = 12
"""Innermost frames of a blocking stack in an alert; the outer ones are the server's."""


class AlertFeed:
    """One service's part in alerting. `begin` is called in each process; all else runs in the background thread.

    Args:
        settings: The service's settings.
        telemetry: The service's identity, and the providers that count alerts.
        aggregator: The measurements that rules evaluate.
        database: Evidence: the database's error.
        checks: Evidence: which of the application's checks fail, and why.
        system: Evidence: CPU and memory.
        performance: Evidence: the last error of a request.
        loop_monitor: Returns the monitor of the application's loop, None before there is one.
        measure: Takes a sample and brings the measurements of this process and of the service up to date.
        state: Returns what this process says about itself to the others.
        draining: Whether the stop has begun: from then on nothing is pinged or evaluated.
        store_database: Returns the application's database, if it has one by now; the store may be there.
        event_sums: Returns the sums over the slices of the past, None where they are not known.
        engine: Evaluates the rules about the whole service in place of its processes; None: nobody does.
        figures: Returns what this process says about its own work, for evidence.
        evidence: Where evidence comes from.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        telemetry: Telemetry,
        aggregator: Aggregator,
        database: DatabaseHealthChecker,
        checks: Checks,
        system: SystemSampler,
        performance: PerformanceMetrics,
        loop_monitor: Callable[[], LoopMonitor | None],
        measure: Callable[[], Awaitable[None]],
        state: Callable[[], Mapping[str, Any]],
        draining: Callable[[], bool],
        store_database: Callable[[], ApplicationDatabase | None],
        event_sums: Callable[[], EventSums | None],
        figures: Callable[[], Mapping[str, Any]],
        evidence: EvidenceSources,
        engine: AlertEngine | None = None,
    ) -> None:
        self._figures = figures
        self._sources = evidence
        self._engine = engine
        self._settings = settings
        self._telemetry = telemetry
        self._aggregator = aggregator
        self._database = database
        self._checks = checks
        self._system = system
        self._performance = performance
        self._loop_monitor = loop_monitor
        self._measure = measure
        self._state = state
        self._draining = draining
        self._store_database = store_database
        self._event_sums = event_sums
        self._evaluator: Evaluator | None = None
        self._evaluated_stall: float | None = None
        self._ping: asyncio.Task[None] | None = None

    def begin(self, manager: AlertManager) -> None:
        """Evaluate and deliver for `manager` in this process, under the process's own `service.instance.id`."""
        attributes = self._telemetry.resource.attributes
        origin = Origin.here(self._settings, attributes)
        signals = AlertSignals(self._telemetry.meter_provider, self._telemetry.logger_provider)
        manager.connect(self._settings, origin, signals, self._store_database)
        instance = str(attributes.get("service.instance.id") or f"{socket.gethostname()}:{os.getpid()}")
        engine = self._engine
        self._evaluator = Evaluator(
            manager,
            instance,
            self._report,
            self._settings.sample_interval,
            None if engine is not None else lambda: self._performance.history(SERVICE).recent,
            self._event_sums,
            elsewhere=lambda: engine is not None and engine.evaluates,
            evidence=EvidenceCollector(self._sources),
        )
        self._ping = None

    @property
    def leads(self) -> bool:
        """Whether this process evaluates the rules."""
        return self._evaluator is not None and self._evaluator.leads

    def others(self) -> tuple[Mapping[str, Mapping[str, Any]], str | None]:
        """What the other processes say about themselves, by `service.instance.id`, and which one leads; in any thread.

        Raises:
            StoreError: The store failed.
        """
        return self._evaluator.others() if self._evaluator is not None else ({}, None)

    def tick(self) -> None:
        """After a sample: evaluate the rules, or report to the worker that does."""
        if self._evaluator is not None and not self._draining():
            self._evaluator.tick()

    def beat(self) -> None:
        """About once a second: renew the lease or become the leader, and deliver."""
        if self._evaluator is not None and not self._draining():
            self._evaluator.beat()

    def deliver(self) -> None:
        """Deliver at once, for an alert that the application raised; also while draining."""
        if self._evaluator is not None:
            if self._draining():
                self._evaluator.deliver()
            else:
                self._evaluator.beat()

    async def stop(self, timeout: float) -> None:
        """Deliver what can be delivered within `timeout` seconds."""
        evaluator, self._evaluator = self._evaluator, None
        if evaluator is not None:
            await evaluator.stop(timeout)

    async def evaluate_now(self) -> None:
        """Measure and evaluate the rules without waiting for the next sample."""
        if self._draining():
            return
        await self._measure()
        if self._evaluator is not None and not self._draining():
            self._evaluator.tick(urgent=True)

    async def look_into_database(self) -> None:
        """Ping the database and evaluate the rules; calls while one is under way wait for it."""
        if self._draining():
            return
        if self._ping is None or self._ping.done():
            self._ping = asyncio.ensure_future(self._ping_and_evaluate())
        await asyncio.shield(self._ping)

    async def look_into_loop(self) -> None:
        """Evaluate the rules, once for each stall, where the application's loop is blocked beyond the threshold."""
        monitor = self._loop_monitor()
        stall = monitor.stall(time.monotonic()) if monitor is not None else None
        if stall is None or stall.since == self._evaluated_stall:
            return
        if stall.seconds * 1000 > self._settings.thresholds.event_loop_lag_ms:
            self._evaluated_stall = stall.since
            await self.evaluate_now()

    def evidence(self) -> dict[str, Mapping[str, Any]]:
        """Details that explain the alerts of a type, or one alert of a grouped rule: see `WorkerReport.evidence`."""
        return {key: found for key, found in self._evidence() if found}

    async def _ping_and_evaluate(self) -> None:
        # The ping of a dead server lasts until its timeout. The driver's failed heartbeats are evidence before that.
        ping = asyncio.ensure_future(self._database.ping())
        await asyncio.wait({ping}, timeout=_PING_SECONDS)
        with fail_open("alert evaluation"):
            await self.evaluate_now()
        if not ping.done():
            before = self._database.status
            if await ping != before:
                await self.evaluate_now()

    def _report(self) -> WorkerReport:
        recent = self._aggregator.history.recent
        return WorkerReport(recent, self.evidence(), self._state(), figures=self._figures)

    def _evidence(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        error = self._database.as_json().get("error")
        if error is not None:
            for kind in (AlertType.DATABASE_DOWN, AlertType.DATABASE_ERROR, AlertType.DATABASE_POOL_EXHAUSTED):
                yield kind.value, {"error": error}
        for name, text in self._checks.errors().items():
            yield evidence_key(AlertType.CHECK_FAILED, name), {"error": text}
        monitor = self._loop_monitor()
        stall = (monitor.stall(time.monotonic()) or monitor.last_stall) if monitor is not None else None
        if stall is not None:
            stack = list(stall.stack[-_FRAMES:])
            request = {"request": stall.request} if stall.request else {}
            where = {"host": socket.gethostname(), "pid": os.getpid(), **request, "stack": stack}
            yield AlertType.EVENT_LOOP_BLOCKED.value, where
        last_error = self._performance.last_error
        if last_error is not None:
            yield AlertType.HIGH_ERROR_RATE.value, {"last_error": last_error}
        figures = self._system.summary()
        for kind, names in _RESOURCE_FIGURES.items():
            yield kind.value, {"host": socket.gethostname(), **{name: figures.get(name) for name in names}}
