"""Rows that cannot be decoded are skipped and counted."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from otel_monitoring.errors import StoreError
from otel_monitoring.guard import fail_open

T = TypeVar("T")


def decodable(rows: Iterable[tuple[Any, ...]], decode: Callable[..., T]) -> Iterator[T]:
    """What `decode` makes of each row, without those that it cannot read."""
    for row in rows:
        try:
            yield decode(row)
        except (ValueError, TypeError, LookupError, RecursionError):
            fail_open.note("alert store", StoreError("a row cannot be read and is skipped"))


def first(limit: int, rows: Iterable[tuple[Any, ...]], decode: Callable[..., T]) -> list[T]:
    """What `decode` makes of the first `limit` rows that it can read; no row beyond them is read."""
    found: list[T] = []
    if limit > 0:
        for item in decodable(rows, decode):
            found.append(item)
            if len(found) == limit:
                break
    return found
