"""`Work`: what one request, or one run of an operation, does with the database."""

import asyncio
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from threading import get_ident
from time import perf_counter
from typing import Any, Final, Protocol, TypeAlias

from opentelemetry.context import Context, create_key

from otel_monitoring.instrumentation.database_work.caller import caller_line, waiting_stacks
from otel_monitoring.instrumentation.database_work.shape import shape_of
from otel_monitoring.metrics.database_work import BACKGROUND, Source

REPEATED: Final = 10
"""The same command of one shape so often in one request is a repetition."""
_MAX_USES: Final = 100
_MAX_SHAPES: Final = 50

Address: TypeAlias = tuple[str, int | None]
Kind: TypeAlias = tuple[str, str, str | None, Address | None]
"""Operation, database, collection, server."""
_OTHER: Final[Kind] = "_OTHER", "_OTHER", None, None
_MAX_NOTED: Final = 20


class Use:
    """The commands of one operation on one collection in one `Work`.

    Attributes:
        commands: How many were sent.
        micros: How long those took that have ended, in microseconds.
        retries: How many of them the driver had sent before.
        first: The use of another server, from which on repetitions count; None: this one. A loop may ask several.
        repeated: By shape, how often it was sent, and the line that sends it; nothing that was sent fewer than ten
            times.
        noted: The commands that were slow, or whose plan is wanted: microseconds, and what their shape is made of.
    """

    __slots__ = (
        "_earlier",
        "_kind",
        "_repeats",
        "_shapes",
        "commands",
        "first",
        "micros",
        "noted",
        "repeated",
        "retries",
        "work",
    )

    def __init__(self, work: "Work", kind: Kind, first: "Use | None" = None) -> None:
        self.work = work
        self.first = first
        self._kind = kind
        self.commands = self.micros = self.retries = 0
        self._repeats = 0
        self._earlier: list[Mapping[str, Any]] = []
        self._shapes: dict[str, int] = {}
        self.repeated: dict[str, list[Any]] | None = None
        self.noted: list[tuple[int, Mapping[str, Any]]] | None = None

    def repeats(self, operation: str, source: Mapping[str, Any]) -> None:
        """Another command that a loop may send one by one; shapes are made from the tenth on."""
        self._repeats = count = self._repeats + 1
        if count < REPEATED:
            self._earlier.append(source)
            return
        for one in self._earlier:
            self._count(shape_of(operation, one))
        self._earlier.clear()
        self._count(shape_of(operation, source))

    def _count(self, shape: str) -> None:
        shapes = self._shapes
        known = shapes.get(shape, 0) + 1
        if known == 1 and len(shapes) >= _MAX_SHAPES:
            return
        shapes[shape] = known
        if known >= REPEATED:
            repeated = self.repeated
            if repeated is None:
                repeated = self.repeated = {}
            found = repeated.get(shape)
            if found is None:
                repeated[shape] = [known, self.work.line()]
            else:
                found[0] = known

    def ended(self, micros: int, source: Mapping[str, Any] | None) -> None:
        """One of the commands has ended.

        Args:
            micros: How long it took, in microseconds.
            source: What its shape is made of.
        """
        self.micros += micros
        work = self.work
        if source is not None and (
            micros >= work.slow_micros or (work.explain and work.receiver.wants(self._kind, source))
        ):
            self._note(micros, source)
        work.active = active = work.active - 1
        if active <= 0:
            work.active = 0
            work.busy += perf_counter() - work.began

    def _note(self, micros: int, source: Mapping[str, Any]) -> None:
        noted = self.noted
        if noted is None:
            noted = self.noted = []
        if len(noted) < _MAX_NOTED:
            noted.append((micros, source))


class Receiver(Protocol):
    """Receives what was done.

    Attributes:
        slow_micros: From how many microseconds on a command is slow.
        explain: Whether plans are wanted.
    """

    slow_micros: int
    explain: bool

    def wants(self, kind: Kind, source: Mapping[str, Any]) -> bool:
        """Whether the plan of a command is wanted."""

    def add(self, source: Source, uses: Mapping[Kind, Use]) -> None:
        """Add what a request, its background tasks, or an operation has done."""


class Work:
    """The commands of one request, or of one run of an operation, and the time in which one of them was under way.

    Tasks and threads that are started there use it, too. Its figures are bounded; a command costs a look-up and two
    readings of the clock, and shapes are made only of what is sent often.

    Args:
        receiver: Receives what was done.

    Attributes:
        busy: Seconds in which at least one command was under way.
        began: When the first of the present commands was sent, by `perf_counter`.
        active: How many commands are under way.
        closed: Whether nothing counts any more.
        receiver: Receives what was done.
        slow_micros: As of the receiver.
        explain: As of the receiver.
    """

    __slots__ = (
        *(
            "_batched",
            "_entered",
            "_name",
            "_request",
            "_task",
            "_thread",
            "_uses",
            "active",
            "began",
            "busy",
            "closed",
            "explain",
            "receiver",
            "slow_micros",
        ),
    )

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.slow_micros, self.explain = receiver.slow_micros, receiver.explain
        self.closed = False
        self.active = 0
        self.busy = self.began = 0.0
        self._uses: dict[Kind, Use] = {}
        self._name = ""
        self._request = 0
        self._batched: int | None = None
        self._task = self._entered = _current_task()
        self._thread = get_ident()

    def reached(self) -> None:
        """The request has reached the application's routes: middleware may have it handled in another task."""
        self._task = _current_task()

    def begin(
        self, kind: Kind, source: Mapping[str, Any] | None, request: int = 0, batch: int | None = None
    ) -> Use | None:
        """A command was sent; None: it does not count.

        Args:
            kind: Its operation, database, collection and server.
            source: What its shape is made of; None: no loop sends it one by one.
            request: The number of its request; 0: it has none. A client may have the listeners of two services.
            batch: The id of the operation that it is a batch of; None: it is none. The driver splits large ones.
        """
        if self.closed or (request and request == self._request):
            return None
        self._request = request
        if batch is not None:
            if batch == self._batched:
                source = None
            self._batched = batch
        uses = self._uses
        use = uses.get(kind)
        if use is None:
            if len(uses) >= _MAX_USES:
                kind, source = _OTHER, None
            use = uses.setdefault(kind, Use(self, kind, self._of_another_server(kind)))
        use.commands += 1
        if not self.active:
            self.began = perf_counter()
        self.active += 1
        if source is not None:
            (use.first or use).repeats(kind[0], source)
        return use

    def _of_another_server(self, kind: Kind) -> Use | None:
        found = next((use for of, use in list(self._uses.items()) if of[:3] == kind[:3]), None)
        return found and (found.first or found)

    @property
    def commands(self) -> int:
        """How many commands were sent."""
        return sum(use.commands for use in self._uses.values()) if self._uses else 0

    @property
    def seconds(self) -> float:
        """How long at least one command was under way, until now."""
        return self.busy + (perf_counter() - self.began if self.active else 0.0)

    @property
    def retries(self) -> int:
        """How many commands the driver had sent before."""
        return sum(use.retries for use in self._uses.values())

    def repeated(self) -> list[tuple[Kind, str, int, str]]:
        """What was sent again and again: the kind, the shape, how often, and the line that sends it."""
        return [
            (kind, shape, count, line)
            for kind, use in self._uses.items()
            if use.repeated is not None
            for shape, (count, line) in use.repeated.items()
        ]

    def answered(self, kind: str, name: str) -> None:
        """The request was answered, or the operation has ended: what follows is its background work.

        Args:
            kind: As of `CommandUse`.
            name: `GET /route`, or the operation's name.
        """
        uses, self._uses = self._uses, {}
        self._name, self.active, self.busy = name, 0, 0.0
        if uses:
            self.receiver.add((kind, name), uses)

    def close(self) -> None:
        """Nothing counts any more."""
        self.closed, self._task, self._entered = True, None, None
        uses, self._uses = self._uses, {}
        if uses:
            self.receiver.add((BACKGROUND, self._name), uses)

    def line(self) -> str:
        """The application's line that is running, or that waits for what is running."""
        frame = sys._getframe(1)  # noqa: SLF001 - documented
        return caller_line(frame, waiting_stacks(self._entered, self._task, self._thread, current_work, self))


def _current_task() -> "asyncio.Task[Any] | None":
    loop = asyncio._get_running_loop()  # noqa: SLF001 - exported by asyncio
    return asyncio.current_task(loop) if loop is not None else None


current_work: ContextVar[Work | None] = ContextVar("otel_monitoring_database_work", default=None)
"""The work of the current request."""
WORK: Final = create_key("otel_monitoring.database_work")
"""The key of work in OpenTelemetry's context: of operations, which can be left in any thread or task, and of requests
where there are spans."""


def open_work(context: Context) -> Work | None:
    """The work that a command belongs to: that of the request, else that of the operation; None: of neither.

    Args:
        context: The current context of OpenTelemetry.
    """
    work = current_work.get()
    if work is not None and not work.closed:
        return work
    found = context.get(WORK) if context else None
    return found if isinstance(found, Work) and not found.closed else None
