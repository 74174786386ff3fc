"""Which names of a command may become attribute values."""

from collections.abc import Mapping
from typing import Any, Final

NOISE: Final = frozenset(
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

# Commands whose own value names the collection they work on (MongoDB database commands reference). Others carry user
# names, role names or whole namespaces there.
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


def collection_of(operation: str, command: Mapping[str, Any]) -> str | None:
    """The collection a command works on; None where it works on none, or on the whole database.

    Args:
        operation: The command's name, e.g. `find`.
        command: The command document as the driver publishes it.
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
    return name if isinstance(name, str) else None
