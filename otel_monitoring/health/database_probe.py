"""Ping, document counts and index names of a database, through the user's own handle and within a time limit."""

import asyncio
import inspect
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from opentelemetry.instrumentation.utils import suppress_instrumentation

from otel_monitoring import seams
from otel_monitoring.forks import renewed
from otel_monitoring.guard import as_exception, original
from otel_monitoring.health.database_handle import is_client
from otel_monitoring.health.time_limit import GRACE, NoAnswer, answered, on_loop, until
from otel_monitoring.instrumentation.mongodb.evidence import Proof, is_cut, proof_of
from otel_monitoring.redact import redact_error


class Ask(Protocol):
    """Makes one call of the driver: in a thread for a handle that blocks, on the loop for one that is awaited."""

    async def __call__(self, call: Callable[[], Any], limit: float | None = None, /) -> Any:
        """The result of `call`, which may take `limit` seconds; None: what is left of the question's time."""


Question = Callable[[Ask], Coroutine[Any, Any, None]]
"""Calls to make one after the other, the same for both kinds of handles."""

_SHARE_OF_ONE = 0.2
"""Share of the reading's time that one call about one collection may take."""


@dataclass(frozen=True, slots=True)
class CollectionFacts:
    """One collection.

    Attributes:
        document_count: Number of documents, from its metadata (`estimated_document_count`).
        indexes: Names of its indexes.
    """

    document_count: int
    indexes: tuple[str, ...]


class CollectionsReading:
    """One reading of the collections; what was read before a failure stays.

    Args:
        limit: How many collections to read, by name.
        budget: Seconds for all; one call may take a fifth of it.
        after: The name after which to begin: `last` of the reading before.

    Attributes:
        names: Of all collections, sorted; None while they are not known.
        facts: Count and indexes by name.
        failures: Why a collection could not be read, redacted, by its name.
        last: The name that was tried last; the next reading goes on after it.
    """

    def __init__(self, limit: int, budget: float, after: str = "") -> None:
        self._limit = limit
        self._seconds = budget * _SHARE_OF_ONE
        self.last = after
        self.names: list[str] | None = None
        self.facts: dict[str, CollectionFacts] = {}
        self.failures: dict[str, str] = {}

    async def fill(self, database: Any, ask: Ask) -> None:
        """Ask for the names, then each collection for its count and indexes. Views and `system.*` are left out."""
        cursor = await ask(database.list_collections)
        found = await ask(cursor.to_list)
        self.names = sorted(
            info["name"] for info in found if info.get("type") != "view" and not info["name"].startswith("system.")
        )
        wanted, before = self.names[: self._limit], self.last
        for name in [n for n in wanted if n > before] + [n for n in wanted if n <= before]:
            self.last = name
            try:
                collection = database[name]  # the driver refuses names that the server takes
                count = await ask(collection.estimated_document_count, self._seconds)
                indexes = await ask(collection.index_information, self._seconds)
            except Exception as error:  # noqa: BLE001 - one that may not be read must not hide the others
                self.failures[name] = redact_error(original(error))
            else:
                self.facts[name] = CollectionFacts(int(count), tuple(indexes))


async def _ping(database: Any, ask: Ask) -> None:
    """Ping, and once more where the connection was cut: it may have been cut while it lay idle."""
    ping = partial(database.command, "ping")
    try:
        await ask(ping)
    except Exception as error:
        if not is_cut(error):
            raise
        try:
            await ask(ping)
        except Exception as again:  # noqa: BLE001 - one of the two is raised
            raise (error if proof_of(again) is Proof.NOTHING else again) from None


class ThreadTarget:
    """A handle whose calls block: each question runs in a daemon thread.

    There is one thread a kind of question: while it is stuck, the next caller waits for the same answer.

    Args:
        database: PyMongo's `Database`, or the one inside of Motor's.

    Attributes:
        name: Of the database.
        client: Its client, where it says so.
    """

    def __init__(self, database: Any) -> None:
        self._database = database
        self.name = str(getattr(database, "name", ""))
        self.client: Any = getattr(database, "client", None)
        self._lock = renewed(self, "_lock", threading.Lock)
        self._running: dict[str, Future[float]] = renewed(self, "_running", dict)

    async def ping(self, timeout: float) -> float:
        """Seconds that a round trip took.

        Raises:
            NoAnswer: It took longer than `timeout` seconds. Also whatever the driver raises.
        """
        return await self._ask("ping", partial(_ping, self._database), timeout)

    async def read(self, reading: CollectionsReading, budget: float) -> None:
        """Fill `reading` for at most `budget` seconds. Raises as `ping` does."""
        await self._ask("collections", partial(reading.fill, self._database), budget)

    async def _ask(self, kind: str, question: Question, timeout: float) -> float:
        future = asyncio.wrap_future(self._start(kind, question, timeout))
        # Whoever asks may be cancelled, as at a stop: then nobody else takes the outcome, and asyncio would log that.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            delayed = await until(future, timeout + GRACE)
        except NoAnswer:
            future.cancel()
            raise NoAnswer(f"no answer within {timeout:g} s") from None
        return answered(future, delayed, timeout)

    def _start(self, kind: str, question: Question, timeout: float) -> "Future[float]":
        with self._lock:
            running = self._running.get(kind)
            if running is not None and not running.done():
                return running
            future: Future[float] = Future()
            future.set_running_or_notify_cancel()  # from here on nobody can cancel it: it ends when the thread does
            self._running[kind] = future
        threading.Thread(
            target=_run, args=(future, question, timeout), name=f"otel-monitoring-database-{kind}", daemon=True
        ).start()
        return future


def _run(future: "Future[float]", question: Question, timeout: float) -> None:
    try:
        with suppress_instrumentation(), _driver_timeout(timeout):
            started = time.perf_counter()
            with suppress(StopIteration):
                question(_blocking).send(None)  # it waits for nothing: one step is all there is
            future.set_result(time.perf_counter() - started)
    except BaseException as error:  # noqa: BLE001 - handed to whoever awaits
        future.set_exception(as_exception(error))


def _driver_timeout(seconds: float | None) -> AbstractContextManager[object]:
    """PyMongo's own time limit for the calls of this thread, server selection included: it frees the thread."""
    pymongo = sys.modules.get("pymongo")
    return pymongo.timeout(seconds) if pymongo is not None and seconds is not None else nullcontext()


async def _blocking(call: Callable[[], Any], limit: float | None = None) -> Any:
    with _driver_timeout(limit):
        return call()


async def _awaiting(call: Callable[[], Any], limit: float | None = None) -> Any:
    return await asyncio.wait_for(call(), limit)


class LoopTarget:
    """A handle whose calls are awaited: they run on the application's event loop, where its client lives.

    Args:
        database: PyMongo's `AsyncDatabase`, or any other whose methods are coroutine functions.

    Attributes:
        name: Of the database.
        client: Its client, where it says so.
        loop: The application's loop; None: whichever loop asks.
    """

    def __init__(self, database: Any) -> None:
        self._database = database
        self.name = str(getattr(database, "name", ""))
        self.client: Any = getattr(database, "client", None)
        self.loop: asyncio.AbstractEventLoop | None = None

    async def ping(self, timeout: float) -> float:
        """Seconds that a round trip took, without the delays of the loop.

        Raises:
            NoAnswer: It took longer than `timeout` seconds. Also whatever the driver raises.
            NotStarted: The loop does not run, or was blocked: nothing is known about the database.
        """
        return await self._ask(partial(_ping, self._database), timeout)

    async def read(self, reading: CollectionsReading, budget: float) -> None:
        """Fill `reading` for at most `budget` seconds. Raises as `ping` does."""
        await self._ask(partial(reading.fill, self._database), budget)

    async def _ask(self, question: Question, timeout: float) -> float:
        async def work() -> None:
            with suppress_instrumentation():
                await question(_awaiting)

        loop = self.loop or asyncio.get_running_loop()
        return (await on_loop(loop, work, timeout)).seconds


def unusable(target: "ThreadTarget | LoopTarget") -> bool:
    """Whether the application has closed the client, as far as the driver tells: its errors then say nothing."""
    client = target.client
    return _is_pymongo(client) and seams.MONGO_CLOSED.get(lambda: client._closed is True, False)  # noqa: SLF001


def _is_pymongo(client: object) -> bool:
    """Whether it is PyMongo's own class: only that has the attributes read here."""
    return type(client).__module__.startswith("pymongo.")


def exhausted(target: "ThreadTarget | LoopTarget") -> bool:
    """Whether every connection of one of the client's pools is in use, as far as the driver tells."""
    client = target.client
    if not _is_pymongo(client):
        return False
    with seams.MONGO_POOL:
        servers = tuple(client._topology._servers.values())  # noqa: SLF001
        return any(server.pool.requests >= server.pool.max_pool_size for server in servers)
    return False


def target_of(handle: object) -> ThreadTarget | LoopTarget:
    """How to ask the database behind `handle`: a database, or a client, whose default database is meant.

    Motor runs PyMongo's synchronous client in threads: it is asked through that client, its `delegate`.
    """
    inner: Any = getattr(handle, "__dict__", {}).get("delegate", handle)
    if is_client(inner):
        inner = inner.get_default_database("admin")
    if inspect.iscoroutinefunction(getattr(type(inner), "command", None)):
        return LoopTarget(inner)
    return ThreadTarget(inner)
