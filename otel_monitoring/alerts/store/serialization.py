"""The text form of events, results, labels and mutes in the tables of the SQLite store."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from otel_monitoring.alerts.model import AlertEvent, AlertType, ChannelResult, Mute
from otel_monitoring.redact import redact

_EVENT = TypeAdapter(AlertEvent)
_RESULT = TypeAdapter(ChannelResult)
_RESULTS = TypeAdapter(dict[str, ChannelResult])
_READABLE = "readable"
"""Marks rows that were written readable; those of versions before it are made so when they are read."""


def encoded_event(event: AlertEvent) -> str:
    """As JSON, without `channels`. Details that JSON has no form for must not keep the alert from being delivered."""
    try:
        return json.dumps(_record(event), allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        return json.dumps(_record(event.readable()))


def _record(event: AlertEvent) -> dict[str, Any]:
    return {**_EVENT.dump_python(event, mode="json", exclude={"channels"}, warnings=False), _READABLE: True}


def decoded_event(text: str, results: str = "{}") -> AlertEvent:
    """What `encoded_event` and `encoded_results` made.

    Raises:
        ValueError, TypeError, RecursionError: It is something else.
    """
    record = json.loads(text)
    event = _EVENT.validate_python({**record, "channels": json.loads(results)})
    return event if record.get(_READABLE) else event.readable()


def encoded_results(results: Mapping[str, ChannelResult]) -> str:
    """As JSON."""
    return _RESULTS.dump_json(dict(results), exclude_defaults=True).decode()


def encoded_result(result: ChannelResult) -> str:
    """As JSON that replaces what was said before, by the rules of RFC 7396."""
    return _RESULT.dump_json(result).decode()


def encoded_labels(labels: Mapping[str, str]) -> str:
    """As JSON, the same for the same labels."""
    return json.dumps(dict(labels), sort_keys=True)


def decoded_mute(row: tuple[Any, ...]) -> Mute:
    """A mute from its columns `type`, `labels`, `until`, `author`, `reason`.

    Raises:
        ValueError, TypeError: They are not what was written.
    """
    kind, labels, until, author, reason = row
    return Mute(AlertType(kind), until, json.loads(labels), redact(author), redact(reason))


def storable(text: str) -> str:
    """SQLite takes no halves of surrogate pairs."""
    return text.encode(errors="replace").decode()
