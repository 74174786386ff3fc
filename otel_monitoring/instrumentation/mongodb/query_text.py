"""`obfuscated`: the text of a command with every value replaced (`db.query.text`)."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Final

from otel_monitoring.instrumentation.database_work.shape import masked
from otel_monitoring.instrumentation.mongodb.command_names import collection_of

_MAX_DEPTH: Final = 8
_MAX_ITEMS: Final = 50
_MAX_NAME: Final = 64
_MAX_KEPT: Final = 200

# Fields that the driver adds to every command.
_ENVELOPE: Final = frozenset(("lsid", "$db", "$clusterTime", "$readPreference", "txnNumber", "startTransaction"))
_LISTS_OF_DOCUMENTS: Final = frozenset(("documents", "updates", "deletes", "ops"))


def obfuscated(operation: str, command: Mapping[str, Any], max_length: int) -> str:
    """The command as JSON-like text, e.g. `{find: "orders", filter: {email: "?", total: {$gt: "?"}}}`.

    Field names, operators, structure and the collection stay; every value is replaced by `?`, and so are parts of field
    names that look like one, as in a map with users as its keys. Of a list of documents only the first is written.
    Depth and number of fields are bounded.

    Args:
        operation: The command's name.
        command: The command document of the driver's event.
        max_length: Maximum length in characters; a longer text is cut and ends in `…`.
    """
    writer = _Writer(max_length)
    writer.write("{")
    separator, collection = "", collection_of(operation, command)
    for key, value in islice(command.items(), _MAX_ITEMS):
        if key in _ENVELOPE:
            continue
        writer.write(f"{separator}{_name(key)}: ")
        separator = ", "
        if key in (operation, "collection") and collection is not None and value == collection:
            writer.write(f'"{collection[:_MAX_NAME]}"')
        else:
            _write(writer, value, 1, first_only=key in _LISTS_OF_DOCUMENTS)
    writer.write("}")
    return writer.text()


class _Writer:
    """Collects text up to a maximum length."""

    def __init__(self, max_length: int) -> None:
        self._max_length = max_length
        self._parts: list[str] = []
        self._length = 0

    @property
    def full(self) -> bool:
        return self._length > self._max_length

    def write(self, part: str) -> None:
        if not self.full:
            self._parts.append(part)
            self._length += len(part)

    def text(self) -> str:
        text = "".join(self._parts)
        return text if len(text) <= self._max_length else text[: self._max_length - 1] + "…"


def _write(writer: _Writer, value: object, depth: int, *, first_only: bool = False) -> None:
    if writer.full:
        return
    if isinstance(value, Mapping):
        _write_document(writer, value, depth)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview):
        _write_list(writer, value, depth, first_only=first_only)
    else:
        writer.write('"?"')


def _write_document(writer: _Writer, document: Mapping[Any, Any], depth: int) -> None:
    if depth > _MAX_DEPTH:
        writer.write("{…}")
        return
    writer.write("{")
    for index, (key, value) in enumerate(islice(document.items(), _MAX_ITEMS)):
        writer.write(f"{', ' if index else ''}{_name(key)}: ")
        _write(writer, value, depth + 1)
    writer.write(", …}" if len(document) > _MAX_ITEMS else "}")


_known_name = lru_cache(maxsize=2000)(masked)


def _name(key: object) -> str:
    if not isinstance(key, str):
        return "?"
    return (_known_name(key) if len(key) <= _MAX_KEPT else masked(key))[:_MAX_NAME]


def _write_list(writer: _Writer, items: Sequence[Any], depth: int, *, first_only: bool) -> None:
    # A list of plain values (`$in`) has no structure, and its length would make every text unique.
    shown = [item for item in islice(items, _MAX_ITEMS) if isinstance(item, Mapping | list | tuple)]
    if not shown:
        writer.write('["?"]' if items else "[]")
        return
    if depth > _MAX_DEPTH:
        writer.write("[…]")
        return
    shown = shown[:1] if first_only else shown
    writer.write("[")
    for index, item in enumerate(shown):
        writer.write(", " if index else "")
        _write(writer, item, depth + 1)
    writer.write(", …]" if len(items) > len(shown) else "]")
