"""Alerts that the application raises: `record` decides, records and enqueues them in one transaction."""

import hashlib
import itertools
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import Context
from dataclasses import replace
from typing import NamedTuple

from opentelemetry import trace

from otel_monitoring.alerts.evaluation.escalation import wait_for_acknowledgement
from otel_monitoring.alerts.evaluation.incident import saved_incidents
from otel_monitoring.alerts.evaluation.notification_policy import (
    NotificationPolicy,
    inhibited_types,
    is_muted,
    is_recent,
)
from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, AlertType, Outcome, readable_labels
from otel_monitoring.alerts.mute import Mute
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.alerts.store import Store
from otel_monitoring.alerts.store.notes import Notes
from otel_monitoring.guard import fail_open
from otel_monitoring.redact import redact

SUPPRESSION_SECONDS = 300.0
"""The same alert is notified once within these seconds, as documented."""
ACKNOWLEDGED_SECONDS = 4 * 3600.0
"""The same alert is not notified within these seconds after it was acknowledged, unless it is more severe."""


def event_of(
    kind: AlertType,
    message: str,
    severity: AlertSeverity,
    details: object,
    labels: object,
    now: float,
    dedup_key: str = "",
) -> AlertEvent:
    """The event of an alert that the application raises: redacted, bounded, with the id of the current trace.

    Args:
        kind: The alert type.
        message: One line for people.
        severity: The severity.
        details: A mapping of any values. Details that cannot be read are left out; the event is made all the same.
        labels: A mapping; anything else gives no labels.
        now: Unix seconds.
        dedup_key: Identifies repetitions in place of the message; empty: the message does.
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
    return replace(event, incident=hashlib.sha256(identity).hexdigest()[:16], dedup_key=redact(dedup_key))


class SubmittedAlert(NamedTuple):
    """An alert on its way from the application to the thread that decides about it.

    Redacting its details takes time, so the event is made in that thread.

    Attributes:
        make_event: Makes the event.
        context: The context of the caller, so that event and log line have its trace and request.
    """

    make_event: Callable[[], AlertEvent]
    context: Context

    def read(self) -> AlertEvent:
        """Make the event, in any thread."""
        return self.context.run(self.make_event)


def record(
    store: Store, raised: Sequence[AlertEvent], rules: Mapping[str, Rule], policy: NotificationPolicy
) -> list[AlertEvent]:
    """Decide about alerts that were raised together, record them in the history and enqueue the notified ones.

    Args:
        store: The store, inside a transaction.
        raised: The alerts in the order in which they were raised; at least one.
        rules: The rules by name.
        policy: Decides about notifying.

    Returns:
        The events with their outcomes, in the same order.
    """
    now = raised[-1].time
    firing = {incident.rule for incident in saved_incidents(store.incidents) if incident.firing}
    inhibited = inhibited_types(store.notes, rules.values(), firing, now, policy.window)
    mutes = policy.mutes(store.mutes, now)
    events = []
    together: dict[tuple[str, ...], list[AlertEvent]] = {}
    for event in raised:
        identity = _identity(event)
        decided = replace(event, outcome=_outcome(store.notes, event, identity, mutes, inhibited))
        notified = decided.outcome is Outcome.NOTIFIED
        channels = policy.due(decided) if notified else ()
        store.history.append(policy.history_entry(decided, channels, notified=notified))
        if notified:
            together.setdefault(tuple(channels), []).append(decided)
            store.notes.note(_note_key(event.severity, identity), event.time)
        events.append(decided)
    for on, notified_events in together.items():
        store.outbox.enqueue(notified_events, on, now)
    wait_for_acknowledgement(store.acknowledgements, itertools.chain(*together.values()), policy)
    return events


def _outcome(
    notes: Notes, event: AlertEvent, identity: str, mutes: Sequence[Mute], inhibited: Collection[AlertType]
) -> Outcome:
    if is_muted(mutes, event):
        return Outcome.MUTED
    if event.type in inhibited:
        return Outcome.INHIBITED
    as_severe = [severity for severity in AlertSeverity if severity.rank >= event.severity.rank]
    for key_of, seconds in ((_acknowledged_key, ACKNOWLEDGED_SECONDS), (_note_key, SUPPRESSION_SECONDS)):
        if any(is_recent(notes.noted_at(key_of(severity, identity)), event.time, seconds) for severity in as_severe):
            return Outcome.SUPPRESSED
    return Outcome.NOTIFIED


def note_acknowledged(notes: Notes, event: AlertEvent, now: float) -> None:
    """Note that an application's alert was acknowledged at `now`, in Unix seconds; 0: that was taken back."""
    notes.note(_acknowledged_key(event.severity, _identity(event)), now)


def _acknowledged_key(severity: AlertSeverity, identity: str) -> str:
    """The key of the note that an alert was acknowledged with a severity: nobody takes care of a more severe one."""
    return f"acknowledged:{severity.value}:{identity}"


def _note_key(severity: AlertSeverity, identity: str) -> str:
    """The key of the note that an alert was notified with a severity: a more severe repetition is notified again."""
    return f"{severity.value}:{identity}"


def _identity(event: AlertEvent) -> str:
    """The same for repetitions of an application's alert; different from the identity of any rule's alert."""
    about = ["key", event.dedup_key] if event.dedup_key else [event.message]
    if not event.labels:
        return f"message:{event.type.value}:{json.dumps(about)}"
    return f"labelled:{event.type.value}:{json.dumps([dict(event.labels), *about], sort_keys=True)}"
