"""Commands, connection pools and servers of PyMongo clients: spans, metrics, and what heartbeats tell.

Clients take listeners when they are made; ours are put into clients that exist already (`handle.change_listeners`).
"""

import logging
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider
from pymongo import monitoring as pymongo_monitoring

from otel_monitoring import seams
from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.mongodb.command_metrics import CommandMetrics
from otel_monitoring.instrumentation.mongodb.command_spans import CommandSpans, CommandTracer, command_spans
from otel_monitoring.instrumentation.mongodb.heartbeats import Heartbeats
from otel_monitoring.instrumentation.mongodb.pool_metrics import PoolMetrics
from otel_monitoring.instrumentation.mongodb.pymongo_seam import (
    Client,
    change_listeners,
    client_of,
    listeners_of,
    open_servers,
    traces_natively,
)
from otel_monitoring.instrumentation.mongodb.relay import Relay, connect, monitoring_listeners
from otel_monitoring.instrumentation.mongodb.server_state import Address, ServerState
from otel_monitoring.semconv import SCHEMA_URL, SCOPE

__all__ = ["MongoInstrumentation", "attach", "monitoring_listeners"]

logger = logging.getLogger("otel_monitoring")


class MongoInstrumentation:
    """The listeners of one service, and the clients they are attached to.

    Args:
        tracer_provider: Where spans go; None: no span is made and no span listener attached.
        meter_provider: Where metrics go.
        capture_statement: Whether spans carry `db.query.text`, every value replaced.
        statement_max_length: How many characters of it.
        max_collections: How many collection names are told apart in metrics.

    Attributes:
        state: What the driver last said about the servers of the attached client.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider,
        capture_statement: bool = False,
        statement_max_length: int = 1024,
        max_collections: int = 100,
    ) -> None:
        self.state = ServerState()
        self.state.members = self._members
        self.providers = (tracer_provider, meter_provider)
        self._metrics = _metrics_of(meter_provider, max_collections)
        self._commands, self._pools = self._metrics.commands, self._metrics.pools
        self._heartbeats = Heartbeats(self.state)
        self._spans: CommandSpans | None = None
        if tracer_provider is not None:
            self._spans = command_spans(tracer_provider, capture_statement, statement_max_length)
        self._clients: list[weakref.ref[Client]] = []
        self._further: list[weakref.ref[Client]] = []
        self._undo_global: Callable[[], None] | None = None
        self._of_new: tuple[Any, ...] = ()
        _instrumentations.add(self)

    @property
    def attached(self) -> bool:
        """Whether a client reports to these listeners."""
        return any(self.listens_to(client) for ref in self._clients if (client := ref()) is not None)

    def attach(self, handle: object) -> bool:
        """Listen to the client behind `handle`, once, whether or not it has sent commands already.

        Args:
            handle: A `Database`, `MongoClient`, their async counterparts, or Motor's.

        Returns:
            Whether the client reports to us. If not, one warning says what to do; nothing else is affected.
        """
        client = client_of(handle)
        if client is None:
            logger.warning("MongoDB commands are not measured: %s is no PyMongo or Motor handle", type(handle).__name__)
            return False
        self._enable(True)
        with seams.MONGO_LISTENERS:
            if self.listens_to(client):
                return True
            for other in tuple(_instrumentations):
                other._leave_to(self, client)  # noqa: SLF001
            self._put_in(client, self._listeners)
            self._clients.append(weakref.ref(client))
            self.state.known(self._members())
            return True
        return False

    def measure(self, handle: object) -> None:
        """Measure the commands and pools of a further client, whose servers say nothing about the database attached."""
        client = client_of(handle)
        if client is None or any(client is ref() for ref in (*self._clients, *self._further)):
            return
        with seams.MONGO_LISTENERS:
            self._put_in(client, [one for one in self._listeners if one is not self._heartbeats])
            self._further = [ref for ref in self._further if ref() is not None] + [weakref.ref(client)]

    def instrument_new_clients(self) -> Callable[[], None]:
        """Also measure clients that the application makes from now on; returns the undo.

        Their servers are not those of the attached database, so their heartbeats are not listened to.
        """
        if self._undo_global is None:
            added: tuple[Any, ...] = (self._commands, self._pools)
            if self._spans is not None and not _instrumented_globally():
                added = (*added, self._spans)
            self._of_new = added
            self._enable(True)
            for listener in added:
                pymongo_monitoring.register(listener)
            self._undo_global = lambda: self._unregister(added)
        return self._undo_global

    def detach(self) -> None:
        """Stop measuring, and take the listeners out again where that is possible."""
        self._enable(False)
        for ref in (*self._clients, *self._further):
            client = ref()
            if client is not None:
                with seams.MONGO_LISTENERS:
                    self._take_out(client)
        self._clients.clear()
        self._further.clear()
        if self._undo_global is not None:
            self._undo_global()

    def _leave_to(self, owner: "MongoInstrumentation", client: Client) -> None:
        """Hear no more of a client that was only heard as a new one: it turns out to be another service's database."""
        if owner._metrics is self._metrics or any(client is ref() for ref in (*self._clients, *self._further)):  # noqa: SLF001
            return
        present = listeners_of(client)
        gone = [one for one in self._of_new if one in present]
        if gone:
            change_listeners(client, remove=gone)
            with seams.MONGO_SERVERS:
                for address, connections in open_servers(client):
                    self._pools.left(address, connections)

    @property
    def _listeners(self) -> tuple[object, ...]:
        own: tuple[object, ...] = (self._commands, self._pools, self._heartbeats)
        return own if self._spans is None else (*own, self._spans)

    def _members(self) -> list[Address]:
        clients = [client for ref in self._clients if (client := ref()) is not None]
        return [address for client in clients for address in client.topology_description.server_descriptions()]

    def _enable(self, enabled: bool) -> None:
        self._metrics.use(self.state, enabled)
        self._heartbeats.enabled = enabled
        if self._spans is not None:
            self._spans.is_enabled = enabled

    def listens_to(self, client: Client) -> bool:
        """Whether `client` reports to these listeners."""
        present = listeners_of(client)
        return self._heartbeats in present or any(
            self._heartbeats in relay.targets for relay in present if isinstance(relay, Relay)
        )

    def _put_in(self, client: Client, listeners: Iterable[object]) -> None:
        present = listeners_of(client)
        traced = traces_natively(client) or any(isinstance(one, CommandTracer) and one.is_enabled for one in present)
        wanted = tuple(one for one in listeners if one not in present and not (traced and one is self._spans))
        relays = [one for one in present if isinstance(one, Relay)]
        for relay in relays:
            connect(relay, wanted)
        if relays:
            return
        change_listeners(client, add=wanted)
        with seams.MONGO_SERVERS:
            options = client.options.pool_options
            for address, connections in open_servers(client):
                if self._pools in wanted:
                    self._pools.met(address, options.max_pool_size, options.min_pool_size, connections)

    def _take_out(self, client: Client) -> None:
        shared = [one for one in _instrumentations if one._metrics is self._metrics and one is not self]  # noqa: SLF001
        needed = self._metrics.listeners if any(one.listens_to(client) for one in shared) else ()
        gone = [one for one in self._listeners if one not in needed]
        relays = [one for one in listeners_of(client) if isinstance(one, Relay)]
        for relay in relays:
            for listener in gone:
                relay.disconnect(listener)
        if not relays:
            change_listeners(client, remove=gone)

    def _unregister(self, listeners: tuple[object, ...]) -> None:
        """Take what was registered out of PyMongo's registry, for which it has no public way."""
        self._undo_global = None
        if not self.attached:
            self._enable(False)
        with seams.MONGO_REGISTRY:
            for registered in pymongo_monitoring._LISTENERS:  # noqa: SLF001
                registered[:] = [one for one in registered if one not in listeners]


class _Metrics:
    """The listeners that record metrics: one pair for a meter provider, whoever uses it.

    A second pair would count a client twice that two services share, and the SDK keeps the first callback only.
    """

    def __init__(self, meter_provider: MeterProvider, max_collections: int) -> None:
        meter = meter_provider.get_meter(SCOPE, schema_url=SCHEMA_URL)
        self.commands = CommandMetrics(meter, max_collections)
        self.pools = PoolMetrics(meter)
        self.listeners = (self.commands, self.pools)

    def use(self, state: ServerState, wanted: bool) -> None:
        """Enable or disable the instrumentation that has this state; with none enabled, nothing is recorded."""
        others = tuple(one for one in self.commands.states if one is not state)
        self.commands.states = (*others, state) if wanted else others
        self.commands.enabled = self.pools.enabled = bool(self.commands.states)
        if not self.commands.states:
            self.pools.forget()


def _metrics_of(meter_provider: MeterProvider, max_collections: int) -> _Metrics:
    known = _metrics.get(meter_provider)
    if known is None:
        known = _metrics[meter_provider] = _Metrics(meter_provider, max_collections)
    return known


_metrics: "weakref.WeakKeyDictionary[MeterProvider, _Metrics]" = weakref.WeakKeyDictionary()
_instrumentations: "weakref.WeakSet[MongoInstrumentation]" = weakref.WeakSet()


def attach(
    handle: object,
    *,
    tracer_provider: TracerProvider | None,
    meter_provider: MeterProvider,
    capture_statement: bool = False,
    statement_max_length: int = 1024,
    max_collections: int = 100,
) -> MongoInstrumentation:
    """Measure the commands, pools and servers of the client behind `handle`; see `MongoInstrumentation`.

    Called again for the same client and providers, it answers the instrumentation that is there.
    """
    client = client_of(handle)
    for known in tuple(_instrumentations):
        if client is not None and known.providers == (tracer_provider, meter_provider):
            with fail_open("looking for listeners of a MongoDB client"):
                if known.listens_to(client):
                    return known
    instrumentation = MongoInstrumentation(
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
        capture_statement=capture_statement,
        statement_max_length=statement_max_length,
        max_collections=max_collections,
    )
    instrumentation.attach(handle)
    return instrumentation


def _instrumented_globally() -> bool:
    return any(isinstance(one, CommandTracer) and one.is_enabled for one in _registered_command_listeners())


def _registered_command_listeners() -> list[object]:
    return seams.MONGO_REGISTRY.get(lambda: list(pymongo_monitoring._LISTENERS.command_listeners), [])  # noqa: SLF001
