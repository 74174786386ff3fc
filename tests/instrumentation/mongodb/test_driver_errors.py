"""What a driver's errors prove about the database: a table of real PyMongo errors, and foreign ones."""

import asyncio
import errno
import smtplib
import socket
import sqlite3
import ssl
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import anyio
import httpx
import pytest
from pymongo import MongoClient, errors

from otel_monitoring.instrumentation.mongodb.driver_errors import (
    Proof,
    is_lost_connection,
    is_timeout,
    is_use_after_close,
    proof_of,
)

TOPOLOGY = ", Timeout: 5.0s, Topology Description: <TopologyDescription id: 6, topology_type: Unknown, servers: [...]>"
CONFIGURED = " (configured timeouts: socketTimeoutMS: 20000.0ms, connectTimeoutMS: 20000.0ms)"


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def cancelled() -> Exception:
    kind: type[Exception] = errors._OperationCancelled
    return kind("operation cancelled")


class Unprintable(errors.AutoReconnect):
    def __str__(self) -> str:
        raise SystemExit


@pytest.mark.parametrize(
    ("error", "proof"),
    [
        (
            errors.WaitQueueTimeoutError("Timed out while checking out a connection"),
            Proof.NO_CONNECTION,
        ),
        (errors.OperationFailure("Authentication failed.", 18), Proof.ANSWERS),
        (errors.OperationFailure("no such command: 'ping'", 59), Proof.ANSWERS),
        (errors.OperationFailure("Read concern snapshot is not supported", 246), Proof.ANSWERS),
        (errors.ExecutionTimeout("operation exceeded time limit", 50), Proof.ANSWERS),
        (errors.ExecutionTimeout("operation would exceed time limit, remaining timeout:0.1 <= ...", 50), Proof.NOTHING),
        (errors.NotPrimaryError("not primary", {"code": 10107}), Proof.ANSWERS),
        (errors.ProtocolError("Got opcode 1 but expected"), Proof.ANSWERS),
        (
            errors.ServerSelectionTimeoutError('No replica set members match selector "Primary()"' + TOPOLOGY),
            Proof.ANSWERS,
        ),
        (errors.ServerSelectionTimeoutError("No primary available for writes" + TOPOLOGY), Proof.ANSWERS),
        (
            errors.ServerSelectionTimeoutError(
                "SSL handshake failed: db:27017: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: expired"
                + CONFIGURED
                + TOPOLOGY
            ),
            Proof.ANSWERS,
        ),
        (caused(errors.AutoReconnect("SSL handshake failed"), ssl.SSLError("wrong version number")), Proof.ANSWERS),
        (ssl.SSLCertVerificationError("expired"), Proof.ANSWERS),
        (errors.InvalidOperation("Cannot use MongoClient after close"), Proof.NOTHING),
        (errors.InvalidOperation("Cannot use AsyncMongoClient after close"), Proof.NOTHING),
        (errors.ConfigurationError("The DNS query name does not exist: _mongodb._tcp.db."), Proof.NOTHING),
        (errors.InvalidURI("Invalid URI scheme"), Proof.NOTHING),
        (errors.InvalidName("collection names must not contain '$'"), Proof.NOTHING),
        (cancelled(), Proof.NOTHING),
        (
            errors.ServerSelectionTimeoutError("db:27017: [Errno -3] Temporary failure in name resolution" + TOPOLOGY),
            Proof.NOTHING,
        ),
        (
            errors.ServerSelectionTimeoutError(
                "db:27017: [Errno -2] Name or service not known" + CONFIGURED + TOPOLOGY
            ),
            Proof.NOTHING,
        ),
        (caused(errors.AutoReconnect("db:27017"), socket.gaierror(-2, "Name or service not known")), Proof.NOTHING),
        (socket.gaierror(-3, "Temporary failure"), Proof.NOTHING),
        (RuntimeError("Event loop is closed"), Proof.NOTHING),
        (RuntimeError("can't start new thread"), Proof.NOTHING),
        (OSError(errno.EMFILE, "Too many open files"), Proof.NOTHING),
        (caused(errors.AutoReconnect("db:27017"), OSError(errno.ENOMEM, "Cannot allocate memory")), Proof.NOTHING),
        (errors.ServerSelectionTimeoutError("db:27017: [Errno 24] Too many open files" + TOPOLOGY), Proof.NOTHING),
        (
            errors.ServerSelectionTimeoutError(
                "a:1: [Errno 24] Too many open files,b:2: [Errno 111] Connection refused" + TOPOLOGY
            ),
            Proof.DOWN,
        ),
        (TypeError("our own"), Proof.NOTHING),
        (asyncio.CancelledError(), Proof.NOTHING),
        (errors.ServerSelectionTimeoutError("db:27017: [Errno 111] Connection refused" + TOPOLOGY), Proof.DOWN),
        (
            errors.ServerSelectionTimeoutError(
                "a:1: [Errno -2] Name or service not known,b:2: [Errno 111] Connection refused" + TOPOLOGY
            ),
            Proof.DOWN,
        ),
        (errors.ServerSelectionTimeoutError("SSL handshake failed: db:27017: timed out" + TOPOLOGY), Proof.DOWN),
        (errors.ServerSelectionTimeoutError("No servers found yet" + TOPOLOGY), Proof.DOWN),
        (errors.NetworkTimeout("db:27017: timed out" + CONFIGURED), Proof.DOWN),
        (errors.AutoReconnect("db:27017: connection closed"), Proof.DOWN),
        (Unprintable(), Proof.DOWN),
        (ConnectionRefusedError("refused"), Proof.DOWN),
        (asyncio.TimeoutError(), Proof.DOWN),
    ],
    ids=lambda given: f"{type(given).__name__} {given}"[:60] if not isinstance(given, Unprintable | Proof) else None,
)
def test_what_an_error_proves(error: BaseException, proof: Proof) -> None:
    assert proof_of(error) is proof


@pytest.mark.parametrize(
    ("error", "timeout"),
    [
        (errors.NetworkTimeout("timed out"), True),
        (errors.WaitQueueTimeoutError("timed out"), True),
        (asyncio.TimeoutError(), True),
        (errors.AutoReconnect("refused"), False),
        (errors.OperationFailure("no"), False),
    ],
)
def test_what_a_busy_process_may_have_caused(error: BaseException, timeout: bool) -> None:
    assert is_timeout(error) is timeout


@pytest.mark.parametrize(
    ("error", "cut"),
    [
        (errors.AutoReconnect("db:27017: connection closed"), True),
        (errors.NotPrimaryError("not primary"), True),
        (errors.NetworkTimeout("db:27017: timed out"), False),
        (errors.ServerSelectionTimeoutError("db:27017: [Errno 111] Connection refused"), False),
        (errors.WaitQueueTimeoutError("Timed out"), False),
        (errors.OperationFailure("Authentication failed.", 18), False),
        (ConnectionResetError(), False),
    ],
)
def test_what_may_be_about_one_connection(error: BaseException, cut: bool) -> None:
    assert is_lost_connection(error) is cut


def of_mongo() -> object:
    client: MongoClient[dict[str, object]] = MongoClient("mongodb://127.0.0.1:1", serverSelectionTimeoutMS=1)
    client.close()
    return client["shop"].command("ping")


def of_httpx() -> object:
    client = httpx.Client()
    client.close()
    return client.get("http://127.0.0.1:1")


async def of_aiohttp() -> object:
    session = aiohttp.ClientSession()
    await session.close()
    return await session.get("http://127.0.0.1:1")


async def of_anyio() -> object:
    sending, receiving = anyio.create_memory_object_stream[int](1)
    sending.close()
    receiving.close()
    return await receiving.receive()


def of_sqlite() -> object:
    connection = sqlite3.connect(":memory:")
    connection.close()
    return connection.execute("select 1")


def of_a_pool() -> object:
    pool = ThreadPoolExecutor()
    pool.shutdown()
    return pool.submit(print)


def of_a_wrapper() -> object:
    try:
        return of_mongo()
    except errors.InvalidOperation:
        raise LookupError("no orders") from None


@pytest.mark.parametrize("use", [of_mongo, of_httpx, of_aiohttp, of_anyio, of_sqlite, of_a_pool, of_a_wrapper])
def test_use_after_close_is_told_by_what_libraries_raise(use: Callable[[], object]) -> None:
    async def used() -> object:
        result = use()
        return await result if isinstance(result, Awaitable) else result

    with pytest.raises(Exception) as raised:  # noqa: PT011 - each library has its own
        asyncio.run(used())
    assert is_use_after_close(raised.value)


@pytest.mark.parametrize(
    ("error", "closed"),
    [
        (Exception("the pool 'pool-1' is already closed"), True),  # psycopg_pool
        (Exception("pool is closing"), True),  # asyncpg
        (ValueError("Cannot invoke RPC on closed channel!"), True),  # grpc
        (Exception("Cannot acquire connection after closing pool"), True),  # aiomysql
        (Exception("Driver closed"), True),  # neo4j
        (Exception("Connection closed by server."), False),  # redis
        (Exception("server closed the connection unexpectedly"), False),  # psycopg
        (Exception("connection was closed in the middle of operation"), False),  # asyncpg
        (smtplib.SMTPServerDisconnected("Connection unexpectedly closed"), False),
        (errors.AutoReconnect("127.0.0.1:27017: connection closed"), False),
        (ConnectionResetError("the connection is closed"), False),
        (caused(RuntimeError("closed"), ConnectionRefusedError("refused")), False),
        (RuntimeError("the disk is full"), False),
        (Unprintable(), False),
    ],
)
def test_what_was_closed_here(error: BaseException, closed: bool) -> None:
    assert is_use_after_close(error) is closed
