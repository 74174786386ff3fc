"""The MongoDB instrumentation and health check against real servers and all three kinds of client."""

import asyncio
import inspect
import threading
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pymongo
import pytest
from pymongo import AsyncMongoClient, InsertOne, MongoClient
from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError

from otel_monitoring import semconv as c
from otel_monitoring.health.database import DatabaseHealthChecker
from tests.conftest import unavailable
from tests.integration import servers
from tests.integration.servers import Server
from tests.mongodb_telemetry import Telemetry, telemetry
from tests.waiting import eventually_here

__all__ = ["telemetry"]

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

KINDS = ["sync", "async", "motor"]

# Before it was declared stable in PyMongo 4.13, AsyncMongoClient waited for the first answer on a new connection with
# a blocking select() on the event loop.
BLOCKING_ASYNC_CLIENT = pytest.mark.skipif(
    pymongo.version_tuple < (4, 13), reason="this PyMongo's AsyncMongoClient blocks its event loop while it connects"
)
WAIT = 30.0
OPTIONS: dict[str, Any] = {"serverSelectionTimeoutMS": 2000, "heartbeatFrequencyMS": 500}


@pytest.fixture(scope="module", params=["nx27017", "ferretdb"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with getattr(servers, request.param)() as running:
        yield running


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server that a test may kill or freeze."""
    with servers.nx27017() as running:
        yield running


async def done(result: Any) -> Any:
    """The result of a call to any kind of client."""
    return await result if inspect.isawaitable(result) else result


@asynccontextmanager
async def database(kind: str, server: Server, **options: Any) -> AsyncIterator[Any]:
    options = {**OPTIONS, **options}
    if kind == "motor":
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                from motor.motor_asyncio import AsyncIOMotorClient
        except ImportError:
            unavailable("motor is not installed: pip install motor")
        client: Any = AsyncIOMotorClient(server.uri, **options)
    else:
        client = {"sync": MongoClient, "async": AsyncMongoClient}[kind](server.uri, **options)
    name = f"shop_{time.monotonic_ns()}"
    try:
        yield client[name]
    finally:
        await done(client.close())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("used_before", [False, True])
async def test_every_command_is_traced_and_counted_once(
    telemetry: Telemetry, server: Server, kind: str, used_before: bool
) -> None:
    async with database(kind, server) as db:
        if used_before:
            await done(db.orders.insert_one({"_id": 0}))
        instrumentation = telemetry.attach(db)
        other = telemetry.attach(db)  # another service with the same providers

        await done(db.orders.insert_one({"_id": 1, "password": "hunter2"}))
        await done(db.orders.find_one({"password": "hunter2"}))
        await done(db.users.update_one({"email": "a@b.c"}, {"$set": {"password": "hunter2"}}, upsert=True))
        with pytest.raises(DuplicateKeyError):
            await done(db.orders.insert_one({"_id": 1}))

        expected = {"insert orders": 2, "find orders": 1, "update users": 1}
        assert telemetry.commands() == expected
        assert telemetry.traced() == expected
        for span in telemetry.exporter.get_finished_spans():
            assert "hunter2" not in span.to_json()
            attributes = dict(span.attributes or {})
            if not span.status.is_ok:  # the duplicate: the server says so in a reply that says `ok: 1`
                assert attributes.pop(c.ERROR_TYPE) == attributes.pop(c.DB_RESPONSE_STATUS_CODE) == "11000"
            assert attributes.keys() == {
                *(c.DB_SYSTEM_NAME, c.DB_NAMESPACE, c.DB_COLLECTION_NAME, c.DB_OPERATION_NAME),
                *(c.DB_QUERY_SUMMARY, c.SERVER_ADDRESS, c.SERVER_PORT, c.NETWORK_PEER_ADDRESS, c.NETWORK_PEER_PORT),
            }
            assert attributes[c.SERVER_PORT] == server.port
        assert telemetry.connections()["used"] == 0
        assert telemetry.connections()["idle"] >= 1
        both = instrumentation, other
        await eventually_here(lambda: all(service.state.status.up for service in both), "no heartbeat arrived")

    assert telemetry.connections() == {}


@pytest.mark.parametrize("kind", KINDS)
async def test_statement_text_shows_no_value(telemetry: Telemetry, server: Server, kind: str) -> None:
    async with database(kind, server) as db:
        telemetry.attach(db, capture_statement=True, statement_max_length=60)

        await done(db.users.find_one({"password": "hunter2", "$or": [{"a": "hunter2"}, {"b": {"$in": ["hunter2"]}}]}))

    (span,) = telemetry.exporter.get_finished_spans()
    text = (span.attributes or {})[c.DB_QUERY_TEXT]
    assert text == '{find: "users", filter: {password: "?", $or: [{a: "?"}, {b:…'
    assert "hunter2" not in span.to_json()


@pytest.mark.parametrize("kind", KINDS)
async def test_cursors_name_their_collection(telemetry: Telemetry, server: Server, kind: str) -> None:
    async with database(kind, server) as db:
        await done(db.orders.insert_many([{"n": n} for n in range(10)]))
        telemetry.attach(db)

        cursor = db.orders.find({}, batch_size=4)
        found = await cursor.to_list(None) if kind != "sync" else list(cursor)

    assert len(found) == 10
    assert telemetry.commands() == telemetry.traced() == {"find orders": 1, "getMore orders": 2}


@pytest.mark.parametrize("kind", KINDS)
async def test_failed_commands_carry_the_servers_error(telemetry: Telemetry, server: Server, kind: str) -> None:
    async with database(kind, server) as db:
        telemetry.attach(db)
        with pytest.raises(PyMongoError):
            await done(db.command({"aggregate": "orders", "pipeline": [{"$noSuchStage": {}}], "cursor": {}}))

    (point,) = telemetry.points(c.DB_CLIENT_OPERATION_DURATION)
    (span,) = telemetry.exporter.get_finished_spans()
    assert point.attributes[c.DB_OPERATION_NAME] == "aggregate"
    assert point.attributes[c.ERROR_TYPE] == (span.attributes or {})[c.ERROR_TYPE]
    assert not span.status.is_ok


@pytest.mark.parametrize("kind", KINDS)
async def test_writes_that_the_server_refuses_are_failures_though_it_says_ok(
    telemetry: Telemetry, server: Server, kind: str
) -> None:
    async with database(kind, server) as db:
        await done(db.orders.insert_one({"_id": 1}))
        telemetry.attach(db)
        with pytest.raises(DuplicateKeyError):
            await done(db.orders.insert_one({"_id": 1}))
        with pytest.raises(BulkWriteError):
            await done(db.orders.insert_many([{"_id": 1}, {"_id": 2}, {"_id": 1}], ordered=False))
        with pytest.raises(BulkWriteError):
            await done(db.orders.bulk_write([InsertOne({"_id": 3}), InsertOne({"_id": 3})]))
        await done(db.command("insert", "orders", documents=[{"_id": 1}]))
        await done(db.orders.insert_one({"_id": 4}))

    spans = telemetry.exporter.get_finished_spans()
    assert [span.status.is_ok for span in spans] == [False, False, False, False, True]
    assert {(span.attributes or {}).get(c.ERROR_TYPE) for span in spans[:4]} == {"11000"}
    points = telemetry.points(c.DB_CLIENT_OPERATION_DURATION)
    counted = {point.attributes.get(c.DB_RESPONSE_STATUS_CODE): point.count for point in points}
    assert counted == {"11000": 4, None: 1}


@pytest.mark.parametrize("kind", KINDS)
async def test_health_reads_the_database_unseen(telemetry: Telemetry, server: Server, kind: str) -> None:
    async with database(kind, server) as db:
        await done(db.users.insert_many([{"email": f"{n}"} for n in range(3)]))
        await done(db.users.create_index("email"))
        (index,) = (await done(db.users.index_information())).keys() - {"_id_"}
        instrumentation = telemetry.attach(db)
        checker = DatabaseHealthChecker(db, state=instrumentation.state)
        checker.bind_loop(asyncio.get_running_loop())

        answer = await checker.check_health()
        from_elsewhere = await asyncio.to_thread(asyncio.run, checker.check_health())

        assert answer["status"] == from_elsewhere["status"] == "healthy"
        assert answer["collections"].keys() == {"users"}
        assert answer["collections"]["users"]["document_count"] == 3
        assert {"_id_", index} == set(answer["collections"]["users"]["indexes"])
        assert "collections_error" not in answer
        assert telemetry.commands() == {}
        assert telemetry.traced() == {}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_killed_server_is_known_without_asking_and_comes_back(
    telemetry: Telemetry, own_server: Server, kind: str
) -> None:
    async with database(kind, own_server) as db:
        await done(db.orders.insert_one({}))
        state = telemetry.attach(db).state
        changed = threading.Event()
        state.on_change = changed.set
        checker = DatabaseHealthChecker(db, state=state, check_timeout=3)
        checker.bind_loop(asyncio.get_running_loop())
        await eventually_here(lambda: state.status.up, "no heartbeat arrived")
        assert await known(checker) == "healthy"

        changed.clear()
        own_server.kill()
        await eventually_here(lambda: state.status.up is False, "the lost server was not noticed")
        assert changed.is_set()
        assert checker.status == "unhealthy"
        assert checker.as_json()["error"]
        assert await known(checker) == "unhealthy"

        own_server.start()
        await eventually_here(lambda: state.status.up, "the returned server was not noticed")
        assert await known(checker) == "healthy"
        await done(db.orders.insert_one({}))
        await eventually_here(lambda: telemetry.connections()["used"] == 0, "connections drifted")
        assert telemetry.connections()["idle"] >= 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_failed_command_raises_a_suspicion(telemetry: Telemetry, own_server: Server, kind: str) -> None:
    async with database(kind, own_server, heartbeatFrequencyMS=60_000, retryWrites=False, retryReads=False) as db:
        state = telemetry.attach(db).state
        await done(db.orders.insert_one({}))
        suspicions: list[bool] = []
        state.on_change = lambda: suspicions.append(state.suspected)
        own_server.kill()
        with pytest.raises(PyMongoError):
            await done(db.orders.find_one({}))

        points = telemetry.points(c.DB_CLIENT_OPERATION_DURATION)
        measured = [point.attributes[c.ERROR_TYPE] for point in points if c.ERROR_TYPE in point.attributes]
        failed = [span for span in telemetry.exporter.get_finished_spans() if not span.status.is_ok]
        # Where a heartbeat tells before the command is sent, there is no command to suspect anything by.
        assert any(suspicions) or state.status.up is False
        assert measured or state.status.up is False
        assert measured == [(span.attributes or {})[c.ERROR_TYPE] for span in failed]
        assert not {"UnknownError", "_OTHER"}.intersection(measured)


@pytest.mark.parametrize("kind", ["sync", pytest.param("async", marks=BLOCKING_ASYNC_CLIENT), "motor"])
async def test_a_frozen_server_costs_no_more_than_the_timeout_and_blocks_no_loop(
    telemetry: Telemetry, own_server: Server, kind: str
) -> None:
    async with database(kind, own_server) as db:
        await done(db.orders.insert_one({}))
        checker = DatabaseHealthChecker(db, state=telemetry.attach(db).state, check_timeout=1.0)
        checker.bind_loop(asyncio.get_running_loop())
        assert await known(checker) == "healthy"
        own_server.freeze()
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.01)
                turns += 1

        counter = asyncio.create_task(count_turns())
        # It stays frozen: what waited for it would wait for ever.
        assert await known(checker) == "unhealthy"
        assert turns > 5, "of about a hundred: a loop that a ping blocks makes one"
        assert await asyncio.to_thread(asyncio.run, known(checker)) == "unhealthy"
        counter.cancel()
        own_server.thaw()

        await until_healthy(checker)
        assert telemetry.connections()["used"] == 0


async def known(checker: DatabaseHealthChecker) -> str:
    """Ask until the process had the time to hear the answer; one that is too busy says "unknown"."""
    while (status := await checker.ping()) == "unknown":
        pass
    return status


async def until_healthy(checker: DatabaseHealthChecker) -> None:
    while await checker.ping() != "healthy":
        pass


@BLOCKING_ASYNC_CLIENT
async def test_cancelled_commands_leave_nothing_behind(telemetry: Telemetry, own_server: Server) -> None:
    # One connection, which is open: PyMongo leaves a socket open when a task is cancelled while it connects.
    async with database("async", own_server, maxPoolSize=1) as db:
        await db.orders.insert_one({})
        instrumentation = telemetry.attach(db)
        await db.orders.find_one({})
        own_server.freeze()
        tasks = [asyncio.create_task(db.orders.find_one({})) for _ in range(5)]
        await eventually_here(lambda: telemetry.connections().get("used"), "no command was sent")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        own_server.thaw()
        await db.orders.find_one({})

        assert telemetry.connections()["used"] == 0
        assert [point.value for point in telemetry.points(c.DB_CLIENT_CONNECTION_PENDING_REQUESTS)] == [0]
        assert all(len(listener._inflight) <= 5 for listener in instrumentation._commands.values())
        assert not instrumentation.state.suspected


@pytest.mark.parametrize("kind", KINDS)
async def test_attached_again_the_pool_is_known_again(telemetry: Telemetry, server: Server, kind: str) -> None:
    async with database(kind, server) as db:
        await done(db.orders.insert_one({}))
        instrumentation = telemetry.attach(db)
        before = telemetry.connections()
        instrumentation.detach()
        assert telemetry.connections() == {}
        await done(db.orders.find_one({}))

        assert instrumentation.attach(db)

        assert telemetry.connections() == before
        assert before["idle"] >= 1
        assert [point.value for point in telemetry.points(c.DB_CLIENT_CONNECTION_MAX)] == [100]
        assert telemetry.commands() == {}


async def test_a_full_pool_shows(telemetry: Telemetry, server: Server) -> None:
    async with database("async", server, maxPoolSize=1, waitQueueTimeoutMS=200) as db:
        await db.orders.insert_many([{} for _ in range(10)])
        telemetry.attach(db)
        async with db.client.start_session() as session:
            await session.with_transaction(lambda _session: asyncio.sleep(0))
            await asyncio.gather(*(db.orders.find_one({}) for _ in range(10)))

        assert [point.value for point in telemetry.points(c.DB_CLIENT_CONNECTION_MAX)] == [1]
        (wait,) = telemetry.points(c.DB_CLIENT_CONNECTION_WAIT_TIME)
        assert wait.count >= 10
        assert telemetry.connections() == {"idle": 1, "used": 0}
