"""Acknowledging an alert: somebody takes care of it, it is no longer repeated, and its channels are told."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace

from otel_monitoring.alerts.evaluation.application_alert import note_acknowledged
from otel_monitoring.alerts.evaluation.escalation import WAITING, notified_later
from otel_monitoring.alerts.evaluation.incident import Incident, incidents_beside, saved_incidents
from otel_monitoring.alerts.evaluation.notification_policy import NotificationPolicy
from otel_monitoring.alerts.model import Acknowledgement, AlertEvent, Outcome, Status
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.alerts.store import Store
from otel_monitoring.alerts.store.history import HISTORY_LIMIT
from otel_monitoring.alerts.store.notes import NOTES_SECONDS
from otel_monitoring.alerts.store.texts import Texts
from otel_monitoring.guard import fail_open

_reading = fail_open("reading an acknowledgement")


def acknowledged(texts: Texts) -> dict[str, Acknowledgement]:
    """The acknowledged alerts, by incident, without those that cannot be read."""
    found: dict[str, Acknowledgement] = {}
    for incident, text in texts.saved().items():
        if not incident.startswith(WAITING):
            with _reading:
                found[incident] = Acknowledgement(**json.loads(text))
    return found


def acknowledge(
    store: Store,
    incident: str,
    by: Acknowledgement,
    rules: Mapping[str, Rule],
    policy: NotificationPolicy,
    elsewhere: Sequence[Incident] = (),
) -> AlertEvent | None:
    """Acknowledge an alert, and tell the channels that were notified of it.

    Args:
        store: The store, inside a transaction.
        incident: The incident of the alert.
        by: Who acknowledges it, and why.
        rules: The rules by name.
        policy: Says which channels there are.
        elsewhere: The incidents of an engine that evaluates in place of this service.

    Returns:
        What was told; None: no alert of this incident fires.
    """
    incident = _present(store, incident)
    found = _of_rule((*saved_incidents(store.incidents), *elsewhere), incident, rules, by.at) or _of_application(
        store, incident, by.at
    )
    if found is None:
        return None
    event, notified_on = found
    before = acknowledged(store.acknowledgements).get(incident)
    if before is not None and (before.author, before.reason) == (by.author, by.reason):
        return replace(event, acknowledged=before)
    event = replace(event, acknowledged=by)
    store.acknowledgements.save({incident: json.dumps(asdict(by))})
    channels = [name for name in policy.channels if notified_on is None or name in notified_on]
    store.history.append(policy.history_entry(event, channels, notified=True))
    store.outbox.enqueue([event], channels, by.at)
    if not event.rule:
        note_acknowledged(store.notes, event, by.at)
    return event


def take_back(store: Store, incident: str) -> bool:
    """Take an acknowledgement back; returns whether there was one. The alert is repeated again."""
    incident = _present(store, incident)
    if incident not in store.acknowledgements.saved():
        return False
    store.acknowledgements.save({incident: None})
    found = _of_application(store, incident, 0.0)
    if found is not None:
        note_acknowledged(store.notes, found[0], 0.0)
    return True


def forget(texts: Texts, known: Mapping[str, Acknowledgement], firing: Collection[str], now: float) -> None:
    """Forget the acknowledgements of alerts of rules that have ended, and old ones of an application's alerts.

    Args:
        texts: The acknowledgements.
        known: The same, decoded.
        firing: The incidents that fire.
        now: Unix seconds.
    """
    old = [one for one, by in known.items() if one not in firing and now - by.at > NOTES_SECONDS]
    if old:
        texts.save(dict.fromkeys(old))


def _present(store: Store, incident: str) -> str:
    """The incident with which an alert goes on, where a host that was apart from the others has told another one."""
    apart = {one.id: one.key for one in incidents_beside(store.incidents).values()}
    present = {one.key: one.id for one in saved_incidents(store.incidents)} if incident in apart else {}
    return present.get(apart.get(incident, ""), incident)


def _of_rule(
    incidents: Sequence[Incident], incident: str, rules: Mapping[str, Rule], now: float
) -> tuple[AlertEvent, Collection[str] | None] | None:
    """The event that a rule's alert is acknowledged, and the channels that were notified; None: any."""
    found = next((one for one in incidents if one.firing and one.id == incident), None)
    if found is None:
        return None
    rule = rules.get(found.rule)
    details = {"value": found.value, "threshold": rule.threshold if rule is not None else None}
    event = replace(found.event(rule, now, details, status=Status.ACKNOWLEDGED), outcome=Outcome.NOTIFIED)
    return event, found.notified_on if found.state.notified_at is not None else ()


def _of_application(store: Store, incident: str, now: float) -> tuple[AlertEvent, Collection[str]] | None:
    """The same of an alert that the application raised."""
    raised = (
        event
        for event in store.history.events(limit=HISTORY_LIMIT)
        if event.incident == incident and not event.rule and event.status is Status.FIRING
    )
    event = next(raised, None)
    if event is None:
        return None
    later = notified_later(store.acknowledgements, incident)
    on = later.union(event.channels) if event.outcome is Outcome.NOTIFIED else ()
    told = replace(event, time=now, since=event.time, status=Status.ACKNOWLEDGED, outcome=Outcome.NOTIFIED, channels={})
    return told, on
