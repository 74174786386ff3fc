"""For the tests of an application: alerts that land in memory, and a clock that is set by hand.

`MemoryChannel` keeps what a channel would send. `ManualClock` stands still until it is advanced. `AlertTester` brings
both to a `MonitoringService`: its rules are evaluated when the test says so, over what was really measured.
"""

import asyncio
import threading
from collections.abc import Collection
from types import TracebackType

from otel_monitoring.alerts.evaluation.worker_report import WorkerReport
from otel_monitoring.alerts.evaluator import Evaluator
from otel_monitoring.alerts.manager import AlertManager
from otel_monitoring.alerts.model import AlertEvent, Notification
from otel_monitoring.alerts.notify.channel_queue import Limits
from otel_monitoring.alerts.notify.delivery import Delivery
from otel_monitoring.alerts.notify.origin import Origin
from otel_monitoring.alerts.otel_signals import AlertSignals
from otel_monitoring.alerts.rules.slo import wanted_sums
from otel_monitoring.alerts.store import MemoryStore
from otel_monitoring.forks import renewed
from otel_monitoring.metrics.aggregator import Aggregator
from otel_monitoring.metrics.event_sums import Indicator
from otel_monitoring.metrics.outcome import OutcomeClassifier
from otel_monitoring.metrics.slices.own_deltas import OwnDeltas
from otel_monitoring.metrics.slices.recorder import Readings, SliceRecorder
from otel_monitoring.metrics.slices.sums import EventSumsReader
from otel_monitoring.metrics.slices.table import SliceTable
from otel_monitoring.monitoring.service import MonitoringService
from otel_monitoring.runtime.threads import in_thread

__all__ = ["AlertTester", "ManualClock", "MemoryChannel"]

_PATIENCE = 30.0
_DELIVERY_SECONDS = 30.0
_ANY_NUMBER = 1_000_000


class ManualClock:
    """A clock that stands still until it is advanced. Call it for the time.

    Args:
        now: The time it begins with, in Unix seconds.

    Attributes:
        now: The time; may be set.
    """

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time, in Unix seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class MemoryChannel:
    """A channel that keeps in memory what it is sent. Thread-safe.

    Args:
        name: What it is called in answers and in the history.

    Attributes:
        error: Raised in place of keeping a message, if set: `DeliveryError` says whether trying again can help.
    """

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.error: Exception | None = None
        self._kept: list[Notification] = []
        self._changed = renewed(self, "_changed", threading.Condition)

    async def send(self, notification: Notification) -> None:
        """Keep `notification`.

        Raises:
            Exception: `error`, if set.
        """
        if self.error is not None:
            raise self.error
        with self._changed:
            self._kept.append(notification)
            self._changed.notify_all()

    @property
    def notifications(self) -> list[Notification]:
        """The messages, in the order they arrived; a message holds the alerts that left together."""
        with self._changed:
            return list(self._kept)

    @property
    def alerts(self) -> list[AlertEvent]:
        """The alerts of all messages, in the order they arrived."""
        return [event for notification in self.notifications for event in notification.events]

    def clear(self) -> None:
        """Forget what arrived."""
        with self._changed:
            self._kept.clear()

    def wait(self, count: int = 1, timeout: float = _PATIENCE) -> list[AlertEvent]:
        """Block until `count` alerts have arrived since the beginning or the last `clear`, and return them all.

        Raises:
            TimeoutError: They did not arrive within `timeout` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.alerts) >= count, timeout):
                raise TimeoutError(f"{len(self.alerts)} of {count} alerts within {timeout:g} s: {self.alerts}")
            return self.alerts

    async def arrived(self, count: int = 1, timeout: float = _PATIENCE) -> list[AlertEvent]:
        """The same as `wait`, without blocking the event loop.

        Raises:
            TimeoutError: They did not arrive within `timeout` seconds.
        """
        return await in_thread(lambda: self.wait(count, timeout), name="otel-monitoring-wait")


class AlertTester:
    """Tries the alerts of a service that is not running: a context manager.

    Inside the `with` block the service starts no background work, also when its application gets requests. All its
    alerts, of rules and of `send_alert`, go to `channel` alone. `advance` lets time pass.

    Args:
        service: Its rules, checks, database and instruments are used as they are when the `with` block begins.

    Attributes:
        clock: The time of alerts and rules.
        channel: Where alerts arrive.
        manager: The service's alert manager inside the `with` block: for mutes, the history, and what fires.

    Raises:
        InstrumentationError: On entering: the service runs.
    """

    def __init__(self, service: MonitoringService) -> None:
        self.clock = ManualClock()
        self.channel = MemoryChannel()
        self.manager = AlertManager(
            channels=[self.channel],
            store=MemoryStore(),
            settings=service.settings,
            clock=self.clock,
            elapsed=self.clock,
        )
        self._service = service
        self._checks = service.checks
        self._interval = service.settings.sample_interval

    def __enter__(self) -> "AlertTester":
        rules = self._service.alert_manager.rules
        self._parts = self._service.drive_by_hand(self.manager)
        telemetry, settings = self._parts.telemetry, self._service.settings
        origin = Origin.here(settings, telemetry.resource.attributes)
        self.manager.connect(settings, origin, AlertSignals())
        # Each message leaves at once: while the clock stands still, no pause between messages would end.
        self.manager.delivery = Delivery(
            [self.channel], origin, clock=self.clock, elapsed=self.clock, limits=Limits(per_minute=_ANY_NUMBER)
        )
        for rule in self.manager.rules:
            self.manager.remove_rule(rule.name)
        for rule in rules:
            self.manager.add_rule(rule)
        self._measured = Aggregator(
            clock=self.clock,
            span=settings.window,
            resolution=self._interval,
            cost_clock=lambda: 0.0,
            in_place_of=self._parts.aggregator,
        )
        telemetry.start(self._measured.reader)
        self._begin_past(settings.error_statuses)
        self._evaluator = Evaluator(
            self.manager, "tester", self._report, self._interval, event_sums=lambda: self._reader.read(*self._judged())
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parts.telemetry.stop(0)
        self._service.drive_by_hand(None)

    async def advance(self, seconds: float) -> list[AlertEvent]:
        """Let time pass: ask the database and the checks once, then measure and evaluate at every sample interval.

        Returns:
            The alerts that arrived meanwhile.
        """
        before = len(self.channel.notifications)
        await asyncio.gather(self._checks.run(asyncio.get_running_loop()), self._parts.database.ping())
        while seconds > 0:
            step = min(seconds, self._interval)
            seconds -= step
            self.clock.advance(step)
            await in_thread(self._measured.collect, name="otel-monitoring-collect")
            self._recorder.write(self.manager.store.slices, self._deltas, Readings(), self.clock())
            self._evaluator.tick()
            await self.manager.delivery.flush(_DELIVERY_SECONDS)
        return [event for message in self.channel.notifications[before:] for event in message.events]

    def _begin_past(self, error_statuses: frozenset[int] | None) -> None:
        """Write slices of the past, by which objectives are judged."""
        measured = self._measured
        self._deltas = OwnDeltas(lambda: measured.reader.application)
        measured.listeners.append(lambda snapshot: self._deltas.note([snapshot]))
        self._recorder, self._reader = SliceRecorder(OutcomeClassifier(error_statuses)), EventSumsReader()

    def _judged(self) -> tuple[SliceTable, Collection[tuple[Indicator, int]]]:
        return self.manager.store.slices, wanted_sums(self.manager.rules)

    def _report(self) -> WorkerReport:
        return WorkerReport(self._measured.history.recent, self._parts.alerting.evidence())
