"""How events, mutes and texts stand in a table."""

import json
from collections.abc import Mapping
from typing import Any

from otel_monitoring.events import AlertEvent, AlertType, Arrival, ChannelResult, Mute
from otel_monitoring.redact import redact

_READABLE = "readable"
"""Marks rows that were written readable; those of versions before it are made so when they are read."""


def encoded_event(event: AlertEvent) -> str:
    """As JSON. Details that JSON has no form for must not keep the alert from being delivered."""
    record = {**event.as_record(), _READABLE: True}
    try:
        return json.dumps(record, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        return json.dumps({**event.readable().as_record(), _READABLE: True}, default=str)


def decoded_event(text: str, results: str = "{}") -> AlertEvent:
    """What `encoded_event` and `encoded_results` made.

    Raises:
        ValueError, TypeError, LookupError, RecursionError: It is something else.
    """
    record = json.loads(text)
    for name, kind in (("time", (int, float)), ("message", str), ("details", dict), ("labels", dict)):
        if not isinstance(record[name], kind):
            raise TypeError(f"{name} is of another type")
    event = AlertEvent.from_record(record, decoded_results(results))
    return event if record.get(_READABLE) else event.readable()


def encoded_results(results: Mapping[str, ChannelResult]) -> str:
    """As JSON."""
    if not results:
        return "{}"
    return json.dumps({name: _fields(result) for name, result in results.items()})


def encoded_result(result: ChannelResult) -> str:
    """As JSON that replaces what was said before, by the rules of RFC 7396."""
    return json.dumps(_fields(result))


def _fields(result: ChannelResult) -> dict[str, Any]:
    state = result.state
    if state is Arrival.WAITING:  # most of them
        return {"state": state.value}
    return {
        "state": state.value,
        "at": result.at,
        "attempts": result.attempts,
        "next_attempt": result.next_attempt,
        "error": result.error,
    }


def decoded_results(text: str) -> dict[str, ChannelResult]:
    """What `encoded_results` made.

    Raises:
        ValueError, TypeError, LookupError: It is something else.
    """
    return {
        name: ChannelResult(**{**fields, "state": Arrival(fields["state"])})
        for name, fields in (json.loads(text).items() if text != "{}" else ())
    }


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
