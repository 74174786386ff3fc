"""Pings a database, and reads document counts and index names, through the application's handle, with a time limit."""

import asyncio
import inspect
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from otel_monitoring import seams
from otel_monitoring.forks import renewed
from otel_monitoring.guard import as_exception, original
from otel_monitoring.health.database_handle import is_client
from otel_monitoring.health.time_limit import GRACE, NoAnswer, answered, on_loop, until
from otel_monitoring.instrumentation.mongodb.driver_errors import Proof, is_lost_connection, proof_of
from otel_monitoring.redact import redact_error
from otel_monitoring.runtime.suppression import suppress_instrumentation


class Ask(Protocol):
    """Runs one call of the driver: blocking calls in a thread, asynchronous ones on the application's loop."""

    async def __call__(self, call: Callable[[], Any], limit: float | None = None, /) -> Any:
        """The result of `call`; `limit` is its time limit in seconds, None: the time that the question has left."""


Question = Callable[[Ask], Coroutine[Any, Any, None]]
"""A sequence of driver calls, each run by the given `Ask`, for both kinds of handles."""

_SHARE_OF_ONE = 0.2
"""Share of a reading's time limit that one call may take."""
_INDEXES_SECONDS = 60.0
"""Names of indexes change with a release: they are read again after so long, which halves the commands of a reading."""


_OF_OTHERS = ("system.", "otel_monitoring_")
"""How the names begin of collections that are the server's, or of this package's store."""


class CollectionFacts(NamedTuple):
    """What was read of one collection.

    Attributes:
        document_count: Number of documents by the collection's metadata (`estimated_document_count`).
        indexes: Names of the indexes.
        indexes_at: When these were read, in seconds of the monotonic clock.
    """

    document_count: int
    indexes: tuple[str, ...]
    indexes_at: float


class CollectionsReading:
    """One reading of the collections; a failure keeps what was read before it.

    Args:
        limit: Maximum number of collections to read, in the order of their names.
        budget: Time limit of the whole reading, in seconds; one call may take a fifth of it.
        after: The collection name after which to begin: `last` of the previous reading.
        known: What was read before, by collection name: names of indexes are taken from there for a minute.

    Attributes:
        names: Sorted names of all collections; None until they are known.
        facts: What was read, by collection name.
        failures: The redacted error of each collection that could not be read, by name.
        last: The collection that was read last; the next reading continues after it.
    """

    def __init__(
        self, limit: int, budget: float, after: str = "", known: Mapping[str, CollectionFacts] = MappingProxyType({})
    ) -> None:
        self._limit = limit
        self._seconds = budget * _SHARE_OF_ONE
        self._known = known
        self.last = after
        self.names: list[str] | None = None
        self.facts: dict[str, CollectionFacts] = {}
        self.failures: dict[str, str] = {}

    async def fill(self, database: Any, ask: Ask) -> None:
        """Read the names, then count and indexes of each collection. Views and those of others are left out."""
        cursor = await ask(database.list_collections)
        found = await ask(cursor.to_list)
        self.names = sorted(
            info["name"] for info in found if info.get("type") != "view" and not info["name"].startswith(_OF_OTHERS)
        )
        wanted, before = self.names[: self._limit], self.last
        for name in [n for n in wanted if n > before] + [n for n in wanted if n <= before]:
            self.last = name
            try:
                collection = database[name]  # the driver rejects some names that the server accepts
                count = int(await ask(collection.estimated_document_count, self._seconds))
                known, now = self._known.get(name), time.monotonic()
                if known is not None and now - known.indexes_at < _INDEXES_SECONDS:
                    facts = CollectionFacts(count, known.indexes, known.indexes_at)
                else:
                    indexes = await ask(collection.index_information, self._seconds)
                    facts = CollectionFacts(count, tuple(indexes), now)
            except Exception as error:  # noqa: BLE001 - the other collections are read all the same
                self.failures[name] = redact_error(original(error))
            else:
                self.facts[name] = facts


class Explanation:
    """The server's answer to the question which plan it would choose.

    Args:
        namespace: The database.
        find: The `find` command.
        timeout: Time limit in seconds, which the server gets, too.

    Attributes:
        answer: The answer; None before.
    """

    def __init__(self, namespace: str, find: Mapping[str, Any], timeout: float) -> None:
        self._namespace = namespace
        self._command = {"explain": find, "verbosity": "queryPlanner", "maxTimeMS": max(1, int(timeout * 1000))}
        self.answer: Mapping[str, Any] | None = None

    async def ask(self, database: Any, ask: Ask) -> None:
        """Have the server plan; nothing is executed."""
        self.answer = await ask(partial(database.client[self._namespace].command, self._command))


async def _ping(database: Any, ask: Ask) -> None:
    """Ping, and ping again if the connection was cut: that may have happened while it was idle."""
    ping = partial(database.command, "ping")
    try:
        await ask(ping)
    except Exception as error:
        if not is_lost_connection(error):
            raise
        try:
            await ask(ping)
        except Exception as again:  # noqa: BLE001 - the error that proves more is raised
            raise (error if proof_of(again) is Proof.NOTHING else again) from None


class ThreadTarget:
    """A database whose driver calls block: each question runs in a daemon thread.

    There is one thread for each kind of question. While it hangs, further callers wait for its answer.

    Args:
        database: PyMongo's `Database`, or the one inside Motor's.

    Attributes:
        name: Name of the database.
        client: The database's client; None if it has no such attribute.
    """

    def __init__(self, database: Any) -> None:
        self._database = database
        self.name = str(getattr(database, "name", ""))
        self.client: Any = getattr(database, "client", None)
        self._lock = renewed(self, "_lock", threading.Lock)
        self._running: dict[str, Future[float]] = renewed(self, "_running", dict)

    async def ping(self, timeout: float) -> float:
        """Ping the database; returns the seconds of the round trip.

        Raises:
            NoAnswer: It took longer than `timeout` seconds.
            Exception: The driver raised it.
        """
        return await self._ask("ping", partial(_ping, self._database), timeout)

    async def read(self, reading: CollectionsReading, budget: float) -> None:
        """Fill `reading`, for at most `budget` seconds; raises as `ping` does."""
        await self._ask("collections", partial(reading.fill, self._database), budget)

    async def explain(self, explanation: Explanation, timeout: float) -> None:
        """Fill `explanation`, for at most `timeout` seconds; raises as `ping` does."""
        await self._ask("explain", partial(explanation.ask, self._database), timeout)

    async def _ask(self, kind: str, question: Question, timeout: float) -> float:
        future = asyncio.wrap_future(self._start(kind, question, timeout))
        # The caller may be cancelled, e.g. by a stop: asyncio would log an exception that nobody retrieves.
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
            future.set_running_or_notify_cancel()  # it can no longer be cancelled: it ends with its thread
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
                question(_blocking).send(None)  # the coroutine never waits: one step runs all of it
            future.set_result(time.perf_counter() - started)
    except BaseException as error:  # noqa: BLE001 - raised in the awaiting coroutine
        future.set_exception(as_exception(error))


def _driver_timeout(seconds: float | None) -> AbstractContextManager[object]:
    """PyMongo's time limit for calls in this thread, server selection included: it ends a hanging call."""
    pymongo = sys.modules.get("pymongo")
    return pymongo.timeout(seconds) if pymongo is not None and seconds is not None else nullcontext()


async def _blocking(call: Callable[[], Any], limit: float | None = None) -> Any:
    with _driver_timeout(limit):
        return call()


async def _awaiting(call: Callable[[], Any], limit: float | None = None) -> Any:
    return await asyncio.wait_for(call(), limit)


class LoopTarget:
    """A database whose driver calls are awaited: they run on the application's event loop, to which its client belongs.

    Args:
        database: PyMongo's `AsyncDatabase`, or any other whose methods are coroutine functions.

    Attributes:
        name: Name of the database.
        client: The database's client; None if it has no such attribute.
        loop: The application's loop; None: the calling loop is used.
    """

    def __init__(self, database: Any) -> None:
        self._database = database
        self.name = str(getattr(database, "name", ""))
        self.client: Any = getattr(database, "client", None)
        self.loop: asyncio.AbstractEventLoop | None = None

    async def ping(self, timeout: float) -> float:
        """Ping the database; returns the seconds of the round trip, without delays of the loop.

        Raises:
            NoAnswer: It took longer than `timeout` seconds.
            NotStarted: The loop does not run or was blocked: nothing is known about the database.
            Exception: The driver raised it.
        """
        return await self._ask(partial(_ping, self._database), timeout)

    async def read(self, reading: CollectionsReading, budget: float) -> None:
        """Fill `reading`, for at most `budget` seconds; raises as `ping` does."""
        await self._ask(partial(reading.fill, self._database), budget)

    async def explain(self, explanation: Explanation, timeout: float) -> None:
        """Fill `explanation`, for at most `timeout` seconds; raises as `ping` does."""
        await self._ask(partial(explanation.ask, self._database), timeout)

    async def _ask(self, question: Question, timeout: float) -> float:
        async def work() -> None:
            with suppress_instrumentation():
                await question(_awaiting)

        loop = self.loop or asyncio.get_running_loop()
        return (await on_loop(loop, work, timeout)).seconds


def is_closed(target: "ThreadTarget | LoopTarget") -> bool:
    """Whether the application has closed the client, by PyMongo's private state: its errors then prove nothing."""
    client = target.client
    return _is_pymongo(client) and seams.MONGO_CLOSED.get(lambda: client._closed is True, False)  # noqa: SLF001


def _is_pymongo(client: object) -> bool:
    """Whether the class of `client` is PyMongo's own, so that it has the private attributes read here."""
    return type(client).__module__.startswith("pymongo.")


def is_exhausted(target: "ThreadTarget | LoopTarget") -> bool:
    """Whether one of the client's pools has all its connections in use, by PyMongo's private state."""
    client = target.client
    if not _is_pymongo(client):
        return False
    with seams.MONGO_POOL:
        servers = tuple(client._topology._servers.values())  # noqa: SLF001
        return any(server.pool.requests >= server.pool.max_pool_size for server in servers)
    return False


def target_of(handle: object) -> ThreadTarget | LoopTarget:
    """How to call the database of `handle`, which is a database, or a client (for its default database).

    Motor runs PyMongo's synchronous client in threads: that client, its `delegate`, is used directly.
    """
    inner: Any = getattr(handle, "__dict__", {}).get("delegate", handle)
    if is_client(inner):
        inner = inner.get_default_database("admin")
    if inspect.iscoroutinefunction(getattr(type(inner), "command", None)):
        return LoopTarget(inner)
    return ThreadTarget(inner)
