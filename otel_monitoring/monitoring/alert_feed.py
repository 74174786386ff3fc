"""`AlertFeed`: what a service knows, handed to the rules at the right moments."""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from otel_monitoring.alerts.evaluation.worker_report import WorkerReport, evidence_key
from otel_monitoring.alerts.evaluator import Evaluator
from otel_monitoring.alerts.manager import AlertManager
from otel_monitoring.alerts.model import AlertType
from otel_monitoring.alerts.notify.delivery import Sender
from otel_monitoring.alerts.otel_signals import AlertSignals
from otel_monitoring.config.settings import Settings
from otel_monitoring.guard import fail_open
from otel_monitoring.health.checks import Checks
from otel_monitoring.health.database import DatabaseHealthChecker
from otel_monitoring.health.requests import PerformanceMetrics
from otel_monitoring.instrumentation.system.event_loop import LoopMonitor
from otel_monitoring.instrumentation.system.sampler import SystemSampler
from otel_monitoring.metrics.aggregator import Aggregator
from otel_monitoring.telemetry.providers import Telemetry

_PING_SECONDS = 1.0
_FIGURES = {
    AlertType.HIGH_CPU: ("cpu_percent", "cpu_limit", "process_cpu_percent", "process_cpu_cores"),
    AlertType.HIGH_MEMORY: ("memory_percent", "memory_limit_mb", "memory_mb"),
}
"""What an alert about a resource says besides: of the host or container, and of this process."""
_FRAMES = 12
"""How many positions of a blocking stack an alert names, innermost last: the outer ones are the server's."""


class AlertFeed:
    """One service's alerting: `begin` it in each process; all else runs in the watch thread.

    Args:
        settings: The service's.
        telemetry: Who it is, and where alerts are measured.
        aggregator: What was measured.
        database: The state of the database.
        checks: Which of the application's checks fail, and why.
        system: CPU and memory.
        performance: The last error.
        loop_monitor: The monitor of the application's loop, where there is one.
        measure: Takes a sample and brings the aggregator up to date.
        draining: Whether the stop has begun: then nothing is pinged or evaluated any more.
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
        draining: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self._aggregator = aggregator
        self._database = database
        self._checks = checks
        self._system = system
        self._performance = performance
        self._loop_monitor = loop_monitor
        self._measure = measure
        self._draining = draining
        self._watch: Evaluator | None = None
        self._stall_seen: float | None = None
        self._looking_into: asyncio.Task[None] | None = None

    def begin(self, manager: AlertManager) -> None:
        """Evaluate and deliver for `manager` in this process, under its present identity."""
        attributes = self._telemetry.resource.attributes
        sender = Sender.here(self._settings, attributes)
        signals = AlertSignals(self._telemetry.meter_provider, self._telemetry.logger_provider)
        manager.connect(self._settings, sender, signals)
        instance = str(attributes.get("service.instance.id") or f"{socket.gethostname()}:{os.getpid()}")
        self._watch = Evaluator(manager, instance, self._report, self._settings.sample_interval)
        self._looking_into = None

    def tick(self) -> None:
        """After a sample: evaluate, or report to the worker that does."""
        if self._watch is not None and not self._draining():
            self._watch.tick()

    def beat(self) -> None:
        """About once a second: lead if nobody does, and deliver."""
        if self._watch is not None and not self._draining():
            self._watch.beat()

    def deliver(self) -> None:
        """The application raised an alert: have it delivered now."""
        if self._draining():
            if self._watch is not None:
                self._watch.deliver()
        else:
            self.beat()

    async def stop(self, timeout: float) -> None:
        """Deliver what can be delivered within `timeout` seconds."""
        watch, self._watch = self._watch, None
        if watch is not None:
            await watch.stop(timeout)

    async def look_into_database(self) -> None:
        """The driver noticed something: ping, and evaluate now rather than with the next sample."""
        if self._draining():
            return
        if self._looking_into is None or self._looking_into.done():
            self._looking_into = asyncio.ensure_future(self._ping_and_evaluate())
        await asyncio.shield(self._looking_into)

    async def evaluate_now(self) -> None:
        """Measure, and have the rules evaluated without waiting for the next sample."""
        if self._draining():
            return
        await self._measure()
        if self._watch is not None and not self._draining():
            self._watch.tick(urgent=True)

    async def look_into_loop(self) -> None:
        """After a probe of the application's loop: evaluate when a stall has lasted longer than its threshold."""
        monitor = self._loop_monitor()
        stall = monitor.stall(time.monotonic()) if monitor is not None else None
        if stall is None or stall.since == self._stall_seen:
            return
        if stall.seconds * 1000 > self._settings.thresholds.event_loop_lag_ms:
            self._stall_seen = stall.since
            await self.evaluate_now()

    async def _ping_and_evaluate(self) -> None:
        # A dead server's ping takes until its timeout; that heartbeats fail is known already.
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
        return WorkerReport(recent, self.evidence())

    def evidence(self) -> dict[str, Mapping[str, Any]]:
        """What explains the alerts of a type, or one alert of a grouped rule: see `WorkerReport.evidence`."""
        return {key: found for key, found in self._evidence() if found}

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
            stack = list(stall.stack[-_FRAMES:])  # how long is the alert's value
            where = {"host": socket.gethostname(), "pid": os.getpid(), "stack": stack}
            yield AlertType.EVENT_LOOP_BLOCKED.value, where
        last_error = self._performance.last_error
        if last_error is not None:
            yield AlertType.HIGH_ERROR_RATE.value, {"last_error": last_error}
        figures = self._system.summary()
        for kind, names in _FIGURES.items():
            yield kind.value, {"host": socket.gethostname(), **{name: figures.get(name) for name in names}}
