"""What is given as a database is one, or is refused with what to pass in its place."""

import inspect
from collections.abc import Callable
from typing import Any
from unittest.mock import MagicMock

import pytest
from fastapi import FastAPI
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient

from otel_monitoring import ConfigurationError, MonitoringService
from otel_monitoring.health.database import DatabaseHealthChecker
from otel_monitoring.health.database_handle import database_handle

URI = "mongodb://127.0.0.1:1/shop"
pytestmark = pytest.mark.anyio


class OwnClient(MongoClient[Any]):
    """As people derive them, for defaults of their own."""


class StandIn:
    """As tests bring them."""

    name = "shop"

    def command(self, what: str) -> dict[str, int]:
        return {"ok": 1}


def clients() -> list[Any]:
    """Of every kind. None of them connects."""
    motor: Any = AsyncIOMotorClient
    made = (MongoClient, AsyncMongoClient, motor, OwnClient)
    return [make(URI, connect=False) for make in made]


async def close(*clients: Any) -> None:
    for client in clients:
        closing = client.close()
        if closing is not None:
            await closing


async def test_databases_and_their_clients_are_taken() -> None:
    for client in clients():
        for handle in (client, client["shop"]):
            assert database_handle(handle) is handle
            assert DatabaseHealthChecker(handle)._name == "shop"
        await close(client)
    without: MongoClient[Any] = MongoClient("mongodb://127.0.0.1:1", connect=False)
    assert DatabaseHealthChecker(without)._name == "admin", "it answers the ping, there is nothing to count"
    without.close()


@pytest.mark.parametrize("db", [None, StandIn(), MagicMock()], ids=["None", "stand-in", "mock"])
async def test_so_is_none_and_what_stands_for_a_database(db: Any) -> None:
    MonitoringService(db).watch_database(db)


async def soon() -> None:
    """A handle that somebody forgot to await."""


WRONG: dict[str, tuple[Callable[[list[Any]], Any], str]] = {
    "a URI": (lambda _: URI, "text is no database: pass MongoClient(uri)['shop'], or set OTEL_MONITORING_DATABASE_URI"),
    "a collection": (lambda c: c[0]["shop"]["orders"], "a collection (Collection) is no database: pass its database"),
    "an async one": (lambda c: c[1]["shop"]["orders"], "a collection (AsyncCollection) is"),
    "one of Motor": (lambda c: c[2]["shop"]["orders"], "a collection (AsyncIOMotorCollection) is"),
    "a FastAPI": (lambda _: FastAPI(), "an application (FastAPI) is no database: pass the database, or None, and"),
    "a dict": (lambda _: {"uri": URI}, "a dict is no database: pass a Database or AsyncDatabase of PyMongo"),
    "a client class": (lambda _: MongoClient, "the class MongoClient is no database: pass an instance"),
    "a database class": (lambda c: type(c[0]["shop"]), "the class Database is"),
    "a function": (lambda _: clients, "a function is no database: pass what it returns"),
    "a coroutine": (lambda _: soon(), "a coroutine is no database: pass what it gives when it is awaited"),
    "a number": (lambda _: 27017, "a int is no database"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_anything_else_is_refused(name: str) -> None:
    make, says = WRONG[name]
    of = clients()
    given = make(of)
    service = MonitoringService(None)
    for give in (MonitoringService, service.watch_database, service.measure_client):
        with pytest.raises(ConfigurationError) as refused:
            give(given)
        assert str(refused.value).startswith(f"db: {says}")
        assert "27017/" not in str(refused.value)
    if inspect.iscoroutine(given):
        given.close()
    await close(*of)
