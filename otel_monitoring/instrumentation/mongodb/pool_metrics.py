"""`PoolMetrics`: the metrics of connection pools (`db.client.connection.*`), from the driver's pool events."""

import asyncio
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import Any, Final, NamedTuple

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from pymongo.monitoring import (
    ConnectionCheckedInEvent,
    ConnectionCheckedOutEvent,
    ConnectionCheckOutFailedEvent,
    ConnectionCheckOutFailedReason,
    ConnectionCheckOutStartedEvent,
    ConnectionClosedEvent,
    ConnectionCreatedEvent,
    ConnectionPoolListener,
    ConnectionReadyEvent,
    PoolClearedEvent,
    PoolClosedEvent,
    PoolCreatedEvent,
    PoolReadyEvent,
)

from otel_monitoring import semconv
from otel_monitoring.forks import renewed
from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.mongodb.inflight import requester
from otel_monitoring.instrumentation.mongodb.server_state import Address
from otel_monitoring.metrics.direct_histogram import RecordedHistogram

_MAX_POOLS: Final = 1000
_MAX_WAITING: Final = 10_000

# The driver's defaults; a pool event has only options that differ from them.
_DEFAULT_MAX_SIZE: Final = 100
_DEFAULT_MIN_SIZE: Final = 0


class _Connection:
    """The connections with one number: how many are open, and when those in use were checked out."""

    __slots__ = ("open", "since")

    def __init__(self) -> None:
        self.open = 0
        self.since: list[float] = []


class Pool:
    """The connections to one server, over all clients with this listener.

    The driver numbers connections from 1 in each pool, so the same number may occur several times. A pool that exists
    already is counted correctly, too: any event of a connection makes it known.

    Args:
        name: Host and port of the server.
        times: The histograms of its connections.

    Attributes:
        create_time: Records how long a connection took to open, in seconds.
        wait_time: Records how long a checkout waited.
        use_time: Records how long a connection was checked out.
        connections: The open connections, by number.
        waiting: The tasks and threads that wait for a connection.
    """

    def __init__(self, name: str, times: "ConnectionTimes") -> None:
        self.attributes = {semconv.DB_CLIENT_CONNECTION_POOL_NAME: name}
        self.create_time = times.create.bind(self.attributes).record
        self.wait_time = times.wait.bind(self.attributes).record
        self.use_time = times.use.bind(self.attributes).record
        self.idle_attributes = {**self.attributes, semconv.DB_CLIENT_CONNECTION_STATE: "idle"}
        self.used_attributes = {**self.attributes, semconv.DB_CLIENT_CONNECTION_STATE: "used"}
        self.limits: list[tuple[float, float]] = []
        # Held while connections come and go. Commands, which take and return one each, do without.
        self._lock = renewed(self, "_lock", threading.Lock)
        self.connections: dict[int, _Connection] = {}
        self.waiting: dict[object, None] = {}

    def opened(self, connection: int) -> None:
        """A connection was created."""
        with self._lock:
            self.connections.setdefault(connection, _Connection()).open += 1

    def closed(self, connection: int) -> float | None:
        """A connection was closed; returns the seconds since its checkout, None if it was idle."""
        with self._lock:
            known = self.connections.get(connection)
            if known is None:
                return None
            known.open -= 1
            if known.open > 0:
                return None
            del self.connections[connection]
        return perf_counter() - known.since[-1] if known.since else None

    def forget_idle(self) -> None:
        """Forget idle connections whose end was not reported: the last client's pool is closed, and none is left."""
        with self._lock:
            for number, known in tuple(self.connections.items()):
                known.open = len(known.since)
                if not known.open:
                    del self.connections[number]

    def learned(self, connection: int) -> _Connection:
        """A connection that is checked out and was not known to be idle.

        It was created before its pool was known; or it was checked in, and the driver did not report that, as when the
        task that returned it was cancelled. No pool has two connections with one number.
        """
        with self._lock:
            known = self.connections.setdefault(connection, _Connection())
            if 0 < len(self.limits) <= known.open:
                del known.since[:1]
            else:
                known.open += 1
            return known

    def count(self) -> tuple[int, int]:
        """The number of idle connections, and of those in use."""
        with self._lock:
            connections = self.connections.values()
            used = sum(len(one.since) for one in connections)
            return sum(one.open for one in connections) - used, used

    def pending(self) -> int:
        """The number of tasks and threads that wait for a connection.

        The driver reports no end of the wait for a task that is cancelled: it counts until it is done or asks again.
        """
        for one in tuple(self.waiting):
            if isinstance(one, asyncio.Task) and one.done():
                self.waiting.pop(one, None)
        return len(self.waiting)


class ConnectionTimes(NamedTuple):
    """The histograms of connections: how long they took to open, were waited for, and were in use."""

    create: RecordedHistogram
    wait: RecordedHistogram
    use: RecordedHistogram


class PoolMetrics(ConnectionPoolListener):
    """Records `db.client.connection.*`; one listener may serve any number of clients.

    Args:
        meter: The meter of the other instruments.
        times: The histograms.

    Attributes:
        enabled: Whether events are recorded and pools are observed.
    """

    def __init__(self, meter: Meter, times: ConnectionTimes) -> None:
        self.enabled = True
        self._times = times
        # In a forked child the driver closes none of the parent's connections, and makes pools of its own.
        self._pools: dict[Address, Pool] = renewed(self, "_pools", dict)
        self._guard = fail_open("database pool metrics")
        self._timeouts = meter.create_counter(semconv.DB_CLIENT_CONNECTION_TIMEOUTS, unit="{timeout}")
        for name, unit, observe in (
            (semconv.DB_CLIENT_CONNECTION_COUNT, "{connection}", _states),
            (semconv.DB_CLIENT_CONNECTION_MAX, "{connection}", _largest),
            (semconv.DB_CLIENT_CONNECTION_IDLE_MIN, "{connection}", _smallest),
            (semconv.DB_CLIENT_CONNECTION_PENDING_REQUESTS, "{request}", _pending),
        ):
            meter.create_observable_up_down_counter(name, callbacks=[self._callback(observe)], unit=unit)

    def add_pool(self, address: Address, max_size: float, min_size: float, connections: Iterable[int] = ()) -> None:
        """Count a pool, with the idle connections that it has already."""
        pool = self._pool(address)
        if pool is not None:
            pool.limits.append((max_size, min_size))
            for connection in connections:
                pool.opened(connection)

    def remove_pool(self, address: Address, connections: Iterable[int] = ()) -> None:
        """Stop counting a pool, with these idle connections."""
        pool = self._pools.get(address)
        if pool is None:
            return
        for connection in connections:
            pool.closed(connection)
        if pool.limits:
            pool.limits.pop()
            if not pool.limits:
                pool.forget_idle()
                if pool.count() == (0, 0):
                    self._pools.pop(address, None)

    def forget(self) -> None:
        """Forget all pools, because their events are no longer received."""
        self._pools.clear()

    def pool_created(self, event: PoolCreatedEvent) -> None:
        """A pool was created."""
        with self._guard:
            largest = event.options.get("maxPoolSize", _DEFAULT_MAX_SIZE) or math.inf
            self.add_pool(event.address, largest, event.options.get("minPoolSize", _DEFAULT_MIN_SIZE))

    def pool_ready(self, event: PoolReadyEvent) -> None:
        """Nothing: a ready pool changes no metric."""

    def pool_cleared(self, event: PoolClearedEvent) -> None:
        """Nothing: each connection of a cleared pool is reported as closed."""

    def pool_closed(self, event: PoolClosedEvent) -> None:
        """A pool was closed."""
        with self._guard:
            self.remove_pool(event.address)

    def connection_created(self, event: ConnectionCreatedEvent) -> None:
        """A connection is being established."""
        with self._guard:
            if (pool := self._pool(event.address)) is not None:
                pool.opened(event.connection_id)

    def connection_ready(self, event: ConnectionReadyEvent) -> None:
        """A connection was established."""
        with self._guard:
            if self.enabled and (pool := self._pool(event.address)) is not None:
                pool.create_time(event.duration or 0.0)

    def connection_closed(self, event: ConnectionClosedEvent) -> None:
        """A connection was closed, perhaps while it was in use."""
        with self._guard:
            pool = self._pools.get(event.address)
            if pool is None:
                return
            used = pool.closed(event.connection_id)
            if used is not None and self.enabled:
                pool.use_time(used)
            if not pool.limits and pool.count() == (0, 0):
                self._pools.pop(event.address, None)

    def connection_check_out_started(self, event: ConnectionCheckOutStartedEvent) -> None:
        """A checkout began."""
        with self._guard:
            self.check_out_started(event.address)

    def connection_checked_out(self, event: ConnectionCheckedOutEvent) -> None:
        """A connection was checked out."""
        with self._guard:
            self.checked_out(event.address, event.connection_id, event.duration or 0.0)

    def connection_checked_in(self, event: ConnectionCheckedInEvent) -> None:
        """A connection was checked in."""
        with self._guard:
            self.checked_in(event.address, event.connection_id)

    # Every command causes the next three. Where nobody else listens, they take the place of the driver's own methods,
    # whose parameters they have (`pymongo_seam`). A `try` takes the place of `with self._guard`, which takes longer;
    # what could be methods of the pool stands here, because each function that is called costs as much as its lines.

    def check_out_started(self, address: Address) -> None:
        """A checkout began."""
        if not self.enabled:
            return
        try:
            pool = self._pools.get(address) or self._pool(address)
            if pool is not None:
                if len(pool.waiting) >= _MAX_WAITING:
                    pool.pending()
                pool.waiting[requester()] = None
        except Exception as error:  # noqa: BLE001
            self._guard.caught(error)

    def checked_out(self, address: Address, connection_id: int, duration: float) -> None:
        """A connection was checked out, after `duration` seconds."""
        if not self.enabled:
            return
        try:
            pool = self._pools.get(address) or self._pool(address)
            if pool is not None:
                pool.waiting.pop(requester(), None)
                known = pool.connections.get(connection_id)
                if known is None or known.open == len(known.since):
                    known = pool.learned(connection_id)
                known.since.append(perf_counter())
                pool.wait_time(duration)
        except Exception as error:  # noqa: BLE001
            self._guard.caught(error)

    def checked_in(self, address: Address, connection_id: int) -> None:
        """A connection was checked in."""
        try:
            pool = self._pools.get(address)
            known = pool.connections.get(connection_id) if pool is not None else None
            if pool is not None and known is not None and known.since:
                used = perf_counter() - known.since.pop()
                if self.enabled:
                    pool.use_time(used)
        except Exception as error:  # noqa: BLE001
            self._guard.caught(error)

    def connection_check_out_failed(self, event: ConnectionCheckOutFailedEvent) -> None:
        """A checkout failed."""
        with self._guard:
            if (pool := self._pool(event.address)) is not None:
                pool.waiting.pop(requester(), None)
                if self.enabled and event.reason == ConnectionCheckOutFailedReason.TIMEOUT:
                    self._timeouts.add(1, pool.attributes)

    def _pool(self, address: Address) -> Pool | None:
        pool = self._pools.get(address)
        if pool is None and len(self._pools) < _MAX_POOLS:
            name = f"{address[0]}:{address[1]}" if address[1] is not None else address[0]
            pool = self._pools.setdefault(address, Pool(name, self._times))
        return pool

    def _callback(
        self, observe: Callable[[Pool], Iterator[Observation]]
    ) -> Callable[[CallbackOptions], list[Observation]]:
        def callback(_options: CallbackOptions) -> list[Observation]:
            pools = tuple(self._pools.values()) if self.enabled else ()
            return [observation for pool in pools for observation in observe(pool)]

        return callback


def _states(pool: Pool) -> Iterator[Observation]:
    idle, used = pool.count()
    yield Observation(idle, pool.idle_attributes)
    yield Observation(used, pool.used_attributes)


def _largest(pool: Pool) -> Iterator[Observation]:
    largest: Any = sum(size for size, _ in pool.limits)
    if pool.limits and largest != math.inf:
        yield Observation(int(largest), pool.attributes)


def _smallest(pool: Pool) -> Iterator[Observation]:
    if pool.limits:
        yield Observation(int(sum(size for _, size in pool.limits)), pool.attributes)


def _pending(pool: Pool) -> Iterator[Observation]:
    yield Observation(pool.pending(), pool.attributes)
