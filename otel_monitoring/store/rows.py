"""How events, mutes and texts stand in a table."""

import json
from collections.abc import Mapping
from typing import Any

from otel_monitoring.events import AlertEvent, AlertType, Mute


def encoded_event(event: AlertEvent) -> str:
    """As JSON. Details that JSON has no form for must not keep the alert from being delivered."""
    record = event.as_record()
    try:
        return json.dumps(record, default=str, skipkeys=True)
    except (ValueError, TypeError, RecursionError):
        return json.dumps({**record, "details": {}}, default=str)


def decoded_event(text: str) -> AlertEvent:
    """What `encoded_event` made.

    Raises:
        ValueError, TypeError, LookupError, RecursionError: It is something else.
    """
    record = json.loads(text)
    for name, kind in (("time", (int, float)), ("message", str), ("details", dict), ("labels", dict)):
        if not isinstance(record[name], kind):
            raise TypeError(f"{name} is of another type")
    return AlertEvent.from_record(record)


def encoded_labels(labels: Mapping[str, str]) -> str:
    """As JSON, the same for the same labels."""
    return json.dumps(dict(labels), sort_keys=True)


def decoded_mute(row: tuple[Any, ...]) -> Mute:
    """A mute from its columns `type`, `labels`, `until`, `author`, `reason`.

    Raises:
        ValueError, TypeError: They are not what was written.
    """
    kind, labels, until, author, reason = row
    return Mute(AlertType(kind), until, json.loads(labels), author, reason)


def storable(text: str) -> str:
    """SQLite takes no halves of surrogate pairs."""
    return text.encode(errors="replace").decode()
