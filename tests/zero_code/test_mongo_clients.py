"""Which client and database an application uses, without having been told. No server is needed to build a client."""

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient
from pymongo.database import Database

from otel_monitoring.guard import fail_open
from otel_monitoring.zero_code.mongo_clients import BuiltClients

pytestmark = pytest.mark.anyio

NOWHERE = "mongodb://127.0.0.1:1"


@pytest.fixture
def built() -> Iterator[BuiltClients]:
    clients = BuiltClients()
    stop = clients.follow()
    yield clients
    stop()
    assert not fail_open.failures


def client(**options: Any) -> MongoClient[Any]:
    return MongoClient(NOWHERE, connect=False, **options)


def test_the_first_client_then_the_first_database_it_is_asked_for(built: BuiltClients) -> None:
    assert built.handle is None
    first = client()
    assert built.handle is first
    with client() as second:
        _ = second["other"]
        assert built.handle is first
        _ = first.admin, first["local"]
        assert built.handle is first, "PyMongo's own databases are not the application's"
        shop: object = first["shop"]
        assert built.handle is shop
        _ = first["archive"]
        assert built.handle is shop
        assert [one is expected for one, expected in zip(built.clients, (first, second), strict=True)] == [True, True]
    first.close()
    assert built.handle is None


def test_changes_are_told(built: BuiltClients) -> None:
    told: list[object] = []
    built.changed = lambda: told.append(built.handle)
    first, second = client(), client()
    shop = first["shop"]
    second.close()
    first.close()
    assert [type(handle) for handle in told] == [MongoClient, Database, type(None)]
    assert (told[0] is first, told[1] is shop) == (True, True)


def test_after_a_temporary_client_comes_the_next(built: BuiltClients) -> None:
    with client() as migrating:
        _ = migrating["migrations"]
        lasting = client()
    assert built.handle is lasting
    shop: object = lasting["shop"]
    assert built.handle is shop
    lasting.close()


def test_clients_with_the_same_servers_are_told_apart(built: BuiltClients) -> None:
    first, second = client(), client()
    first.close()
    assert built.handle is second
    second.close()
    assert built.handle is None


async def test_asynchronous_clients(built: BuiltClients) -> None:
    first: AsyncMongoClient[Any] = AsyncMongoClient(NOWHERE)
    shop = first["shop"]
    assert built.handle is shop
    assert inspect.iscoroutinefunction(first.close), "it is what it was for whoever asks"
    await first.close()
    assert built.handle is None


async def test_motor_is_made_of_the_others(built: BuiltClients) -> None:
    motor: Any = AsyncIOMotorClient(NOWHERE)
    shop = motor["shop"]
    assert built.handle is shop.delegate
    motor.close()
    assert built.handle is None


def test_afterwards_pymongo_is_as_before() -> None:
    before = MongoClient.__init__, MongoClient.close
    BuiltClients().follow()()
    assert (MongoClient.__init__, MongoClient.close) == before
