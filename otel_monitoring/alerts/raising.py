"""What becomes of an alert that the application raises: it is decided, remembered and enqueued in one transaction."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from opentelemetry import trace

from otel_monitoring.alerts.incidents import SUPPRESSION_SECONDS, Policy, identity_key, inhibited_types, lately, muted
from otel_monitoring.alerts.lifecycle import Phase
from otel_monitoring.alerts.rules import Rule
from otel_monitoring.alerts.saved import saved_incidents
from otel_monitoring.events import AlertEvent, AlertSeverity, AlertType, Outcome
from otel_monitoring.redact import redact
from otel_monitoring.store import Store

_MAX_DETAILS = 8192


def event_of(
    kind: AlertType,
    message: str,
    severity: AlertSeverity,
    details: Mapping[str, Any],
    labels: Mapping[str, str],
    now: float,
) -> AlertEvent:
    """The event of an alert that is raised here and now: redacted, bounded, with the trace it is raised in."""
    span = trace.get_current_span().get_span_context()
    own = {str(key): redact(value) for key, value in labels.items()}
    told = {str(key): redact(value) if isinstance(value, str) else value for key, value in details.items()}
    return AlertEvent(
        time=now,
        type=kind,
        severity=severity,
        message=redact(message),
        details=_bounded(told),
        labels=own,
        incident=hashlib.sha256(f"{identity_key(kind, own)}@{now:.6f}".encode()).hexdigest()[:16],
        trace_id=trace.format_trace_id(span.trace_id) if span.is_valid else "",
    )


def record(store: Store, event: AlertEvent, rules: Mapping[str, Rule], policy: Policy) -> AlertEvent:
    """Decide what becomes of `event`, and put it where that says.

    Args:
        store: Inside a transaction.
        event: As `event_of` made it.
        rules: The rules by name.
        policy: What decides about notifying.

    Returns:
        The event with its outcome.
    """
    said = f"message:{event.type.value}:{event.message}"
    event = replace(event, outcome=_outcome(store, event, said, rules, policy))
    store.append(event)
    if event.outcome is Outcome.NOTIFIED:
        store.note_notified(said, event.time)
        store.note_notified(identity_key(event.type, event.labels), event.time)
        store.enqueue(event, policy.channels, event.time)
    return event


def _outcome(store: Store, event: AlertEvent, said: str, rules: Mapping[str, Rule], policy: Policy) -> Outcome:
    if muted(store.mutes(event.time), event.type, event.labels):
        return Outcome.MUTED
    firing = [incident for incident in saved_incidents(store) if incident.state.phase is Phase.FIRING]
    fired_by = {incident.rule for incident in firing}
    if event.type in inhibited_types(store, rules.values(), fired_by, event.time, policy.window):
        return Outcome.INHIBITED
    if lately(store.notified_at(said), event.time, SUPPRESSION_SECONDS):
        return Outcome.SUPPRESSED
    same = any(rules[i.rule].type is event.type and i.labels == event.labels for i in firing if i.rule in rules)
    return Outcome.SUPPRESSED if same else Outcome.NOTIFIED


def _bounded(details: dict[str, Any]) -> dict[str, Any]:
    """Details in types that JSON has, and not more than can be read."""
    text = json.dumps(details, default=str)
    if len(text) <= _MAX_DETAILS:
        return json.loads(text)  # type: ignore[no-any-return]
    return {"truncated": redact(text, limit=1000)}
