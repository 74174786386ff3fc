"""`Incident`: what a store keeps of an alert that is pending or firing, or was lately."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from string import Formatter
from typing import Any

from pydantic import TypeAdapter

from otel_monitoring.alerts.evaluation.lifecycle import AlertState, Phase
from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, AlertType, Outcome, Status, duration
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.alerts.store import Store
from otel_monitoring.guard import fail_open
from otel_monitoring.redact import redact

_UNREST = ("starts", "times", "flapping")
_APART = (*_UNREST, "unknown")
"""Fields of a state that stand apart: earlier versions, which may share the store, leave out what they do not know."""
_STATE_FIELDS = tuple(entry.name for entry in fields(AlertState) if entry.name not in _APART)


@dataclass(frozen=True, slots=True)
class Incident:
    """One alert of a rule, as the store keeps it: while it is pending or firing, and for a while after.

    Attributes:
        rule: The rule's name.
        labels: Its identity within the rule.
        state: Where it stands.
        message: What was said when it was seen last.
        outcome: What became of that.
        told_on: The channels that its firing was told on; None: an earlier version told it and did not note where.
        value: The value that the message was made of; None: no data.
        type: What the alert is about.
        severity: How urgent it is.
        orphaned_at: Since when its rule is missing, in Unix seconds; None: it is not.
        worst: The value that was furthest beyond the threshold; None: no data.
        worst_message: What was said of that; empty where the message names no value.
    """

    rule: str
    labels: Mapping[str, str]
    state: AlertState
    message: str = ""
    outcome: Outcome = Outcome.NOTIFIED
    told_on: frozenset[str] | None = frozenset()
    value: float | None = None
    type: AlertType = AlertType.CUSTOM
    severity: AlertSeverity = AlertSeverity.WARNING
    orphaned_at: float | None = None
    worst: float | None = None
    worst_message: str = ""

    @property
    def key(self) -> str:
        """What it is saved under."""
        return state_key(self.rule, self.labels)

    @property
    def id(self) -> str:
        """The same from its firing to its end, another for the next time."""
        return hashlib.sha256(f"{self.key}@{self.state.since:.3f}".encode()).hexdigest()[:16]

    @property
    def firing(self) -> bool:
        """Whether it fires."""
        return self.state.phase is Phase.FIRING

    @property
    def is_told(self) -> bool:
        """Whether it was told, and nothing keeps it from being told again."""
        return self.state.notified_at is not None and self.outcome is Outcome.NOTIFIED

    def was_told_on(self, channel: str) -> bool:
        """Whether `channel` was told of its firing, in this incident."""
        told = self.state.notified_at is not None
        return told and (self.told_on is None or channel in self.told_on)

    def event(
        self, rule: Rule | None, now: float, details: Mapping[str, Any], *, status: Status = Status.FIRING
    ) -> AlertEvent:
        """What is said of it at `now`, in Unix seconds; without a rule: by what is known of it still."""
        return AlertEvent(
            time=now,
            type=rule.type if rule is not None else self.type,
            severity=rule.urgency if rule is not None else self.severity,
            message=self._said(status),
            details={
                **{key: value for key, value in details.items() if value is not None},
                **({"times": self.state.times} if self.state.flapping else {}),
            },
            outcome=self.outcome,
            status=status,
            labels=dict(self.labels),
            rule=self.rule,
            incident=self.id,
            since=self.state.since,
            runbook=rule.runbook if rule is not None else "",
        ).readable()

    def seen(self, rule: Rule) -> "Incident":
        """The same with the message of its present value."""
        value = self.state.value
        message = message_of(rule, value, self.labels)
        seen = replace(self, value=value, message=message, type=rule.type, severity=rule.urgency)
        if value is None or (self.worst is not None and not rule.is_worse(value, self.worst)):
            return seen
        return replace(seen, worst=value, worst_message=message if _names_value(rule) else "")

    def over(self, now: float) -> "Incident":
        """The same with a message of what was, at its worst, until `now`, in Unix seconds."""
        if not self.worst_message:
            return self
        lasted = duration(now - self.state.since)
        which = f"for {lasted}" if self.worst_message == self.message else f"at worst, in {lasted}"
        return replace(self, message=f"{self.worst_message} ({which})")

    def without_rule(self) -> "Incident":
        """The same with a message that says why it is over: nobody looks at it any more."""
        return replace(self, message=f"{self.message} (its rule was removed)")

    def given_up(self) -> "Incident":
        """The same with a message that does not claim that things are well."""
        return replace(self, message=f"{self.message} (no data for an hour: whether it is over is not known)")

    def notified(self, channels: Collection[str], now: float) -> "Incident":
        """What it is once `channels` are told of it at `now`, in Unix seconds."""
        told_on = (self.told_on or frozenset()).union(channels)
        return replace(self, told_on=told_on, state=replace(self.state, notified_at=now))

    def _said(self, status: Status) -> str:
        if not self.state.flapping:
            return self.message
        times = f"flapping: {self.state.times} times"
        return f"{self.message} ({times} so far)" if status is Status.FIRING else f"{self.message} (was {times})"

    def encode(self) -> str:
        """As JSON."""
        return json.dumps(
            {
                "rule": self.rule,
                "message": self.message,
                "value": self.value,
                "outcome": self.outcome.value,
                "type": self.type.value,
                "severity": self.severity.value,
                "orphaned_at": self.orphaned_at,
                "worst": self.worst,
                "worst_message": self.worst_message,
                "labels": dict(self.labels),
                "state": {name: getattr(self.state, name) for name in _STATE_FIELDS},
                "unknown": self.state.unknown,
                "unrest": {name: getattr(self.state, name) for name in _UNREST},
                "told_on": sorted(self.told_on) if self.told_on is not None else None,
            }
        )

    @classmethod
    def decode(cls, text: str) -> "Incident":
        """What `encode` made, here or in an earlier version.

        Raises:
            ValueError, TypeError, LookupError: It is something else.
        """
        read = json.loads(text)
        state = {**read["state"], "unknown": read.get("unknown", 0.0), **read.get("unrest", {})}
        if read["outcome"] == Outcome.SUPPRESSED.value:
            # An earlier version: the application had told something of this type, which the rule itself never did.
            state["notified_at"] = None
        return _INCIDENT.validate_python({"told_on": None, "value": state["value"], **read, "state": state})


_INCIDENT = TypeAdapter(Incident)


def message_of(rule: Rule, value: float | None, labels: Mapping[str, str]) -> str:
    """What `rule` says of a value, as a printable line without secrets. Without data it names no figure."""
    if value is None and _names_value(rule):
        return f"{rule.name}: no data"
    return redact(rule.text(value or 0.0, labels))


def _names_value(rule: Rule) -> bool:
    return any(name and name.startswith("value") for _, name, *_ in Formatter().parse(rule.message))


def state_key(rule: str, labels: Mapping[str, str]) -> str:
    """The key of one alert's state."""
    return rule + json.dumps(dict(labels), sort_keys=True)


def saved_incidents(store: Store) -> list[Incident]:
    """The incidents in `store`; what cannot be read is left out."""
    found = []
    for text in store.states().values():
        with fail_open("reading a saved alert state"):
            found.append(Incident.decode(text))
    return found


def labels_by_rule(incidents: Iterable[Incident]) -> dict[str, list[Mapping[str, str]]]:
    """The labels of the alerts that are pending or firing, by rule: what an evaluation has to look at in any case."""
    found: dict[str, list[Mapping[str, str]]] = {}
    for incident in incidents:
        if incident.state.phase is not Phase.INACTIVE:
            found.setdefault(incident.rule, []).append(incident.labels)
    return found
