"""`AlertFeed`: hands a service's measurements and evidence to the alert rules, and says when to evaluate them."""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from functools import partial
from typing import Any

from otel_monitoring.alerts.engine import AlertEngine
from otel_monitoring.alerts.evaluation.worker_report import WorkerReport, evidence_key
from otel_monitoring.alerts.evaluator import STUCK_SECONDS, Evaluator
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
from otel_monitoring.runtime.run_soon import RunSoon
from otel_monitoring.runtime.threads import in_thread
from otel_monitoring.telemetry.providers import Telemetry

_PING_SECONDS = 1.0
"""How long an evaluation waits for a ping."""
_RESOURCE_FIGURES = {
    AlertType.HIGH_CPU: ("cpu_percent", "cpu_limit", "process_cpu_percent", "process_cpu_cores"),
    AlertType.HIGH_MEMORY: ("memory_percent", "memory_limit_mb", "memory_mb"),
}
"""Evidence of alerts about a resource: figures of the host or container, and of this process."""
_SLOW_SECONDS = 2.0
"""An evaluation that takes no longer is not late, however short the sample interval."""
_FRAMES = 12
"""Innermost frames of a blocking stack in an alert; the outer ones are the server's."""


class AlertFeed:
    """One service's part in alerting. `begin` is called in each process.

    Rules are evaluated in a thread, soon after each sample and once at a time: a store that is slow delays alerts, and
    neither samples nor checks. `beat` waits for the store, too, in the thread of the job that may block. Messages are
    sent in the loop of the background thread, where everything else is called.

    Args:
        settings: The service's settings.
        telemetry: The service's identity, and the providers that count alerts.
        aggregator: The measurements that rules evaluate.
        database: Evidence: the database's error.
        checks: Evidence: which of the application's checks fail, and why.
        system: Evidence: CPU and memory.
        performance: Evidence: the last error of a request.
        loop_monitor: Returns the monitor of the application's loop, None before there is one.
        measure: Takes a sample and brings the measurements of this process up to date.
        exchange: Exchanges them with the other processes of the service.
        submit: Has the background thread run a coroutine; callable in any thread.
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
        exchange: Callable[[], Awaitable[None]],
        submit: Callable[[Callable[[], Coroutine[Any, Any, object]]], object],
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
        self._exchange = exchange
        self._submit = submit
        self._state = state
        self._draining = draining
        self._store_database = store_database
        self._event_sums = event_sums
        self._evaluator: Evaluator | None = None
        self._evaluated_stall: float | None = None
        self._ping: asyncio.Task[None] | None = None
        self._urgent = False
        self._evaluations = RunSoon(self._evaluate, name="alert evaluation")

    def begin(self, manager: AlertManager) -> None:
        """Evaluate and deliver for `manager` in this process, under the process's own `service.instance.id`."""
        attributes = self._telemetry.resource.attributes
        origin = Origin.here(self._settings, attributes)
        signals = AlertSignals(self._telemetry.meter_provider, self._telemetry.logger_provider)
        manager.connect(self._settings, origin, signals, self._store_database)
        engine = self._engine
        self._evaluator = Evaluator(
            manager,
            self._telemetry.instance_id,
            self._report,
            self._settings.sample_interval,
            None if engine is not None else lambda: self._performance.history(SERVICE).recent,
            self._event_sums,
            elsewhere=lambda: engine is not None and engine.evaluates,
            evidence=EvidenceCollector(self._sources),
            in_loop=self._in_loop,
            evaluate_soon=lambda: self._in_loop(self.evaluate_soon),
        )
        self._ping = None
        self._evaluations = RunSoon(self._evaluate, name="alert evaluation")

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

    def evaluate_soon(self, *, urgent: bool = False) -> None:
        """Exchange what was measured, and evaluate the rules or report to the worker that does; returns at once.

        Args:
            urgent: Whether the worker that evaluates does so with its next beat.
        """
        if not self._draining():
            self._urgent = self._urgent or urgent
            self._evaluations.request()

    def late(self, now: float) -> str | None:
        """Says that the store is so slow that alerts come late; None: it is not. Callable in any thread.

        Args:
            now: Seconds of the monotonic clock.
        """
        evaluations = self._evaluations
        took = max(evaluations.seconds(now) or 0.0, evaluations.took or 0.0)
        if took <= _SLOW_SECONDS:
            return None
        return f"it is slow: an evaluation of the rules takes {took:.1f} s, {evaluations.skipped} were left out"

    def stuck(self, now: float) -> str | None:
        """Says that the evaluation in progress has taken too long to end at all; None: it has not.

        Args:
            now: Seconds of the monotonic clock.
        """
        seconds = self._evaluations.seconds(now)
        is_stuck = seconds is not None and seconds > STUCK_SECONDS
        return f"alert evaluation: it has not ended for {seconds:.0f} s" if is_stuck else None

    def beat(self) -> None:
        """About once a second: renew the leases or become the leader, and deliver. While draining: deliver alone.

        It waits for the store.
        """
        evaluator = self._evaluator
        if evaluator is not None:
            (evaluator.deliver if self._draining() else evaluator.beat)()

    async def stop(self, timeout: float) -> None:
        """Deliver what can be delivered within `timeout` seconds."""
        evaluator, self._evaluator = self._evaluator, None
        if evaluator is not None:
            until = time.monotonic() + timeout
            await self._evaluations.wait(timeout / 2)
            await evaluator.stop(max(0.0, until - time.monotonic()))

    async def evaluate_now(self) -> None:
        """Measure, and evaluate the rules soon, without waiting for the next sample."""
        if not self._draining():
            await self._measure()
            self.evaluate_soon(urgent=True)

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

    async def _evaluate(self) -> None:
        await self._exchange()
        urgent, self._urgent = self._urgent, False
        evaluator = self._evaluator
        if evaluator is not None and not self._draining():
            await in_thread(partial(evaluator.tick, urgent=urgent), name="otel-monitoring-evaluation")

    def _in_loop(self, work: Callable[[], object]) -> None:
        async def run() -> None:
            work()

        self._submit(run)

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
