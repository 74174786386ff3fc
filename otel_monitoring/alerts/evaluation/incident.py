"""`Incident`: the saved state of one alert that is pending or firing, or was until recently."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import field, fields, replace
from functools import cache
from string import Formatter
from typing import Any

from pydantic import TypeAdapter

from otel_monitoring.alerts.evaluation.lifecycle import AlertState, Phase
from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, AlertType, Outcome, Status, duration
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.alerts.store.texts import BESIDE, Texts
from otel_monitoring.guard import fail_open
from otel_monitoring.redact import redact
from otel_monitoring.value import Value

_FLAPPING_FIELDS = ("starts", "times", "flapping")
_LATER_FIELDS = (*_FLAPPING_FIELDS, "unknown")
"""State fields that are saved outside of `state`: an earlier version that shares the store then ignores them."""
_STATE_FIELDS = tuple(entry.name for entry in fields(AlertState) if entry.name not in _LATER_FIELDS)


class Incident(Value):
    """One alert of a rule, as the store keeps it.

    Attributes:
        rule: The rule's name.
        labels: The alert's identity within the rule.
        state: The state of the alert.
        message: The message for `value`.
        outcome: Whether the alert was notified, or why not.
        notified_on: The channels that were notified that it fires; None: an earlier version notified and did not note
            the channels.
        value: The latest value of a breach, in the rule's unit; None: no data.
        type: The alert type.
        severity: The severity.
        orphaned_at: Since when its rule is missing, in Unix seconds; None: the rule exists.
        worst: The value furthest beyond the threshold; None: no data.
        worst_message: The message for `worst`; empty where the message contains no value.
        first_notified_at: When it was first notified, in Unix seconds; None: not in this incident.
        evidence: What changed, as it was when the alert was last recorded or notified.
    """

    rule: str
    labels: Mapping[str, str]
    state: AlertState
    message: str = ""
    outcome: Outcome = Outcome.NOTIFIED
    notified_on: frozenset[str] | None = frozenset()
    value: float | None = None
    type: AlertType = AlertType.CUSTOM
    severity: AlertSeverity = AlertSeverity.WARNING
    orphaned_at: float | None = None
    worst: float | None = None
    worst_message: str = ""
    first_notified_at: float | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The key of its state in the store."""
        return state_key(self.rule, self.labels)

    @property
    def id(self) -> str:
        """The incident's id: constant from its start to its end, different for the next incident of the alert."""
        return hashlib.sha256(f"{self.key}@{self.state.since:.3f}".encode()).hexdigest()[:16]

    @property
    def firing(self) -> bool:
        """Whether the alert fires."""
        return self.state.phase is Phase.FIRING

    @property
    def is_notified(self) -> bool:
        """Whether it was notified, and neither a mute nor an inhibiting alert stops its repetitions."""
        return self.state.notified_at is not None and self.outcome is Outcome.NOTIFIED

    def was_notified_on(self, channel: str) -> bool:
        """Whether `channel` was notified that it fires, in this incident."""
        notified = self.state.notified_at is not None
        return notified and (self.notified_on is None or channel in self.notified_on)

    def event(
        self, rule: Rule | None, now: float, details: Mapping[str, Any], *, status: Status = Status.FIRING
    ) -> AlertEvent:
        """The event of the incident.

        Args:
            rule: Its rule; None: the rule was removed, and the saved type and severity count.
            now: The time of the event, in Unix seconds.
            details: The event's details; those that are None are left out.
            status: Firing, acknowledged or resolved.
        """
        return AlertEvent(
            time=now,
            type=rule.type if rule is not None else self.type,
            severity=rule.urgency if rule is not None else self.severity,
            message=self._message(status),
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
            runbook=rule.runbook_for(self.value or 0.0, self.labels) if rule is not None else "",
            evidence=self.evidence if status is Status.FIRING else {},
        ).readable()

    def with_current_value(self, rule: Rule) -> "Incident":
        """The same with the present value, its message, and the worst value so far."""
        value = self.state.value
        message = message_of(rule, value, self.labels)
        current = replace(self, value=value, message=message, type=rule.type, severity=rule.urgency)
        if value is None or (self.worst is not None and not rule.is_worse(value, self.worst)):
            return current
        return replace(current, worst=value, worst_message=message if _contains_value(rule) else "")

    def resolved(self, now: float) -> "Incident":
        """The same with the message of its end at `now`, in Unix seconds: the worst value, and how long it lasted."""
        if not self.worst_message:
            return self
        lasted = duration(now - self.state.since)
        which = f"for {lasted}" if self.worst_message == self.message else f"at worst, in {lasted}"
        return replace(self, message=f"{self.worst_message} ({which})")

    def without_rule(self, why: str) -> "Incident":
        """The same with the message that it ended because its rule is not evaluated here any more."""
        return replace(self, message=f"{self.message} ({why})")

    def expired(self) -> "Incident":
        """The same with the message that it ended without data: whether the problem is over is unknown."""
        return replace(self, message=f"{self.message} (no data for an hour: whether it is over is not known)")

    def after_notifying(self, channels: Collection[str], now: float) -> "Incident":
        """The same after `channels` were notified at `now`, in Unix seconds."""
        notified_on = (self.notified_on or frozenset()).union(channels)
        first = self.first_notified_at if self.first_notified_at is not None else now
        state = replace(self.state, notified_at=now)
        return replace(self, notified_on=notified_on, first_notified_at=first, state=state)

    def _message(self, status: Status) -> str:
        if not self.state.flapping:
            return self.message
        times = f"flapping: {self.state.times} times"
        return f"{self.message} ({times} so far)" if status is not Status.RESOLVED else f"{self.message} (was {times})"

    def encode(self) -> str:
        """The incident as JSON."""
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
                "first_notified_at": self.first_notified_at,
                **({"evidence": self.evidence} if self.evidence else {}),
                "labels": dict(self.labels),
                "state": {name: getattr(self.state, name) for name in _STATE_FIELDS},
                "unknown": self.state.unknown,
                "unrest": {name: getattr(self.state, name) for name in _FLAPPING_FIELDS},
                "told_on": sorted(self.notified_on) if self.notified_on is not None else None,
            }
        )

    @classmethod
    def decode(cls, text: str) -> "Incident":
        """Read what `encode` wrote, in this version or an earlier one.

        Raises:
            ValueError, TypeError, LookupError: The text is no incident.
        """
        read = json.loads(text)
        state = {**read["state"], "unknown": read.get("unknown", 0.0), **read.get("unrest", {})}
        if read["outcome"] == Outcome.SUPPRESSED.value:
            # An earlier version wrote this where only `send_alert` had notified the type, never the rule itself.
            state["notified_at"] = None
        told_on = read.get("told_on")
        return _incident().validate_python({"value": state["value"], **read, "notified_on": told_on, "state": state})


@cache
def _incident() -> TypeAdapter[Incident]:
    # Made at the first use: it takes milliseconds, and most services start without an alert.
    return TypeAdapter(Incident)


def message_of(rule: Rule, value: float | None, labels: Mapping[str, str]) -> str:
    """The message of `rule` for `value`, as a printable line without secrets; None: no data."""
    if value is None and _contains_value(rule):
        return f"{rule.name}: no data"
    return redact(rule.text(value or 0.0, labels))


def _contains_value(rule: Rule) -> bool:
    """Whether the rule's message contains `{value}`."""
    return any(name and name.startswith("value") for _, name, *_ in Formatter().parse(rule.message))


def state_key(rule: str, labels: Mapping[str, str]) -> str:
    """The key of an alert's state in the store."""
    return rule + json.dumps(dict(labels), sort_keys=True)


def saved_incidents(incidents: Texts) -> list[Incident]:
    """The saved incidents, without those that cannot be read."""
    return list(_decoded({key: text for key, text in incidents.saved().items() if BESIDE not in key}).values())


def incidents_beside(incidents: Texts) -> dict[str, Incident]:
    """The incidents of hosts that were apart, beside the saved ones of the same alerts, by the keys of their texts."""
    return _decoded({key: text for key, text in incidents.saved().items() if BESIDE in key})


def _decoded(texts: Mapping[str, str]) -> dict[str, Incident]:
    found = {}
    for key, text in texts.items():
        with fail_open("reading a saved alert state"):
            found[key] = Incident.decode(text)
    return found


def labels_by_rule(incidents: Iterable[Incident]) -> dict[str, list[Mapping[str, str]]]:
    """The labels of the pending and firing alerts, by rule: every evaluation has a result for each of them."""
    found: dict[str, list[Mapping[str, str]]] = {}
    for incident in incidents:
        if incident.state.phase is not Phase.INACTIVE:
            found.setdefault(incident.rule, []).append(incident.labels)
    return found
