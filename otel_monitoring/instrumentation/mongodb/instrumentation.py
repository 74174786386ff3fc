"""`MongoInstrumentation`: listeners for commands, connection pools and heartbeats of PyMongo clients.

PyMongo takes listeners when a client is made; ours are added to existing clients (`pymongo_seam.change_listeners`).
"""

import logging
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider
from pymongo import monitoring as pymongo_monitoring

from otel_monitoring import seams
from otel_monitoring.instrumentation.mongodb.command_metrics import CommandMetrics
from otel_monitoring.instrumentation.mongodb.commands import Commands, makes_spans, measures
from otel_monitoring.instrumentation.mongodb.heartbeats import Heartbeats
from otel_monitoring.instrumentation.mongodb.pool_metrics import ConnectionTimes, PoolMetrics
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
from otel_monitoring.instrumentation.mongodb.trace_comments import add_comments, remove_comments
from otel_monitoring.metrics.direct_histogram import DirectHistogram, RecordedHistogram
from otel_monitoring.semconv import (
    COMMAND_DURATIONS,
    CONNECTION_CREATE_TIMES,
    CONNECTION_USE_TIMES,
    CONNECTION_WAIT_TIMES,
    DATABASE_RETRIES,
    SCHEMA_URL,
    SCOPE,
    Durations,
)
from otel_monitoring.telemetry.meter_providers import other_readers

if TYPE_CHECKING:
    from otel_monitoring.instrumentation.mongodb.command_spans import CommandSpans

__all__ = ["MongoInstrumentation", "attach", "monitoring_listeners"]

logger = logging.getLogger("otel_monitoring")

Direct: TypeAlias = Callable[[str], DirectHistogram]


class MongoInstrumentation:
    """The listeners of one service, and the clients they are attached to.

    Args:
        tracer_provider: Makes the tracer of the spans; None: there are no spans.
        meter_provider: Makes the meter of the metrics.
        direct: Returns the aggregator's histogram of a name; by default one that nobody reads.
        capture_statement: Whether spans have `db.query.text`, with every value replaced.
        statement_max_length: Maximum length of `db.query.text`, in characters.
        max_collections: Maximum number of distinct collection names in metrics.
        trace_comments: Whether commands carry the trace context as their `comment`.

    Attributes:
        state: The state of the attached client's servers.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider,
        direct: Direct = DirectHistogram,
        capture_statement: bool = False,
        statement_max_length: int = 1024,
        max_collections: int = 100,
        trace_comments: bool = False,
    ) -> None:
        self._trace_comments = trace_comments
        self.state = ServerState()
        self.state.members = self._members
        self._metrics = _metrics_of(meter_provider, direct, max_collections)
        self._pools = self._metrics.pools
        self._heartbeats = Heartbeats(self.state)
        self._spans = _spans_of(tracer_provider, capture_statement, statement_max_length)
        self._commands: dict[tuple[bool, bool], Commands] = {}
        self._clients: list[weakref.ref[Client]] = []
        self._further_clients: list[weakref.ref[Client]] = []
        self._end_new_clients: Callable[[], None] | None = None
        self._registered: tuple[Any, ...] = ()
        self._listeners_of_new_clients: tuple[Any, ...] = ()
        _instrumentations.add(self)

    @property
    def attached(self) -> bool:
        """Whether an attached client reports to these listeners."""
        return any(self.listens_to(client) for ref in self._clients if (client := ref()) is not None)

    def attach(self, handle: object) -> bool:
        """Add the listeners to the client of `handle`, once; the client may have sent commands before.

        Args:
            handle: A `Database` or `MongoClient`, their asynchronous counterparts, or Motor's.

        Returns:
            Whether the client reports to these listeners. If not, one warning says what to do.
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
                other._hand_over_to(self, client)  # noqa: SLF001
            self._add_listeners(client, (self._pools, self._heartbeats))
            self._clients.append(weakref.ref(client))
            self.state.known(self._members())
            return True
        return False

    def measure(self, handle: object) -> None:
        """Measure commands and pools of a further client. Its heartbeats do not change `state`."""
        client = client_of(handle)
        if client is None or any(client is ref() for ref in (*self._clients, *self._further_clients)):
            return
        with seams.MONGO_LISTENERS:
            self._add_listeners(client, (self._pools,))
            self._further_clients = [ref for ref in self._further_clients if ref() is not None] + [weakref.ref(client)]

    def instrument_new_clients(self) -> Callable[[], None]:
        """Measure commands and pools of all clients that are made from now on; their heartbeats do not change `state`.

        Returns:
            Ends the measurement of new clients.
        """
        if self._end_new_clients is None:
            self._enable(True)
            self._register()
            self._end_new_clients = self._unregister
        return self._end_new_clients

    def _register(self) -> None:
        """Add what is missing among the listeners of new clients to PyMongo's global registry.

        Another service with the same metrics may have registered some: the driver would call one that is there twice.
        """
        present = _registered_listeners()
        commands = self._commands_beside(present)
        wanted: tuple[Any, ...] = (self._pools,) if commands is None else (commands, self._pools)
        added = tuple(one for one in wanted if one not in present)
        for listener in added:
            pymongo_monitoring.register(listener)
        self._registered = (*self._registered, *added)
        self._listeners_of_new_clients = tuple({*self._listeners_of_new_clients, *added})

    def detach(self) -> None:
        """Stop measuring, and remove the listeners from the clients where that is possible."""
        self._enable(False)
        for ref in (*self._clients, *self._further_clients):
            client = ref()
            if client is not None:
                with seams.MONGO_LISTENERS:
                    self._remove_listeners(client)
        self._clients.clear()
        self._further_clients.clear()
        if self._end_new_clients is not None:
            self._end_new_clients()

    def _hand_over_to(self, owner: "MongoInstrumentation", client: Client) -> None:
        """Remove the listeners that `client` got as a new client: it has turned out to be the client of `owner`."""
        if owner._metrics is self._metrics or any(client is ref() for ref in (*self._clients, *self._further_clients)):  # noqa: SLF001
            return
        present = listeners_of(client)
        gone = [one for one in self._listeners_of_new_clients if one in present]
        if gone:
            change_listeners(client, remove=gone)
            with seams.MONGO_SERVERS:
                for address, connections in open_servers(client):
                    self._pools.remove_pool(address, connections)

    def _commands_beside(self, present: Iterable[object], *, traced: bool = False) -> Commands | None:
        """The listener for the commands of a client, for what `present` leaves to do; None if that is nothing.

        Args:
            present: The client's listeners.
            traced: Whether the commands have spans in any case.
        """
        of_metrics = not measures(present, self._metrics.commands)
        of_spans = self._spans is not None and not traced and not makes_spans(present)
        if not (of_metrics or of_spans):
            return None
        return self._commands.setdefault(
            (of_metrics, of_spans),
            Commands(self._metrics.commands if of_metrics else None, self._spans if of_spans else None),
        )

    def _members(self) -> list[Address]:
        clients = [client for ref in self._clients if (client := ref()) is not None]
        return [address for client in clients for address in client.topology_description.server_descriptions()]

    def _enable(self, enabled: bool) -> None:
        self._metrics.use(self.state, enabled)
        self._heartbeats.enabled = enabled
        if self._spans is not None:
            self._spans.enabled = enabled

    def listens_to(self, client: Client) -> bool:
        """Whether `client` reports to these listeners."""
        present = listeners_of(client)
        return self._heartbeats in present or any(
            self._heartbeats in relay.targets for relay in present if isinstance(relay, Relay)
        )

    def _add_listeners(self, client: Client, listeners: Iterable[object]) -> None:
        """Add `listeners`, and one for commands, unless the client has them."""
        if self._trace_comments:
            add_comments(client)
        present = listeners_of(client)
        relays = [one for one in present if isinstance(one, Relay)]
        heard = [*present, *(target for relay in relays for target in relay.targets)]
        commands = self._commands_beside(heard, traced=traces_natively(client))
        wanted = tuple(one for one in (commands, *listeners) if one is not None and one not in heard)
        for relay in relays:
            connect(relay, wanted)
        if relays:
            return
        change_listeners(client, add=wanted)
        with seams.MONGO_SERVERS:
            options = client.options.pool_options
            for address, connections in open_servers(client):
                if self._pools in wanted:
                    self._pools.add_pool(address, options.max_pool_size, options.min_pool_size, connections)

    def _remove_listeners(self, client: Client) -> None:
        """Remove our listeners; the pools' stays where another service with the same metrics listens to the client."""
        others = [one for one in _instrumentations if one._metrics is self._metrics and one is not self]  # noqa: SLF001
        others = [one for one in others if one.listens_to(client)]
        if self._trace_comments:
            remove_comments(client)
        gone = [*self._commands.values(), self._heartbeats, *(() if others else (self._pools,))]
        relays = [one for one in listeners_of(client) if isinstance(one, Relay)]
        for relay in relays:
            for listener in gone:
                relay.disconnect(listener)
        if not relays:
            change_listeners(client, remove=gone)
        for other in others:
            other._add_listeners(client, ())  # noqa: SLF001 - for commands that ours has measured for both

    def _unregister(self) -> None:
        """Remove listeners from PyMongo's global registry, which has no public method for it.

        Other services that measure new clients with the same metrics register what they miss then.
        """
        gone, self._registered, self._end_new_clients = self._registered, (), None
        if not self.attached:
            self._enable(False)
        with seams.MONGO_REGISTRY:
            for registered in pymongo_monitoring._LISTENERS:  # noqa: SLF001
                registered[:] = [one for one in registered if one not in gone]
        for other in tuple(_instrumentations):
            if other._metrics is self._metrics and other._end_new_clients is not None:  # noqa: SLF001
                other._register()  # noqa: SLF001


class _Metrics:
    """What records metrics, shared by all instrumentations with the same meter provider.

    A second pair would count a client of two services twice, and the SDK keeps only the first observable callback.
    """

    def __init__(self, meter_provider: MeterProvider, direct: Direct, max_collections: int) -> None:
        meter, readers = meter_provider.get_meter(SCOPE, schema_url=SCHEMA_URL), other_readers(meter_provider)

        def histogram(of: Durations) -> RecordedHistogram:
            return RecordedHistogram(direct(of.name), of.create(meter), readers)

        retries = meter.create_counter(
            DATABASE_RETRIES, "{command}", "MongoDB commands that the driver sent again after a failure."
        )
        self.commands = CommandMetrics(histogram(COMMAND_DURATIONS), max_collections, retries)
        times = CONNECTION_CREATE_TIMES, CONNECTION_WAIT_TIMES, CONNECTION_USE_TIMES
        self.pools = PoolMetrics(meter, ConnectionTimes(*map(histogram, times)))

    def use(self, state: ServerState, wanted: bool) -> None:
        """Enable or disable the instrumentation of `state`; while none is enabled, nothing is recorded."""
        others = tuple(one for one in self.commands.states if one is not state)
        self.commands.states = (*others, state) if wanted else others
        self.commands.enabled = self.pools.enabled = bool(self.commands.states)
        if not self.commands.states:
            self.pools.forget()


def _spans_of(
    tracer_provider: TracerProvider | None, capture_statement: bool, statement_max_length: int
) -> "CommandSpans | None":
    if tracer_provider is None:
        return None
    # Imported here: a service that exports no spans loads nothing of the SDK for them.
    from otel_monitoring.instrumentation.mongodb.command_spans import CommandSpans

    return CommandSpans(tracer_provider, capture_statement, statement_max_length)


def _metrics_of(meter_provider: MeterProvider, direct: Direct, max_collections: int) -> _Metrics:
    known = _metrics.get(meter_provider)
    if known is None:
        known = _metrics[meter_provider] = _Metrics(meter_provider, direct, max_collections)
    return known


_metrics: "weakref.WeakKeyDictionary[MeterProvider, _Metrics]" = weakref.WeakKeyDictionary()
_instrumentations: "weakref.WeakSet[MongoInstrumentation]" = weakref.WeakSet()


def attach(
    handle: object,
    *,
    tracer_provider: TracerProvider | None,
    meter_provider: MeterProvider,
    direct: Direct = DirectHistogram,
    capture_statement: bool = False,
    statement_max_length: int = 1024,
    max_collections: int = 100,
    trace_comments: bool = False,
) -> MongoInstrumentation:
    """Measure commands, pools and servers of the client of `handle`; for the arguments see `MongoInstrumentation`.

    Returns:
        The instrumentation, which is the caller's own: another service may measure the same client with the same
        providers, and end before.
    """
    instrumentation = MongoInstrumentation(
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
        direct=direct,
        capture_statement=capture_statement,
        statement_max_length=statement_max_length,
        max_collections=max_collections,
        trace_comments=trace_comments,
    )
    instrumentation.attach(handle)
    return instrumentation


def _registered_listeners() -> list[object]:
    """The listeners of all kinds that every new client gets."""
    return seams.MONGO_REGISTRY.get(
        lambda: [one for registered in pymongo_monitoring._LISTENERS for one in registered],  # noqa: SLF001
        [],
    )
