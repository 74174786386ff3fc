"""`shape_of`: the key paths of a command's filter or pipeline, without any value."""

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final

_MAX_LENGTH: Final = 200
_MAX_DEPTH: Final = 4
_MAX_KEYS: Final = 12
_READS: Final = frozenset(("find", "aggregate", "count", "distinct"))
_BATCHES: Final = {"insert": "documents", "update": "updates", "delete": "deletes", "bulkWrite": "ops"}
_FOLLOWING: Final = frozenset(("getMore", "killCursors", "commitTransaction", "abortTransaction"))
CHOOSING: Final = ("collation", "hint", "let")
"""What the server's choice of a plan depends on beside the filter and the sort; `let` has what a filter refers to."""
_NO_FILTER: Final[Mapping[str, Any]] = {}

# A part of a path that may be a value (a number, an identifier, an address), as where a map has users as its keys.
_NAME: Final = re.compile(r"[^\W\d][\w-]{0,39}")
_DIGITS: Final = re.compile(r"\d")
_MAX_DIGITS: Final = 4
# Random identifiers have digits in several places.
_RANDOM: Final = re.compile(r"(?=.{16})[^\d]*\d+[^\d]+\d")
# A value that is a part of its own: a number or identifier, or an operator such as $[].
_PART: Final = re.compile(r"[\w-]+|\$(?:\[\w*\])?")
_PLAIN: Final = re.compile(r"\$?[^\W\d]\w*")
_OF_QUERIES: Final = frozenset(("$and", "$or", "$nor"))
_OF_QUERY: Final = frozenset(("$elemMatch", "$not"))


def source_of(operation: str, command: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the shape of a command is made of; None: no loop sends it, because it follows another one, as `getMore`.

    Of a command with many statements it is the first. Nothing is copied; documents that are inserted are not kept.

    Args:
        operation: The command's name.
        command: The command document of the driver's event.
    """
    if operation in _READS:
        return command
    if operation in ("update", "delete"):
        first = _first(command.get(_BATCHES[operation]))
        return {"filter": first.get("q"), **_choosing(first, command)}
    if operation in ("findAndModify", "findandmodify"):
        return {"filter": command.get("query"), "sort": command.get("sort"), **_choosing(command, command)}
    return None if operation in _FOLLOWING else _NO_FILTER


def is_batch(operation: str, command: Mapping[str, Any]) -> bool:
    """Whether a command has several statements: the driver sends the statements of one call in one or more of these."""
    field = _BATCHES.get(operation)
    return field is not None and len(command.get(field) or ()) > 1


def _first(statements: Any) -> Mapping[str, Any]:
    first = statements[0] if isinstance(statements, Sequence) and statements else None
    return first if isinstance(first, Mapping) else _NO_FILTER


def _choosing(statement: Mapping[str, Any], command: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: found for name in CHOOSING if (found := (command if name == "let" else statement).get(name)) is not None
    }


def shape_of(operation: str, source: Mapping[str, Any]) -> str:
    """The key paths, sorted, with operators: `{"customer.id": ?, status: {$in: ?}}`; empty for a command without any.

    Values are replaced by `?`, and so are parts of paths that look like values. Length, depth and number are bounded.

    Args:
        operation: The command's name.
        source: The result of `source_of`.
    """
    if source is _NO_FILTER:
        return ""
    if operation == "aggregate":
        pipeline = source.get("pipeline")
        stages = pipeline if isinstance(pipeline, Sequence) else ()
        return _cut(f"[{', '.join(_listed(stages, _stage))}]")
    query = _query(filter_of(source), 1)
    sort = source.get("sort")
    return _cut(f"{query}, sort {_keys(sort)}" if isinstance(sort, Mapping) and sort else query)


def reads_few(operation: str, source: Mapping[str, Any]) -> bool:
    """Whether a command without a filter reads no whole collection.

    A count is answered from the collection's metadata; a `find` with a limit reads the first documents.

    Args:
        operation: The command's name.
        source: The result of `source_of`.
    """
    if operation != "count" and not source.get("limit"):
        return False
    return not filter_of(source) and not source.get("sort")


def filter_of(source: Mapping[str, Any]) -> Any:
    """The filter of a command other than `aggregate`; empty where it has none."""
    found = source.get("filter")
    return (source.get("query") if found is None else found) or {}


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_LENGTH else f"{text[: _MAX_LENGTH - 1]}…"


def _query(query: Any, depth: int) -> str:
    if not isinstance(query, Mapping):
        return "?"
    if depth > _MAX_DEPTH:
        return "{…}"
    parts = [f"{_path(key)}: {_condition(key, value, depth)}" for key, value in _some(query)]
    return f"{{{', '.join(sorted(parts))}{', …' if len(query) > _MAX_KEYS else ''}}}"


def _condition(key: Any, value: Any, depth: int) -> str:
    if key in _OF_QUERIES:
        queries = {_query(one, depth + 1) for one in islice(value, _MAX_KEYS)} if isinstance(value, Sequence) else ()
        return f"[{', '.join(sorted(queries))}]"
    if isinstance(value, Mapping) and _begins_with_operator(value):
        parts = [f"{_path(name)}: {_argument(name, one, depth)}" for name, one in _some(value)]
        return f"{{{', '.join(sorted(parts))}}}"
    return "?"


def _argument(operator: Any, value: Any, depth: int) -> str:
    if operator not in _OF_QUERY or not isinstance(value, Mapping):
        return "?"
    if _begins_with_operator(value):
        return _condition("", value, depth + 1) if depth < _MAX_DEPTH else "{…}"
    return _query(value, depth + 1)


def _begins_with_operator(value: Mapping[Any, Any]) -> bool:
    first = next(iter(value), "")
    return isinstance(first, str) and first.startswith("$")


def _stage(stage: Any) -> str:
    if not isinstance(stage, Mapping) or not stage:
        return "?"
    name = next(iter(stage))
    value = stage[name]
    if name == "$match":
        return f"{{$match: {_query(value, 2)}}}"
    return f"{{{_path(name)}: {_keys(value) if isinstance(value, Mapping) else '?'}}}"


def _keys(value: Mapping[Any, Any]) -> str:
    parts = sorted(f"{_path(key)}: ?" for key, _ in _some(value))
    return f"{{{', '.join(parts)}{', …' if len(value) > _MAX_KEYS else ''}}}"


def _some(value: Mapping[Any, Any]) -> "islice[tuple[Any, Any]]":
    return islice(value.items(), _MAX_KEYS)


def _listed(items: Sequence[Any], shown: Any) -> list[str]:
    texts = [shown(item) for item in islice(items, _MAX_KEYS)]
    return [*texts, "…"] if len(items) > _MAX_KEYS else texts


def _path(key: Any) -> str:
    """A key as it is shown: in quotes where it is a path; parts that look like values are `?`."""
    known = _paths.get(key) if isinstance(key, str) else "?"
    if known is None:
        known = _written(key)
        if len(_paths) < _MAX_PATHS and len(key) <= _MAX_LENGTH:
            _paths[key] = known
    return known


def _written(key: str) -> str:
    text = masked(key)
    return text if text == "?" or _PLAIN.fullmatch(text) else f'"{text}"'


def masked(key: str) -> str:
    """A key of a command with `?` for each part that may be a value: `members.?.name`.

    A value with dots, such as an address, is several parts, of which not all look like one: then all but the first are
    left out.
    """
    if key.startswith("$"):
        return f"${_part(key[1:])}"
    parts = key.split(".", 8)[:8]
    if not all(map(_PART.fullmatch, parts)):
        parts = [parts[0], "?"] if len(parts) > 1 else parts
    return ".".join(map(_part, parts))


def _part(part: str) -> str:
    is_name = _NAME.fullmatch(part) and not _RANDOM.match(part) and len(_DIGITS.findall(part)) <= _MAX_DIGITS
    return part if is_name else "?"


_MAX_PATHS: Final = 2000
_paths: dict[str, str] = {}
