"""The client behind a handle, and the one private seam through which listeners reach a client that exists already."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from pymongo import AsyncMongoClient, MongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.database import Database

from otel_monitoring import seams
from otel_monitoring.instrumentation.mongodb.server_state import Address

Client = MongoClient[Any] | AsyncMongoClient[Any]
Listener = object


def client_of(handle: object) -> Client | None:
    """PyMongo's client behind a database, a client, or Motor's wrapper of one; None where there is none.

    Motor is recognised by the `delegate` of its objects: PyMongo's would answer any attribute with a collection.
    """
    inner = handle if isinstance(handle, _HANDLES) else getattr(handle, "__dict__", {}).get("delegate")
    if isinstance(inner, Database | AsyncDatabase):
        return inner.client
    return inner if isinstance(inner, MongoClient | AsyncMongoClient) else None


_HANDLES = (Database, AsyncDatabase, MongoClient, AsyncMongoClient)


def listeners_of(client: Client) -> list[Listener]:
    """The listeners of a client, each once."""
    return _distinct(client.options.event_listeners)


def traces_natively(client: Client) -> bool:
    """Whether PyMongo makes OpenTelemetry spans for this client itself.

    No released version does up to 4.20; its development branch takes a client option `tracing` and an environment
    variable, both read by `pymongo._otel`.
    """
    native = getattr(sys.modules.get("pymongo._otel"), "_is_tracing_enabled", None)
    if native is None:
        return False
    with seams.MONGO_TRACING:
        tracing = getattr(client.options, "tracing", None) or getattr(client.options, "_options", {}).get("tracing")
        return bool(native(tracing))
    return False


def change_listeners(client: Client, *, add: Iterable[Listener] = (), remove: Iterable[Listener] = ()) -> None:
    """Give a client other listeners, after it was made: the private seam.

    PyMongo keeps one `_EventListeners` for a client, shared by its pools and monitors. A fresh one with the listeners
    wanted is made and its state put into the old one in one step, so that no event is lost on the way. Making one
    also takes in what was registered globally since; those are taken out again.

    Raises:
        AttributeError: PyMongo is built differently; nothing was changed. Likewise TypeError.
    """
    shared: Any = client.options.pool_options._event_listeners  # noqa: SLF001
    gone = {id(listener) for listener in remove}
    wanted = [listener for listener in _distinct([*shared.event_listeners(), *add]) if id(listener) not in gone]
    fresh = type(shared)(wanted)
    allowed = {id(listener) for listener in wanted}
    state = vars(fresh)
    for name, value in state.items():
        if isinstance(value, list):
            state[name] = [listener for listener in _distinct(value) if id(listener) in allowed]
    if {id(listener) for value in state.values() if isinstance(value, list) for listener in value} != allowed:
        raise TypeError("PyMongo's event listeners did not take the listeners")
    vars(shared).update(state)


def open_servers(client: Client) -> list[tuple[Address, list[int]]]:
    """Have pools and monitors that exist already report their events; answers the pools and their idle connections.

    A pool asks once, when it is made, whether anybody listens; those of a `MongoClient` exist since it was made.
    In older PyMongo so do monitors, and each connection keeps a copy of its pool's answer.

    Raises:
        AttributeError: PyMongo is built differently; such pools and monitors stay silent.
    """
    opened: list[tuple[Address, list[int]]] = []
    topology: Any = client._topology  # noqa: SLF001
    for server in () if topology is None else tuple(topology._servers.values()):  # noqa: SLF001
        if hasattr(server._monitor, "_publish"):  # noqa: SLF001
            server._monitor._publish = True  # noqa: SLF001
        pool: Any = server.pool
        idle = list(pool.conns)
        gates = [one for one in (pool, *idle) if hasattr(one, "enabled_for_cmap")]
        for gate in gates:
            gate.enabled_for_cmap = True
        if not gates:
            pool._telemetry._should_publish = True  # noqa: SLF001
        opened.append((pool.address, [connection.id for connection in idle]))
    return opened


def _distinct(listeners: Sequence[Listener]) -> list[Listener]:
    """Each listener once: PyMongo lists one of two kinds twice, and it would hear everything twice."""
    return list({id(listener): listener for listener in listeners}.values())
