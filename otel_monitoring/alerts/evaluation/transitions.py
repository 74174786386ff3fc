"""`Transitions`: advances the saved incidents by one evaluation, and decides which events are notified.

Mutes and inhibition stop notifications; the history records every event.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from otel_monitoring.alerts.evaluation.acknowledgement import acknowledged, forget
from otel_monitoring.alerts.evaluation.evaluate import RuleResult
from otel_monitoring.alerts.evaluation.incident import Incident, incidents_beside
from otel_monitoring.alerts.evaluation.lifecycle import AlertState, Phase, advance, sees_breach
from otel_monitoring.alerts.evaluation.notification_policy import (
    NotificationPolicy,
    inhibited_types,
    is_muted,
    is_recent,
    note_end,
    note_inhibition_ended,
    yields,
)
from otel_monitoring.alerts.evaluation.worker_report import WorkerReport, evidence_key
from otel_monitoring.alerts.model import AlertEvent, AlertType, Outcome, Status
from otel_monitoring.alerts.mute import Mute
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.alerts.store import Store
from otel_monitoring.guard import logger

Evidence = Callable[[Rule, Incident], Mapping[str, Any]]

ORPHANED_SECONDS = 10.0
"""How long an alert keeps firing after its rule disappeared."""


class Transitions:
    """The effects of one evaluation on the store; made for one transaction.

    Args:
        store: The store, inside a transaction.
        policy: Decides about notifying.
        now: The time of the evaluation, in Unix seconds.
        elsewhere: The names of the rules that another engine evaluates.
        firing_elsewhere: The incidents that fire there: they stay acknowledged.
        evidence: Returns what changed, for an alert that is recorded or notified.

    Attributes:
        events: Every event of this evaluation, firing and resolved, in order.
        notified: The events that are notified, repeated notifications included, in order.
        windows: How many planned windows are open.
    """

    def __init__(
        self,
        store: Store,
        policy: NotificationPolicy,
        now: float,
        elsewhere: Collection[str] = (),
        firing_elsewhere: Collection[str] = (),
        evidence: Evidence = lambda _rule, _incident: {},
    ) -> None:
        self._evidence = evidence
        self._elsewhere = elsewhere
        self._firing_elsewhere = firing_elsewhere
        self._store = store
        self._policy = policy
        self._now = now
        self._mutes: Sequence[Mute] = policy.mutes(store.mutes, now)
        self.windows = sum(mute.schedule is not None for mute in self._mutes)
        self._acknowledged = acknowledged(store.acknowledgements)
        self._inhibited: frozenset[AlertType] = frozenset()
        self._firing: frozenset[str] = frozenset()
        self.events: list[AlertEvent] = []
        self.notified: list[AlertEvent] = []

    def apply(
        self,
        results: Iterable[RuleResult],
        known: Mapping[str, Incident],
        reports: Mapping[str, WorkerReport],
        rules: Collection[Rule],
    ) -> None:
        """Advance every alert, then save its state, record its events and enqueue its notifications.

        Args:
            results: The results of the evaluation.
            known: The saved incidents by key.
            reports: The reports of all workers by instance; they hold the evidence.
            rules: All rules, including those whose evaluation failed.
        """
        transitions = [self._transition(result, known, reports) for result in results]
        self._inhibited = self._inhibited_types(transitions, rules)
        self._note_explanations(transitions, rules)
        # An inactive alert stays saved while its next start may count as flapping.
        saved: dict[str, str | None] = {key: None for key, incident in known.items() if not self._is_kept(incident)}
        for transition in transitions:
            incident = self._carry_out(transition, _reported(transition.result, reports))
            if self._is_kept(incident):
                saved[incident.key] = incident.encode()
            elif incident.key in known:
                saved[incident.key] = None
        names = {rule.name for rule in rules}
        saved.update((key, self._orphan(incident)) for key, incident in known.items() if incident.rule not in names)
        beside = self._advance_beside(transitions, known, rules)
        saved.update((key, None) for key, fires in beside.items() if not fires)
        if saved:
            self._store.incidents.save(saved)
        firing = {*self._firing_elsewhere, *(one.after.id for one in transitions if one.after.firing)}
        forget(self._store.acknowledgements, self._acknowledged, firing, self._now)

    def _is_warming_up(self, result: RuleResult, reports: Mapping[str, WorkerReport]) -> bool:
        """Whether the window is not full yet, as after a restart."""
        windows = [report.window.seconds for report in _reports_about(result, reports)]
        return max(windows, default=0.0) < self._policy.window

    def _is_kept(self, incident: Incident) -> bool:
        return incident.state.phase is not Phase.INACTIVE or incident.state.may_flap(self._now)

    def _transition(
        self, result: RuleResult, known: Mapping[str, Incident], reports: Mapping[str, WorkerReport]
    ) -> "_Transition":
        rule, reading, warming_up = result.rule, result.reading, self._is_warming_up(result, reports)
        new = Incident(rule.name, result.labels, AlertState())
        before = known.get(new.key, new)
        state = advance(rule, before.state, reading, self._now, warming_up=warming_up)
        if result.gone:
            state = replace(state, phase=Phase.INACTIVE)
        after = replace(before, state=state, orphaned_at=None)
        return _Transition(result, before, after, sees_breach(rule, reading, warming_up=warming_up))

    def _orphan(self, incident: Incident) -> str | None:
        """The saved form of an alert whose rule is missing, as after a deploy; None once it is resolved.

        An application may add its rules a moment after its start: a firing alert waits `ORPHANED_SECONDS` for its rule.
        """
        if not incident.firing:
            return None
        if incident.orphaned_at is None:
            return replace(incident, orphaned_at=self._now).encode()
        if is_recent(incident.orphaned_at, self._now, ORPHANED_SECONDS):
            return incident.encode()
        removed, moved = "its rule was removed", "Prometheus evaluates its rule from now on"
        why = moved if incident.rule in self._elsewhere else removed
        logger.info("the alert of %s resolved: %s", incident.rule, why)
        self._resolve(None, incident.resolved(self._now).without_rule(why), {})
        return None

    def _advance_beside(
        self, transitions: Iterable["_Transition"], known: Mapping[str, Incident], rules: Iterable[Rule]
    ) -> dict[str, bool]:
        """Resolve the incidents of hosts that were apart with the alerts that they are of; whether each still fires."""
        present = {one.after.key: one.after for one in transitions if one.after.firing}
        by_name = {rule.name: rule for rule in rules}
        fires = {}
        for key, incident in incidents_beside(self._store.incidents).items():
            of_alert = known.get(incident.key), present.get(incident.key)
            is_told = incident.firing and incident.id not in {one.id for one in of_alert if one is not None}
            fires[key] = is_told and incident.key in present
            if is_told and not fires[key]:
                self._resolve(by_name.get(incident.rule), incident.resolved(self._now), {})
        return fires

    def _inhibited_types(self, transitions: Iterable["_Transition"], rules: Collection[Rule]) -> frozenset[AlertType]:
        firing: set[str] = set()
        for result, before, after, _ in transitions:
            if after.firing:
                firing.add(result.rule.name)
            elif before.firing and result.rule.inhibits:
                note_inhibition_ended(self._store.notes, result.rule, self._now)
        return inhibited_types(self._store.notes, rules, firing, self._now, self._policy.window)

    def _note_explanations(self, transitions: Iterable["_Transition"], rules: Iterable[Rule]) -> None:
        """Note which alerts fire, and the ends of those that explain others."""
        explaining = frozenset(name for rule in rules for name in rule.yields_to)
        concerned = [each for each in transitions if each.result.rule.name in explaining]
        self._firing = frozenset(each.after.key for each in concerned if each.after.firing)
        for _, before, after, _ in concerned:
            if before.firing and not after.firing:
                note_end(self._store.notes, after.key, self._now)

    def _carry_out(self, transition: "_Transition", reported: Mapping[str, Any]) -> Incident:
        """Record and enqueue what the transition calls for; returns the incident to save."""
        rule, before, after = transition.result.rule, transition.before, transition.after
        reading = transition.result.reading
        if before.firing and not after.firing:
            ended = before.expired() if after.state.given_up else before.resolved(self._now)
            details = {"threshold": rule.threshold, "value_now": _rounded(after.state.value)}
            self._resolve(rule, ended, details)
        if not after.firing:
            return Incident(after.rule, after.labels, after.state)
        if not before.firing:
            after = replace(
                after, notified_on=frozenset(), first_notified_at=None, worst=None, worst_message="", evidence={}
            )
        if transition.starts or (transition.sees_breach and after.state.value is not None):
            after = after.with_current_value(rule)
        outcome, is_first = self._outcome(rule, after), after.state.notified_at is None
        # A notification needs a breach in the present data: after a restart there may be none yet.
        channels, waited = self._channels(rule, after, told_again=transition.starts or self._is_due(after))
        is_taken_care_of = not is_first and after.id in self._acknowledged
        notify = outcome is Outcome.NOTIFIED and transition.sees_breach and channels is not None
        notify = notify and not is_taken_care_of
        if outcome is Outcome.NOTIFIED and is_first and not notify:
            outcome = before.outcome
        after = replace(after, outcome=outcome)
        is_event = transition.starts or (notify and is_first)
        if is_event or notify:
            own = reading.details if reading is not None else {}
            details = {"value": _rounded(after.value), "threshold": rule.threshold, **waited, **reported, **own}
            # What stood out when it began stays: later the hour before is as bad.
            began = {"culprits": after.evidence["culprits"]} if after.evidence.get("culprits") else {}
            after = replace(after, evidence={**self._evidence(rule, after), **began})
            event = after.event(rule, self._now, details)
            if is_event:
                self._record(event, channels or () if notify else (), notified=notify)
            if notify:
                self.notified.append(event)
                self._store.outbox.enqueue([event], channels or (), self._now)
                after = after.after_notifying(channels or (), self._now)
        return after

    def _resolve(self, rule: Rule | None, ended: Incident, details: Mapping[str, Any]) -> None:
        """Record the end of an incident and send it to every channel that was notified of its start.

        A mute keeps it from people, but not from a channel that holds alerts: there the alert would stay until it
        expires.
        """
        was_notified = ended.state.notified_at is not None
        event = ended.event(
            rule,
            self._now,
            {
                "value": _rounded(ended.value),
                "worst": _rounded(ended.worst) if ended.worst != ended.value else None,
                **details,
                "duration_seconds": round(max(0.0, self._now - ended.state.since), 1),
            },
            status=Status.RESOLVED,
        )
        muted = is_muted(self._mutes, event)
        outcome = Outcome.MUTED if muted else Outcome.NOTIFIED if was_notified else ended.outcome
        event = replace(event, outcome=outcome)
        present = self._policy.channels
        # Channels that were notified and that no worker has now: a worker that starts may bring them back.
        missing = sorted((ended.notified_on or frozenset()).difference(present, self._policy.at_once))
        candidates = self._policy.holding.intersection(present) if muted else (*present, *missing)
        channels = [name for name in candidates if ended.was_notified_on(name)]
        notify = was_notified and not muted
        self._record(event, channels, notified=notify)
        if notify:
            self.notified.append(event)
        self._store.outbox.enqueue([event], channels, self._now)

    def _outcome(self, rule: Rule, incident: Incident) -> Outcome:
        """Whether a mute, an inhibiting alert or a dry run stops the notification."""
        if rule.dry_run:
            return Outcome.DRY_RUN
        if rule.yields_to and yields(self._store.notes, rule, incident.labels, self._firing, self._now):
            return Outcome.INHIBITED
        if is_muted(self._mutes, replace(incident, type=rule.type, severity=rule.urgency)):
            return Outcome.MUTED
        return Outcome.INHIBITED if rule.type in self._inhibited else Outcome.NOTIFIED

    def _channels(
        self, rule: Rule, incident: Incident, *, told_again: bool
    ) -> tuple[list[str] | None, Mapping[str, Any]]:
        """The channels to notify now, None for none, and the details that tell why.

        Args:
            rule: The rule.
            incident: The incident.
            told_again: Whether every channel is notified; else only those that get what nobody acknowledges.
        """
        alert = replace(incident, type=rule.type, severity=rule.urgency)
        first = incident.first_notified_at
        waited = self._now - first if first is not None else 0.0
        channels = self._policy.due(alert, waited)
        known = set(self._policy.due(alert)) | (incident.notified_on or set())
        later = [name for name in channels if name not in known] if incident.notified_on is not None else []
        details = {"unacknowledged_seconds": round(waited)} if later else {}
        return (channels if told_again else later or None), details

    def _is_due(self, incident: Incident) -> bool:
        notified_at = incident.state.notified_at
        return notified_at is None or self._now - notified_at >= self._policy.repeat_interval

    def _record(self, event: AlertEvent, channels: Collection[str], *, notified: bool) -> None:
        self._store.history.append(self._policy.history_entry(event, channels, notified=notified))
        self.events.append(event)


class _Transition(NamedTuple):
    """One alert before and after an evaluation.

    Attributes:
        result: The result of the evaluation.
        before: The incident as it was saved.
        after: The incident now.
        sees_breach: Whether the present data breaches the rule.
    """

    result: RuleResult
    before: Incident
    after: Incident
    sees_breach: bool

    @property
    def starts(self) -> bool:
        """Whether the alert starts to fire or to flap."""
        starts_flapping = self.after.state.flapping and not self.before.state.flapping
        return self.after.firing and (starts_flapping or not self.before.firing)


def _reports_about(result: RuleResult, reports: Mapping[str, WorkerReport]) -> Collection[WorkerReport]:
    """The report of the worker that an alert is about, or the reports of all workers."""
    own = reports.get(result.labels.get("instance", "")) if result.rule.scope == "instance" else None
    return [own] if own is not None else reports.values()


def _reported(result: RuleResult, reports: Mapping[str, WorkerReport]) -> Mapping[str, Any]:
    """The first details that a worker reports: for the alert's group, else for its type."""
    keys = (evidence_key(result.rule.type, result.labels.get(result.rule.label, "")), result.rule.type.value)
    candidates = _reports_about(result, reports)
    return next((found for key in keys for report in candidates if (found := report.evidence.get(key))), {})


def _rounded(value: float | None) -> float | None:
    return round(value, 4) if value is not None else None
