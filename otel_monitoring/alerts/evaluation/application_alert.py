"""What becomes of alerts that the application raises: decided, remembered and enqueued in one transaction."""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import Context
from dataclasses import replace
from typing import NamedTuple

from opentelemetry import trace

from otel_monitoring.alerts.evaluation.incident import saved_incidents
from otel_monitoring.alerts.evaluation.policy import Policy, inhibited_types, lately, muted
from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, AlertType, Mute, Outcome, readable_labels
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.alerts.store import Store
from otel_monitoring.guard import fail_open
from otel_monitoring.redact import redact

SUPPRESSION_SECONDS = 300.0
"""The same alert is notified once in this time, as documented."""


def event_of(
    kind: AlertType,
    message: str,
    severity: AlertSeverity,
    details: object,
    labels: object,
    now: float,
) -> AlertEvent:
    """The event of an alert that is raised here and now: redacted, bounded, with the trace it is raised in.

    Whatever an application hands over as details and labels, the alert is made of it, at worst without them.
    """
    span = trace.get_current_span().get_span_context()
    event = AlertEvent(
        time=now,
        type=kind,
        severity=severity,
        message=message,
        details=details,  # type: ignore[arg-type] # `readable` takes anything
        labels=labels,  # type: ignore[arg-type]
        trace_id=trace.format_trace_id(span.trace_id) if span.is_valid else "",
    )
    try:
        event = event.readable()
    except Exception as error:  # noqa: BLE001 - an alert without its details is better than none
        fail_open.note("reading an alert's details", error)
        event = replace(event, message=redact(message), details={}, labels=readable_labels(labels))
    identity = f"{_identity(event)}@{now:.6f}".encode("utf-8", "replace")
    return replace(event, incident=hashlib.sha256(identity).hexdigest()[:16])


class Raised(NamedTuple):
    """An alert that the application raised.

    Attributes:
        event: As `event_of` made it.
        dedup_key: What makes two alerts the same in place of the message, or empty.
    """

    event: AlertEvent
    dedup_key: str = ""


class HandedOver(NamedTuple):
    """The same before anybody read it: that takes its time, and is not done where it was raised.

    Attributes:
        event: Makes the event.
        context: Where it was raised: event and log line belong to the same trace and request.
        dedup_key: As above.
    """

    event: Callable[[], AlertEvent]
    context: Context
    dedup_key: str

    def read(self) -> Raised:
        """What was raised; called in any thread."""
        return Raised(self.context.run(self.event), self.dedup_key)


def record(store: Store, raised: Sequence[Raised], rules: Mapping[str, Rule], policy: Policy) -> list[AlertEvent]:
    """Decide what becomes of alerts that were raised together, and put them where that says.

    Args:
        store: Inside a transaction.
        raised: In the order in which they were raised; at least one.
        rules: The rules by name.
        policy: What decides about notifying.

    Returns:
        The events with their outcomes.
    """
    now = raised[-1].event.time
    fired_by = {incident.rule for incident in saved_incidents(store) if incident.firing}
    quiet = inhibited_types(store, rules.values(), fired_by, now, policy.window)
    mutes = store.mutes(now)
    events = []
    for event, dedup_key in raised:
        said = _identity(event, redact(dedup_key))
        decided = replace(event, outcome=_outcome(store, event, said, mutes, quiet))
        told = decided.outcome is Outcome.NOTIFIED
        store.append(policy.kept(decided, policy.channels if told else (), told=told))
        if told:
            store.note_notified(_urgently(event.severity, said), event.time)
        events.append(decided)
    store.enqueue_all([event for event in events if event.outcome is Outcome.NOTIFIED], policy.channels, now)
    return events


def _outcome(
    store: Store, event: AlertEvent, said: str, mutes: Sequence[Mute], quiet: Collection[AlertType]
) -> Outcome:
    if muted(mutes, event.type, event.labels):
        return Outcome.MUTED
    if event.type in quiet:
        return Outcome.INHIBITED
    as_urgent = (severity for severity in AlertSeverity if severity.rank >= event.severity.rank)
    told = (store.notified_at(_urgently(severity, said)) for severity in as_urgent)
    said_lately = any(lately(then, event.time, SUPPRESSION_SECONDS) for then in told)
    return Outcome.SUPPRESSED if said_lately else Outcome.NOTIFIED


def _urgently(severity: AlertSeverity, said: str) -> str:
    """Under which it is noted that this was told with an urgency: what has become more urgent is told again."""
    return f"{severity.value}:{said}"


def _identity(event: AlertEvent, dedup_key: str = "") -> str:
    """What makes two alerts of the application the same; no alert of a rule is."""
    about = ["key", dedup_key] if dedup_key else [event.message]
    if not event.labels:
        return f"message:{event.type.value}:{json.dumps(about)}"
    return f"labelled:{event.type.value}:{json.dumps([dict(event.labels), *about], sort_keys=True)}"
