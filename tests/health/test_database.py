"""`DatabaseHealthChecker` with databases that hang, fail, or live on a loop that is blocked; real servers elsewhere."""

import asyncio
import gc
import inspect
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Gauge, InMemoryMetricReader
from pymongo import AsyncMongoClient, MongoClient, errors

from otel_monitoring import semconv as c
from otel_monitoring.alerts.store.mongodb.documents import MEASUREMENTS, REPORTS, SLICES, STATE
from otel_monitoring.health.database import DatabaseHealthChecker
from otel_monitoring.health.database_probe import CollectionFacts, CollectionsReading, ThreadTarget
from otel_monitoring.instrumentation.mongodb.server_state import ServerState
from tests.clocks import set_time
from tests.measured import metrics_of
from tests.waiting import eventually
from tests.wire import Document, wire_server

ADDRESS = ("db.example", 27017)
SOON = 0.3
WAIT = 20.0


class Collection:
    def __init__(self, documents: int) -> None:
        self.documents = documents

    def estimated_document_count(self) -> int:
        if self.documents < 0:
            raise PermissionError("not authorized, password=hunter2")
        return self.documents

    def index_information(self) -> dict[str, Any]:
        return {"_id_": {}, "email_1": {}}


class Database:
    """What the checker uses of a synchronous database."""

    name = "shop"

    def __init__(self, ping: Callable[[], object] = lambda: None, **collections: int) -> None:
        self.ping = ping
        self.collections = collections
        self.instrumented: set[bool] = set()

    def command(self, name: str) -> object:
        assert name == "ping"
        self.instrumented.add(is_instrumentation_enabled())
        return self.ping()

    def list_collections(self) -> "Database":
        self.instrumented.add(is_instrumentation_enabled())
        return self

    def to_list(self) -> list[dict[str, str]]:
        views = [{"name": "a_view", "type": "view"}, {"name": "system.views", "type": "collection"}]
        return [*views, *({"name": name, "type": "collection"} for name in self.collections)]

    def __getitem__(self, name: str) -> Collection:
        return Collection(self.collections[name])


class AsyncDatabase:
    name = "shop"

    def __init__(self, delay: float = 0.0, blocking: threading.Event | None = None) -> None:
        self.delay = delay
        self.blocking = blocking
        """Until it is set, something else blocks the loop once the database is asked."""
        self.loop: asyncio.AbstractEventLoop | None = None
        self.cancelled = threading.Event()

    async def command(self, name: str) -> None:
        self.loop = asyncio.get_running_loop()
        if self.blocking is not None:
            self.loop.call_soon(self.blocking.wait, WAIT)
        try:
            await asyncio.sleep(self.delay)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def list_collections(self) -> "AsyncDatabase":
        return self

    async def to_list(self) -> list[dict[str, str]]:
        return []


@contextmanager
def application_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop in a thread of its own, as an application's is to the background thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def end_tasks() -> None:
        """As a server does: a task that is destroyed while it waits is closed at any time, in any thread."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(end_tasks(), loop).result(WAIT)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WAIT)
        loop.close()


@contextmanager
def blocked(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Keep `loop` busy with something that blocks."""
    entered, leave = threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        leave.wait(WAIT)

    loop.call_soon_threadsafe(block)
    assert entered.wait(WAIT)
    try:
        yield
    finally:
        leave.set()


@pytest.mark.anyio
async def test_documented_answer() -> None:
    database = Database(users=150, orders=2500)
    checker = DatabaseHealthChecker(database)

    answer = await checker.check_health()

    assert answer["status"] == "healthy"
    assert isinstance(answer["response_time_ms"], float)
    assert answer["collections"] == {
        "orders": {"document_count": 2500, "indexes": ["_id_", "email_1"]},
        "users": {"document_count": 150, "indexes": ["_id_", "email_1"]},
    }
    assert answer["timestamp"].endswith("+00:00")
    assert answer.keys() == {"status", "response_time_ms", "collections", "timestamp", "age_seconds"}
    assert database.instrumented == {False}


@pytest.mark.anyio
@pytest.mark.parametrize(("seconds_ago", "known"), [(59.0, ("old_1",)), (61.0, ("_id_", "email_1"))])
async def test_names_of_indexes_are_read_once_a_minute(seconds_ago: float, known: tuple[str, ...]) -> None:
    before = {"users": CollectionFacts(1, ("old_1",), time.monotonic() - seconds_ago)}
    reading = CollectionsReading(10, 60.0, known=before)

    await ThreadTarget(Database(users=150, orders=2500)).read(reading, 60.0)

    found = {name: (facts.document_count, facts.indexes) for name, facts in reading.facts.items()}
    assert found == {"users": (150, known), "orders": (2500, ("_id_", "email_1"))}


@pytest.mark.anyio
async def test_the_next_reading_asks_for_counts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(users=1)
    checker = DatabaseHealthChecker(database)
    await checker.refresh_collections()
    monkeypatch.delattr(Collection, "index_information")
    database.collections = {"users": 2}

    await checker.refresh_collections()

    assert checker.as_json()["collections"] == {"users": {"document_count": 2, "indexes": ["_id_", "email_1"]}}
    assert "collections_error" not in checker.as_json()


@pytest.mark.anyio
@pytest.mark.parametrize(("took", "pause"), [(0.005, 10.0), (1.0, 30.0)])
async def test_collections_are_read_less_often_the_longer_that_takes(
    monkeypatch: pytest.MonkeyPatch, took: float, pause: float
) -> None:
    now = [time.monotonic()]
    checker = DatabaseHealthChecker(Database(users=1))
    assert checker.collections_due

    def counted(_: Collection) -> int:
        now[0] += took
        return 1

    set_time(monkeypatch, "otel_monitoring.health.database", monotonic=lambda: now[0])
    monkeypatch.setattr(Collection, "estimated_document_count", counted)

    await checker.refresh_collections()
    began = now[0]

    now[0] = began + pause - 0.01
    assert not checker.collections_due
    now[0] = began + pause + 0.01
    assert checker.collections_due


@pytest.mark.anyio
async def test_a_database_without_collections_is_read_again_at_once() -> None:
    checker = DatabaseHealthChecker(Database())

    await checker.refresh_collections()

    assert checker.collections_due


@pytest.mark.anyio
async def test_collections_that_could_not_be_read_are_read_again_at_once() -> None:
    checker = DatabaseHealthChecker(Database(users=-1))

    await checker.refresh_collections()

    assert checker.collections_due


@pytest.mark.anyio
async def test_without_a_database_nothing_is_known() -> None:
    checker = DatabaseHealthChecker(None)

    await checker.refresh_collections()
    answer = await checker.check_health()

    assert [answer["status"], answer["error"]] == ["unknown", "no database is configured"]


@pytest.mark.anyio
async def test_before_the_first_ping_nothing_is_known() -> None:
    answer = DatabaseHealthChecker(Database()).as_json()

    assert [answer["status"], answer["response_time_ms"], answer["age_seconds"]] == ["unknown", None, None]


@pytest.mark.anyio
async def test_a_failing_ping_is_unhealthy_and_its_text_redacted() -> None:
    def fail() -> None:
        raise ConnectionError("mongodb://root:hunter2@db:27017 refused")

    answer = await DatabaseHealthChecker(Database(fail)).check_health()

    assert answer["status"] == "unhealthy"
    assert answer["response_time_ms"] is None
    assert "ConnectionError" in answer["error"]
    assert "hunter2" not in answer["error"]


@pytest.mark.anyio
async def test_a_slow_answer_is_degraded() -> None:
    checker = DatabaseHealthChecker(Database(lambda: time.sleep(0.02)), slow_ms=10)

    assert await checker.ping() == "degraded"


@pytest.mark.anyio
async def test_a_hanging_database_delays_nobody_and_piles_nothing_up() -> None:
    release = threading.Event()
    calls: list[None] = []

    def hang() -> None:
        calls.append(None)
        release.wait(WAIT)

    checker = DatabaseHealthChecker(Database(hang), check_timeout=SOON)
    others = set(threading.enumerate())
    try:
        assert await checker.ping() == "unhealthy"
        assert checker.as_json()["error"] == "no answer within 0.3 s"
        assert set(await asyncio.gather(checker.ping(), checker.ping())) == {"unhealthy"}
        assert len(calls) == 1
        started = set(threading.enumerate()) - others
        stuck = [thread for thread in started if thread.name == "otel-monitoring-database-ping"]
        assert [thread.daemon for thread in stuck] == [True]
    finally:
        release.set()
    stuck[0].join(WAIT)

    assert await checker.ping() == "healthy"


@pytest.mark.slow
def test_a_stuck_thread_does_not_keep_the_process_alive() -> None:
    program = """
import asyncio, threading
from otel_monitoring.health import time_limit
from otel_monitoring.health.database import DatabaseHealthChecker
from otel_monitoring.health.database_probe import CollectionFacts, CollectionsReading, ThreadTarget
class Database:
    def command(self, name): threading.Event().wait()
print(asyncio.run(DatabaseHealthChecker(Database(), check_timeout=0.1).ping()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout == "unhealthy\n"
    assert done.stderr == ""


def test_an_async_handle_is_used_on_its_own_loop() -> None:
    database = AsyncDatabase()
    checker = DatabaseHealthChecker(database)
    with application_loop() as loop:
        checker.bind_loop(loop)

        answer = asyncio.run(checker.check_health())

        assert answer["status"] == "healthy"
        assert database.loop is loop


def test_an_async_handle_is_used_on_the_running_loop_in_a_route() -> None:
    database = AsyncDatabase()
    checker = DatabaseHealthChecker(database)

    async def route() -> str:
        checker.bind_loop(asyncio.get_running_loop())
        return await checker.ping()

    assert asyncio.run(route()) == "healthy"


def test_a_database_that_hangs_on_a_running_loop_is_unhealthy() -> None:
    database = AsyncDatabase(delay=WAIT)
    checker = DatabaseHealthChecker(database, check_timeout=SOON)
    with application_loop() as loop:
        checker.bind_loop(loop)

        while (status := asyncio.run(checker.ping())) == "unknown":
            pass  # on a busy machine the loop may have no turn in time
        assert status == "unhealthy"
        assert database.cancelled.wait(WAIT)


def test_a_blocked_loop_says_nothing_about_the_database() -> None:
    checker = DatabaseHealthChecker(AsyncDatabase(), check_timeout=SOON)
    with application_loop() as loop:
        checker.bind_loop(loop)
        eventually(lambda: asyncio.run(checker.ping()) == "healthy")
        before = checker._ping
        with blocked(loop):
            status = asyncio.run(checker.ping())
        answer = checker.as_json()

        assert status == answer["status"] == "unknown"
        assert answer["error"].startswith("the application's event loop")
        assert checker._ping is before
        assert answer["age_seconds"] >= SOON
        eventually(lambda: asyncio.run(checker.ping()) == "healthy")


def test_a_loop_blocked_in_mid_ping_says_nothing_about_the_database() -> None:
    release = threading.Event()
    database = AsyncDatabase(delay=0.01, blocking=release)
    checker = DatabaseHealthChecker(database, check_timeout=SOON)
    with application_loop() as loop:
        checker.bind_loop(loop)
        while database.loop is None:  # on a busy machine the loop may have no turn in time
            assert asyncio.run(checker.ping()) == "unknown"
        release.set()


@pytest.mark.anyio
async def test_delays_of_the_loop_are_not_the_databases() -> None:
    checker = DatabaseHealthChecker(AsyncDatabase(delay=0.01), check_timeout=0.2, slow_ms=150)
    ping = asyncio.create_task(checker.ping())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    time.sleep(0.5)  # noqa: ASYNC251 - what this test is about

    assert await ping == "healthy"


def test_a_loop_that_does_not_run_is_unknown() -> None:
    checker = DatabaseHealthChecker(AsyncDatabase())
    loop = asyncio.new_event_loop()
    checker.bind_loop(loop)

    assert asyncio.run(checker.ping()) == "unknown"
    loop.close()
    assert asyncio.run(checker.ping()) == "unknown"


@pytest.mark.anyio
async def test_a_lost_heartbeat_counts_at_once_and_a_later_ping_more() -> None:
    state = ServerState()
    checker = DatabaseHealthChecker(Database(), state=state)
    assert await checker.ping() == "healthy"

    state.lost(ADDRESS, "OSError: refused, token=abcdefgh")
    answer = checker.as_json()
    assert (answer["status"], answer["error"]) == ("unhealthy", "OSError: refused, token=[REDACTED]")

    state.heard(ADDRESS)
    assert checker.status == "healthy"


@pytest.mark.anyio
async def test_a_ping_settles_a_suspicion() -> None:
    state = ServerState()
    state.known([ADDRESS])
    state.suspect(ADDRESS)

    await DatabaseHealthChecker(Database(), state=state).ping()

    assert not state.suspected


@pytest.mark.anyio
async def test_collections_are_bounded_and_the_rest_is_said() -> None:
    checker = DatabaseHealthChecker(Database(a=1, b=2, c=3), max_collections=2)

    answer = await checker.check_health()

    assert list(answer["collections"]) == ["a", "b"]
    assert answer["collections_total"] == 3


@pytest.mark.anyio
async def test_a_collection_that_cannot_be_read_hides_no_other_and_keeps_its_value() -> None:
    database = Database(a=1, b=2)
    checker = DatabaseHealthChecker(database)
    await checker.check_health()

    database.collections = {"a": -1, "b": 3}
    await checker.refresh_collections()
    answer = checker.as_json()

    assert {name: facts["document_count"] for name, facts in answer["collections"].items()} == {"a": 1, "b": 3}
    assert answer["collections_error"] == "PermissionError: not authorized, password=[REDACTED]"
    assert answer["status"] == "healthy"

    database.collections = {"b": 4}
    await checker.refresh_collections()
    assert list(checker.as_json()["collections"]) == ["b"]
    assert "collections_error" not in checker.as_json()


@pytest.mark.anyio
async def test_the_collections_of_the_store_are_not_counted() -> None:
    """It may be in the application's database; of that, the answers and the metrics have what is the application's."""
    database = Database(orders=3)
    database.collections |= dict.fromkeys((STATE, REPORTS, MEASUREMENTS, SLICES), 7)
    checker = DatabaseHealthChecker(database, check_timeout=WAIT)
    await checker.refresh_collections()
    assert list(checker.as_json()["collections"]) == ["orders"]
    assert "collections_total" not in checker.as_json()


@pytest.mark.anyio
async def test_reading_collections_has_one_budget() -> None:
    release = threading.Event()

    class Slow(Database):
        def list_collections(self) -> Database:
            release.wait(WAIT)
            return self

    checker = DatabaseHealthChecker(Slow(a=1), check_timeout=SOON)
    try:
        await checker.refresh_collections()
        assert await checker.ping() == "healthy"
    finally:
        release.set()

    assert checker.as_json()["collections_error"] == "no answer within 0.3 s"


def gauges(reader: InMemoryMetricReader) -> dict[str, list[tuple[Any, dict[str, Any]]]]:
    return {
        metric.name: [(point.value, dict(point.attributes or {})) for point in cast("Gauge", metric.data).data_points]
        for metric in metrics_of(reader)
    }


@pytest.mark.anyio
async def test_gauges_read_what_is_known() -> None:
    reader = InMemoryMetricReader()
    state = ServerState()
    checker = DatabaseHealthChecker(Database(users=150), state=state)
    checker.observe_with(MeterProvider([reader]).get_meter("test"))
    assert gauges(reader) == {}

    await checker.check_health()
    read = gauges(reader)
    assert read[c.DATABASE_UP] == [(1, {"db.namespace": "shop"})]
    assert 0 < read[c.DATABASE_PING_DURATION][0][0] < WAIT
    assert read[c.COLLECTION_DOCUMENTS] == [(150, {"db.namespace": "shop", "db.collection.name": "users"})]

    state.lost(ADDRESS, "gone")
    assert gauges(reader)[c.DATABASE_UP] == [(0, {"db.namespace": "shop"})]


def test_an_outcome_that_nobody_waits_for_any_more_is_not_complained_about() -> None:
    asked, released = threading.Event(), threading.Event()
    complaints: list[dict[str, Any]] = []

    def fail() -> None:
        asked.set()
        released.wait(WAIT)
        raise ConnectionError("refused")

    async def stopped_while_it_pings() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        asking = asyncio.ensure_future(DatabaseHealthChecker(Database(fail)).ping())
        assert await asyncio.to_thread(asked.wait, WAIT)
        asking.cancel()
        await asyncio.wait({asking})
        released.set()
        for thread in threading.enumerate():
            if thread.name == "otel-monitoring-database-ping":
                await asyncio.to_thread(thread.join, WAIT)
        await asyncio.sleep(0)
        del asking
        gc.collect()

    asyncio.run(stopped_while_it_pings())
    gc.collect()
    assert complaints == []


NO_PRIMARY = 'No replica set members match selector "Primary()"'


class Raising(Database):
    """A database whose pings raise what they are told, one after the other; None: it answers."""

    def __init__(self, *outcomes: BaseException | None) -> None:
        self.outcomes = list(outcomes)
        super().__init__(self._next)

    def _next(self) -> None:
        outcome = self.outcomes.pop(0)
        if outcome is not None:
            raise outcome


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("error", "status", "problem"),
    [
        (errors.OperationFailure("Authentication failed.", 18), "degraded", "database answers with an error: "),
        (errors.NotPrimaryError("not primary"), "degraded", "database answers with an error: "),
        (errors.WaitQueueTimeoutError("Timed out"), "degraded", "database: no free connection within "),
        (errors.InvalidOperation("Cannot use MongoClient after close"), "unknown", None),
        (errors.ConfigurationError("The DNS query name does not exist"), "unknown", None),
        (SystemExit(1), "unknown", None),
        (asyncio.CancelledError(), "unknown", None),
        (StopIteration(), "unknown", None),
        (errors.AutoReconnect("connection refused"), "unhealthy", None),
    ],
)
async def test_down_is_what_was_asked_and_does_not_answer(
    error: BaseException, status: str, problem: str | None
) -> None:
    checker = DatabaseHealthChecker(Raising(error))
    assert await checker.ping() == status
    assert (checker.problem or "").startswith(problem or "")
    assert (checker.problem is None) is (problem is None)
    assert checker.as_json()["error"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ([errors.AutoReconnect("connection closed"), None], "healthy"),
        ([errors.NotPrimaryError("not primary"), None], "healthy"),
        ([errors.AutoReconnect("connection closed"), errors.AutoReconnect("connection refused")], "unhealthy"),
        ([errors.AutoReconnect("closed"), errors.ServerSelectionTimeoutError(NO_PRIMARY)], "degraded"),
        ([errors.AutoReconnect("closed"), errors.ServerSelectionTimeoutError("a:1: [Errno 111] refused")], "unhealthy"),
        ([errors.AutoReconnect("closed"), errors.InvalidOperation("Cannot use MongoClient after close")], "unhealthy"),
        ([errors.NetworkTimeout("timed out"), None], "unhealthy"),
    ],
)
async def test_a_connection_that_was_cut_is_no_evidence_before_another_was_tried(
    outcomes: list[BaseException | None], status: str
) -> None:
    assert await DatabaseHealthChecker(Raising(*outcomes)).ping() == status


@pytest.mark.anyio
@pytest.mark.parametrize("make", [MongoClient, AsyncMongoClient, AsyncIOMotorClient])
async def test_a_real_connection_that_is_cut_is_replaced(make: Any) -> None:
    cuts = [False]

    def answer(command: Document) -> Document:
        if "ping" in command and cuts[0]:
            cuts[0] = False
            raise EOFError
        return {"ok": 1}

    with wire_server(answer) as uri:
        client = make(uri)
        checker = DatabaseHealthChecker(client["shop"], slow_ms=60_000, check_timeout=60)
        assert await checker.ping() == "healthy"
        cuts[0] = True
        assert await checker.ping() == "healthy"
        assert not cuts[0], "it was cut"
        closed = client.close()
        if inspect.isawaitable(closed):
            await closed
        assert await checker.ping() == "unknown"


@pytest.mark.anyio
async def test_what_says_nothing_changes_nothing_about_what_was_known() -> None:
    state = ServerState()
    checker = DatabaseHealthChecker(
        Raising(errors.WaitQueueTimeoutError("busy"), errors.InvalidOperation("after close"), None), state=state
    )
    state.lost(ADDRESS, "refused")
    assert await checker.ping() == "unhealthy", "a ping without a connection asked no server"
    assert await checker.ping() == "unhealthy"
    assert await checker.ping() == "healthy"


@pytest.mark.anyio
async def test_frozen_it_stays_as_it_is_whatever_pings_and_heartbeats_say() -> None:
    state = ServerState()
    checker = DatabaseHealthChecker(Raising(None, ConnectionError("refused")), state=state)
    assert await checker.ping() == "healthy"
    checker.freeze()
    state.lost(ADDRESS, "refused")
    assert await checker.ping() == "healthy"
    assert checker.as_json()["status"] == "healthy"
    checker.begin()
    assert checker.status == "unhealthy"


@pytest.mark.anyio
async def test_a_ping_under_way_when_it_is_frozen_changes_nothing() -> None:
    asked, released = threading.Event(), threading.Event()

    def fail() -> None:
        asked.set()
        released.wait(WAIT)
        raise ConnectionError("closed by the application")

    checker = DatabaseHealthChecker(Database(fail))
    ping = asyncio.create_task(checker.ping())
    assert await asyncio.to_thread(asked.wait, WAIT)
    checker.freeze()
    released.set()
    assert await ping == "unknown"


@pytest.mark.anyio
async def test_a_ping_older_than_it_may_be_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = InMemoryMetricReader()
    checker = DatabaseHealthChecker(Database(users=1), max_age=60)
    checker.observe_with(MeterProvider([reader]).get_meter("test"))
    await checker.check_health()
    now = time.monotonic()
    assert checker.stale(now + 59) is None
    set_time(monkeypatch, "otel_monitoring.health.database", monotonic=lambda: now + 61)
    assert checker.as_json()["status"] == "unknown"
    assert checker.stale(now + 61) == "the database has not answered a check for 61 s"
    assert gauges(reader) == {}, "nobody knows whether it is up"


@pytest.mark.anyio
async def test_a_clock_that_is_set_changes_neither_age_nor_order(monkeypatch: pytest.MonkeyPatch) -> None:
    state = ServerState()
    checker = DatabaseHealthChecker(Database(), state=state, max_age=60)
    state.lost(ADDRESS, "refused")
    earlier = time.time() - 7200
    monkeypatch.setattr("otel_monitoring.health.database.time.time", lambda: earlier)
    assert await checker.ping() == "healthy", "the ping came after the lost heartbeat"
    monkeypatch.undo()
    assert 0 <= checker.as_json()["age_seconds"] < WAIT


def test_a_process_too_busy_to_hear_an_answer_knows_nothing() -> None:
    """The driver's own time limit passes while the process stands still: that is no sign of the database."""
    release = threading.Event()

    def late() -> None:
        release.wait(WAIT)
        raise errors.NetworkTimeout("timed out")

    async def stand_still() -> str:
        checker = DatabaseHealthChecker(Database(late), check_timeout=SOON)
        ping = asyncio.create_task(checker.ping())
        await asyncio.sleep(0.02)
        time.sleep(SOON)  # noqa: ASYNC251 - what this test is about
        release.set()
        return await ping

    assert asyncio.run(stand_still()) == "unknown"


class Rounds(Database):
    """Collections of which some hang until their time is over, as a driver's own limit would end them."""

    def __init__(self, names: str, hanging: str = "", refused: str = "") -> None:
        super().__init__()
        self.collections = dict.fromkeys(names, 1)
        self.hanging, self.refused = hanging, refused
        self.asked: list[str] = []

    def __getitem__(self, name: str) -> Collection:
        if name in self.refused:
            raise errors.InvalidName(f"{name} must not contain '$'")
        self.asked.append(name)
        return Hanging(1) if name in self.hanging else Collection(1)


class Hanging(Collection):
    def estimated_document_count(self) -> int:
        time.sleep(SOON / 5)
        raise errors.NetworkTimeout("timed out")


@pytest.mark.anyio
async def test_readings_go_on_where_they_stopped() -> None:
    database = Rounds("abcdefghijkl", hanging="abcdefgh")
    checker = DatabaseHealthChecker(database, check_timeout=SOON)
    for _ in range(50):  # one of them at the least is read each time, on the busiest machine
        await checker.refresh_collections()
        await settled(database)
        if set(checker.as_json().get("collections", ())) == set("ijkl"):
            break
    assert set(database.asked) == set("abcdefghijkl")
    assert set(checker.as_json()["collections"]) == set("ijkl")


async def settled(database: Rounds) -> None:
    """Wait for the thread that still reads, so that rounds do not overlap."""
    for thread in threading.enumerate():
        if thread.name == "otel-monitoring-database-collections":
            await asyncio.to_thread(thread.join, WAIT)


@pytest.mark.anyio
async def test_a_name_that_the_driver_refuses_ends_no_reading() -> None:
    checker = DatabaseHealthChecker(Rounds("abc", refused="a"))
    await checker.check_health()
    answer = checker.as_json()
    assert list(answer["collections"]) == ["b", "c"]
    assert answer["collections_failed"] == {"a": "InvalidName: a must not contain '$'"}


@pytest.mark.anyio
async def test_a_count_that_cannot_be_read_any_more_leaves() -> None:
    database = Database(a=1, b=2)
    checker = DatabaseHealthChecker(database)
    await checker.check_health()
    database.collections = {"a": -1, "b": 2}
    for _ in range(3):
        assert "a" in checker.as_json()["collections"]
        await checker.refresh_collections()
    assert list(checker.as_json()["collections"]) == ["b"]


@pytest.mark.anyio
async def test_nothing_is_kept_of_collections_that_are_gone() -> None:
    database = Database()
    checker = DatabaseHealthChecker(database)
    for number in range(5):
        database.collections = {f"import-{number}": -1}
        await checker.refresh_collections()
    assert list(checker._failures) == list(checker._failed_so_often) == ["import-4"]


@pytest.mark.anyio
async def test_counts_of_a_database_that_is_gone_leave_the_metrics() -> None:
    reader = InMemoryMetricReader()
    database = Raising(None, ConnectionError("refused"))
    database.collections = {"users": 150}
    checker = DatabaseHealthChecker(database)
    checker.observe_with(MeterProvider([reader]).get_meter("test"))
    await checker.check_health()
    assert c.COLLECTION_DOCUMENTS in gauges(reader)
    await checker.ping()
    assert set(gauges(reader)) == {c.DATABASE_UP}
