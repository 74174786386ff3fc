"""The client of a database handle, and the private seam that changes the listeners of an existing client."""

import sys
from collections.abc import Callable, Iterable, Sequence
from inspect import isfunction, signature
from types import MethodType
from typing import Any, Final

from pymongo import AsyncMongoClient, MongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.database import Database
from pymongo.monitoring import ConnectionPoolListener

from otel_monitoring import seams
from otel_monitoring.instrumentation.mongodb.pool_metrics import PoolMetrics
from otel_monitoring.instrumentation.mongodb.server_state import Address

Client = MongoClient[Any] | AsyncMongoClient[Any]
Listener = object

_DIRECT: Final[dict[str, Callable[..., None]]] = {
    "publish_connection_check_out_started": PoolMetrics.check_out_started,
    "publish_connection_checked_out": PoolMetrics.checked_out,
    "publish_connection_checked_in": PoolMetrics.checked_in,
}
"""What publishes the events of pools that each command causes, and what takes the same arguments.

To make these events and to look for who wants them takes a sixth of what it takes to measure a command.
"""


def client_of(handle: object) -> Client | None:
    """PyMongo's client of a database, a client, or Motor's wrapper of either; None for any other object.

    Motor's objects are recognised by `delegate` in their `__dict__`: PyMongo's return a collection for any attribute.
    """
    inner = handle if isinstance(handle, _HANDLES) else getattr(handle, "__dict__", {}).get("delegate")
    if isinstance(inner, Database | AsyncDatabase):
        return inner.client
    return inner if isinstance(inner, MongoClient | AsyncMongoClient) else None


_HANDLES = (Database, AsyncDatabase, MongoClient, AsyncMongoClient)


def listeners_of(client: Client) -> list[Listener]:
    """The listeners of `client`, without duplicates."""
    return _distinct(client.options.event_listeners)


def traces_natively(client: Client) -> bool:
    """Whether PyMongo itself makes OpenTelemetry spans for this client.

    No release up to 4.20 does. The development branch has a client option `tracing` and an environment variable, both
    read by `pymongo._otel`.
    """
    native = getattr(sys.modules.get("pymongo._otel"), "_is_tracing_enabled", None)
    if native is None:
        return False
    with seams.MONGO_TRACING:
        tracing = getattr(client.options, "tracing", None) or getattr(client.options, "_options", {}).get("tracing")
        return bool(native(tracing))
    return False


def change_listeners(client: Client, *, add: Iterable[Listener] = (), remove: Iterable[Listener] = ()) -> None:
    """Change the listeners of an existing client.

    A PyMongo client has one `_EventListeners`, which its pools and monitors share. A new one is made with the wanted
    listeners, and its state is copied into the existing one in one step, so that no event is lost. A new one also has
    the globally registered listeners, which are removed. Where `PoolMetrics` are the only ones to listen to pools, the
    driver calls them for each command without making events.

    Args:
        client: The client.
        add: Listeners to add.
        remove: Listeners to remove.

    Raises:
        AttributeError: PyMongo's private attributes have changed; the listeners are unchanged.
        TypeError: PyMongo's private class has changed, likewise.
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
    state.update(_direct_calls(type(shared), wanted))
    for name in _DIRECT.keys() - state.keys():
        vars(shared).pop(name, None)
    vars(shared).update(state)


def _direct_calls(publisher: type, listeners: Iterable[Listener]) -> dict[str, Any]:
    """What takes the place of the driver's own methods; nothing if somebody else listens, or a method has changed."""
    interested = [one for one in listeners if isinstance(one, ConnectionPoolListener)]
    if len(interested) != 1 or not isinstance(interested[0], PoolMetrics):
        return {}
    if any(_parameters(getattr(publisher, name, None)) != _parameters(own) for name, own in _DIRECT.items()):
        return {}
    return {name: MethodType(own, interested[0]) for name, own in _DIRECT.items()}


def _parameters(function: object) -> list[str]:
    return list(signature(function).parameters) if isfunction(function) else []


def open_servers(client: Client) -> list[tuple[Address, list[int]]]:
    """Have the existing pools and monitors of a client publish events.

    A pool checks once, when it is made, whether there is a listener; those of a `MongoClient` are made with it. In
    older PyMongo monitors do the same, and each connection has a copy of its pool's result.

    Returns:
        The address of each pool, and the ids of its idle connections.

    Raises:
        AttributeError: PyMongo's private attributes have changed; existing pools and monitors publish nothing.
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
    """`listeners` without duplicates: PyMongo lists one of two kinds twice, and would call it twice."""
    return list({id(listener): listener for listener in listeners}.values())
