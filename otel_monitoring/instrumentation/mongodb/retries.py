"""Which commands the driver sends again: `attempt` is the same for all attempts of one operation."""

from collections.abc import Mapping
from typing import Any, Final

import pymongo

from otel_monitoring.instrumentation.mongodb.command_failure import CommandFailure
from otel_monitoring.instrumentation.mongodb.inflight import CommandEvent

STABLE_IDS: Final = pymongo.version_tuple >= (4, 18)
"""Whether all attempts have the same `operation_id`."""

# https://github.com/mongodb/specifications/blob/master/source/retryable-reads/retryable-reads.md#retryable-error
_RETRYABLE_CODES: Final = frozenset((6, 7, 89, 91, 134, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436))


def attempt(event: CommandEvent, session: Any) -> object:
    """What is the same for the attempts of one operation, and for no other operation.

    Older drivers give each attempt an id of its own; there it is the command in its session, which the driver replaces
    after a failure of the network, unless it tries again itself.

    Args:
        event: An event of the command.
        session: Its field `lsid`, where ids are not stable.
    """
    if session is None:
        return event.operation_id
    found = session.get("id") if isinstance(session, Mapping) else None
    return event.command_name, bytes(found) if found is not None else None


def is_retryable(failure: CommandFailure) -> bool:
    """Whether the driver may send a command again that has failed in this way."""
    labels = failure.get("errorLabels") or ()
    # Only what the driver raises itself, without an answer of the server, has a type.
    return (
        failure.get("errtype") is not None
        or failure.get("code") in _RETRYABLE_CODES
        or "RetryableWriteError" in labels
        or "RetryableError" in labels
    )
