"""Escalation of an application's alerts: further channels are notified while nobody acknowledges them.

Those of rules are escalated with their transitions.
"""

import json
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import NamedTuple

from otel_monitoring.alerts.evaluation.notification_policy import NotificationPolicy, is_muted
from otel_monitoring.alerts.model import AlertEvent
from otel_monitoring.alerts.store import Store
from otel_monitoring.alerts.store.notes import NOTES_SECONDS
from otel_monitoring.alerts.store.outbox import OUTBOX_LIMIT
from otel_monitoring.alerts.store.serialization import decoded_event, encoded_event
from otel_monitoring.alerts.store.texts import Texts
from otel_monitoring.guard import fail_open

WAITING = "waiting:"
"""The beginning of the key of an alert that waits to be acknowledged."""

_reading = fail_open("reading an alert that waits to be acknowledged")


def wait_for_acknowledgement(texts: Texts, events: Iterable[AlertEvent], policy: NotificationPolicy) -> None:
    """Keep the alerts that a further channel gets unless they are acknowledged, at most `OUTBOX_LIMIT` of them."""
    waiting = [event for event in events if policy.longest_wait(event) > 0]
    room = OUTBOX_LIMIT - len(texts.saved()) if waiting else 0
    texts.save(
        {WAITING + event.incident: _encoded(event.time, event, policy.due(event)) for event in waiting[: max(0, room)]}
    )


def notified_later(texts: Texts, incident: str) -> frozenset[str]:
    """The channels that were notified of a waiting alert."""
    text = texts.saved().get(WAITING + incident)
    with _reading:
        return frozenset(_decoded(text).notified_on if text is not None else ())
    return frozenset()


def escalate(store: Store, policy: NotificationPolicy, now: float) -> list[AlertEvent]:
    """Notify the channels that are due of the alerts that wait, and forget those that no further channel gets.

    Args:
        store: The store, inside a transaction.
        policy: Says which channels are due.
        now: Unix seconds.

    Returns:
        What they were notified of.
    """
    changed: dict[str, str | None] = {}
    told: list[AlertEvent] = []
    saved = store.acknowledgements.saved()
    for key, text in saved.items():
        if key.startswith(WAITING):
            changed[key] = None
            with _reading:
                is_acknowledged = key.removeprefix(WAITING) in saved
                changed[key] = _escalate(store, policy, text, now, told, is_acknowledged=is_acknowledged)
            if changed[key] == text:
                del changed[key]
    store.acknowledgements.save(changed)
    return told


def _escalate(
    store: Store,
    policy: NotificationPolicy,
    text: str,
    now: float,
    told: list[AlertEvent],
    *,
    is_acknowledged: bool,
) -> str | None:
    """What is kept of an alert that waits, after the channels were notified that are due; None: nothing."""
    found = _decoded(text)
    waited, event = now - found.time, found.event
    if waited > NOTES_SECONDS:
        return None
    if event is None or is_acknowledged or is_muted(policy.mutes(store.mutes, now), event):
        return text
    channels = [name for name in policy.due(event, waited) if name not in found.notified_on]
    if channels:
        later = replace(event, details={**event.details, "unacknowledged_seconds": round(waited)})
        store.outbox.enqueue([later], channels, now)
        told.append(later)
    is_last = waited >= policy.longest_wait(event)
    return _encoded(found.time, None if is_last else event, (*found.notified_on, *channels))


class _Waiting(NamedTuple):
    """An alert that waits to be acknowledged.

    Attributes:
        time: When it was notified, in Unix seconds.
        event: The alert; None: every further channel has it.
        notified_on: The channels that were notified of it.
    """

    time: float
    event: AlertEvent | None
    notified_on: list[str]


def _encoded(time: float, event: AlertEvent | None, channels: Collection[str]) -> str:
    return json.dumps([time, encoded_event(event) if event is not None else None, list(channels)])


def _decoded(text: str) -> _Waiting:
    time, event, channels = json.loads(text)
    return _Waiting(float(time), decoded_event(event) if event is not None else None, list(channels))
