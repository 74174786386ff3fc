"""`marks`: what happened in the past, for charts: alerts from start to end, and releases."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from otel_monitoring.alerts.evaluation.incident import Incident
from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, AlertType
from otel_monitoring.timestamps import rfc3339

ALERTS_LIMIT = 200
"""The most marks of alerts in an answer, the newest."""


class AlertMark(NamedTuple):
    """An alert of the past.

    Attributes:
        start: When it began, in Unix seconds.
        end: When it ended; None: it still fires.
        type: Its type.
        severity: Its severity.
    """

    start: float
    end: float | None
    type: AlertType
    severity: AlertSeverity

    def as_json(self) -> dict[str, Any]:
        """The documented mark."""
        return {
            "time": rfc3339(self.start),
            "kind": "alert",
            "end": None if self.end is None else rfc3339(self.end),
            "type": self.type.value,
            "severity": self.severity.value,
        }


def marks(
    releases: Iterable[tuple[float, str]],
    events: Sequence[AlertEvent],
    incidents: Iterable[Incident],
    start: float,
    end: float,
) -> list[dict[str, Any]]:
    """The documented marks, the oldest first: alerts that fired, and releases, from `start` to `end`.

    Alerts of one type and severity that fired at the same time are one mark.

    Args:
        releases: When each version began, in Unix seconds.
        events: The history, the newest first.
        incidents: The saved incidents.
        start: Unix seconds.
        end: Unix seconds.
    """
    alerts = [each for each in _joined(_alerts(events, incidents)) if _overlaps(each, start, end)]
    found = [(alert.start, alert.as_json()) for alert in sorted(alerts, key=lambda each: each.start)[-ALERTS_LIMIT:]]
    found += [
        (at, {"time": rfc3339(at), "kind": "release", "version": version})
        for at, version in releases
        if start <= at < end
    ]
    return [mark for _, mark in sorted(found, key=lambda pair: pair[0])]


def _overlaps(alert: AlertMark, start: float, end: float) -> bool:
    return alert.start < end and (alert.end is None or alert.end >= start)


def _alerts(events: Sequence[AlertEvent], incidents: Iterable[Incident]) -> Iterator[AlertMark]:
    """Each incident once: those that fire now from their saved state, all others from the history."""
    firing = {incident.id: incident for incident in incidents if incident.firing}
    for incident in firing.values():
        yield AlertMark(incident.state.since, None, incident.type, incident.severity)
    seen = set(firing)
    for event in events:
        if event.incident in seen or event.is_overflow_notice:
            continue
        if event.incident:
            seen.add(event.incident)
        # The newest event of an incident that neither fires nor has ended, as where a store was lost, is its end.
        began = event.time if event.since is None else min(event.since, event.time)
        yield AlertMark(began, event.time, event.type, event.severity)


def _joined(alerts: Iterable[AlertMark]) -> list[AlertMark]:
    found: dict[tuple[AlertType, AlertSeverity], list[AlertMark]] = {}
    for alert in sorted(alerts, key=lambda each: each.start):
        known = found.setdefault((alert.type, alert.severity), [])
        last = known[-1] if known else None
        if last is None or (last.end is not None and last.end < alert.start):
            known.append(alert)
        elif last.end is not None:
            known[-1] = last._replace(end=None if alert.end is None else max(last.end, alert.end))
    return [alert for known in found.values() for alert in known]
