"""`ErrorGroup`: the failed requests of one exception type and one route; merged by all processes of a service."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

GROUPS_LIMIT: Final = 200
"""The most groups; those that were seen longest ago go first."""
ErrorKey = tuple[str, str]


class ErrorGroup(NamedTuple):
    """Failed requests.

    Attributes:
        type: The type of the exception, as `error.type` has it; `HTTP 503` where there was no exception.
        route: The requests, as `GET /route`.
        count: How many failed.
        first: When the first one failed, in Unix seconds.
        last: When the last one failed.
        version: The `service.version` in which the first one failed; None: it has none.
        stack: A redacted stack trace; empty: there was no exception.
        trace_id: The trace of one of them, in 32 hexadecimal digits; None: none was traced.
    """

    type: str
    route: str
    count: int  # type: ignore[assignment] # nobody counts the fields of a tuple
    first: float
    last: float
    version: str | None = None
    stack: str = ""
    trace_id: str | None = None

    @property
    def key(self) -> ErrorKey:
        """What the group is about: no other one has it."""
        return self.type, self.route

    def plus(self, other: "ErrorGroup") -> "ErrorGroup":
        """The requests of both, which have the same key."""
        newer, older = (self, other) if self.last >= other.last else (other, self)
        first = min(self, other, key=lambda group: group.first)
        return ErrorGroup(
            type=self.type,
            route=self.route,
            count=self.count + other.count,
            first=first.first,
            last=newer.last,
            version=first.version,
            stack=newer.stack or older.stack,
            trace_id=newer.trace_id or older.trace_id,
        )

    def as_record(self) -> list[Any]:
        """The group for JSON; `of_record` reads it."""
        return list(self)

    @classmethod
    def of_record(cls, record: Any) -> "ErrorGroup":
        """Read what `as_record` made; raises `ValueError` and `TypeError` for anything else."""
        kind, route, count, first, last, version, stack, trace_id = record
        return cls(
            type=str(kind),
            route=str(route),
            count=int(count),
            first=float(first),
            last=float(last),
            version=None if version is None else str(version),
            stack=str(stack),
            trace_id=None if trace_id is None else str(trace_id),
        )


def merged_groups(known: Mapping[ErrorKey, ErrorGroup], news: Iterable[ErrorGroup]) -> dict[ErrorKey, ErrorGroup]:
    """The groups of both, at most `GROUPS_LIMIT`."""
    groups = dict(known)
    for group in news:
        before = groups.get(group.key)
        groups[group.key] = before.plus(group) if before is not None else group
    if len(groups) > GROUPS_LIMIT:
        latest = sorted(groups.values(), key=lambda group: group.last)[-GROUPS_LIMIT:]
        return {group.key: group for group in latest}
    return groups
