"""`DatabaseWork`: the commands by which requests and operations used the database; merged by all processes."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from otel_monitoring.value import Value

REQUEST: Final = "request"
BACKGROUND: Final = "background"
OPERATION: Final = "operation"

USES_LIMIT: Final = 2000
FINDINGS_LIMIT: Final = 200
"""The most repetitions, and the most shapes; those that were seen longest ago go first."""
SOURCES_LIMIT: Final = 5
"""The most routes and operations that are named for one shape."""

Source = tuple[str, str]
"""What sent commands: `request`, `background` or `operation`, and `GET /route` or the operation's name."""


class CommandUse(NamedTuple):
    """The commands of one operation on one collection that a route or an operation has sent.

    Attributes:
        kind: `request`; `background`: after the answer; `operation`: a traced operation.
        name: `GET /route`, or the operation's name.
        operation: The command's name.
        collection: The collection; empty: the command works on none.
        commands: How many were sent.
        seconds: How long all of them took.
        retries: How many of them the driver had sent before, and failed.
    """

    kind: str
    name: str
    operation: str
    collection: str
    commands: int
    seconds: float
    retries: int = 0

    @property
    def key(self) -> tuple[str, ...]:
        """Its identity: two with the same key are merged."""
        return self.kind, self.name, self.operation, self.collection

    @property
    def order(self) -> float:
        """The larger, the longer it is kept."""
        return self.seconds

    def plus(self, other: "CommandUse") -> "CommandUse":
        """The commands of both."""
        return self._replace(
            commands=self.commands + other.commands,
            seconds=self.seconds + other.seconds,
            retries=self.retries + other.retries,
        )

    def as_record(self) -> list[Any]:
        """For JSON; `of_record` reads it."""
        return [*self.key, self.commands, round(self.seconds, 6), self.retries]

    @classmethod
    def of_record(cls, record: Any) -> "CommandUse":
        """Read what `as_record` made; raises `ValueError` and `TypeError` for anything else."""
        kind, name, operation, collection, commands, seconds, retries = record
        return cls(str(kind), str(name), str(operation), str(collection), int(commands), float(seconds), int(retries))


class Repetition(NamedTuple):
    """The same command of one shape at least ten times in one request: an N+1.

    Attributes:
        kind: As of `CommandUse`.
        name: As of `CommandUse`.
        operation: The command's name.
        collection: The collection.
        shape: The key paths of its filter, without values; empty: the command has none.
        requests: In how many requests, or runs of the operation.
        commands: How many commands these were.
        most: The most in one of them.
        first: When it was first seen, in Unix seconds.
        last: When it was last seen.
        caller: The application's line that sends it, as `shop/orders.py:42`; empty: it is not known.
    """

    kind: str
    name: str
    operation: str
    collection: str
    shape: str
    requests: int
    commands: int
    most: int
    first: float
    last: float
    caller: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """Its identity: two with the same key are merged."""
        return self.kind, self.name, self.operation, self.collection, self.shape

    @property
    def order(self) -> float:
        """The larger, the longer it is kept."""
        return self.last

    def plus(self, other: "Repetition") -> "Repetition":
        """Both, which have the same key."""
        newer, older = (self, other) if self.last >= other.last else (other, self)
        return self._replace(
            requests=self.requests + other.requests,
            commands=self.commands + other.commands,
            most=max(self.most, other.most),
            first=min(self.first, other.first),
            last=newer.last,
            caller=newer.caller or older.caller,
        )

    def as_record(self) -> list[Any]:
        """For JSON; `of_record` reads it."""
        return list(self)

    @classmethod
    def of_record(cls, record: Any) -> "Repetition":
        """Read what `as_record` made; raises `ValueError` and `TypeError` for anything else."""
        *key, requests, commands, most, first, last, caller = record
        kind, name, operation, collection, shape = map(str, key)
        counts = int(requests), int(commands), int(most)
        return cls(kind, name, operation, collection, shape, *counts, float(first), float(last), str(caller))


class Plan(NamedTuple):
    """How the server finds the documents of a shape.

    Attributes:
        at: When it was explained, in Unix seconds.
        index: The index; empty: none.
        scan: Whether the server reads the whole collection.
        error: Why there is no plan; empty: there is one.
    """

    at: float
    index: str = ""  # type: ignore[assignment] # nobody looks for fields of a tuple
    scan: bool = False
    error: str = ""

    @property
    def text(self) -> str:
        """The plan in a few words."""
        if self.error:
            return f"not explained: {self.error}"
        return "collection scan" if self.scan else f"index {self.index}" if self.index else "no scan"


class QueryShape(NamedTuple):
    """The slow commands of one shape, and the plan by which the server answers it.

    Attributes:
        namespace: The database.
        operation: The command's name.
        collection: The collection.
        shape: The key paths of its filter, without values.
        slow: How many commands took at least the time that counts as slow.
        seconds: How long these took.
        slowest: The longest time of one command that is known.
        first: When it was first seen, in Unix seconds.
        last: When it was last seen.
        sources: What sent it, at most `SOURCES_LIMIT`.
        plan: How the server finds the documents; None: it was not asked.
    """

    namespace: str
    operation: str
    collection: str
    shape: str
    slow: int
    seconds: float
    slowest: float
    first: float
    last: float
    sources: tuple[Source, ...] = ()
    plan: Plan | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """Its identity: two with the same key are merged."""
        return self.namespace, self.operation, self.collection, self.shape

    @property
    def order(self) -> float:
        """The larger, the longer it is kept."""
        return self.last

    def plus(self, other: "QueryShape") -> "QueryShape":
        """Both, which have the same key."""
        plans = [one.plan for one in (self, other) if one.plan is not None]
        return self._replace(
            slow=self.slow + other.slow,
            seconds=self.seconds + other.seconds,
            slowest=max(self.slowest, other.slowest),
            first=min(self.first, other.first),
            last=max(self.last, other.last),
            sources=tuple(dict.fromkeys((*self.sources, *other.sources)))[:SOURCES_LIMIT],
            plan=max(plans, key=lambda plan: plan.at, default=None),
        )

    def as_record(self) -> list[Any]:
        """For JSON; `of_record` reads it."""
        plan = self.plan and [self.plan.at, self.plan.index, self.plan.scan, self.plan.error]
        figures = [self.slow, round(self.seconds, 6), self.slowest, self.first, self.last]
        return [*self.key, *figures, self.sources, plan]

    @classmethod
    def of_record(cls, record: Any) -> "QueryShape":
        """Read what `as_record` made; raises `ValueError` and `TypeError` for anything else."""
        *key, slow, seconds, slowest, first, last, sources, plan = record
        namespace, operation, collection, shape = map(str, key)
        named = tuple((str(kind), str(name)) for kind, name in sources)[:SOURCES_LIMIT]
        found = None
        if plan is not None:
            at, index, scan, error = plan
            found = Plan(float(at), str(index), bool(scan), str(error))
        times = float(seconds), float(slowest), float(first), float(last)
        return cls(namespace, operation, collection, shape, int(slow), *times, named, found)


class _Mergeable(Protocol):
    @property
    def key(self) -> tuple[str, ...]: ...
    @property
    def order(self) -> float: ...
    def plus(self, other: Any) -> Any: ...
    def as_record(self) -> list[Any]: ...


T = TypeVar("T", bound=_Mergeable)


class _Kept(Value, Generic[T]):
    """Items by their keys; those beyond the limit are forgotten."""

    limit: int
    items: Mapping[tuple[str, ...], T] = field(default_factory=dict)

    def plus(self, news: Iterable[T]) -> "_Kept[T]":
        kept = dict(self.items)
        for item in news:
            known = kept.get(item.key)
            kept[item.key] = item if known is None else known.plus(item)
        if len(kept) > self.limit:
            last = sorted(kept.values(), key=lambda item: item.order)[-self.limit :]
            kept = {item.key: item for item in last}
        return _Kept(self.limit, kept)


class DatabaseWork(NamedTuple):
    """What requests and operations did with the database. It never changes: `plus` makes another one.

    Attributes:
        uses: The commands by route, operation and collection.
        repetitions: What was sent again and again in one request.
        shapes: The slow shapes, and those with a plan.
    """

    uses: _Kept[CommandUse] = _Kept(USES_LIMIT)
    repetitions: _Kept[Repetition] = _Kept(FINDINGS_LIMIT)
    shapes: _Kept[QueryShape] = _Kept(FINDINGS_LIMIT)

    @classmethod
    def of(
        cls,
        uses: Iterable[CommandUse] = (),
        repetitions: Iterable[Repetition] = (),
        shapes: Iterable[QueryShape] = (),
    ) -> "DatabaseWork":
        """The work that consists of these parts."""
        empty = cls()
        return cls(empty.uses.plus(uses), empty.repetitions.plus(repetitions), empty.shapes.plus(shapes))

    def __bool__(self) -> bool:
        return bool(self.uses.items or self.repetitions.items or self.shapes.items)

    def plus(self, other: "DatabaseWork") -> "DatabaseWork":
        """The work of both."""
        if not other:
            return self
        return DatabaseWork(
            self.uses.plus(other.uses.items.values()),
            self.repetitions.plus(other.repetitions.items.values()),
            self.shapes.plus(other.shapes.items.values()),
        )

    def as_record(self) -> dict[str, list[Any]]:
        """For JSON; `of_record` reads it."""
        kinds: dict[str, _Kept[Any]] = {"uses": self.uses, "repetitions": self.repetitions, "shapes": self.shapes}
        return {name: [item.as_record() for item in kept.items.values()] for name, kept in kinds.items() if kept.items}

    @classmethod
    def of_record(cls, record: Any) -> "DatabaseWork":
        """Read what `as_record` made; raises `ValueError`, `TypeError` and `AttributeError` for anything else."""

        def read(name: str, of_record: Callable[[Any], T]) -> list[T]:
            return [of_record(one) for one in record.get(name, ())]

        return cls.of(
            read("uses", CommandUse.of_record),
            read("repetitions", Repetition.of_record),
            read("shapes", QueryShape.of_record),
        )
