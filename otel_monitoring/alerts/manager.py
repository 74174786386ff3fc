"""`AlertManager`: the facade of alerting: alerts of the application, rules, mutes, history and channels."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import copy_context
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

from otel_monitoring.alerts import actions, overview
from otel_monitoring.alerts.engine import AlertEngine
from otel_monitoring.alerts.evaluation.acknowledgement import acknowledge, acknowledged, take_back
from otel_monitoring.alerts.evaluation.application_alert import SubmittedAlert, event_of, record
from otel_monitoring.alerts.evaluation.evaluate import Evaluation
from otel_monitoring.alerts.evaluation.incident import Incident, saved_incidents
from otel_monitoring.alerts.evaluation.notification_policy import NotificationPolicy
from otel_monitoring.alerts.evaluation.worker_report import part_of
from otel_monitoring.alerts.intake import Intake
from otel_monitoring.alerts.model import Acknowledgement, AlertEvent, AlertSeverity, AlertType, Outcome, own_types
from otel_monitoring.alerts.mute import DEFAULT_MUTE_SECONDS, Mute, window_json
from otel_monitoring.alerts.notify.channel_queue import Limits
from otel_monitoring.alerts.notify.channels import Channel, Immediate, Remembering, Repeating
from otel_monitoring.alerts.notify.channels.from_settings import channels_from, heartbeat_from
from otel_monitoring.alerts.notify.delivery import Delivery, try_channels
from otel_monitoring.alerts.notify.inline_delivery import deliver_inline
from otel_monitoring.alerts.notify.origin import Origin
from otel_monitoring.alerts.otel_signals import AlertSignals
from otel_monitoring.alerts.route import Route, check_channels, routes_of
from otel_monitoring.alerts.rules.defaults import preset_slos, usual_rules
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.alerts.rules.rule_set import RuleSet
from otel_monitoring.alerts.rules.slo import Slo
from otel_monitoring.alerts.selection import Selection
from otel_monitoring.alerts.store import Store, open_store
from otel_monitoring.alerts.store.application_database import ApplicationDatabase
from otel_monitoring.alerts.store.history import HISTORY_LIMIT
from otel_monitoring.alerts.store.leases import LEADER, channels_of_workers
from otel_monitoring.alerts.store.mutes import order
from otel_monitoring.config.settings import Settings
from otel_monitoring.guard import fail_open
from otel_monitoring.redact import redact
from otel_monitoring.runtime.threads import in_thread, wait_for
from otel_monitoring.timestamps import rfc3339

T = TypeVar("T")

_RECENT_LIMIT = 10
_LIMITS = Limits(spacing=1.0, gathering=0.1)
_reading_results = fail_open("reading the leader's report")
_raising = fail_open("raising an alert")
_moving = fail_open("moving mutes to the store of the service")
_MOVE_SECONDS = 0.5


class AlertManager:
    """Raises, mutes, records and delivers alerts. Thread-safe; its methods may be called from any event loop.

    On its own it delivers within `send_alert`. Connected to a running `MonitoringService` it leaves the delivery to
    that service's background thread, and `send_alert` returns at once.

    Args:
        channels: The channels; None: the log and those that the settings configure.
        store: The store of its state; None: the one that the settings choose.
        settings: The settings of channels, store and thresholds; None: those of the environment.
        clock: Returns Unix time in seconds.
        elapsed: Returns monotonic time in seconds, for the pauses between attempts.

    Raises:
        ConfigurationError: A setting is invalid; the message names it.

    Attributes:
        clock: Returns Unix time in seconds, as all workers of the service have it.
        heartbeat: Tells an outside watcher that rules are evaluated; None: nobody is told.
        hand_over: Has the service deliver the outbox soon; returns False where none runs in this process.
        engine: Evaluates the rules about the whole service and keeps the mutes, in place of this process; None: nobody.
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
        self._clock = clock
        self.clock: Callable[[], float] = self._time
        self._database: Callable[[], ApplicationDatabase | None] = lambda: None
        self._connected: tuple[Settings, Origin] | None = None
        self.engine: AlertEngine | None = None
        self._rules = RuleSet()
        self._routes: tuple[Route, ...] = ()
        self._slos: dict[str, Slo] = {}
        self._preset_slos: dict[str, Slo] = {}
        self._preset_by: Settings | None = None
        self._intake = Intake[SubmittedAlert, AlertEvent](self._decide)
        self.evaluation = Evaluation()
        known = settings or Settings.load()
        self._configure(known, Origin.here(known, {"service.name": "unknown_service"}), AlertSignals())
        self.hand_over: Callable[[], bool] = lambda: False

    def connect(
        self,
        settings: Settings,
        origin: Origin,
        signals: AlertSignals,
        database: Callable[[], ApplicationDatabase | None] = lambda: None,
    ) -> None:
        """Connect to a service: what the constructor was not given comes from it. Mutes move to its store.

        Args:
            settings: The settings of the service.
            origin: The origin of notifications; with the settings it determines the store.
            signals: Counts alerts and emits their log events.
            database: Returns the application's database, if it has one by now; the store may be there.
        """
        if self._connected == (settings, origin):
            self.signals = signals
            return
        before, self._connected = self._store, (settings, origin)
        self._database = database
        self._configure(self._given[2] or settings, origin, signals)
        if before is not None and before is not self._store:
            move = partial(self._move_mutes, before, self.store)
            # At the start, in the application's loop: a store that hangs gets the mutes later.
            if not wait_for(move, _MOVE_SECONDS, name="otel-monitoring-alert"):
                move()

    def _move_mutes(self, before: Store, store: Store) -> None:
        with _moving:
            store.run(partial(_add_all, before.mutes.all(self.clock())))  # a transaction each would take long
            before.close()

    def _configure(self, settings: Settings, origin: Origin, signals: AlertSignals) -> None:
        channels, store, _ = self._given
        self.settings = settings
        self.signals = signals
        self.origin = origin
        self.channels = tuple(channels) if channels is not None else channels_from(settings)
        self._store: Store | None = store
        for channel in self.channels:
            if isinstance(channel, Remembering):
                channel.remembered = lambda: self.store.notes
        self.delivery = Delivery(
            self.channels, origin, clock=self.clock, limits=_LIMITS, count=self._count, elapsed=self._elapsed
        )
        self._use_default_rules(settings)
        self.policy = NotificationPolicy(
            [channel.name for channel in self.channels if not isinstance(channel, Immediate)],
            settings.repeat_interval,
            settings.window,
            holding=frozenset(channel.name for channel in self.channels if isinstance(channel, Repeating)),
            at_once=[channel.name for channel in self.channels if isinstance(channel, Immediate)],
            routes=(*routes_of(settings.alert_routes or ""), *self._routes),
            muted_elsewhere=lambda: self.engine.mutes() if self.engine is not None else (),
        )
        self.heartbeat = heartbeat_from(settings, self.clock, self._elapsed) if channels is None else None

    def _use_default_rules(self, settings: Settings) -> None:
        if settings is self._preset_by:  # a service's own manager connects with the settings that it was made with
            return
        self._preset_by = settings
        self._preset_slos = {slo.name: slo for slo in preset_slos(settings)}
        self._rules.use_defaults(usual_rules(settings))

    def _decide(self, submitted: Sequence[SubmittedAlert]) -> Sequence[AlertEvent]:
        """Decide about a batch of alerts in one transaction; returns the events with their outcomes."""
        rules, raised, now = self._rules.by_name, [alert.read() for alert in submitted], self.clock()
        events = self.store.run(
            lambda store: record(
                store, raised, rules, self.policy.with_channels(channels_of_workers(store.leases, now))
            )
        )
        for alert, event in zip(submitted, events, strict=True):
            alert.context.run(self.signals.raised, event)
            if event.outcome is Outcome.NOTIFIED:
                alert.context.run(self.write, event)
        return events

    def write(self, event: AlertEvent) -> None:
        """Write `event` to the immediate channels, such as the log."""
        for channel in self.channels:
            if isinstance(channel, Immediate):
                channel.write(event)
                self._count("sent", channel.name, 1)

    def _count(self, what: str, channel: str, number: int) -> None:
        self.signals.count(what, channel, number)

    @property
    def store(self) -> Store:
        """The store of its state; opened at the first use."""
        if self._store is None:
            origin = self.origin
            self._store = open_store(
                self.settings,
                service_name=origin.service,
                environment=origin.environment,
                database=lambda: self._database(),
            )
        return self._store

    def _time(self) -> float:
        """Unix seconds, by the store's clock where several hosts share it: theirs may differ."""
        return self._clock() + (self._store.clock_offset if self._store is not None else 0.0)

    # Rules

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All rules, the default rules first."""
        return tuple(self._rules.by_name.values())

    def add_rule(self, rule: Rule) -> None:
        """Add `rule`; it replaces a default rule of the same name.

        Raises:
            ConfigurationError: A rule of this name was added before.
        """
        self._rules.add(rule)

    def remove_rule(self, name: str) -> bool:
        """Remove the rule called `name`, also a default rule; returns whether there was one."""
        return self._rules.remove(name)

    def add_route(self, route: Route) -> None:
        """Send the alerts that `route` selects to its channel; a channel with routes gets nothing else.

        Raises:
            ConfigurationError: There is no such channel here.
        """
        check_channels([route], self.policy.channels)
        self._routes = (*self._routes, route)
        self.policy = self.policy._replace(routes=(*self.policy.routes, route))

    @property
    def slos(self) -> tuple[Slo, ...]:
        """All objectives, the presets first; those whose rules were removed included."""
        return tuple({**self._preset_slos, **self._slos}.values())

    def add_slo(self, slo: Slo) -> None:
        """Add an objective, that is its rules; it replaces a preset of the same name.

        Raises:
            ConfigurationError: An objective, or a rule with the name of one of its rules, was added before.
        """
        rules = slo.rules(self.settings.error_statuses)
        self._rules.add(*rules)
        self._slos[slo.name] = slo

    # The documented methods

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
            details: Values of any type that help to understand the alert: see `jsonable`.
            labels: The alert's identity within its type, e.g. `{"endpoint": "/api/orders/"}`; mutes can select by them.
            dedup_key: Identifies repetitions among alerts of the same type and labels, in place of the message: for
                messages that contain figures.

        Returns:
            Whether the alert is notified. It is not if it is muted, if a firing alert inhibits its type, or if
            `send_alert` notified the same type, message and labels within five minutes with the same or a higher
            severity; notifications of rules do not count. The history records it either way.

        Raises:
            ValueError: Unknown type or severity.
        """
        kind, urgency = AlertType(alert_type), AlertSeverity(severity)
        with _raising:
            make_event = partial(event_of, kind, message, urgency, details, labels, self.clock(), dedup_key)
            submitted = SubmittedAlert(make_event, copy_context())
            try:
                event = await self._intake.take(submitted, urgent=urgency is AlertSeverity.CRITICAL)
            except Exception:
                self.write(submitted.read())  # the store failed: the log has the alert at least
                raise
            if event.outcome is Outcome.NOTIFIED:
                if not self.hand_over():
                    await deliver_inline(self.delivery, self.store, self.clock)
                return True
        return False

    def mute_alert_type(
        self,
        alert_type: AlertType | str,
        duration_seconds: float = DEFAULT_MUTE_SECONDS,
        *,
        labels: Mapping[str, str] | None = None,
        author: str = "",
        reason: str = "",
    ) -> float:
        """Mute a type: its alerts are recorded, but not notified.

        Args:
            alert_type: One of `AlertType`, or its value.
            duration_seconds: Seconds; the mute must end before the year 10000.
            labels: Mute only alerts that have all of these labels, e.g. `{"endpoint": "/api/orders/"}`.
            author: Who mutes.
            reason: Why.

        Returns:
            When the mute ends, in Unix seconds.

        Raises:
            ValueError: The type is no name of a type, or nearly a known one; or the duration is no positive number or
                too long.
            TooManyMutesError: 1,000 other mutes are in force.
        """
        return self._mute(alert_type, None, labels, duration_seconds, author, reason).until

    def mute(
        self,
        alert_type: AlertType | str | None = None,
        *,
        rule: str | None = None,
        labels: Mapping[str, str] | None = None,
        duration_seconds: float = DEFAULT_MUTE_SECONDS,
        author: str = "",
        reason: str = "",
    ) -> dict[str, Any]:
        """Mute the alerts that fit everything that is given; it replaces a mute of the same alerts.

        Args:
            alert_type: Those of this type.
            rule: Those of the rule with this name.
            labels: Those that have all of these labels, e.g. `{"endpoint": "/api/orders/"}`.
            duration_seconds: Seconds; the mute must end before the year 10000.
            author: Who mutes.
            reason: Why.

        Returns:
            The mute, as `get_mutes` has it.

        Raises:
            ValueError: Nothing is given, a name is wrong, or the duration is; the message begins with the field.
            TooManyMutesError: 1,000 other mutes are in force.
        """
        return self._mute(alert_type, rule, labels, duration_seconds, author, reason).as_json()

    def _mute(
        self,
        kind: AlertType | str | None,
        rule: str | None,
        labels: Mapping[str, str] | None,
        duration_seconds: float,
        author: str,
        reason: str,
    ) -> Mute:
        now = self.clock()
        mute = actions.signed(self._selection(kind, rule, labels), actions.until(now, duration_seconds), author, reason)
        actions.add_mute(self.store, mute, now)
        self._tell_engine()
        return mute

    def _tell_engine(self) -> None:
        if self.engine is not None:
            self.engine.take_mutes()

    def _selection(self, kind: AlertType | str | None, rule: str | None, labels: Mapping[str, str] | None) -> Selection:
        return actions.selection(kind, rule, labels, types=self.known_types(), rules=self._rules.by_name)

    def silenced(self, identifier: str) -> bool | None:
        """Whether the engine keeps the mute with this id; None: there is no engine, and the store does."""
        return None if self.engine is None else any(mute.id == identifier for mute in self.engine.mutes())

    def unmute_alert_type(self, alert_type: AlertType | str, *, labels: Mapping[str, str] | None = None) -> bool:
        """End all mutes of a type alone, or the one with exactly these labels; returns whether there was one."""
        kind = AlertType(alert_type)
        if labels is None:
            return self.unmute(kind.value)
        mute = Mute(Selection.of(kind, labels=labels), 0.0)
        ended = self.store.mutes.remove(mute)
        return (self.engine is not None and self.engine.unmute(mute.id)) or ended

    def unmute(self, name: str) -> bool:
        """End the mute with this id, or all mutes of this type or rule; returns whether there was one."""
        ended = actions.end_mutes(self.store, name, self.clock()) > 0
        return (self.engine is not None and self.engine.unmute(name)) or ended

    async def get_mutes(self) -> list[dict[str, Any]]:
        """The mutes in force as `Mute.as_json`, in the order of their ends."""
        return await self._off_loop(lambda: [mute.as_json() for mute in self.mutes()])

    def mutes(self) -> list[Mute]:
        """The mutes, without planned windows, in the order of their ends: the store's and the engine's."""
        known = [mute for mute in self.store.mutes.all(self.clock()) if mute.schedule is None]
        theirs = [mute for mute in self.engine.mutes() if mute.schedule is None] if self.engine is not None else ()
        return sorted({mute.key: mute for mute in (*theirs, *known)}.values(), key=order)

    def plan_maintenance(
        self,
        start: datetime | str,
        end: datetime | str,
        *,
        days: Sequence[str] | str = (),
        timezone: str = "UTC",
        alert_type: AlertType | str | None = None,
        rule: str | None = None,
        labels: Mapping[str, str] | None = None,
        author: str = "",
        reason: str = "",
    ) -> dict[str, Any]:
        """Plan a window in which alerts are recorded and not notified.

        Args:
            start: When it opens: a `datetime` or an RFC 3339 text; with `days` a time of day as `02:00`.
            end: When it closes; with `days` a time of day, of the next day if it is not after `start`.
            days: The days of the week on which it opens, as `sun` or `mon-fri`; none: it opens once.
            timezone: The IANA name of the time zone of local times, e.g. `Europe/Berlin`.
            alert_type: Only alerts of this type.
            rule: Only those of the rule with this name.
            labels: Only those that have all of these labels. With none of the three all alerts are muted.
            author: Who plans it.
            reason: Why.

        Returns:
            The window, as `get_maintenance` has it.

        Raises:
            ValueError: A field is wrong; the message begins with `from`, `to`, or the field's name.
            TooManyMutesError: There are 1,000 other mutes and windows.
        """
        from otel_monitoring.alerts.schedule import planned

        now = self.clock()

        schedule = planned(start, end, days, timezone)
        window = actions.plan(self.store, self._selection(alert_type, rule, labels), schedule, author, reason, now)
        self._tell_engine()
        return window_json(window, now)

    async def get_maintenance(self) -> list[dict[str, Any]]:
        """The planned windows that are not over, as `window_json`: those that open first are first."""
        return await self._off_loop(self._maintenance)

    def end_maintenance(self, identifier: str) -> bool:
        """Remove the planned window with this id; returns whether there was one."""
        ended = actions.end_window(self.store, identifier, self.clock())
        if ended:
            self._tell_engine()
        return ended

    def _maintenance(self) -> list[dict[str, Any]]:
        now = self.clock()
        windows = [window_json(one, now) for one in self.store.mutes.all(now) if one.schedule is not None]
        return sorted(windows, key=lambda window: (window.get("opens", ""), window["id"]))

    async def acknowledge(self, incident: str, *, author: str = "", reason: str = "") -> dict[str, Any]:
        """Say that somebody takes care of an alert: it is not repeated, and its channels are told who and why.

        Args:
            incident: The alert's `incident`, as in `firing` or the history.
            author: Who takes care of it.
            reason: What is done, or why nothing has to be.

        Returns:
            `incident`, `author`, `reason` and `at` (RFC 3339).

        Raises:
            LookupError: No alert of this incident fires, nor did the application raise one.
        """
        by = Acknowledgement(self.clock(), redact(author), redact(reason))

        rules, engine = self._rules.by_name, self.engine
        elsewhere = engine.incidents(rules) if engine is not None and engine.evaluates else ()

        def work(store: Store) -> AlertEvent | None:
            known = channels_of_workers(store.leases, by.at)
            policy = self.policy.with_channels(known)
            return acknowledge(store, incident, by, self._rules.by_name, policy, elsewhere)

        event = await self._off_loop(lambda: self.store.run(work))
        if event is None or event.acknowledged is None:
            raise LookupError(f"incident: no alert of {redact(incident, limit=40)} fires")
        if event.acknowledged is by:
            self.write(event)
            if not self.hand_over():
                await deliver_inline(self.delivery, self.store, self.clock)
            self._tell_engine()
        return {"incident": incident, **event.acknowledged.as_json()}

    async def take_back_acknowledgement(self, incident: str) -> bool:
        """Let an acknowledged alert be repeated again; returns whether it was acknowledged."""
        taken_back = await self._off_loop(lambda: self.store.run(lambda store: take_back(store, incident)))
        if taken_back:
            self._tell_engine()
        return taken_back

    def known_types(self) -> frozenset[str]:
        """The names of the alert types: the documented ones, those of rules, and those of alerts until now."""
        own = {kind.value for kind in (*own_types(), *self.store.history.counts())}
        return frozenset({*(kind.value for kind in AlertType), *(rule.type.value for rule in self.rules), *own})

    async def get_alert_summary(self) -> dict[str, Any]:
        """The documented summary.

        `total_alerts` and `alerts_by_type` count firing events since the last `reset_stats`. `muted_alerts` has the
        ends (RFC 3339) of the mutes without labels by type, `mutes` every mute, `maintenance` every planned window,
        `recent_alerts` the last ten events.
        """
        return await self._off_loop(self._summary)

    async def get_alert_history(
        self,
        limit: int = 100,
        alert_type: AlertType | str | None = None,
        severity: AlertSeverity | str | None = None,
    ) -> list[dict[str, Any]]:
        """The recorded events as `AlertEvent.as_json`, the newest first.

        Args:
            limit: The most events to return, 1 to 1000.
            alert_type: Only events of this type.
            severity: Only events of this severity.

        Raises:
            ValueError: The type or severity is unknown, or the limit out of range.
        """
        if not 1 <= limit <= HISTORY_LIMIT:
            raise ValueError(f"limit: must be from 1 to {HISTORY_LIMIT}, not {limit}")
        kind = await self._off_loop(lambda: self._known_type(alert_type)) if alert_type is not None else None
        urgency = AlertSeverity(severity) if severity is not None else None
        events = await self._off_loop(lambda: self.store.history.events(limit=limit, alert_type=kind, severity=urgency))
        return [event.as_json() for event in events]

    def _known_type(self, given: AlertType | str) -> AlertType:
        known = self.known_types()
        if (given.value if isinstance(given, AlertType) else given) not in known:
            raise ValueError(f"alert_type: must be one of {', '.join(sorted(known))}")
        return AlertType(given)

    def reset_stats(self) -> None:
        """Clear the history and the counts; mutes stay."""

        def work(store: Store) -> None:
            store.history.clear()
            store.notes.clear()

        self.store.run(work)

    # Further answers for the endpoints

    async def test_channels(self) -> dict[str, dict[str, Any]]:
        """Send a test alert through every channel concurrently.

        Returns:
            By channel name: `delivered`, and `error` (redacted) where it was not.
        """
        event = event_of(AlertType.CUSTOM, "Test alert from otel_monitoring", AlertSeverity.INFO, {}, {}, self.clock())
        message = self.origin.message(uuid4().hex, (event,))
        return await try_channels(self.channels, message, self.delivery.limits.timeout)

    def recent(self) -> list[dict[str, Any]]:
        """The last ten events, the newest first."""
        return [event.as_json() for event in self.store.history.events(limit=_RECENT_LIMIT)]

    async def firing(self) -> list[dict[str, Any]]:
        """The answer of `/alerts/firing`: see `overview.firing`."""
        if self.engine is not None:
            await self.engine.refresh_rules(())
        return await self._off_loop(lambda: overview.firing(self.incidents(), self._rules.by_name, self.acknowledged()))

    def acknowledged(self) -> Mapping[str, Acknowledgement]:
        """The acknowledged alerts by incident: the store's and the engine's."""
        own = acknowledged(self.store.acknowledgements)
        return {**self.engine.acknowledged(), **own} if self.engine is not None else own

    async def rule_states(self) -> list[dict[str, Any]]:
        """The answer of `/alerts/rules`: see `overview.rule_states`."""
        if self.engine is not None:
            await self.engine.refresh_rules(self.rules)
        return await self._off_loop(lambda: overview.rule_states(self.incidents(), self.rules, self._latest_results()))

    def incidents(self) -> list[Incident]:
        """The incidents of the store, and those of the engine that evaluates in its place."""
        saved, engine = saved_incidents(self.store.incidents), self.engine
        if engine is None or not engine.evaluates:
            return saved
        theirs = engine.incidents(self._rules.by_name)
        known = {incident.key for incident in theirs}
        return [*(incident for incident in saved if incident.key not in known), *theirs]

    def _latest_results(self) -> Mapping[str, Mapping[str, Any]]:
        """The results of the latest evaluation: of this worker, or of the one that leads, and of the engine."""
        own = self._own_results()
        return {**own, **self.engine.results(self.rules)} if self.engine is not None else own

    def _own_results(self) -> Mapping[str, Mapping[str, Any]]:
        own = overview.results(self.rules, self.evaluation)
        if own:
            return own
        store, now = self.store, self.clock()
        leader = store.leases.holders(now).get(LEADER)
        published = store.reports.published(now)
        with _reading_results:
            return part_of(published[leader].report, "results") if leader in published else {}
        return {}

    def diagnostics(self) -> dict[str, Any]:
        """The keys `alerts` and `alerting` of the diagnostics; it waits for the store."""
        return {"alerts": self.recent(), "alerting": self.state()}

    def state(self) -> dict[str, Any]:
        """The key `alerting` of the diagnostics.

        `leader` is the `service.instance.id` of the worker that evaluates, `channels` see `overview.channels`, and
        `store_problem` says why the store does not work as configured, or is None. `engine` is there where one is set.
        """
        store, now = self.store, self.clock()
        return {
            "leader": store.leases.holders(now).get(LEADER),
            "channels": overview.channels(store, self.delivery.conditions() | self._heartbeat_condition(), now),
            "store_problem": store.problem,
            **({"engine": self.engine.state()} if self.engine is not None else {}),
        }

    def _heartbeat_condition(self) -> dict[str, dict[str, Any]]:
        return {"heartbeat": self.heartbeat.condition()} if self.heartbeat is not None else {}

    @staticmethod
    async def _off_loop(work: Callable[[], T]) -> T:
        """Run `work` in a thread: a store may wait for a disk or another process."""
        return await in_thread(work, name="otel-monitoring-alert")

    def _summary(self) -> dict[str, Any]:
        counts = self.store.history.counts()
        mutes = self.mutes()
        return {
            "total_alerts": sum(counts.values()),
            "alerts_by_type": {kind.value: count for kind, count in counts.items()},
            "muted_alerts": {mute.type.value: rfc3339(mute.until) for mute in mutes if mute.type is not None},
            "mutes": [mute.as_json() for mute in mutes],
            "maintenance": self._maintenance(),
            "recent_alerts": self.recent(),
        }


def _add_all(mutes: Iterable[Mute], store: Store) -> None:
    for mute in mutes:
        store.mutes.add(mute)
