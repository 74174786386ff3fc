"""Commands whose end is hard to tell: errors in replies that say `ok: 1`, and many commands that look alike."""

import asyncio
import contextlib
import gc
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo import AsyncMongoClient, CursorType, InsertOne, MongoClient, WriteConcern
from pymongo.errors import PyMongoError
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from otel_monitoring import semconv as c
from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.mongodb.command_failure import command_error_type, failure_in
from otel_monitoring.instrumentation.mongodb.commands import Commands
from otel_monitoring.instrumentation.mongodb.inflight import InFlight
from otel_monitoring.instrumentation.mongodb.instrumentation import MongoInstrumentation
from tests.instrumentation.mongodb.test_instrumentation import ADDRESS, SECONDS
from tests.mongodb_telemetry import Telemetry, telemetry
from tests.wire import Document, wire_server

__all__ = ["telemetry"]

DUPLICATE = {"index": 1, "code": 11000, "errmsg": 'E11000 duplicate key: { email: "a@b.c" }'}
WAITED = {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting for replication timed out"}
EXPECTED_DUPLICATE = ("11000", "11000", "E11000 duplicate key: ?")
EXPECTED_WAITED = ("WriteConcernFailed", "64", "waiting for replication timed out")


@pytest.fixture(autouse=True)
def _nothing_of_ours_fails() -> Iterator[None]:
    yield
    assert not fail_open.failures


def connected(uri: str, *listeners: CommandListener) -> MongoClient[Any]:
    return MongoClient(uri, event_listeners=listeners)


def listener_of(telemetry: Telemetry) -> Commands:
    made = MongoInstrumentation(tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider)
    listener = made._commands_beside(())
    assert listener is not None
    return listener


def started(command: Document, request: int = 1, address: Any = ADDRESS, connection: int | None = None) -> Any:
    return CommandStartedEvent(command, "shop", request, address, request, server_connection_id=connection)


def succeeded(
    name: str, reply: Document, request: int = 1, address: Any = ADDRESS, connection: int | None = None
) -> Any:
    return CommandSucceededEvent(
        SECONDS, reply, name, request, address, request, database_name="shop", server_connection_id=connection
    )


def told(telemetry: Telemetry) -> list[tuple[Any, Any, str | None]]:
    """`error.type`, `db.response.status_code` and status of each span; the metric says the same."""
    found = []
    for span in telemetry.spans:
        attributes = span.attributes or {}
        assert span.status.is_ok is (c.ERROR_TYPE not in attributes)
        found.append((attributes.get(c.ERROR_TYPE), attributes.get(c.DB_RESPONSE_STATUS_CODE), span.status.description))
    measured = [
        (point.attributes.get(c.ERROR_TYPE), point.attributes.get(c.DB_RESPONSE_STATUS_CODE))
        for point in telemetry.points(c.DB_CLIENT_OPERATION_DURATION)
        for _ in range(point.count)
    ]
    assert sorted(measured, key=str) == sorted(((kind, code) for kind, code, _ in found), key=str)
    return found


@pytest.mark.parametrize(
    ("name", "reply", "expected"),
    [
        ("insert", {"n": 1}, (None, None, None)),
        ("insert", {"n": 1, "writeErrors": []}, (None, None, None)),
        ("insert", {"n": 0, "writeErrors": [DUPLICATE, {"code": 121}]}, EXPECTED_DUPLICATE),
        ("update", {"n": 0, "nModified": 0, "writeErrors": [DUPLICATE]}, EXPECTED_DUPLICATE),
        ("delete", {"n": 0, "writeErrors": [{"code": 20}]}, ("20", "20", "")),
        ("insert", {"n": 0, "writeErrors": [DUPLICATE], "writeConcernError": WAITED}, EXPECTED_DUPLICATE),
        ("insert", {"n": 1, "writeConcernError": WAITED}, EXPECTED_WAITED),
        ("commitTransaction", {"writeConcernError": WAITED}, EXPECTED_WAITED),
        ("findAndModify", {"value": None, "lastErrorObject": {"n": 0, "updatedExisting": False}}, (None, None, None)),
        (
            "findAndModify",
            {"value": None, "lastErrorObject": {"n": 0, "code": 11000, "err": "E11000 dup key: { a: 1 }"}},
            ("11000", "11000", "E11000 dup key: ?"),
        ),
        (
            "bulkWrite",
            {"nErrors": 1, "cursor": {"id": 0, "firstBatch": [{"ok": 1, "idx": 0}, {"ok": 0, **DUPLICATE}]}},
            EXPECTED_DUPLICATE,
        ),
        ("bulkWrite", {"nErrors": 0, "cursor": {"id": 0, "firstBatch": [{"ok": 1}]}}, (None, None, None)),
        ("bulkWrite", {"nErrors": 1, "cursor": {"id": 7, "firstBatch": [{"ok": 1}]}}, ("_OTHER", None, "")),
        ("insert", {}, (None, None, None)),
    ],
)
def test_an_error_in_a_reply_that_says_ok(
    telemetry: Telemetry, name: str, reply: Document, expected: tuple[Any, Any, Any]
) -> None:
    listener = listener_of(telemetry)
    listener.started(started({name: "users"}))
    listener.succeeded(succeeded(name, {"ok": 1, **reply}))

    assert told(telemetry) == [expected]


FIELDS = st.sampled_from(
    ["ok", "writeErrors", "nErrors", "cursor", "firstBatch", "lastErrorObject", "err", "code", "writeConcernError"]
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault of the strategy
@given(st.dictionaries(FIELDS, anything))
def test_whatever_a_reply_is_the_command_is_counted(reply: Document) -> None:
    told = failure_in(reply)
    assert told is None or command_error_type(told)
    said = any(reply.get(field) for field in ("writeErrors", "nErrors", "writeConcernError"))
    assert (told is not None) >= said, "an error that nobody understands is one"


class Published(CommandListener):
    """What the driver publishes: the name of each command that ended, and whether it failed."""

    def __init__(self) -> None:
        self.ended = Counter[tuple[str, bool]]()

    def started(self, event: CommandStartedEvent) -> None: ...

    def succeeded(self, event: CommandSucceededEvent) -> None:
        self.ended[event.command_name, failure_in(event.reply) is not None] += 1

    def failed(self, event: CommandFailedEvent) -> None:
        self.ended[event.command_name, True] += 1


def counted(telemetry: Telemetry) -> Counter[tuple[str, bool]]:
    found = Counter[tuple[str, bool]]()
    for point in telemetry.points(c.DB_CLIENT_OPERATION_DURATION):
        found[point.attributes[c.DB_OPERATION_NAME], c.ERROR_TYPE in point.attributes] += point.count
    return found


def transactions(client: MongoClient[Any]) -> None:
    for leave in ("commit_transaction", "abort_transaction"):
        with client.start_session() as session:
            session.start_transaction(write_concern=WriteConcern(w="majority", wtimeout=1))
            client.shop.orders.insert_one({}, session=session)
            with contextlib.suppress(PyMongoError):
                getattr(session, leave)()


def cursors(client: MongoClient[Any]) -> None:
    list(client.shop.orders.find({}, batch_size=1))
    cursor = client.shop.orders.find({}, batch_size=1)
    next(cursor)
    cursor.close()  # killCursors
    exhausting = client.shop.many.find(cursor_type=CursorType.EXHAUST)
    for _ in range(2):
        next(exhausting)
    exhausting.close()  # what the server still sends is nobody's any more
    with contextlib.suppress(PyMongoError):
        client.shop.command("fails")
    with contextlib.suppress(PyMongoError):
        client.shop.command("leaves")


def answer(command: Document) -> Document | list[Document]:
    name = next(iter(command))
    match name:
        case "getMore" if command["collection"] == "many":
            return exhausted(command)
        case "find":
            return {"ok": 1, "cursor": {"id": 7, "ns": "shop.orders", "firstBatch": [{}]}}
        case "getMore":
            return {"ok": 1, "cursor": {"id": 0, "ns": "shop.orders", "nextBatch": [{}]}}
        case "commitTransaction":
            return {"ok": 1, "writeConcernError": WAITED, "errorLabels": ["UnknownTransactionCommitResult"]}
        case "abortTransaction":
            return {"ok": 0, "code": 251, "codeName": "NoSuchTransaction", "errmsg": "no such transaction"}
        case "fails":
            return {"ok": 0, "code": 59, "codeName": "CommandNotFound", "errmsg": "no such command"}
        case "leaves":
            raise OSError
    return {"ok": 1}


@pytest.mark.parametrize("use", [transactions, cursors])
def test_commands_are_counted_as_the_driver_publishes_them(
    telemetry: Telemetry, use: Callable[[MongoClient[Any]], None]
) -> None:
    heard = Published()
    with wire_server(answer) as uri, connected(uri, heard) as client:
        telemetry.attach(client)
        use(client)
        published = Counter(heard.ended)
        assert counted(telemetry) == published
        assert len(published) > 2
        spans = Counter((span.name.split()[0], not span.status.is_ok) for span in telemetry.spans)
        assert spans == published


def test_the_drivers_own_replies(telemetry: Telemetry) -> None:
    """Each as PyMongo hands it to listeners, from a server of version 8.0."""
    replies: dict[str, Document] = {
        "insert": {"ok": 1, "n": 0, "writeErrors": [DUPLICATE]},
        "update": {"ok": 1, "n": 1, "nModified": 1, "writeConcernError": WAITED},
        "findAndModify": {"ok": 1, "value": {}, "writeConcernError": WAITED},
        "bulkWrite": {
            "ok": 1,
            **dict.fromkeys(("nInserted", "nMatched", "nModified", "nUpserted", "nDeleted"), 0),
            "nErrors": 1,
            "cursor": {"id": 0, "ns": "admin.$cmd.bulkWrite", "firstBatch": [{"ok": 0.0, "idx": 0, **DUPLICATE}]},
        },
    }
    with wire_server(lambda command: replies[next(iter(command))]) as uri, connected(uri) as client:
        telemetry.attach(client)
        orders = client.shop.orders
        calls: list[Callable[[], object]] = [
            lambda: orders.insert_one({}),
            lambda: orders.bulk_write([InsertOne({}), InsertOne({})], ordered=False),
            lambda: orders.update_one({}, {"$set": {"a": 1}}),
            lambda: orders.find_one_and_update({}, {"$set": {"a": 1}}),
            lambda: client.bulk_write([InsertOne({}, namespace="shop.orders")]),
        ]
        for call in calls:
            with pytest.raises(PyMongoError):
                call()
        client.shop.get_collection("orders", write_concern=WriteConcern(w=0)).insert_one({})

    assert told(telemetry) == [
        EXPECTED_DUPLICATE,
        EXPECTED_DUPLICATE,
        EXPECTED_WAITED,
        EXPECTED_WAITED,
        EXPECTED_DUPLICATE,
        (None, None, None),
    ]


# Commands that look alike


class Together(CommandListener):
    """Holds each `getMore` that is answered until as many others are."""

    def __init__(self, parties: int) -> None:
        self.published: list[str] = []
        self._barrier = threading.Barrier(parties)

    def started(self, event: CommandStartedEvent) -> None:
        self.published.append(event.command_name)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        if event.command_name == "getMore":
            self._barrier.wait(30)

    def failed(self, event: CommandFailedEvent) -> None: ...


def exhausted(command: Document) -> Document | list[Document]:
    """Five documents for each cursor: one found, and four that the server sends by itself."""
    if next(iter(command)) == "find":
        return {"ok": 1, "cursor": {"id": 7, "ns": "shop.orders", "firstBatch": [{}]}}
    batches: list[Document] = [
        {"id": 7 if left else 0, "ns": "shop.orders", "nextBatch": [{}]} for left in (3, 2, 1, 0)
    ]
    return [{"ok": 1, "cursor": batch} for batch in batches]


def test_exhaust_cursors_side_by_side_in_threads(telemetry: Telemetry) -> None:
    cursors, heard = 6, Together(6)
    with wire_server(exhausted) as uri, connected(uri, heard) as client:
        telemetry.attach(client)
        with ThreadPoolExecutor(cursors) as pool:
            found = list(
                pool.map(lambda _: len(list(client.shop.orders.find(cursor_type=CursorType.EXHAUST))), range(cursors))
            )

    assert found == [5] * cursors
    assert heard.published.count("find") + heard.published.count("getMore") == 5 * cursors
    assert telemetry.commands() == {"find orders": cursors, "getMore orders": 4 * cursors}
    assert len(telemetry.spans) == 5 * cursors


@pytest.mark.anyio
async def test_exhaust_cursors_side_by_side_in_tasks(telemetry: Telemetry) -> None:
    cursors = 6
    with wire_server(exhausted) as uri:
        client: AsyncMongoClient[Any]
        async with AsyncMongoClient(uri) as client:
            telemetry.attach(client)
            found: list[list[Any]] = await asyncio.gather(
                *(client.shop.orders.find(cursor_type=CursorType.EXHAUST).to_list(None) for _ in range(cursors))
            )

    assert [len(documents) for documents in found] == [5] * cursors
    assert telemetry.commands() == {"find orders": cursors, "getMore orders": 4 * cursors}
    assert len(telemetry.spans) == 5 * cursors


DIFFERENCES: dict[str, list[dict[str, Any]]] = {
    "servers": [{"address": ("a", 1)}, {"address": ("b", 1)}, {"address": ("mongodb.sock", None)}],
    "connections": [{"connection": 1}, {"connection": 2}],
    "nothing": [{}, {}, {}],
}


@pytest.mark.parametrize("request_id", [0, 5])
@pytest.mark.parametrize("differences", DIFFERENCES.values(), ids=DIFFERENCES)
def test_the_same_request_of_several_clients(
    telemetry: Telemetry, differences: list[dict[str, Any]], request_id: int
) -> None:
    listener = listener_of(telemetry)
    for number, different in enumerate(differences):
        listener.started(started({"find": f"orders{number}"}, request_id, **different))
    for different in differences:
        listener.succeeded(succeeded("find", {"ok": 1}, request_id, **different))

    names = [f"orders{number}" for number in range(len(differences))]
    assert telemetry.commands() == {f"find {name}": 1 for name in names}
    assert sorted(span.name for span in telemetry.spans) == [f"find {name}" for name in names]


@pytest.mark.anyio
async def test_tasks_that_read_replies_without_a_number(telemetry: Telemetry) -> None:
    listener = listener_of(telemetry)

    async def read(number: int) -> None:
        listener.started(started({"getMore": 7, "collection": f"orders{number}"}, 0))
        await asyncio.sleep(0)
        listener.succeeded(succeeded("getMore", {"ok": 1, "writeErrors": [{"code": number}]}, 0))

    await asyncio.gather(*map(read, range(1, 6)))

    assert {span.name: (span.attributes or {})[c.ERROR_TYPE] for span in telemetry.spans} == {
        f"getMore orders{number}": str(number) for number in range(1, 6)
    }
    assert telemetry.commands() == {f"getMore orders{number}": 1 for number in range(1, 6)}


def test_commands_that_never_end_make_room_and_end_their_spans(telemetry: Telemetry) -> None:
    table = InFlight[int](3)
    lost = [list(table.put(started({"find": "a"}, request), n)) for n, request in enumerate([1, 1, 0, 2, 3, 1])]
    assert lost == [[], [], [], [], [0, 1], [2]]
    ends = [table.pop(succeeded("find", {}, request)) for request in (1, 1, 0, 2, 3, 9)]
    assert ends == [5, None, None, 3, 4, None]
    assert len(table) == 0


def test_commands_that_look_alike_and_never_end_are_bounded(telemetry: Telemetry) -> None:
    listener = listener_of(telemetry)
    for _ in range(500):
        listener.started(started({"find": "orders"}))
    assert 0 < 500 - len(telemetry.spans) <= 100
    assert len(listener._inflight) == 1


@pytest.mark.anyio
async def test_a_command_that_never_ends_keeps_no_task_alive() -> None:
    table = InFlight[int](3)

    async def ask() -> None:
        table.put(started({"getMore": 7}, 0), 1)

    task = asyncio.create_task(ask())
    await task
    gone = weakref.ref(task)
    del task
    await asyncio.sleep(0)  # the loop's own step holds what it woke up for
    gc.collect()
    assert gone() is None
    assert len(table) == 1
