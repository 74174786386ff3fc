"""`Incidents`: turns what the rules see into events, and decides which of them are notified.

Mutes and inhibition keep a message from leaving, never an event from the history.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from otel_monitoring.alerts.evaluation.evaluate import RuleResult
from otel_monitoring.alerts.evaluation.incident import Incident
from otel_monitoring.alerts.evaluation.lifecycle import AlertState, Phase, advance, evident
from otel_monitoring.alerts.evaluation.policy import Policy, _ended, inhibited_types, lately, muted
from otel_monitoring.alerts.evaluation.worker_report import WorkerReport
from otel_monitoring.alerts.model import AlertEvent, AlertType, Mute, Outcome, Status
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.alerts.store import Store
from otel_monitoring.guard import logger

ORPHANED_SECONDS = 10.0
"""How long an alert whose rule is missing goes on firing."""


def evidence_key(kind: AlertType, group: str) -> str:
    """Under which a report has the evidence for one alert of a rule that is grouped."""
    return f"{kind.value}:{group}"


class Incidents:
    """One evaluation's way into the store; made for one transaction.

    Args:
        store: Inside a transaction.
        policy: What decides about notifying.
        now: Unix seconds.
    """

    def __init__(self, store: Store, policy: Policy, now: float) -> None:
        self._store = store
        self._policy = policy
        self._now = now
        self._mutes: Sequence[Mute] = store.mutes(now)
        self._inhibited: frozenset[AlertType] = frozenset()
        self.events: list[AlertEvent] = []
        """What happened, in order: raised and resolved."""
        self.told: list[AlertEvent] = []
        """What people are told, in order: what happened and was not kept back, and repetitions."""

    def apply(
        self,
        looks: Iterable[RuleResult],
        known: Mapping[str, Incident],
        reports: Mapping[str, WorkerReport],
        rules: Collection[Rule],
    ) -> None:
        """Advance every alert by what was seen of it; save, remember and enqueue what follows.

        Args:
            looks: What the rules see.
            known: The saved incidents by key.
            reports: What each worker knows, by instance: the evidence is taken from there.
            rules: All rules, those included that could not be evaluated.
        """
        moves = [self._move(look, known, self._settling(look, reports)) for look in looks]
        self._inhibited = self._inhibitions(moves, rules)
        # What is known of an alert that is over is kept while it may come back.
        saved: dict[str, str | None] = {key: None for key, incident in known.items() if not self._matters(incident)}
        for move in moves:
            settled = self._settle(move, _evidence(move.look, reports))
            if self._matters(settled):
                saved[settled.key] = settled.encode()
            elif settled.key in known:
                saved[settled.key] = None
        names = {rule.name for rule in rules}
        saved.update((key, self._orphan(incident)) for key, incident in known.items() if incident.rule not in names)
        if saved:
            self._store.save_states(saved)

    def _settling(self, look: RuleResult, reports: Mapping[str, WorkerReport]) -> bool:
        """Whether what it was seen in does not fill the window yet, as after a restart."""
        about = _about(look, reports)
        return max((report.window.seconds for report in about), default=0.0) < self._policy.window

    def _matters(self, incident: Incident) -> bool:
        return incident.state.phase is not Phase.INACTIVE or incident.state.restless(self._now)

    def _move(self, look: RuleResult, known: Mapping[str, Incident], warming_up: bool) -> "_Move":
        fresh = Incident(look.rule.name, look.labels, AlertState())
        before = known.get(fresh.key, fresh)
        state = advance(look.rule, before.state, look.reading, self._now, warming_up=warming_up)
        if look.gone:
            state = replace(state, phase=Phase.INACTIVE)
        seen = evident(look.rule, look.reading, warming_up=warming_up)
        return _Move(look, before, replace(before, state=state, orphaned_at=None), seen)

    def _orphan(self, incident: Incident) -> str | None:
        """What is saved of an alert whose rule does not exist any more, as after a deploy: nothing, once that is told.

        An application may add its rules a moment after its start, so what fires is kept for that moment.
        """
        if not incident.firing:
            return None
        if incident.orphaned_at is None:
            return replace(incident, orphaned_at=self._now).encode()
        if lately(incident.orphaned_at, self._now, ORPHANED_SECONDS):
            return incident.encode()
        logger.info("alert of %s is over: the rule was removed", incident.rule)
        self._end(None, incident.over(self._now).without_rule(), {})
        return None

    def _inhibitions(self, moves: Iterable["_Move"], rules: Collection[Rule]) -> frozenset[AlertType]:
        firing: set[str] = set()
        for look, before, after, _ in moves:
            if after.firing:
                firing.add(look.rule.name)
            elif before.firing and look.rule.inhibits:
                self._store.note_notified(_ended(look.rule), self._now)
        return inhibited_types(self._store, rules, firing, self._now, self._policy.window)

    def _settle(self, move: "_Move", evidence: Mapping[str, Any]) -> Incident:
        """Raise or resolve what has changed, and notify what is due; returns what is to be saved."""
        rule, before, after = move.look.rule, move.before, move.after
        if before.firing and not after.firing:
            self._resolve(rule, before, after)
        if not after.firing:
            return Incident(after.rule, after.labels, after.state)
        if not before.firing:
            after = replace(after, told_on=frozenset(), worst=None, worst_message="")
        if move.news or (move.seen and after.state.value is not None):
            after = after.seen(rule)
        outcome, first = self._outcome(rule, after), after.state.notified_at is None
        # Nobody is told what nobody sees, as after a restart.
        tell = outcome is Outcome.NOTIFIED and move.seen and (move.news or self._due(after))
        if outcome is Outcome.NOTIFIED and first and not tell:
            outcome = before.outcome
        after = replace(after, outcome=outcome)
        happened = move.news or (tell and first)
        if happened or tell:
            details = {"value": _rounded(after.value), "threshold": rule.threshold, **evidence}
            event = after.event(rule, self._now, details)
            if happened:
                self._record(event, self._policy.channels if tell else (), told=tell)
            if tell:
                self.told.append(event)
                self._store.enqueue(event, self._policy.channels, self._now)
                after = after.notified(self._policy.channels, self._now)
        return after

    def _resolve(self, rule: Rule, before: Incident, after: Incident) -> None:
        ended = before.given_up() if after.state.given_up else before.over(self._now)
        details = {"threshold": rule.threshold, "value_now": _rounded(after.state.value)}
        self._end(rule, ended, details)

    def _end(self, rule: Rule | None, ended: Incident, details: Mapping[str, Any]) -> None:
        """Say that it is over to whom it was told; who holds alerts hears it though it is muted: else it runs out."""
        told = ended.state.notified_at is not None
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
        quiet = muted(self._mutes, event.type, ended.labels)
        event = replace(event, outcome=Outcome.MUTED if quiet else Outcome.NOTIFIED if told else ended.outcome)
        known = self._policy.channels
        # Of a channel that was told, and that no worker has now: one that starts again may.
        gone = sorted((ended.told_on or frozenset()).difference(known, self._policy.at_once))
        listening = self._policy.holding.intersection(known) if quiet else (*known, *gone)
        channels = [name for name in listening if ended.was_told_on(name)]
        told = told and not quiet
        self._record(event, channels, told=told)
        if told:
            self.told.append(event)
        self._store.enqueue(event, channels, self._now)

    def _outcome(self, rule: Rule, incident: Incident) -> Outcome:
        """Whether anything keeps it from being told."""
        if muted(self._mutes, rule.type, incident.labels):
            return Outcome.MUTED
        return Outcome.INHIBITED if rule.type in self._inhibited else Outcome.NOTIFIED

    def _due(self, incident: Incident) -> bool:
        told_at = incident.state.notified_at
        return told_at is None or self._now - told_at >= self._policy.repeat_interval

    def _record(self, event: AlertEvent, channels: Collection[str], *, told: bool) -> None:
        self._store.append(self._policy.kept(event, channels, told=told))
        self.events.append(event)


class _Move(NamedTuple):
    """One alert before and after one more look.

    Attributes:
        look: What was seen of it.
        before: What was known.
        after: What is known now.
        seen: Whether a breach is seen now.
    """

    look: RuleResult
    before: Incident
    after: Incident
    seen: bool

    @property
    def news(self) -> bool:
        """Whether it has begun to fire, or to flap."""
        flaps = self.after.state.flapping and not self.before.state.flapping
        return self.after.firing and (flaps or not self.before.firing)


def _about(look: RuleResult, reports: Mapping[str, WorkerReport]) -> Collection[WorkerReport]:
    """The reports of the worker that an alert is about, or of all."""
    own = reports.get(look.labels.get("instance", "")) if look.rule.scope == "instance" else None
    return [own] if own is not None else reports.values()


def _evidence(look: RuleResult, reports: Mapping[str, WorkerReport]) -> Mapping[str, Any]:
    """What the first that has anything to say adds to an alert."""
    keys = (evidence_key(look.rule.type, look.labels.get(look.rule.label, "")), look.rule.type.value)
    about = _about(look, reports)
    return next((found for key in keys for report in about if (found := report.evidence.get(key))), {})


def _rounded(value: float | None) -> float | None:
    return round(value, 4) if value is not None else None
