"""What a command is: the driver's own or not, the collection that it works on, what its series is told by."""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from otel_monitoring.instrumentation.mongodb.server_state import Address

Command: TypeAlias = tuple[str, str, str | None, Address | None]
"""Operation, database, collection and server: what tells the series of commands apart."""

DRIVER_COMMANDS: Final = frozenset(
    (
        "authenticate",
        "endSessions",
        "getnonce",
        "hello",
        "isMaster",
        "ismaster",
        "saslContinue",
        "saslStart",
    )
)
"""The driver's own commands: handshakes, authentication, the end of sessions."""

# Commands whose value is the name of the collection (MongoDB database commands reference). In other commands the value
# is a user name, a role name or a namespace.
_ON_COLLECTION: Final = frozenset(
    (
        "aggregate",
        "collMod",
        "collStats",
        "compact",
        "count",
        "create",
        "createIndexes",
        "createSearchIndexes",
        "delete",
        "distinct",
        "drop",
        "dropIndexes",
        "dropSearchIndex",
        "find",
        "findAndModify",
        "findandmodify",
        "insert",
        "killCursors",
        "listIndexes",
        "mapReduce",
        "reIndex",
        "update",
        "updateSearchIndex",
        "validate",
    )
)


_NO_COLLECTION: Final = "$cmd."
"""Begins the name under which the cursor of a command on the whole database is continued: `$cmd.aggregate`."""


def collection_of(operation: str, command: Mapping[str, Any]) -> str | None:
    """The collection that a command works on; None for a command on no collection or on the whole database.

    Args:
        operation: The command's name, e.g. `find`.
        command: The command document of the driver's event.
    """
    if operation in _ON_COLLECTION:
        name = command.get(operation)
    elif operation == "getMore":
        name = command.get("collection")
    elif operation == "explain":
        inner = command.get("explain")
        if not isinstance(inner, Mapping) or not inner:
            return None
        first = next(iter(inner))
        return collection_of(first, inner) if first != "explain" else None
    else:
        return None
    if not isinstance(name, str) or name.startswith(_NO_COLLECTION):
        return None
    return name
