"""`AlertManager`: raises alerts, suppresses duplicates, honours mutes, keeps the history, hands over to delivery."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

from otel_monitoring.alerts import overview
from otel_monitoring.alerts.evaluation.application_alert import HandedOver, event_of, record
from otel_monitoring.alerts.evaluation.evaluate import Evaluation
from otel_monitoring.alerts.evaluation.incident import saved_incidents
from otel_monitoring.alerts.evaluation.policy import Policy
from otel_monitoring.alerts.intake import Intake
from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, AlertType, Mute, Outcome, readable_labels
from otel_monitoring.alerts.notify.channels import Channel, Immediate, Repeating
from otel_monitoring.alerts.notify.channels.from_settings import channels_from
from otel_monitoring.alerts.notify.delivery import Delivery, Limits, Sender, trial
from otel_monitoring.alerts.notify.inline import deliver
from otel_monitoring.alerts.otel_signals import AlertSignals
from otel_monitoring.alerts.rules.defaults import default_rules
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.alerts.rules.rule_set import RuleSet
from otel_monitoring.alerts.store import Store, open_store
from otel_monitoring.alerts.store.leader_lease import channels_of_workers
from otel_monitoring.alerts.store.protocol import HISTORY_LIMIT, LEADER, MUTES_LIMIT, mute_key
from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import TooManyMutesError
from otel_monitoring.guard import fail_open
from otel_monitoring.redact import redact
from otel_monitoring.runtime.threads import in_thread
from otel_monitoring.timestamps import rfc3339

T = TypeVar("T")

_RECENT = 10
_LAST_SECOND = 253_402_300_799.0
"""9999-12-31T23:59:59Z in Unix seconds: no calendar here knows a later one."""
_LIMITS = Limits(spacing=1.0, gathering=0.1)
_raising = fail_open("raising an alert")


class AlertManager:
    """Raises, delivers, mutes and remembers alerts. Thread-safe; methods may be called from any event loop.

    By itself it delivers in `send_alert`. Connected to a running `MonitoringService`, it hands over to that service's
    background thread and returns at once.

    Args:
        channels: Where alerts go; those that the settings configure, and the log, when not given.
        store: Where its state is kept; the one that the settings name when not given.
        settings: Where channels, store and thresholds come from; the environment when not given.
        clock: Unix time in seconds.
        elapsed: Seconds of a clock that nobody sets, for the pauses between attempts.

    Raises:
        ConfigurationError: A setting cannot work; the message names it.
    """

    def __init__(
        self,
        *,
        channels: Sequence[Channel] | None = None,
        store: Store | None = None,
        settings: Settings | None = None,
        clock: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._elapsed = elapsed
        self._given = channels, store, settings
        self.clock = clock
        self._connected: tuple[Settings, Sender] | None = None
        self._rules = RuleSet()
        self._intake = Intake[HandedOver, AlertEvent](self._decide)
        self.evaluation = Evaluation()
        known = settings or Settings.load()
        self._configure(known, Sender.here(known, {"service.name": "unknown_service"}), AlertSignals())
        self.hand_over: Callable[[], bool] = lambda: False
        """Has what waits delivered soon, in the background; False where nobody does that."""

    def connect(self, settings: Settings, sender: Sender, signals: AlertSignals) -> None:
        """Be the alert manager of a service: what was not given at construction comes from it.

        Args:
            settings: The service's.
            sender: Who notifications are from; with the settings it names the store.
            signals: Where alerts are measured.
        """
        if self._connected == (settings, sender):
            self.signals = signals
            return
        before, self._connected = self._store, (settings, sender)
        self._configure(self._given[2] or settings, sender, signals)
        if before is not None and before is not self._store:
            for mute in before.mutes(self.clock()):
                self.store.mute(mute)
            before.close()

    def _configure(self, settings: Settings, sender: Sender, signals: AlertSignals) -> None:
        channels, store, _ = self._given
        self.settings = settings
        self.signals = signals
        self.sender = sender
        self.channels = tuple(channels) if channels is not None else channels_from(settings)
        self._store: Store | None = store
        self.delivery = Delivery(
            self.channels, sender, clock=self.clock, limits=_LIMITS, count=self._count, elapsed=self._elapsed
        )
        self._rules.use_defaults(default_rules(settings.thresholds, settings.error_statuses))
        self.policy = Policy(
            [channel.name for channel in self.channels if not isinstance(channel, Immediate)],
            settings.repeat_interval,
            settings.window,
            holding=frozenset(channel.name for channel in self.channels if isinstance(channel, Repeating)),
            at_once=[channel.name for channel in self.channels if isinstance(channel, Immediate)],
        )

    def _decide(self, handed: Sequence[HandedOver]) -> Sequence[AlertEvent]:
        rules, raised, now = self._rules.by_name, [one.read() for one in handed], self.clock()
        events = self.store.run(
            lambda store: record(store, raised, rules, self.policy.joined(channels_of_workers(store, now)))
        )
        for one, event in zip(handed, events, strict=True):
            one.context.run(self.signals.raised, event)
            if event.outcome is Outcome.NOTIFIED:
                one.context.run(self.write, event)
        return events

    def write(self, event: AlertEvent) -> None:
        """Tell the channels that have it at once: see `Immediate`."""
        for channel in self.channels:
            if isinstance(channel, Immediate):
                channel.write(event)
                self._count("sent", channel.name, 1)

    def _count(self, what: str, channel: str, number: int) -> None:
        self.signals.count(what, channel, number)

    @property
    def store(self) -> Store:
        """Where its state is kept."""
        if self._store is None:
            sender = self.sender
            self._store = open_store(self.settings, service_name=sender.service, environment=sender.environment)
        return self._store

    # Rules

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Every rule, the default ones first."""
        return tuple(self._rules.by_name.values())

    def add_rule(self, rule: Rule) -> None:
        """Add `rule`, in place of a default one of the same name.

        Raises:
            ConfigurationError: A rule of this name was added before.
        """
        self._rules.add(rule)

    def remove_rule(self, name: str) -> bool:
        """Take a rule away, default ones too; False when there was none of this name."""
        return self._rules.remove(name)

    # What is documented

    async def send_alert(
        self,
        alert_type: AlertType | str,
        message: str,
        severity: AlertSeverity | str = AlertSeverity.WARNING,
        details: Mapping[str, Any] | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        dedup_key: str = "",
    ) -> bool:
        """Raise an alert.

        Args:
            alert_type: One of `AlertType`, or its value.
            message: One line for people. Secrets in it are redacted.
            severity: One of `AlertSeverity`, or its value.
            details: Values that help to understand it, of any type: see `jsonable`.
            labels: What it is about within its type, e.g. `{"endpoint": "/api/orders/"}`; mutes may name them.
            dedup_key: What makes two alerts of a type and labels the same, in place of the message: for messages with
                figures in them.

        Returns:
            Whether it is notified: False when it is muted, when the same type, message and labels were notified by
            `send_alert` within five minutes, at least as urgently, or when an alert that fires explains it. What a
            rule tells is another matter. It is in the history either way.

        Raises:
            ValueError: Unknown type or severity.
        """
        kind, urgency = AlertType(alert_type), AlertSeverity(severity)
        with _raising:
            read = partial(event_of, kind, message, urgency, details, labels, self.clock())
            handed = HandedOver(read, copy_context(), dedup_key)
            try:
                event = await self._intake.take(handed, urgent=urgency is AlertSeverity.CRITICAL)
            except Exception:
                self.write(handed.read().event)  # whatever the store would have decided: it is told somewhere
                raise
            if event.outcome is Outcome.NOTIFIED:
                if not self.hand_over():
                    await deliver(self.delivery, self.store, self.clock)
                return True
        return False

    def mute_alert_type(
        self,
        alert_type: AlertType | str,
        duration_seconds: float = 300,
        *,
        labels: Mapping[str, str] | None = None,
        author: str = "",
        reason: str = "",
    ) -> float:
        """Mute a type: its alerts go to the history only.

        Args:
            alert_type: One of `AlertType`, or its value.
            duration_seconds: How long; it must end before the year 10000.
            labels: Only alerts that have all of these, e.g. `{"endpoint": "/api/orders/"}`.
            author: Who mutes.
            reason: Why.

        Returns:
            When the mute ends, in Unix seconds.

        Raises:
            ValueError: Unknown type, or a duration that is not positive or has no end.
            TooManyMutesError: 1,000 others are in force.
        """
        now = self.clock()
        given: object = duration_seconds  # whatever the caller passes
        if not isinstance(given, int | float) or isinstance(given, bool) or not 0 < given < _LAST_SECOND - now:
            shown = redact(given, limit=40)
            raise ValueError(f"duration_seconds: must be a number above 0 and end before the year 10000, not {shown}")
        until = now + duration_seconds
        covered, told = readable_labels(labels or {}), (redact(author), redact(reason))
        self.store.run(partial(_add_mute, Mute(AlertType(alert_type), until, covered, *told), now))
        return until

    def unmute_alert_type(self, alert_type: AlertType | str, *, labels: Mapping[str, str] | None = None) -> bool:
        """End the mutes of a type, or the one with exactly these labels; False when there was none."""
        return self.store.unmute(AlertType(alert_type), None if labels is None else readable_labels(labels)) > 0

    async def get_alert_summary(self) -> dict[str, Any]:
        """The documented summary.

        `total_alerts`, `alerts_by_type`, `muted_alerts` (types that are muted as a whole, with their ends), `mutes`
        (every mute), `recent_alerts`.
        """
        return await self._off_loop(self._summary)

    async def get_alert_history(
        self,
        limit: int = 100,
        alert_type: AlertType | str | None = None,
        severity: AlertSeverity | str | None = None,
    ) -> list[dict[str, Any]]:
        """The newest alerts first, each as `AlertEvent.as_json` has it.

        Raises:
            ValueError: Unknown type or severity, or a limit outside 1 to 1000.
        """
        if not 1 <= limit <= HISTORY_LIMIT:
            raise ValueError(f"limit: must be from 1 to {HISTORY_LIMIT}, not {limit}")
        kind = AlertType(alert_type) if alert_type is not None else None
        urgency = AlertSeverity(severity) if severity is not None else None
        events = await self._off_loop(lambda: self.store.events(limit=limit, alert_type=kind, severity=urgency))
        return [event.as_json() for event in events]

    def reset_stats(self) -> None:
        """Forget history and counts; mutes stay."""
        self.store.clear()

    # What the endpoints ask besides

    async def test_channels(self) -> dict[str, dict[str, Any]]:
        """Send a test alert through every channel, side by side.

        Returns:
            By channel name: `delivered`, and `error` (redacted) where it was not.
        """
        event = event_of(AlertType.CUSTOM, "Test alert from otel_monitoring", AlertSeverity.INFO, {}, {}, self.clock())
        message = self.sender.message(uuid4().hex, (event,))
        return await trial(self.channels, message, self.delivery.limits.timeout)

    def recent(self) -> list[dict[str, Any]]:
        """The last ten alerts, newest first."""
        return [event.as_json() for event in self.store.events(limit=_RECENT)]

    async def firing(self) -> list[dict[str, Any]]:
        """What `/alerts/firing` answers: see `overview.firing`."""
        return await self._off_loop(lambda: overview.firing(saved_incidents(self.store), self._rules.by_name))

    async def rule_states(self) -> list[dict[str, Any]]:
        """What `/alerts/rules` answers: see `overview.rule_states`."""
        return await self._off_loop(
            lambda: overview.rule_states(saved_incidents(self.store), self.rules, self.evaluation)
        )

    def state(self) -> dict[str, Any]:
        """For the diagnostics.

        `leader` (the `service.instance.id` of the worker that evaluates), `channels` (see `overview.channels`),
        `store_problem` (what is wrong with the store, if anything).
        """
        store, now = self.store, self.clock()
        return {
            "leader": store.leaders(now).get(LEADER),
            "channels": overview.channels(store, self.delivery.conditions(), now),
            "store_problem": store.problem,
        }

    # How

    @staticmethod
    async def _off_loop(work: Callable[[], T]) -> T:
        """A store may wait for a disk or another process: never on the application's loop."""
        return await in_thread(work, name="otel-monitoring-alert")

    def _summary(self) -> dict[str, Any]:
        counts = self.store.counts()
        mutes = self.store.mutes(self.clock())
        return {
            "total_alerts": sum(counts.values()),
            "alerts_by_type": {kind.value: count for kind, count in counts.items()},
            "muted_alerts": {mute.type.value: rfc3339(mute.until) for mute in mutes if not mute.labels},
            "mutes": [mute.as_json() for mute in mutes],
            "recent_alerts": self.recent(),
        }


def _add_mute(mute: Mute, now: float, store: Store) -> None:
    others = sum(mute_key(other) != mute_key(mute) for other in store.mutes(now))
    if others >= MUTES_LIMIT:
        raise TooManyMutesError(f"mutes: {others} are in force, more than that cannot be; end one first")
    store.mute(mute)
