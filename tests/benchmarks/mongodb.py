"""What listening to MongoDB commands costs, against an embedded server in its own process."""

import asyncio
import gc
import random
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from importlib.util import find_spec
from statistics import median
from typing import Any

from opentelemetry.instrumentation.pymongo import CommandTracer
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind
from pymongo import AsyncMongoClient, MongoClient
from pymongo.monitoring import CommandListener, ConnectionPoolListener

from otel_monitoring.instrumentation.mongodb.instrumentation import attach
from otel_monitoring.metrics.reader import SnapshotReader
from otel_monitoring.telemetry.meter_providers import GuardedMeterProvider
from otel_monitoring.telemetry.span_pipeline import SpanSwitch
from otel_monitoring.telemetry.tracer_provider import ServiceTracerProvider
from tests.benchmarks.figures import added, added_ratio, spread
from tests.benchmarks.pace import Rounds
from tests.benchmarks.report import Report, say
from tests.integration.servers import nx27017

_COMMANDS = 8
"""In a round: few, so that many rounds are disturbed by nothing."""
_MICRO = 1e6
_PLAIN = "no listeners"
_NOTHING = "listeners that do nothing"
_METRICS = "**otel_monitoring**, metrics"
_SPANS = "**otel_monitoring**, metrics and spans"
_BARE_SPANS = "the SDK's spans, and nothing else"
_CONTRIB = "opentelemetry-instrumentation-pymongo, spans"

Sync = MongoClient[dict[str, Any]]
Async = AsyncMongoClient[dict[str, Any]]
Ways = dict[str, Callable[[], float]]
"""For each way to listen, what measures the CPU seconds of one command."""


class _Nowhere(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class _Commands(CommandListener):
    def started(self, event: Any) -> None: ...

    def succeeded(self, event: Any) -> None: ...

    def failed(self, event: Any) -> None: ...


def _ignore(self: object, event: object) -> None: ...


_POOL_EVENTS = [name for name in vars(ConnectionPoolListener) if name.startswith(("pool_", "connection_"))]
_Pools: Any = type("_Pools", (ConnectionPoolListener,), dict.fromkeys(_POOL_EVENTS, _ignore))


class _BareSpans(CommandListener):
    """The least that a span of a command costs: name and attributes are always the same, one command at a time."""

    def __init__(self, tracers: TracerProvider) -> None:
        self._tracer = tracers.get_tracer("benchmark")

    def started(self, event: Any) -> None:
        self._span = self._tracer.start_span("find items", kind=SpanKind.CLIENT, attributes=_ATTRIBUTES)

    def succeeded(self, event: Any) -> None:
        self._span.end()

    def failed(self, event: Any) -> None: ...


_ATTRIBUTES: dict[str, str | int] = {
    "db.system.name": "mongodb",
    "db.operation.name": "find",
    "db.namespace": "shop",
    "db.collection.name": "items",
    "server.address": "127.0.0.1",
    "server.port": 27017,
}


def _attach(database: Any, tracers: TracerProvider | None) -> Callable[[], None]:
    """Measure a database as a service does whose metrics stay in the process; returns what ends it."""
    reader = SnapshotReader(0.0)
    meters = GuardedMeterProvider([reader], shutdown_on_exit=False)
    return attach(database, tracer_provider=tracers, meter_provider=meters, direct=reader.direct).detach


def _tracers() -> TracerProvider:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_Nowhere()))
    return provider


def _own_tracers() -> TracerProvider:
    """The tracer provider of a service that exports spans."""
    switch = SpanSwitch()
    switch.target = BatchSpanProcessor(_Nowhere())
    return ServiceTracerProvider(switch, Resource.create({}))


def run(report: Report, rounds: Rounds, *, lean: bool) -> None:
    """The section of the report; `lean`: only what has a goal."""
    report.section(
        "MongoDB commands",
        f"Process CPU of one `find_one` by `_id`; {rounds} interleaved rounds of {_COMMANDS} commands. The server is "
        "another process and not counted; spans go to an exporter that drops them. What is added is the "
        "median of the rounds' differences.",
    )
    if find_spec("nx_27017") is None:
        report.leave_out("mongodb", "nx-27017 is not installed")
        return
    with nx27017() as server:
        with Sync(server.uri) as client:
            client.shop.items.insert_one({"_id": 1, "name": "an item", "price": 9.5})
        for title, suffix, measured in (
            ("`MongoClient`", "", _sync(server.uri, rounds, lean=lean)),
            ("`AsyncMongoClient`", ".async", _async(server.uri, rounds, lean=lean)),
        ):
            _show(report, title, suffix, measured)
            _judge(report, suffix, measured)


def _show(report: Report, title: str, suffix: str, found: dict[str, list[float]]) -> None:
    plain = found[_PLAIN]
    rows = [
        [name, *(f"{v:.0f}" for v in (median(own), spread(own), min(own), added(own, plain)))]
        for name, own in found.items()
    ]
    report.table((title, "median µs", "± µs", "least µs", "added µs"), rows, f"mongodb{suffix}")


def _judge(report: Report, suffix: str, found: dict[str, list[float]]) -> None:
    plain = found[_PLAIN]

    nothing = added(found[_NOTHING], plain)
    report.figure(f"mongodb.metrics{suffix}", added(found[_METRICS], plain), peer=f"{median(plain):.0f} µs")
    report.figure(f"mongodb.floor{suffix}", added(found[_METRICS], found[_NOTHING]), peer=f"{nothing:+.0f} µs")
    ratio = added_ratio(found[_SPANS], found[_CONTRIB], plain)
    ours, theirs = (f"{added(found[name], plain):+.0f} µs" for name in (_SPANS, _CONTRIB))
    report.figure(f"mongodb.spans{suffix}", ratio, ours=ours, peer=theirs)


def _rounds(ways: Ways, rounds: Rounds) -> dict[str, list[float]]:
    """Microseconds of each round, after one that warms up."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    order, shuffled = list(ways), random.Random(1)
    for way in ways.values():
        way()
    for number in rounds:
        if number % 25 == 0:
            gc.collect()
            say(f"MongoDB: round {number} of {rounds}")
        shuffled.shuffle(order)
        for name in order:
            found[name].append(ways[name]() * _MICRO)
    return found


def _clients(make: Callable[..., Any], stack: ExitStack, *, lean: bool) -> dict[str, Any]:
    """A client for each way to listen.

    Args:
        make: Makes a client with listeners.
        stack: Ends what listens.
        lean: Whether to leave out what has no goal.
    """

    def ours(tracers: TracerProvider | None) -> Any:
        made = make()
        stack.callback(_attach(made.shop, tracers))
        return made

    return {
        _PLAIN: make(),
        _NOTHING: make(_Commands(), _Pools()),
        _METRICS: ours(None),
        _SPANS: ours(_own_tracers()),
        **({} if lean else {_BARE_SPANS: make(_BareSpans(_tracers()))}),
        # What `PymongoInstrumentor` registers, for every client that is made after it.
        _CONTRIB: make(CommandTracer(_tracers().get_tracer("benchmark"))),
    }


def _sync(uri: str, rounds: Rounds, *, lean: bool) -> dict[str, list[float]]:
    with ExitStack() as stack:

        def make(*listeners: Any) -> Sync:
            return stack.enter_context(Sync(uri, event_listeners=listeners))

        def cost(client: Sync) -> Callable[[], float]:
            find = client.shop.items.find_one

            def commands() -> None:
                for _ in range(_COMMANDS):
                    find({"_id": 1})

            return lambda: _cost(commands)

        clients = _clients(make, stack, lean=lean)
        return _rounds({name: cost(client) for name, client in clients.items()}, rounds)


def _async(uri: str, rounds: Rounds, *, lean: bool) -> dict[str, list[float]]:
    loop = asyncio.new_event_loop()
    with ExitStack() as stack:
        stack.callback(loop.close)

        def run(work: Coroutine[Any, Any, None]) -> None:
            loop.run_until_complete(work)

        def make(*listeners: Any) -> Async:
            client = Async(uri, event_listeners=listeners)
            stack.callback(lambda: run(client.close()))
            return client

        def cost(client: Async) -> Callable[[], float]:
            find = client.shop.items.find_one

            async def commands() -> None:
                for _ in range(_COMMANDS):
                    await find({"_id": 1})

            return lambda: _cost(lambda: run(commands()))

        clients = _clients(make, stack, lean=lean)
        return _rounds({name: cost(client) for name, client in clients.items()}, rounds)


def _cost(commands: Callable[[], None]) -> float:
    """CPU seconds of one command."""
    began = time.process_time()
    commands()
    return (time.process_time() - began) / _COMMANDS
