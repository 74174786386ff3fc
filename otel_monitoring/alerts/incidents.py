"""`Incidents`: turns what the rules see into events, and decides which of them are notified.

Mutes and inhibition keep a message from leaving, never an event from the history.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from otel_monitoring.alerts.evaluation import Look, Report
from otel_monitoring.alerts.lifecycle import AlertState, Phase, advance
from otel_monitoring.alerts.rules import Rule
from otel_monitoring.alerts.saved import Incident
from otel_monitoring.events import AlertEvent, AlertType, Mute, Outcome, Status
from otel_monitoring.guard import logger
from otel_monitoring.store import Store

SUPPRESSION_SECONDS = 300.0
"""The same alert is notified once in this time, as documented."""


def identity_key(kind: AlertType, labels: Mapping[str, str]) -> str:
    """Under which it is noted that an alert of this type and these labels was notified, whoever raised it."""
    return f"identity:{kind.value}{json.dumps(dict(labels), sort_keys=True)}"


def evidence_key(kind: AlertType, group: str) -> str:
    """Under which a report has the evidence for one alert of a rule that is grouped."""
    return f"{kind.value}:{group}"


def lately(then: float | None, now: float, seconds: float) -> bool:
    """Whether `then` was less than `seconds` before `now`; None: never, and so for a clock that was set back."""
    return then is not None and 0 <= now - then < seconds


def muted(mutes: Iterable[Mute], kind: AlertType, labels: Mapping[str, str]) -> bool:
    """Whether one of `mutes` is for an alert of this type and these labels."""
    return any(mute.covers(kind, labels) for mute in mutes)


def inhibited_types(
    store: Store, rules: Iterable[Rule], firing: Collection[str], now: float, window: float
) -> frozenset[AlertType]:
    """Types that are quiet now: a rule that inhibits them fires, or did so lately that the window still shows it.

    Args:
        store: Where it is noted when inhibiting rules ended.
        rules: The rules.
        firing: The names of those that fire.
        now: Unix seconds.
        window: Seconds that rules look back.
    """
    quiet: set[AlertType] = set()
    for rule in rules:
        if rule.inhibits:
            ended = None if rule.name in firing else store.notified_at(_ended(rule))
            if rule.name in firing or lately(ended, now, window):
                quiet |= rule.inhibits
    return frozenset(quiet)


def _ended(rule: Rule) -> str:
    return f"ended:{rule.name}"


@dataclass(frozen=True, slots=True)
class Policy:
    """What decides about notifying, besides the rules.

    Attributes:
        channels: Where notifications go.
        repeat_interval: Seconds until an alert that still fires is notified again.
        window: Seconds that rules look back: so long does what an inhibiting alert caused remain visible.
    """

    channels: Sequence[str]
    repeat_interval: float
    window: float


class Incidents:
    """One evaluation's way into the store; made for one transaction.

    Args:
        store: Inside a transaction.
        policy: What decides about notifying.
        now: Unix seconds.
        settling: Whether what was measured does not fill the window yet.
    """

    def __init__(self, store: Store, policy: Policy, now: float, *, settling: bool = False) -> None:
        self._store = store
        self._policy = policy
        self._now = now
        self._settling = settling
        self._mutes: Sequence[Mute] = store.mutes(now)
        self._inhibited: frozenset[AlertType] = frozenset()
        self.events: list[AlertEvent] = []
        """What happened, in order: raised and resolved."""

    def apply(
        self,
        looks: Iterable[Look],
        known: Mapping[str, Incident],
        reports: Mapping[str, Report],
        rules: Collection[Rule],
    ) -> None:
        """Advance every alert by what was seen of it; save, remember and enqueue what follows.

        Args:
            looks: What the rules see.
            known: The saved incidents by key.
            reports: What each worker knows, by instance: the evidence is taken from there.
            rules: All rules, those included that could not be evaluated.
        """
        moves = [self._move(look, known) for look in looks]
        self._inhibited = self._inhibitions(moves, rules)
        saved: dict[str, str | None] = {}
        for look, before, after in moves:
            settled = self._settle(look, before, after, _evidence(look, reports))
            if settled.state.phase is not Phase.INACTIVE:
                saved[settled.key] = settled.encode()
            elif before.key in known:
                saved[before.key] = None
        saved.update(_orphans(known, {rule.name for rule in rules}))
        if saved:
            self._store.save_states(saved)

    def _move(self, look: Look, known: Mapping[str, Incident]) -> tuple[Look, Incident, Incident]:
        fresh = Incident(look.rule.name, look.labels, AlertState())
        before = known.get(fresh.key, fresh)
        after = advance(look.rule, before.state, look.reading, self._now, settling=self._settling)
        if look.gone:
            after = replace(after, phase=Phase.INACTIVE)
        return look, before, replace(before, state=after)

    def _inhibitions(
        self, moves: Iterable[tuple[Look, Incident, Incident]], rules: Collection[Rule]
    ) -> frozenset[AlertType]:
        firing: set[str] = set()
        for look, before, after in moves:
            if after.state.phase is Phase.FIRING:
                firing.add(look.rule.name)
            elif before.state.phase is Phase.FIRING and look.rule.inhibits:
                self._store.note_notified(_ended(look.rule), self._now)
        return inhibited_types(self._store, rules, firing, self._now, self._policy.window)

    def _settle(self, look: Look, before: Incident, after: Incident, evidence: Mapping[str, Any]) -> Incident:
        """Raise or resolve what has changed, and notify what is due; returns what is to be saved."""
        fired, fires = before.state.phase is Phase.FIRING, after.state.phase is Phase.FIRING
        if fired and not fires:
            self._resolve(look.rule, before, after)
        if not fires:
            return after
        if not fired:
            after = replace(after, message=look.rule.text(after.state.value or 0.0, after.labels))
        outcome = self._outcome(look.rule, after, new=not fired)
        after = replace(after, outcome=outcome)
        notified_at = after.state.notified_at
        told = outcome is Outcome.NOTIFIED
        happened, due = not fired or (told and notified_at is None), told and self._due(notified_at)
        if happened or due:
            details = {"value": _rounded(after.state.value), "threshold": look.rule.threshold, **evidence}
            event = after.event(look.rule, self._now, details)
            if happened:
                self._record(event)
            if due:
                self._enqueue(event)
        if due or outcome is Outcome.SUPPRESSED:  # said now, or already by the application itself
            notified_at = self._now
        return replace(after, state=replace(after.state, notified_at=notified_at))

    def _resolve(self, rule: Rule, before: Incident, after: Incident) -> None:
        outcome = before.outcome
        if muted(self._mutes, rule.type, before.labels):
            outcome = Outcome.MUTED
        elif before.state.notified_at is not None:
            outcome = Outcome.NOTIFIED
        lasted = max(0.0, self._now - before.state.since)
        details = {"value": _rounded(after.state.value), "duration_seconds": round(lasted, 1)}
        event = replace(before, outcome=outcome).event(rule, self._now, details, status=Status.RESOLVED)
        self._record(event)
        if outcome is Outcome.NOTIFIED:
            self._enqueue(event)

    def _outcome(self, rule: Rule, incident: Incident, *, new: bool) -> Outcome:
        if muted(self._mutes, rule.type, incident.labels):
            return Outcome.MUTED
        if rule.type in self._inhibited:
            return Outcome.INHIBITED
        if new:
            last = self._store.notified_at(identity_key(rule.type, incident.labels))
            if lately(last, self._now, SUPPRESSION_SECONDS):
                return Outcome.SUPPRESSED
        return Outcome.NOTIFIED

    def _due(self, notified_at: float | None) -> bool:
        return notified_at is None or self._now - notified_at >= self._policy.repeat_interval

    def _record(self, event: AlertEvent) -> None:
        self._store.append(event)
        self.events.append(event)

    def _enqueue(self, event: AlertEvent) -> None:
        self._store.enqueue(event, self._policy.channels, self._now)


def _evidence(look: Look, reports: Mapping[str, Report]) -> Mapping[str, Any]:
    """What the worker that an alert is about, or the first that has anything to say, adds to it."""
    about = [reports[look.labels["instance"]]] if look.labels.get("instance") in reports else reports.values()
    keys = (evidence_key(look.rule.type, look.labels.get(look.rule.label, "")), look.rule.type.value)
    return next((found for key in keys for report in about if (found := report.evidence.get(key))), {})


def _orphans(known: Mapping[str, Incident], rules: Collection[str]) -> dict[str, str | None]:
    """Nothing is kept of alerts whose rule does not exist any more."""
    orphans = [key for key, incident in known.items() if incident.rule not in rules]
    if orphans:
        logger.info("forgot %d alerts whose rules do not exist any more", len(orphans))
    return dict.fromkeys(orphans)


def _rounded(value: float | None) -> float | None:
    return round(value, 4) if value is not None else None
