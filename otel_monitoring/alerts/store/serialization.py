"""The text form of events, channel results and mutes in a file or a database."""

import json
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from pydantic import TypeAdapter

from otel_monitoring.alerts.model import AlertEvent, ChannelResult
from otel_monitoring.alerts.mute import Mute
from otel_monitoring.alerts.selection import Selection
from otel_monitoring.redact import redact

_READABLE = "readable"
"""Marks rows that were redacted when written; rows of earlier versions are redacted when read."""


# Made at the first use: each takes milliseconds, and most services start without an alert.
@cache
def _event() -> TypeAdapter[AlertEvent]:
    return TypeAdapter(AlertEvent)


@cache
def _result() -> TypeAdapter[ChannelResult]:
    return TypeAdapter(ChannelResult)


@cache
def _results() -> TypeAdapter[dict[str, ChannelResult]]:
    return TypeAdapter(dict[str, ChannelResult])


def encoded_event(event: AlertEvent) -> str:
    """The event as JSON, without `channels`. Details that JSON cannot represent are made readable first."""
    try:
        return json.dumps(_record(event), allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        return json.dumps(_record(event.readable()))


def _record(event: AlertEvent) -> dict[str, Any]:
    return {**_event().dump_python(event, mode="json", exclude={"channels"}, warnings=False), _READABLE: True}


def decoded_event(text: str, results: str = "{}") -> AlertEvent:
    """Read what `encoded_event` and `encoded_results` wrote.

    Raises:
        ValueError, TypeError, RecursionError: The texts are no event.
    """
    record = json.loads(text)
    event = _event().validate_python({**record, "channels": json.loads(results)})
    return event if record.get(_READABLE) else event.readable()


def encoded_results(results: Mapping[str, ChannelResult]) -> str:
    """The results by channel as JSON."""
    return _results().dump_json(dict(results), exclude_defaults=True).decode()


def decoded_results(text: str) -> dict[str, ChannelResult]:
    """Read what `encoded_results` wrote.

    Raises:
        ValueError, TypeError: The text is no results.
    """
    return _results().validate_json(text)


def encoded_result(result: ChannelResult) -> str:
    """The result as a JSON merge patch (RFC 7396) for the previous result of the channel."""
    return _result().dump_json(result).decode()


def encoded_mute(mute: Mute) -> tuple[str, str, float, str, str]:
    """The columns of a mute."""
    return *mute.key, mute.until, storable(mute.author), storable(mute.reason)


def decoded_mute(row: Sequence[Any]) -> Mute:
    """A mute from its columns `selection`, `schedule`, `until`, `author`, `reason`, as `encoded_mute` made them.

    Raises:
        ValueError, TypeError, LookupError: The columns are no mute.
    """
    return _decoded_mute(*row)


@lru_cache(maxsize=2048)
def _decoded_mute(selection: str, schedule: str, until: float, author: str, reason: str) -> Mute:
    """The mutes are read with every alert, and there are up to 1,000."""
    from otel_monitoring.alerts.schedule import decoded  # most services plan no windows

    return Mute(Selection.decode(selection), until, redact(author), redact(reason), decoded(schedule))


def storable(text: str) -> str:
    """`text` without lone surrogates, which SQLite refuses."""
    return text.encode(errors="replace").decode()
