"""What went wrong with a command, as the server or the driver tells it."""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from otel_monitoring import semconv

CommandFailure: TypeAlias = Mapping[str, Any]

_UNKNOWN: Final[CommandFailure] = {}


def failure_in(reply: Mapping[str, Any]) -> CommandFailure | None:
    """The first error in the reply to a command that itself succeeded (`ok: 1`); None where all of it did.

    Servers report so: writes that were refused (`writeErrors`; by `bulkWrite` among its results), and writes that were
    made but not acknowledged as asked for (`writeConcernError`). A command may answer with fields of these names that
    are built otherwise: those are errors of which nothing is known.
    """
    if errors := reply.get("writeErrors"):
        return _first(errors)
    if reply.get("nErrors"):
        # The results of many operations come in further batches, the errors perhaps among those.
        cursor = reply.get("cursor")
        results = cursor.get("firstBatch") if isinstance(cursor, Mapping) else None
        return _first([one for one in _items(results) if isinstance(one, Mapping) and not one.get("ok")])
    last = reply.get("lastErrorObject")
    if isinstance(last, Mapping) and (last.get("err") or last.get("code")):
        return {"errmsg": last.get("err"), **last}
    unconfirmed = reply.get("writeConcernError")
    return _first([unconfirmed]) if unconfirmed else None


def _first(errors: object) -> CommandFailure:
    first = next(iter(_items(errors)), None)
    return first if isinstance(first, Mapping) else _UNKNOWN


def _items(values: object) -> list[Any]:
    return values if isinstance(values, list) else []


def command_error_type(failure: CommandFailure) -> str:
    """`error.type` of a failed command: the driver's exception class, or the server's name or number of the error."""
    return str(failure.get("errtype") or failure.get("codeName") or failure.get("code") or semconv.OTHER)
