"""Answers beside what docs/endpoints.md says of their keys and units."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from tests.pages import Tree

_UNITS = {
    "text": lambda value: isinstance(value, str),
    "true or false": lambda value: isinstance(value, bool),
    "count": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "RFC 3339": lambda value: datetime.fromisoformat(value).tzinfo is not None,
    **dict.fromkeys(
        ("s", "1/s", "ms", "%", "MiB", "cores", "number"),
        lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    ),
}


def _fits(unit: str, value: Any) -> bool:
    kind = unit.removesuffix(" or null")
    if value is None:
        return " or null" in unit
    return bool(_UNITS[kind](value))


def compare(answer: Any, tree: Tree | str, place: str, known: set[str]) -> Iterator[str]:
    """What of an answer is not as the page has it; what the page says and the answer has goes into `known`."""
    known.add(place)
    if isinstance(tree, str):
        if not _fits(tree, answer):
            yield f"{place} is {answer!r}, not {tree}"
        return
    items: Iterator[tuple[str, Any]]
    if isinstance(answer, list):
        items = (("[]", item) for item in answer)
    elif isinstance(answer, dict):
        items = iter(answer.items())
    else:
        if answer is not None:
            yield f"{place} is {answer!r}"
        return
    anything = next((key for key in tree if key.startswith("<")), None)
    for key, value in items:
        name = key if key in tree else anything
        if name is None:
            yield f"{place}.{key} is not documented"
        else:
            yield from compare(value, tree[name], f"{place}.{name}", known)


def places(tree: Tree | str, place: str) -> Iterator[str]:
    """Every place that the page documents."""
    yield place
    if isinstance(tree, dict):
        for key, below in tree.items():
            yield from places(below, f"{place}.{key}")
