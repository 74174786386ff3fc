"""`WorkRecorder`: what requests and operations of this process did with the database since it was last taken."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from opentelemetry.context import Context

from otel_monitoring.forks import renewed
from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.database_work.metrics import WorkMetrics
from otel_monitoring.instrumentation.database_work.shape import filter_of, reads_few, shape_of
from otel_monitoring.instrumentation.database_work.work import Kind, Use, Work
from otel_monitoring.metrics.cardinality import BoundedNames
from otel_monitoring.metrics.database_work import (
    OPERATION,
    REQUEST,
    SOURCES_LIMIT,
    USES_LIMIT,
    CommandUse,
    DatabaseWork,
    Plan,
    QueryShape,
    Repetition,
    Source,
)
from otel_monitoring.redact import redact_name
from otel_monitoring.semconv import UNMATCHED_ROUTE

_MAX_FOUND: Final = 500
_MAX_ASKED: Final = 50
_MAX_KNOWN: Final = 2000
_MAX_OPERATIONS: Final = 200
_guard: Final = fail_open("the database work of requests")
EXPLAINED: Final = frozenset(("find", "aggregate", "count", "distinct", "findAndModify", "update", "delete"))

ShapeKey = tuple[str, str, str, str]
RepetitionKey = tuple[Source, str, str | None, str]


class Asked(NamedTuple):
    """A command whose plan is wanted. It has the values, which leave the process only for the database itself.

    Attributes:
        key: Database, operation, collection and shape.
        source: Its filter or pipeline.
        address: The server that answered it.
    """

    key: ShapeKey
    source: Mapping[str, Any]
    address: tuple[str, int | None] | None


class _Found:
    """A shape that was slow, or is to be explained."""

    __slots__ = ("first", "last", "micros", "slow", "slowest", "sources")

    def __init__(self, now: float) -> None:
        self.first = self.last = now
        self.slow = self.micros = self.slowest = 0
        self.sources: list[Source] = []


class _Repeated:
    """A shape that was repeated."""

    __slots__ = ("caller", "commands", "first", "last", "most", "requests")

    def __init__(self, now: float) -> None:
        self.first = self.last = now
        self.requests = self.commands = self.most = 0
        self.caller = ""


class WorkRecorder:
    """Adds up what requests and operations did; usable in any thread.

    Args:
        metrics: The histograms of requests and operations.
        slow_ms: From how many milliseconds on a command is slow.
        explain: Whether plans are wanted.
        clock: Returns Unix time in seconds, as all processes of the service have it.

    Attributes:
        slow_micros: From how many microseconds on a command is slow.
        explain: Whether plans are wanted.
        clock: As given.
    """

    def __init__(
        self,
        metrics: WorkMetrics,
        slow_ms: float = 100.0,
        *,
        explain: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._metrics = metrics
        self._operations = BoundedNames(_MAX_OPERATIONS)
        self.slow_micros = int(slow_ms * 1000)
        self.explain = explain
        self.clock = clock
        self._lock = renewed(self, "_lock", threading.Lock)
        self._uses: dict[tuple[Source, str, str | None], list[int]] = renewed(self, "_uses", dict)
        self._repeated: dict[RepetitionKey, _Repeated] = renewed(self, "_repeated", dict)
        self._found: dict[ShapeKey, _Found] = renewed(self, "_found", dict)
        self._asked: dict[ShapeKey, Asked] = renewed(self, "_asked", dict)
        self._known: set[tuple[Any, ...]] = renewed(self, "_known", set)
        self._asked_before: set[ShapeKey] = renewed(self, "_asked_before", set)
        self._plans: dict[ShapeKey, Plan] = renewed(self, "_plans", dict)

    def begin(self) -> Work:
        """The work of a request, or of a run of an operation, that begins."""
        return Work(self)

    def answered(self, work: Work, method: str, route: str | None, context: Context | None = None) -> None:
        """A request was answered.

        Args:
            work: What it did.
            method: Its method.
            route: Its route; None: its path matched none.
            context: Has its span.
        """
        try:
            commands = work.commands
            if commands:
                self._metrics.request(method, route, commands, work.seconds, context)
            work.answered(REQUEST, f"{method} {route or UNMATCHED_ROUTE}")
        except Exception as error:  # noqa: BLE001
            _guard.caught(error)

    def ended(self, work: Work, name: str) -> None:
        """A run of the operation `name` has ended."""
        with _guard:
            self._ended(work, name)

    def _ended(self, work: Work, name: str) -> None:
        commands = work.commands
        if commands:
            name = self._operations(name)
            self._metrics.operation(name, commands, work.seconds)
            work.answered(OPERATION, name)
        work.close()

    def add(self, source: Source, uses: Mapping[Kind, Use]) -> None:
        """Add what a request, its background tasks, or a run of an operation has done."""
        with self._lock:
            known = self._uses
            for kind, use in uses.items():
                operation, _, collection, _ = kind
                key = source, operation, collection
                counts = known.get(key)
                if counts is None:
                    if len(known) >= USES_LIMIT:
                        continue
                    counts = known[key] = [0, 0, 0]
                counts[0] += use.commands
                counts[1] += use.micros
                counts[2] += use.retries
                if use.noted is not None:
                    for micros, of in use.noted:
                        self._note(source, kind, micros, of)
                if use.repeated is not None:
                    for shape, (count, line) in use.repeated.items():
                        self._repeat((source, operation, collection, shape), count, line)

    def _repeat(self, key: RepetitionKey, count: int, line: str) -> None:
        found = self._repeated.get(key)
        if found is None:
            if len(self._repeated) >= _MAX_FOUND:
                return
            found = self._repeated[key] = _Repeated(self.clock())
        found.requests += 1
        found.commands += count
        found.most = max(found.most, count)
        found.last = self.clock()
        found.caller = line or found.caller

    def _note(self, source: Source, kind: Kind, micros: int, of: Mapping[str, Any]) -> None:
        operation, namespace, collection, address = kind
        key = namespace, operation, collection or "", shape_of(operation, of)
        found, now = self._found.get(key), self.clock()
        if found is None:
            if len(self._found) >= _MAX_FOUND:
                return
            found = self._found[key] = _Found(now)
        found.last = now
        if micros >= self.slow_micros:
            found.slow += 1
            found.micros += micros
        found.slowest = max(found.slowest, micros)
        if source not in found.sources and len(found.sources) < SOURCES_LIMIT:
            found.sources.append(source)
        if self.explain and operation in EXPLAINED:
            self._ask(Asked(key, of, address))

    def _ask(self, asked: Asked) -> None:
        before = self._asked_before
        if asked.key not in before and len(before) < _MAX_KNOWN and len(self._asked) < _MAX_ASKED:
            before.add(asked.key)
            self._asked[asked.key] = asked

    def wants(self, kind: Kind, source: Mapping[str, Any]) -> bool:
        """Whether no plan of a command with these keys was wanted before."""
        if kind[0] not in EXPLAINED or reads_few(kind[0], source):
            return False
        paths = source.get("pipeline") or filter_of(source)
        if isinstance(paths, list):
            paths = paths[0].get("$match") if paths and isinstance(paths[0], Mapping) else None
        names = (tuple(one) if isinstance(one, Mapping) else () for one in (paths, source.get("sort")))
        key = (*kind[:3], *names)
        known = self._known
        if key in known or len(known) >= _MAX_KNOWN:
            return False
        known.add(key)
        return True

    def ask_again(self) -> None:
        """Forget which plans are known: the server may have chosen others since."""
        with self._lock:
            self._known.clear()
            self._asked_before.clear()

    def asked(self) -> Asked | None:
        """A command whose plan is wanted; None: there is none."""
        with self._lock:
            return self._asked.pop(next(iter(self._asked)), None) if self._asked else None

    def ask_later(self, key: ShapeKey) -> None:
        """The plan of a shape is wanted when it is seen again."""
        with self._lock:
            self._asked_before.discard(key)

    def explained(self, key: ShapeKey, plan: Plan) -> None:
        """The plan of a shape is known."""
        with self._lock:
            self._plans[key] = plan

    def take(self) -> DatabaseWork:
        """What was added since the last call."""
        with self._lock:
            uses, self._uses = self._uses, {}
            repeated, self._repeated = self._repeated, {}
            found, self._found = self._found, {}
            plans, self._plans = self._plans, {}
        if not (uses or repeated or found or plans):
            return DatabaseWork()
        now = self.clock()
        return DatabaseWork.of(
            [
                CommandUse(kind, _shown(name), operation, _shown(collection), commands, micros / 1e6, retries)
                for ((kind, name), operation, collection), (commands, micros, retries) in uses.items()
            ],
            [_repetition(key, one) for key, one in repeated.items()],
            [
                *(_shape(key, one) for key, one in found.items()),
                *(_shape(key, _Found(now), plan) for key, plan in plans.items()),
            ],
        )


def _repetition(key: RepetitionKey, one: _Repeated) -> Repetition:
    (kind, name), operation, collection, shape = key
    return Repetition(
        kind=kind,
        name=_shown(name),
        operation=operation,
        collection=_shown(collection),
        shape=shape,
        requests=one.requests,
        commands=one.commands,
        most=one.most,
        first=one.first,
        last=one.last,
        caller=_shown(one.caller),
    )


def _shape(key: ShapeKey, one: _Found, plan: Plan | None = None) -> QueryShape:
    namespace, operation, collection, shape = key
    return QueryShape(
        namespace=_shown(namespace),
        operation=operation,
        collection=_shown(collection),
        shape=shape,
        slow=one.slow,
        seconds=one.micros / 1e6,
        slowest=one.slowest / 1e6,
        first=one.first,
        last=one.last,
        sources=tuple((kind, _shown(name)) for kind, name in one.sources),
        plan=plan,
    )


def _shown(text: str | None) -> str:
    return redact_name(text) if text else ""
