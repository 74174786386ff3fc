"""What went wrong with a command, as the server or the driver tells it."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from otel_monitoring import conventions as c

Failure: TypeAlias = Mapping[str, Any]


def failure_in(reply: Mapping[str, Any]) -> Failure | None:
    """The first error in the reply to a command that itself succeeded (`ok: 1`); None where all of it did.

    Servers report so: writes that were refused (`writeErrors`; by `bulkWrite` among its results), and writes that were
    made but not acknowledged as asked for (`writeConcernError`).
    """
    if errors := reply.get("writeErrors"):
        first: Failure = errors[0]
        return first
    if reply.get("nErrors"):
        # The results of many operations come in further batches, the errors perhaps among those.
        results = reply.get("cursor", {}).get("firstBatch", ())
        return next((result for result in results if not result.get("ok")), {})
    last = reply.get("lastErrorObject")
    if last and (last.get("err") or last.get("code")):
        return {"errmsg": last.get("err"), **last}
    return reply.get("writeConcernError") or None


def error_type(failure: Failure) -> str:
    """`error.type` of a failed command: the driver's exception class, or the server's name or number of the error."""
    return str(failure.get("errtype") or failure.get("codeName") or failure.get("code") or c.OTHER)
