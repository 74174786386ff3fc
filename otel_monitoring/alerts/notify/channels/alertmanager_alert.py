"""An alert as Prometheus' Alertmanager takes it."""

import re
from typing import Any

from otel_monitoring.alerts.model import AlertEvent, Notification, Status
from otel_monitoring.alerts.notify.channels import evidence, text
from otel_monitoring.timestamps import rfc3339


def alert(event: AlertEvent, notification: Notification, host: str, expires_at: float) -> dict[str, Any]:
    """The JSON of an alert, which ends at `expires_at`, in Unix seconds, unless it has ended."""
    since = event.since if event.since is not None else event.time
    resolved = event.status is Status.RESOLVED
    return {
        "labels": labels(event, notification, host),
        "annotations": _annotations(event, notification),
        "startsAt": rfc3339(since),
        "endsAt": rfc3339(max(event.time, since) if resolved else expires_at),
    }


def labels(event: AlertEvent, notification: Notification, host: str = "") -> dict[str, str]:
    """The labels of an alert, which are its identity. Names are valid in Prometheus; empty values are left out.

    A label of the event whose name is taken gets the prefix `exported_`, as in Prometheus.
    """
    title = text.title(event)
    found = {
        "alertname": title,
        "alert_type": event.type.value,
        "severity": event.severity.value,
        "service": notification.service,
        "environment": notification.environment,
        "host": host,
        "rule": event.rule if event.rule != title else "",
    }
    for key, value in sorted(event.labels.items()):
        name = label_name(key)
        while name in found:
            name = f"exported_{name}"
        found[name] = value
    return {key: text.one_line(value) for key, value in found.items() if value}


def label_name(key: str) -> str:
    """A label's name as Alertmanager allows it."""
    name = re.sub(r"\W", "_", key, flags=re.ASCII)
    return f"_{name}" if not name or name[0].isdigit() else name


def _annotations(event: AlertEvent, notification: Notification) -> dict[str, str]:
    found = {
        "summary": text.one_line(event.message),
        "description": f"{text.plain_text(event, evidence.plain_lines(event))}\n\n{text.origin_lines(notification)}",
        "runbook_url": text.link(event.runbook),
        "value": str(event.details.get("value", "")),
        "threshold": str(event.details.get("threshold", "")),
        "trace_id": event.trace_id,
        "acknowledged_by": event.acknowledged.author if event.acknowledged is not None else "",
        "incident": event.incident,
    }
    return {key: text.printable_lines(value) for key, value in found.items() if value}
