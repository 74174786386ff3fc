"""`failure_in`: errors in the reply to a command; `command_error_type`: their `error.type`."""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from otel_monitoring import semconv

CommandFailure: TypeAlias = Mapping[str, Any]

_UNKNOWN: Final[CommandFailure] = {}


def failure_in(reply: Mapping[str, Any]) -> CommandFailure | None:
    """The first error in the reply to a command that succeeded as such (`ok: 1`); None without an error.

    Servers report in this way failed writes (`writeErrors`; for `bulkWrite` in its results), and writes without the
    requested acknowledgement (`writeConcernError`). A field with such a name but another structure is an error without
    details: an empty mapping.

    Args:
        reply: The reply of the driver's event.
    """
    if errors := reply.get("writeErrors"):
        return _first(errors)
    if reply.get("nErrors"):
        # The results of many operations are in several batches; the errors may be in a later one.
        cursor = reply.get("cursor")
        results = cursor.get("firstBatch") if isinstance(cursor, Mapping) else None
        return _first([one for one in _items(results) if isinstance(one, Mapping) and not one.get("ok")])
    last = reply.get("lastErrorObject")
    if last and isinstance(last, Mapping) and (last.get("err") or last.get("code")):
        return {"errmsg": last.get("err"), **last}
    unconfirmed = reply.get("writeConcernError")
    return _first([unconfirmed]) if unconfirmed else None


def _first(errors: object) -> CommandFailure:
    first = next(iter(_items(errors)), None)
    return first if isinstance(first, Mapping) else _UNKNOWN


def _items(values: object) -> list[Any]:
    return values if isinstance(values, list) else []


def command_error_type(failure: CommandFailure) -> str:
    """The value of `error.type`: the driver's exception class, else the server's name, else its code of the error."""
    return str(failure.get("errtype") or failure.get("codeName") or failure.get("code") or semconv.OTHER)
