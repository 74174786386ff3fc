"""`Incident`: what a store keeps of an alert that is pending or firing."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from otel_monitoring.alerts.lifecycle import AlertState, Phase
from otel_monitoring.alerts.rules import Rule
from otel_monitoring.events import AlertEvent, Outcome, Status
from otel_monitoring.guard import contained
from otel_monitoring.store import Store

_STATE_FIELDS = tuple(entry.name for entry in fields(AlertState))


@dataclass(frozen=True, slots=True)
class Incident:
    """One alert of a rule that is pending or firing, as the store keeps it.

    Attributes:
        rule: The rule's name.
        labels: Its identity within the rule.
        state: Where it stands.
        message: What was said when it began to fire.
        outcome: What became of that.
    """

    rule: str
    labels: Mapping[str, str]
    state: AlertState
    message: str = ""
    outcome: Outcome = Outcome.NOTIFIED

    @property
    def key(self) -> str:
        """What it is saved under."""
        return state_key(self.rule, self.labels)

    @property
    def id(self) -> str:
        """The same from its firing to its end, another for the next time."""
        return hashlib.sha256(f"{self.key}@{self.state.since:.3f}".encode()).hexdigest()[:16]

    @property
    def told(self) -> bool:
        """Whether it fires, and nothing keeps that from being said."""
        return self.state.phase is Phase.FIRING and self.outcome in (Outcome.NOTIFIED, Outcome.SUPPRESSED)

    def event(
        self, rule: Rule, now: float, details: Mapping[str, Any], *, status: Status = Status.FIRING
    ) -> AlertEvent:
        """What is said of it at `now`, in Unix seconds."""
        return AlertEvent(
            time=now,
            type=rule.type,
            severity=rule.urgency,
            message=self.message,
            details={key: value for key, value in details.items() if value is not None},
            outcome=self.outcome,
            status=status,
            labels=dict(self.labels),
            rule=rule.name,
            incident=self.id,
            since=self.state.since,
            runbook=rule.runbook,
        ).readable()

    def encode(self) -> str:
        """As JSON."""
        state = {name: getattr(self.state, name) for name in _STATE_FIELDS}
        known = {"rule": self.rule, "message": self.message, "outcome": self.outcome.value}
        return json.dumps({**known, "labels": dict(self.labels), "state": state})

    @classmethod
    def decode(cls, text: str) -> "Incident":
        """What `encode` made.

        Raises:
            ValueError, TypeError, LookupError: It is something else.
        """
        read = json.loads(text)
        state = AlertState(**{**read["state"], "phase": Phase(read["state"]["phase"])})
        return cls(read["rule"], read["labels"], state, read["message"], Outcome(read["outcome"]))


def state_key(rule: str, labels: Mapping[str, str]) -> str:
    """The key of one alert's state."""
    return rule + json.dumps(dict(labels), sort_keys=True)


def saved_incidents(store: Store) -> list[Incident]:
    """The incidents in `store`; what cannot be read is left out."""
    found = []
    for text in store.states().values():
        with contained("reading a saved alert state"):
            found.append(Incident.decode(text))
    return found


def labels_by_rule(incidents: Iterable[Incident]) -> dict[str, list[Mapping[str, str]]]:
    """The labels of the alerts that are pending or firing, by rule: what an evaluation has to look at in any case."""
    found: dict[str, list[Mapping[str, str]]] = {}
    for incident in incidents:
        found.setdefault(incident.rule, []).append(incident.labels)
    return found
