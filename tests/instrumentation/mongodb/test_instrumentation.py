"""Listeners of MongoDB clients. The events are PyMongo's own; what needs a server is in tests/integration."""

import asyncio
import datetime
import gc
import logging
import os
import sys
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.instrumentation.pymongo import CommandTracer
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from pymongo import AsyncMongoClient, MongoClient
from pymongo import monitoring as pymongo_monitoring
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
    ConnectionCheckedInEvent,
    ConnectionCheckedOutEvent,
    ConnectionCheckOutFailedEvent,
    ConnectionCheckOutFailedReason,
    ConnectionCheckOutStartedEvent,
    ConnectionClosedEvent,
    ConnectionCreatedEvent,
    ConnectionPoolListener,
    PoolClosedEvent,
    PoolCreatedEvent,
)

from otel_monitoring import semconv as c
from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.mongodb import commands as commands_module
from otel_monitoring.instrumentation.mongodb.command_names import collection_of
from otel_monitoring.instrumentation.mongodb.command_spans import CommandSpans
from otel_monitoring.instrumentation.mongodb.commands import Commands
from otel_monitoring.instrumentation.mongodb.instrumentation import MongoInstrumentation, attach, monitoring_listeners
from otel_monitoring.instrumentation.mongodb.pool_metrics import PoolMetrics
from otel_monitoring.instrumentation.mongodb.pymongo_seam import change_listeners
from otel_monitoring.instrumentation.mongodb.query_text import obfuscated
from otel_monitoring.instrumentation.mongodb.server_state import ServerState
from otel_monitoring.metrics.reader import SnapshotReader
from otel_monitoring.telemetry.meter_providers import GuardedMeterProvider
from tests.measured import metrics_of
from tests.mongodb_telemetry import Telemetry, telemetry

__all__ = ["telemetry"]

ADDRESS = ("db.example", 27017)
SECONDS = datetime.timedelta(seconds=0.25)


@pytest.fixture
def client() -> Iterator[MongoClient[Any]]:
    with offline() as made:
        yield made


def started(command: dict[str, Any], request: int = 1, database: str = "shop") -> CommandStartedEvent:
    return CommandStartedEvent(command, database, request, ADDRESS, request)


def succeeded(name: str, request: int = 1) -> CommandSucceededEvent:
    return CommandSucceededEvent(SECONDS, {"ok": 1}, name, request, ADDRESS, request, database_name="shop")


def failed(name: str, failure: dict[str, Any], request: int = 1) -> CommandFailedEvent:
    return CommandFailedEvent(SECONDS, failure, name, request, ADDRESS, request, database_name="shop")


def publish(client: Any, command: dict[str, Any], request: int = 1) -> None:
    """Have the driver tell the client's listeners of a command that succeeded."""
    listeners = client.options.pool_options._event_listeners
    name = next(iter(command))
    listeners.publish_command_start(command, "shop", request, ADDRESS, None)
    listeners.publish_command_success(SECONDS, {"ok": 1}, name, request, ADDRESS, None, database_name="shop")


def offline(**options: Any) -> MongoClient[Any]:
    """A client that never connects."""
    client: MongoClient[Any] = MongoClient("127.0.0.1:1", connect=False, **options)
    return client


class Listener(CommandListener):
    """A listener of the application's own."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def started(self, event: CommandStartedEvent) -> None:
        self.heard.append(event.command_name)

    def succeeded(self, event: CommandSucceededEvent) -> None: ...

    def failed(self, event: CommandFailedEvent) -> None: ...


# Names and statements


@pytest.mark.parametrize(
    ("command", "collection"),
    [
        ({"find": "orders", "filter": {}}, "orders"),
        ({"getMore": 12345, "collection": "orders"}, "orders"),
        ({"explain": {"find": "orders"}, "verbosity": "queryPlanner"}, "orders"),
        ({"explain": {"explain": {"explain": {}}}}, None),
        ({"aggregate": 1, "pipeline": []}, None),
        ({"createUser": "alice", "pwd": "hunter2"}, None),
        ({"renameCollection": "shop.a", "to": "shop.b"}, None),
        ({"ping": 1}, None),
        ({"getMore": 7, "collection": "$cmd.aggregate"}, None),
        ({"getMore": 7, "collection": "$cmd.listCollections"}, None),
        ({"killCursors": "$cmd.aggregate", "cursors": [7]}, None),
    ],
)
def test_collection_of_a_command(command: dict[str, Any], collection: str | None) -> None:
    assert collection_of(next(iter(command)), command) == collection


def test_statement_keeps_names_and_structure_only() -> None:
    command = {
        "find": "users",
        "filter": {
            "password": "hunter2",
            "age": {"$gt": 30},
            "tags": {"$in": ["a", "b"]},
            "$or": [{"x": 1}, {"y": b"z"}],
        },
        "limit": 5,
        "lsid": {"id": "session"},
        "$db": "shop",
    }

    assert obfuscated("find", command, 1000) == (
        '{find: "users", filter: {password: "?", age: {$gt: "?"}, tags: {$in: ["?"]}, $or: [{x: "?"}, {y: "?"}]}, '
        'limit: "?"}'
    )


@pytest.mark.parametrize(
    "key",
    [
        "members.65cafe65cafe65cafe65cafe",
        "members.+49170555777",
        "members.ana@canary.example.x",
        "members.749123456712",
    ],
)
def test_a_statement_has_no_part_of_a_key_that_looks_like_a_value(key: str) -> None:
    value = key.split(".", 1)[1].removesuffix(".example.x")
    for command in (
        {"filter": {key: 1}},
        {"let": {"$and": [{key: {"x": 1}}]}},
        {key: 1},
        {"updates": [{"q": {key: 1}}]},
    ):
        text = obfuscated("find", {"find": "orders", **command}, 1000)
        assert "members.?" in text
        assert value not in text
    assert "x" * 40 not in obfuscated("find", {"find": "orders", "filter": {f"m.{'x' * 4000}": 1}}, 10**6)


@pytest.mark.parametrize("operation", ["usersInfo", "dropUser", "renameCollection", "eval", "killCursors"])
def test_only_the_name_of_a_collection_stays_in_a_statement(operation: str) -> None:
    text = obfuscated(operation, {operation: "ana"}, 1000)
    assert text == f'{{{operation}: "{"ana" if operation == "killCursors" else "?"}"}}'


def test_statement_is_bounded_whatever_the_command_holds() -> None:
    deep: dict[str, Any] = {}
    for _ in range(500):
        deep = {"a": deep}
    command = {
        "insert": "x",
        "documents": [{f"k{i}": i for i in range(10_000)}] * 10_000,
        "deep": deep,
        "q": "s" * 10**6,
    }

    text = obfuscated("insert", command, 200)

    assert len(text) == 200
    assert text.endswith("…")
    assert len(obfuscated("insert", {"insert": "x", "deep": deep}, 10**6)) < 200


# Command metrics


def commands_of(telemetry: Telemetry) -> Commands:
    """The listener of a service that makes no spans."""
    made = MongoInstrumentation(tracer_provider=None, meter_provider=telemetry.meter_provider, max_collections=10)
    listener = made._commands_beside(())
    assert listener is not None
    return listener


def test_duration_of_a_command_with_its_attributes(telemetry: Telemetry) -> None:
    commands = commands_of(telemetry)

    commands.started(started({"find": "orders"}))
    commands.succeeded(succeeded("find"))

    (point,) = telemetry.points(c.DB_CLIENT_OPERATION_DURATION)
    assert (point.count, point.sum) == (1, 0.25)
    assert dict(point.attributes) == {
        "db.system.name": "mongodb",
        "db.operation.name": "find",
        "db.namespace": "shop",
        "db.collection.name": "orders",
        "server.address": "db.example",
        "server.port": 27017,
    }


@pytest.mark.parametrize(
    ("failure", "attributes"),
    [
        ({"errmsg": "x", "code": 11000, "codeName": "DuplicateKey"}, ("DuplicateKey", "11000")),
        ({"errmsg": "x", "code": 5}, ("5", "5")),
        ({"errmsg": "gone", "errtype": "AutoReconnect"}, ("AutoReconnect", None)),
        ({}, ("_OTHER", None)),
    ],
)
def test_error_of_a_command(telemetry: Telemetry, failure: dict[str, Any], attributes: tuple[str, str | None]) -> None:
    commands = commands_of(telemetry)

    commands.started(started({"find": "orders"}))
    commands.failed(failed("find", failure))

    (point,) = telemetry.points(c.DB_CLIENT_OPERATION_DURATION)
    assert (point.attributes[c.ERROR_TYPE], point.attributes.get(c.DB_RESPONSE_STATUS_CODE)) == attributes


@pytest.mark.parametrize(
    ("failure", "suspicious"),
    [
        ({"errtype": "AutoReconnect", "errmsg": "gone"}, True),
        ({"errtype": "CancelledError", "errmsg": ""}, False),
        ({"code": 11000, "codeName": "DuplicateKey"}, False),
    ],
)
def test_only_a_network_error_raises_a_suspicion(
    telemetry: Telemetry, failure: dict[str, Any], suspicious: bool
) -> None:
    commands, state = commands_of(telemetry), ServerState()
    assert commands.metrics is not None
    state.known([ADDRESS])
    commands.metrics.states = (state,)

    commands.started(started({"find": "orders"}))
    commands.failed(failed("find", failure))

    assert state.suspected is suspicious


def test_hostile_names_make_a_bounded_number_of_series(telemetry: Telemetry) -> None:
    commands = commands_of(telemetry)

    for i in range(3000):
        commands.started(started({"find": f"collection{i}"}, i, f"database{i}"))
        commands.succeeded(succeeded("find", i))
        commands.started(started({f"command{i}": 1}, i))
        commands.failed(failed(f"command{i}", {"codeName": f"error{i}"}, i))

    collections = {
        point.attributes.get(c.DB_COLLECTION_NAME) for point in telemetry.points(c.DB_CLIENT_OPERATION_DURATION)
    }
    assert len(collections - {None}) == 11
    assert len(telemetry.points(c.DB_CLIENT_OPERATION_DURATION)) <= 220
    assert commands.metrics is not None
    assert len(commands._known) <= commands_module._MAX_KNOWN


def test_commands_that_never_end_are_forgotten(telemetry: Telemetry) -> None:
    commands = commands_of(telemetry)

    for i in range(commands_module._MAX_INFLIGHT + 500):
        commands.started(started({"find": "orders"}, i))

    assert len(commands._inflight) == commands_module._MAX_INFLIGHT


def test_suppressed_commands_and_handshakes_leave_nothing_behind(telemetry: Telemetry) -> None:
    listener = Commands(commands_of(telemetry).metrics, CommandSpans(telemetry.tracer_provider, False, 100))

    with suppress_instrumentation():
        listener.started(started({"ping": 1}))
        listener.succeeded(succeeded("ping"))
    listener.started(started({"saslStart": 1}, 2))
    listener.succeeded(succeeded("saslStart", 2))

    assert not telemetry.points(c.DB_CLIENT_OPERATION_DURATION)
    assert not telemetry.spans
    assert not listener._inflight


# Spans


def spans_of(telemetry: Telemetry, *, capture: bool = False) -> Commands:
    """A listener that makes spans alone."""
    return Commands(None, CommandSpans(telemetry.tracer_provider, capture, 100))


def test_span_of_a_command(telemetry: Telemetry) -> None:
    listener = spans_of(telemetry)

    listener.started(started({"find": "orders", "filter": {"password": "hunter2"}}))
    listener.succeeded(succeeded("find"))
    listener.started(started({"getMore": 7, "collection": "orders"}))
    listener.succeeded(succeeded("getMore"))

    find, more = telemetry.spans
    assert (find.name, more.name) == ("find orders", "getMore orders")
    assert dict(find.attributes or {}) == {
        "db.system.name": "mongodb",
        "db.namespace": "shop",
        "db.operation.name": "find",
        "db.collection.name": "orders",
        "db.query.summary": "find orders",
        "server.address": "db.example",
        "server.port": 27017,
        "network.peer.address": "db.example",
        "network.peer.port": 27017,
    }
    assert (more.attributes or {})["db.collection.name"] == "orders"


@pytest.mark.parametrize(
    ("command", "size"),
    [
        ({"insert": "orders", "documents": [{}, {}, {}]}, 3),
        ({"update": "orders", "updates": [{}, {}]}, 2),
        ({"delete": "orders", "deletes": [{}, {}]}, 2),
        ({"bulkWrite": 1, "ops": [{}, {}]}, 2),
        ({"insert": "orders", "documents": [{}]}, None),  # one operation is no batch
        ({"insert": "orders", "documents": "what is this?"}, None),
        ({"insert": "orders"}, None),
        ({"find": "orders", "documents": [{}, {}]}, None),
    ],
)
def test_span_of_a_batch_has_its_size(telemetry: Telemetry, command: dict[str, Any], size: int | None) -> None:
    listener = spans_of(telemetry)

    listener.started(started(command))
    listener.succeeded(succeeded(next(iter(command))))

    assert (telemetry.spans[0].attributes or {}).get("db.operation.batch.size") == size


def test_span_of_a_command_on_a_socket_or_without_collection(telemetry: Telemetry) -> None:
    listener = spans_of(telemetry)

    listener.started(CommandStartedEvent({"ping": 1}, "admin", 1, ("/run/mongodb.sock", None), 1))
    listener.succeeded(succeeded("ping"))

    (span,) = telemetry.spans
    assert span.name == "ping admin"
    assert dict(span.attributes or {}) == {
        "db.system.name": "mongodb",
        "db.namespace": "admin",
        "db.operation.name": "ping",
        "db.query.summary": "ping admin",
        "server.address": "/run/mongodb.sock",
        "network.peer.address": "/run/mongodb.sock",
    }


def test_a_summary_is_short_and_no_name_in_it_is_cut(telemetry: Telemetry) -> None:
    listener = spans_of(telemetry)

    for length in (250, 251):  # with `find `: 255 and 256 characters
        listener.started(started({"find": "x" * length}))
        listener.succeeded(succeeded("find"))

    assert [(span.attributes or {})["db.query.summary"] for span in telemetry.spans] == [f"find {'x' * 250}", "find"]
    assert [span.name for span in telemetry.spans] == [f"find {'x' * 250}", "find"]


@pytest.mark.parametrize(
    ("reply", "rows"),
    [
        ({"ok": 1, "cursor": {"firstBatch": [{}, {}], "id": 7}}, 2),
        ({"ok": 1, "cursor": {"nextBatch": [], "id": 0}}, 0),
        ({"ok": 1, "n": 3}, None),
        ({"ok": 1, "cursor": "what is this?"}, None),
    ],
)
def test_returned_rows_only_where_asked_for(telemetry: Telemetry, reply: dict[str, Any], rows: int | None) -> None:
    for capture in (False, True):
        listener = spans_of(telemetry, capture=capture)
        listener.started(started({"find": "orders"}))
        listener.succeeded(CommandSucceededEvent(SECONDS, reply, "find", 1, ADDRESS, 1, database_name="shop"))

    counts = [(span.attributes or {}).get("db.response.returned_rows") for span in telemetry.spans]
    assert counts == [None, rows]


def test_statement_only_where_asked_for_and_without_values(telemetry: Telemetry) -> None:
    listener = spans_of(telemetry, capture=True)

    listener.started(started({"find": "orders", "filter": {"password": "hunter2"}}))
    listener.succeeded(succeeded("find"))

    assert (telemetry.spans[0].attributes or {})["db.query.text"] == '{find: "orders", filter: {password: "?"}}'


def test_failed_span_names_the_error_and_quotes_nothing(telemetry: Telemetry) -> None:
    listener = spans_of(telemetry)
    duplicate = {
        "errmsg": "E11000 duplicate key: { email: \"a@b.c\" } of 'secret'",
        "code": 11000,
        "codeName": "DuplicateKey",
    }

    listener.started(started({"update": "users"}))
    listener.failed(failed("update", duplicate))
    listener.started(started({"update": "users"}))
    listener.failed(failed("update", {"errmsg": "connection closed", "errtype": "AutoReconnect"}))

    first, second = telemetry.spans
    assert first.status.description == "E11000 duplicate key: ? of ?"
    assert (first.attributes or {})["error.type"] == "DuplicateKey"
    assert (first.attributes or {})["db.response.status_code"] == "11000"
    assert (second.attributes or {})["error.type"] == "AutoReconnect"


DOCUMENT = "{ _id: ObjectId('65cafe'), name: \"canary\", loc: [ 200, 4242 ], by: { a: 1 }, phone: 4242 }"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (f"Can't extract geo keys: {DOCUMENT}  longitude/latitude is out of bounds", "Can't extract geo keys: ?"),
        ("can't convert 'canary' to int", "can't convert ? to int"),
        ("Cannot apply $inc to 'O'Canary' or 'x'", "Cannot apply $inc to ? or ?"),
        ('bad "canary", "x" and \'y\'', "bad ?, ? and ?"),
        (f"failed: {DOCUMENT * 40}", "failed: ?"),
        (f"failed: 'x' {{ a: {{ b: 1 }}, c: {'canary' * 500}}}", "failed: ? ?"),
        (f"failed: '{'canary' * 500}'", "failed: ?"),
        ("failed: { a: 'canary", "failed: ?"),
        ('failed: "canary', "failed: ?"),
    ],
)
def test_whatever_a_message_quotes_does_not_leave(telemetry: Telemetry, message: str, shown: str) -> None:
    """Messages have apostrophes, quotes in quotes and whole documents, also longer than what is looked at."""
    listener = spans_of(telemetry)

    listener.started(started({"update": "users"}))
    listener.failed(failed("update", {"errmsg": message, "code": 16755}))

    description = str(telemetry.spans[0].status.description)
    assert description.startswith(shown)
    assert "canary" not in description.lower()
    assert "4242" not in description


def test_suppression_that_begins_in_mid_command_leaves_no_open_span(telemetry: Telemetry) -> None:
    listener = spans_of(telemetry)

    listener.started(started({"find": "orders"}))
    with suppress_instrumentation():
        listener.succeeded(succeeded("find"))
    listener.started(started({"find": "orders"}))
    with suppress_instrumentation():
        listener.failed(failed("find", {}))

    assert not listener._inflight
    assert len(telemetry.spans) == 2


STABLE = {
    "db.system.name": "mongodb",
    "db.namespace": "shop",
    "db.collection.name": "orders",
    "server.address": "db.example",
    "server.port": 27017,
    "network.peer.address": "db.example",
    "network.peer.port": 27017,
}
FORMER = {
    "db.system": "mongodb",
    "db.name": "shop",
    "db.mongodb.collection": "orders",
    "net.peer.name": "db.example",
    "net.peer.port": 27017,
}


@pytest.mark.parametrize(
    ("chosen", "stable", "former"),
    [("", False, True), ("http", False, True), ("http,database", True, False), ("database/dup,database", True, True)],
)
def test_attributes_have_the_names_of_the_chosen_conventions(
    telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch, chosen: str, stable: bool, former: bool
) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", chosen)
    listener = spans_of(telemetry)

    for command in ({"find": "orders"}, {"getMore": 7, "collection": "orders"}):
        listener.started(started(command))
        listener.succeeded(succeeded(next(iter(command))))

    for span, operation in zip(telemetry.spans, ("find", "getMore"), strict=True):
        names = {"db.operation.name": operation, **(STABLE if stable else {}), **(FORMER if former else {})}
        summary = {"db.query.summary": f"{operation} orders"} if stable else {}
        assert dict(span.attributes or {}) == {**names, **summary}
        scope = span.instrumentation_scope
        assert scope is not None
        assert scope.schema_url == (c.SCHEMA_URL if stable else "")


def test_spans_of_names_that_never_end_are_right_and_what_is_kept_is_bounded(telemetry: Telemetry) -> None:
    listener = spans_of(telemetry)

    for number in range(commands_module._MAX_KNOWN + 100):
        listener.started(started({"find": f"orders{number}"}))
        listener.succeeded(succeeded("find"))

    assert [span.name for span in telemetry.spans][-1] == f"find orders{commands_module._MAX_KNOWN + 99}"
    assert len(listener._known) == commands_module._MAX_KNOWN


# Pools


@pytest.fixture
def pools(telemetry: Telemetry) -> PoolMetrics:
    return MongoInstrumentation(tracer_provider=None, meter_provider=telemetry.meter_provider)._pools


def check_out(pools: PoolMetrics, connection: int) -> None:
    pools.connection_check_out_started(ConnectionCheckOutStartedEvent(ADDRESS))
    pools.connection_checked_out(ConnectionCheckedOutEvent(ADDRESS, connection, 0.5))


def check_in(pools: PoolMetrics, connection: int) -> None:
    pools.connection_checked_in(ConnectionCheckedInEvent(ADDRESS, connection))


def create(pools: PoolMetrics, connection: int) -> None:
    pools.connection_created(ConnectionCreatedEvent(ADDRESS, connection))


def close(pools: PoolMetrics, connection: int) -> None:
    pools.connection_closed(ConnectionClosedEvent(ADDRESS, connection, "error"))


def test_connections_by_state_and_the_pools_limits(telemetry: Telemetry, pools: PoolMetrics) -> None:
    pools.pool_created(PoolCreatedEvent(ADDRESS, {"maxPoolSize": 7, "minPoolSize": 2}))
    create(pools, 1)
    create(pools, 2)
    check_out(pools, 1)

    assert telemetry.connections() == {"idle": 1, "used": 1}
    assert [point.value for point in telemetry.points(c.DB_CLIENT_CONNECTION_MAX)] == [7]
    assert [point.value for point in telemetry.points(c.DB_CLIENT_CONNECTION_IDLE_MIN)] == [2]
    assert [point.sum for point in telemetry.points(c.DB_CLIENT_CONNECTION_WAIT_TIME)] == [0.5]

    check_in(pools, 1)
    assert telemetry.connections() == {"idle": 2, "used": 0}
    assert [point.count for point in telemetry.points(c.DB_CLIENT_CONNECTION_USE_TIME)] == [1]


@pytest.mark.parametrize("late_check_in", [True, False])
def test_a_connection_closed_while_in_use_is_gone(
    telemetry: Telemetry, pools: PoolMetrics, late_check_in: bool
) -> None:
    create(pools, 1)
    create(pools, 2)
    for _ in range(3):
        check_out(pools, 1)
        close(pools, 1)
        if late_check_in:
            check_in(pools, 1)
        create(pools, 1)

    assert telemetry.connections() == {"idle": 2, "used": 0}
    assert [point.count for point in telemetry.points(c.DB_CLIENT_CONNECTION_USE_TIME)] == [3]


def test_connections_of_two_clients_to_one_server_have_the_same_numbers(
    telemetry: Telemetry, pools: PoolMetrics
) -> None:
    for _ in range(2):
        pools.pool_created(PoolCreatedEvent(ADDRESS, {}))
        create(pools, 1)
    check_out(pools, 1)
    check_out(pools, 1)
    check_in(pools, 1)

    assert telemetry.connections() == {"idle": 1, "used": 1}
    assert [point.value for point in telemetry.points(c.DB_CLIENT_CONNECTION_MAX)] == [200]
    close(pools, 1)
    assert telemetry.connections() == {"idle": 0, "used": 1}


def test_a_pool_met_in_mid_life_is_learned(telemetry: Telemetry, pools: PoolMetrics) -> None:
    check_in(pools, 4)
    close(pools, 5)
    check_out(pools, 6)

    assert telemetry.connections() == {"idle": 0, "used": 1}
    check_in(pools, 6)
    assert telemetry.connections() == {"idle": 1, "used": 0}


@pytest.mark.parametrize("clients", [1, 2])
def test_a_connection_whose_return_was_not_reported_is_in_use_once(
    telemetry: Telemetry, pools: PoolMetrics, clients: int
) -> None:
    """A task that is cancelled while it returns its connection leaves the driver without that event."""
    for _ in range(clients):
        pools.pool_created(PoolCreatedEvent(ADDRESS, {"maxPoolSize": 1}))
        create(pools, 1)
    for _ in range(5):
        for _ in range(clients):
            check_out(pools, 1)

    assert telemetry.connections() == {"idle": 0, "used": clients}
    for _ in range(clients):
        check_in(pools, 1)
    assert telemetry.connections() == {"idle": clients, "used": 0}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_the_pools_of_its_own_alone(telemetry: Telemetry, pools: PoolMetrics) -> None:
    """The driver makes new ones there, and tells nothing of the end of the parent's."""
    pools.pool_created(PoolCreatedEvent(ADDRESS, {}))
    create(pools, 1)
    create(pools, 2)
    check_out(pools, 1)
    pools.connection_check_out_started(ConnectionCheckOutStartedEvent(ADDRESS))
    pid = os.fork()
    if pid == 0:
        pools.pool_created(PoolCreatedEvent(ADDRESS, {}))
        create(pools, 1)
        check_out(pools, 1)
        check_in(pools, 1)
        most = [point.value for point in telemetry.points(c.DB_CLIENT_CONNECTION_MAX)]
        waiting = [point.value for point in telemetry.points(c.DB_CLIENT_CONNECTION_PENDING_REQUESTS)]
        os._exit((telemetry.connections(), most, waiting) == ({"idle": 1, "used": 0}, [100], [0]))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert telemetry.connections() == {"idle": 1, "used": 1}


def test_a_pool_without_limit_has_no_maximum(telemetry: Telemetry, pools: PoolMetrics) -> None:
    pools.pool_created(PoolCreatedEvent(ADDRESS, {"maxPoolSize": None}))

    assert not telemetry.points(c.DB_CLIENT_CONNECTION_MAX)


def test_a_closed_pool_is_forgotten_when_its_last_connection_is(telemetry: Telemetry, pools: PoolMetrics) -> None:
    pools.pool_created(PoolCreatedEvent(ADDRESS, {}))
    create(pools, 1)
    check_out(pools, 1)
    pools.pool_closed(PoolClosedEvent(ADDRESS))
    assert telemetry.connections() == {"idle": 0, "used": 1}

    check_in(pools, 1)
    close(pools, 1)

    assert telemetry.connections() == {}


def test_with_its_last_pool_a_server_has_no_idle_connection(telemetry: Telemetry, pools: PoolMetrics) -> None:
    """A task that is cancelled while it closes a connection leaves the driver without that event."""
    for _ in range(2):
        pools.pool_created(PoolCreatedEvent(ADDRESS, {}))
        for number in (1, 2):
            create(pools, number)
    check_out(pools, 2)
    pools.pool_closed(PoolClosedEvent(ADDRESS))
    assert telemetry.connections() == {"idle": 3, "used": 1}
    pools.pool_closed(PoolClosedEvent(ADDRESS))
    assert telemetry.connections() == {"idle": 0, "used": 1}
    check_in(pools, 2)
    close(pools, 2)
    assert telemetry.connections() == {}


def test_timeouts_are_counted_and_no_longer_pending(telemetry: Telemetry, pools: PoolMetrics) -> None:
    pools.connection_check_out_started(ConnectionCheckOutStartedEvent(ADDRESS))
    assert [point.value for point in telemetry.points(c.DB_CLIENT_CONNECTION_PENDING_REQUESTS)] == [1]

    for reason in (ConnectionCheckOutFailedReason.TIMEOUT, ConnectionCheckOutFailedReason.CONN_ERROR):
        pools.connection_check_out_failed(ConnectionCheckOutFailedEvent(ADDRESS, reason, 0.1))

    assert [point.value for point in telemetry.points(c.DB_CLIENT_CONNECTION_PENDING_REQUESTS)] == [0]
    assert [point.value for point in telemetry.points(c.DB_CLIENT_CONNECTION_TIMEOUTS)] == [1]


@pytest.mark.anyio
async def test_tasks_cancelled_while_they_wait_do_not_stay_pending(telemetry: Telemetry, pools: PoolMetrics) -> None:
    async def wait() -> None:
        pools.connection_check_out_started(ConnectionCheckOutStartedEvent(ADDRESS))
        await asyncio.Event().wait()

    tasks = [asyncio.create_task(wait()) for _ in range(3)]
    await asyncio.sleep(0)
    assert [point.value for point in telemetry.points(c.DB_CLIENT_CONNECTION_PENDING_REQUESTS)] == [3]

    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert [point.value for point in telemetry.points(c.DB_CLIENT_CONNECTION_PENDING_REQUESTS)] == [0]


def test_whatever_fails_in_a_listener_stays_there(telemetry: Telemetry) -> None:
    made = MongoInstrumentation(tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider)
    events = ("started", "succeeded", "failed")
    for name in events:
        getattr(made._commands_beside(()), name)(object())
    of_pools = [name for name in vars(PoolMetrics) if name.startswith(("pool_c", "connection_"))]
    for name in of_pools:
        getattr(made._pools, name)(object())

    assert fail_open.failures == {
        "database commands": len(events),
        "database pool metrics": len(of_pools) - 1,  # a cleared pool is nothing to count
    }


# The aggregator's way, and that of others


def measured(reader: SnapshotReader) -> dict[str, int]:
    """How many values of each metric there are since the last call."""
    counts: dict[str, int] = {}
    for series, histogram in reader.take(0.0).histograms.items():
        counts[series.name] = counts.get(series.name, 0) + histogram.count
    return counts


def use(client: MongoClient[Any], times: int = 1) -> None:
    """Have the driver tell of commands, each on a connection of its own."""
    listeners: Any = client.options.pool_options._event_listeners
    for _ in range(times):
        listeners.publish_connection_check_out_started(ADDRESS)
        listeners.publish_connection_checked_out(ADDRESS, 1, 0.5)
        publish(client, {"find": "orders"})
        listeners.publish_connection_checked_in(ADDRESS, 1)


def counts(commands: int) -> dict[str, int]:
    names = c.DB_CLIENT_OPERATION_DURATION, c.DB_CLIENT_CONNECTION_WAIT_TIME, c.DB_CLIENT_CONNECTION_USE_TIME
    return dict.fromkeys(names, commands) if commands else {}


# Without events


def measuring(client: MongoClient[Any]) -> tuple[SnapshotReader, MongoInstrumentation]:
    reader = SnapshotReader(0.0)
    provider = GuardedMeterProvider([reader], shutdown_on_exit=False)
    return reader, attach(client, tracer_provider=None, meter_provider=provider, direct=reader.direct)


def replaced(client: MongoClient[Any]) -> set[str]:
    """The driver's methods that are replaced for a client."""
    return {name for name in vars(client.options.pool_options._event_listeners) if name.startswith("publish_")}


class OwnPools(ConnectionPoolListener):
    """A pool listener of the application's own."""

    def __init__(self) -> None:
        self.heard: list[str] = []


for kind in [name for name in vars(ConnectionPoolListener) if not name.startswith("_")]:
    setattr(OwnPools, kind, lambda self, event: self.heard.append(type(event).__name__))
OwnPools.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]

CAUSED_BY_A_COMMAND = ["ConnectionCheckOutStartedEvent", "ConnectionCheckedOutEvent", "ConnectionCheckedInEvent"]


def test_where_nobody_else_listens_to_pools_a_command_makes_no_event_of_a_pool(
    client: MongoClient[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, instrumentation = measuring(client)
    for event in CAUSED_BY_A_COMMAND:
        monkeypatch.delattr(pymongo_monitoring, event)
    use(client, 3)
    assert measured(reader) == counts(3)
    instrumentation.detach()
    assert replaced(client) == set()


@pytest.mark.parametrize("first", [True, False])
def test_who_else_listens_to_pools_hears_every_event(first: bool) -> None:
    own = OwnPools()
    with offline(event_listeners=[own] if first else []) as client:
        reader, instrumentation = measuring(client)
        if not first:
            change_listeners(client, add=[own])
        use(client)
        assert (measured(reader), own.heard) == (counts(1), CAUSED_BY_A_COMMAND)
        change_listeners(client, remove=[own])
        use(client)
        assert (measured(reader), own.heard) == (counts(1), CAUSED_BY_A_COMMAND)
        change_listeners(client, add=[own])
        instrumentation.detach()
        use(client)
        assert (measured(reader), own.heard) == (counts(0), [*CAUSED_BY_A_COMMAND, *CAUSED_BY_A_COMMAND])


def test_two_services_with_readers_of_their_own_both_measure_the_pools(client: MongoClient[Any]) -> None:
    (one, first), (two, _) = measuring(client), measuring(client)
    use(client)
    assert (measured(one), measured(two)) == (counts(1), counts(1))
    first.detach()
    use(client)
    assert (measured(one), measured(two)) == (counts(0), counts(1))


@pytest.mark.parametrize("name", ["check_out_started", "checked_out", "checked_in"])
def test_a_driver_whose_methods_take_something_else_makes_its_events(
    client: MongoClient[Any], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As a later version may."""
    publisher, method = type(client.options.pool_options._event_listeners), f"publish_connection_{name}"
    usual = getattr(publisher, method)

    def later(self: Any, address: Any, *values: Any, server: int = 0) -> None:
        usual(self, address, *values)

    monkeypatch.setattr(publisher, method, later)
    reader, _ = measuring(client)
    assert replaced(client) == set()
    use(client)
    assert measured(reader) == counts(1)


def test_what_fails_without_an_event_stays_there_too(
    client: MongoClient[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reader, instrumentation = measuring(client)
    assert replaced(client)
    monkeypatch.setattr(instrumentation._pools, "_pools", None)
    use(client)
    assert "database pool metrics" in caplog.text
    assert measured(reader) == {c.DB_CLIENT_OPERATION_DURATION: 1}


def test_an_exporter_that_comes_later_misses_nothing_and_the_aggregator_counts_once(client: MongoClient[Any]) -> None:
    reader, exporter = SnapshotReader(0.0), InMemoryMetricReader()
    provider = GuardedMeterProvider([reader], shutdown_on_exit=False)
    instrumentation = attach(client, tracer_provider=None, meter_provider=provider, direct=reader.direct)

    use(client, 2)
    provider.add_metric_reader(exporter)
    use(client, 3)
    exported = {one.name: sum(point.count for point in one.data.data_points) for one in histograms_of(exporter)}
    assert (measured(reader), exported) == (counts(5), counts(3))

    provider.remove_metric_reader(exporter)
    use(client, 4)
    assert measured(reader) == counts(4)
    instrumentation.detach()
    use(client)
    assert measured(reader) == counts(0)


def histograms_of(reader: InMemoryMetricReader) -> list[Any]:
    return [one for one in metrics_of(reader) if hasattr(one.data.data_points[0], "bucket_counts")]


def test_two_services_that_join_one_provider_both_see_a_client_of_both(client: MongoClient[Any]) -> None:
    readers = [SnapshotReader(0.0) for _ in range(2)]
    provider = MeterProvider(readers, shutdown_on_exit=False)
    for reader in readers:
        instrumentation = MongoInstrumentation(tracer_provider=None, meter_provider=provider, direct=reader.direct)
        instrumentation.attach(client)

    use(client, 3)

    assert [measured(reader) for reader in readers] == [counts(3), counts(3)]


def test_a_provider_that_nobody_uses_any_more_is_forgotten() -> None:
    provider = GuardedMeterProvider([], shutdown_on_exit=False)
    MongoInstrumentation(tracer_provider=None, meter_provider=provider)
    gone = weakref.ref(provider)
    del provider
    gc.collect()

    assert gone() is None


# Server state


def test_state_follows_heartbeats_and_tells_of_changes() -> None:
    told: list[bool | None] = []
    state = ServerState()
    state.on_change = lambda: told.append(state.status.up)

    state.known([ADDRESS])
    assert state.status.up is None
    for _ in range(3):
        state.heard(ADDRESS)
    state.lost(ADDRESS, "AutoReconnect: refused")
    state.lost(ADDRESS, "AutoReconnect: refused")
    reason = state.status.reason
    state.heard(ADDRESS)

    assert told == [True, False, True]
    assert reason == "AutoReconnect: refused"


def test_one_lost_server_of_several_is_not_a_lost_database() -> None:
    state = ServerState()
    state.heard(("a", 1))
    state.heard(("b", 1))

    state.lost(("a", 1), "gone")
    assert state.status.up is True
    state.lost(("b", 1), "gone")
    assert state.status.up is False


def test_servers_that_left_the_deployment_do_not_vouch_for_it() -> None:
    state = ServerState()
    state.heard(("seed", 1))
    state.known([("alias", 1)])
    state.members = lambda: [("a", 1)]
    state.heard(("a", 1))

    state.lost(("a", 1), "gone")

    assert state.status.up is False


def test_a_suspicion_is_told_once_until_it_is_settled_and_only_of_known_servers() -> None:
    told: list[str] = []
    moment = "before it is known"
    state = ServerState(lambda: told.append(moment))

    state.suspect(ADDRESS)
    state.known([ADDRESS])
    moment = "at first"
    state.suspect(ADDRESS)
    moment = "again"
    state.suspect(ADDRESS)
    state.settled()
    moment = "settled"
    state.suspect(ADDRESS)

    assert told == ["at first", "settled"]


def test_a_failing_callback_does_not_reach_the_driver() -> None:
    def fail() -> None:
        raise RuntimeError("mine")

    state = ServerState(fail)

    state.heard(ADDRESS)

    assert state.status.up is True


# Attaching


def test_further_clients_that_are_gone_are_forgotten(telemetry: Telemetry, client: MongoClient[Any]) -> None:
    instrumentation = telemetry.attach(client)
    for _ in range(3):
        with offline() as further:
            instrumentation.measure(further)
        del further
        gc.collect()
    assert len(instrumentation._further_clients) == 1


@pytest.mark.parametrize("kind", [MongoClient, AsyncMongoClient])
@pytest.mark.parametrize("database", [True, False])
def test_a_client_that_exists_is_heard_once(telemetry: Telemetry, kind: Any, database: bool) -> None:
    own = Listener()
    client = kind("127.0.0.1:1", connect=False, event_listeners=[own])
    handle = client.shop if database else client

    first = telemetry.attach(handle)
    first.attach(handle)
    publish(client, {"find": "orders"})

    assert first.attached
    assert telemetry.commands() == {"find orders": 1}
    assert [span.name for span in telemetry.spans] == ["find orders"]
    assert own.heard == ["find"]


@pytest.mark.parametrize("kind", [MongoClient, AsyncMongoClient])
def test_a_client_that_exists_is_not_made_to_publish_through_a_queue_it_lacks(telemetry: Telemetry, kind: Any) -> None:
    """PyMongo makes the queue of server and topology events with the client; without it, adding servers would fail."""
    client = kind("127.0.0.1:1", connect=False)
    telemetry.attach(client)

    listeners = client.options.pool_options._event_listeners

    assert not listeners.enabled_for_server
    assert not listeners.enabled_for_topology
    assert listeners.enabled_for_server_heartbeat


def test_without_tracer_provider_there_is_no_span_listener(telemetry: Telemetry, client: MongoClient[Any]) -> None:
    telemetry.attach(client, tracer_provider=None)

    assert [one.spans for one in client.options.event_listeners if isinstance(one, Commands)] == [None]
    publish(client, {"find": "orders"})
    assert telemetry.commands() == {"find orders": 1}


def test_a_client_that_the_library_traces_already_gets_no_second_span(telemetry: Telemetry) -> None:
    library = CommandTracer(telemetry.tracer_provider.get_tracer("library"))
    with offline(event_listeners=[library]) as client:
        telemetry.attach(client)
        publish(client, {"find": "orders"})

    assert len(telemetry.spans) == 1


@pytest.mark.parametrize(("native", "spans"), [(True, 0), (False, 1)])
def test_a_client_that_traces_natively_gets_no_second_span(
    telemetry: Telemetry, client: MongoClient[Any], monkeypatch: pytest.MonkeyPatch, native: bool, spans: int
) -> None:
    monkeypatch.setitem(sys.modules, "pymongo._otel", SimpleNamespace(_is_tracing_enabled=lambda _tracing: native))

    telemetry.attach(client)
    publish(client, {"find": "orders"})

    assert len(telemetry.spans) == spans


def test_listeners_registered_globally_since_are_not_taken_in(telemetry: Telemetry, client: MongoClient[Any]) -> None:
    later = Listener()
    pymongo_monitoring.register(later)

    telemetry.attach(client)
    publish(client, {"find": "orders"})

    assert later.heard == []


def test_a_global_listener_of_the_client_is_not_doubled(telemetry: Telemetry) -> None:
    before = Listener()
    pymongo_monitoring.register(before)
    with offline() as client:
        telemetry.attach(client)
        publish(client, {"find": "orders"})

    assert before.heard == ["find"]


def test_detaching_takes_ours_out_and_leaves_the_others(telemetry: Telemetry) -> None:
    own = Listener()
    with offline(event_listeners=[own]) as client:
        instrumentation = telemetry.attach(client)
        instrumentation.detach()
        publish(client, {"find": "orders"})

        assert list(map(id, client.options.event_listeners)) == [id(own)]
        assert not instrumentation.attached
        assert (telemetry.commands(), telemetry.spans, own.heard) == ({}, (), ["find"])

        assert instrumentation.attach(client)
        publish(client, {"find": "orders"})
        assert telemetry.commands() == {"find orders": 1}


def test_two_services_share_a_client_and_count_it_once(telemetry: Telemetry, client: MongoClient[Any]) -> None:
    first, second = (telemetry.attach(client, tracer_provider=None) for _ in range(2))
    publish(client, {"find": "orders"})
    assert telemetry.commands() == {"find orders": 1}

    first.detach()
    publish(client, {"find": "orders"})
    assert telemetry.commands() == {"find orders": 2}

    second.detach()
    publish(client, {"find": "orders"})
    assert telemetry.commands() == {"find orders": 2}


def test_each_service_of_a_shared_client_is_told_of_its_servers(telemetry: Telemetry, client: MongoClient[Any]) -> None:
    services = [telemetry.attach(client) for _ in range(2)]
    told: list[bool] = []
    for service in services:
        service.state.on_change = lambda: told.append(True)
    listeners: Any = client.options.pool_options._event_listeners
    listeners.publish_server_heartbeat_failed(("127.0.0.1", 1), 0.1, OSError("refused"), False)
    assert len(told) == 2
    services[0].detach()
    listeners.publish_server_heartbeat_succeeded(("127.0.0.1", 1), 0.1, SimpleNamespace(document={}), False)
    assert len(told) == 3


@pytest.mark.parametrize("listeners", [list, monitoring_listeners], ids=["attached", "relayed"])
def test_spans_of_a_shared_client_go_on_when_one_of_two_services_ends(telemetry: Telemetry, listeners: Any) -> None:
    first, second = (
        MongoInstrumentation(tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider)
        for _ in range(2)
    )
    with offline(event_listeners=listeners()) as client:
        first.attach(client)
        second.attach(client)
        publish(client, {"find": "orders"})
        assert (telemetry.commands(), telemetry.traced()) == ({"find orders": 1}, {"find orders": 1})

        first.detach()
        publish(client, {"find": "orders"}, 2)
        assert (telemetry.commands(), telemetry.traced()) == ({"find orders": 2}, {"find orders": 2})

        second.detach()
        publish(client, {"find": "orders"}, 3)
        assert telemetry.traced() == {"find orders": 2}


def test_the_database_of_one_service_is_no_new_client_of_another() -> None:
    one, other = Telemetry(), Telemetry()
    first = MongoInstrumentation(tracer_provider=one.tracer_provider, meter_provider=one.meter_provider)
    first.instrument_new_clients()
    with offline() as theirs, offline() as further:
        first.measure(further)
        listener: Any = next(found for found in theirs.options.event_listeners if isinstance(found, PoolMetrics))
        listener.pool_created(PoolCreatedEvent(ADDRESS, {}))
        second = other.attach(theirs)
        other.attach(further)
        publish(theirs, {"find": "orders"})
        assert other.commands() == {"find orders": 1}
        assert [span.name for span in other.spans] == ["find orders"]
        assert one.commands() == {}
        assert one.spans == ()
        publish(further, {"find": "users"}, 2)
        assert one.commands() == {"find users": 1}
        second.detach()
        publish(theirs, {"find": "orders"}, 3)
        assert one.commands() == {"find users": 1}


def test_a_client_that_leaves_takes_its_connections_along(telemetry: Telemetry, pools: PoolMetrics) -> None:
    pools.add_pool(ADDRESS, 10, 0, [1, 2])
    pools.add_pool(ADDRESS, 5, 0, [1])
    pools.remove_pool(ADDRESS, [1, 2])
    assert telemetry.connections() == {"idle": 1, "used": 0}
    pools.remove_pool(ADDRESS, [1])
    pools.remove_pool(ADDRESS, [1])
    assert telemetry.connections() == {}


def test_where_the_seam_does_not_hold_one_warning_says_what_to_do(
    telemetry: Telemetry,
    client: MongoClient[Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with monkeypatch.context() as patch:
        patch.delattr("pymongo.pool_options.PoolOptions._event_listeners")
        instrumentation = telemetry.attach(client)
        instrumentation.detach()

    assert not instrumentation.attached
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert (
        "event_listeners=otel_monitoring.instrumentation.mongodb.instrumentation.monitoring_listeners()"
        in record.getMessage()
    )


def test_a_changed_driver_is_noticed_before_anything_is_changed(
    telemetry: Telemetry, client: MongoClient[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = dict(vars(client.options.pool_options._event_listeners))
    monkeypatch.setattr("pymongo.monitoring._EventListeners.__init__", lambda self, listeners: None)

    assert not telemetry.attach(client).attached
    assert vars(client.options.pool_options._event_listeners) == before
    assert len(caplog.records) == 1


def test_no_handle_is_a_warning(telemetry: Telemetry, caplog: pytest.LogCaptureFixture) -> None:
    assert not telemetry.attach(SimpleNamespace()).attached

    assert "SimpleNamespace is no PyMongo or Motor handle" in caplog.text


def test_relayed_listeners_work_without_the_seam(telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch) -> None:
    with offline(event_listeners=monitoring_listeners()) as client:
        publish(client, {"find": "before"})
        monkeypatch.setattr("otel_monitoring.instrumentation.mongodb.instrumentation.change_listeners", None)

        instrumentation = telemetry.attach(client)
        instrumentation.attach(client)
        publish(client, {"find": "orders"})
        listeners: Any = client.options.pool_options._event_listeners
        listeners.publish_server_heartbeat_failed(("127.0.0.1", 1), 0.1, OSError("refused"), False)

        assert instrumentation.attached
        assert telemetry.commands() == {"find orders": 1}
        assert len(telemetry.spans) == 1
        assert instrumentation.state.status.reason == "OSError: refused"

        instrumentation.detach()
        publish(client, {"find": "after"})
        assert telemetry.commands() == {"find orders": 1}


def test_clients_made_later_are_heard_once_until_undone(telemetry: Telemetry) -> None:
    instrumentation = MongoInstrumentation(
        tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider
    )
    undo = instrumentation.instrument_new_clients()
    assert instrumentation.instrument_new_clients() is undo

    with offline() as new, offline() as other:
        instrumentation.attach(new)
        publish(new, {"find": "orders"})
        publish(other, {"find": "users"}, 2)
        assert telemetry.commands() == {"find orders": 1, "find users": 1}
        assert len(telemetry.spans) == 2

    undo()
    with offline() as late:
        assert late.options.event_listeners == []


def test_new_clients_of_two_services_are_heard_once_until_both_end(telemetry: Telemetry) -> None:
    first, second = (MongoInstrumentation(tracer_provider=None, meter_provider=telemetry.meter_provider) for _ in "12")
    ends = [one.instrument_new_clients() for one in (first, second)]
    for number, services in enumerate((2, 1), 1):
        with offline() as client:
            publish(client, {"find": "orders"})
            listeners: Any = client.options.pool_options._event_listeners
            listeners.publish_connection_created(ADDRESS, number)
        assert telemetry.commands() == {"find orders": number}
        assert telemetry.connections() == {"idle": number, "used": 0}
        ends[2 - services]()
    with offline() as client:
        publish(client, {"find": "orders"})
    assert telemetry.commands() == {"find orders": 2}


def test_the_librarys_global_tracer_is_not_doubled(telemetry: Telemetry) -> None:
    pymongo_monitoring.register(CommandTracer(telemetry.tracer_provider.get_tracer("library")))
    attached_to_all = MongoInstrumentation(
        tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider
    )
    attached_to_all.instrument_new_clients()

    with offline() as client:
        publish(client, {"find": "orders"})

    assert len(telemetry.spans) == 1
