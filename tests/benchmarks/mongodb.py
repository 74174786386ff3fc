"""What listening to MongoDB commands costs, against an embedded server in its own process."""

import gc
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from statistics import median
from typing import Any

from opentelemetry.instrumentation.pymongo import PymongoInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from pymongo import MongoClient
from pymongo.monitoring import CommandListener, ConnectionPoolListener

from otel_monitoring.instrumentation.mongodb.instrumentation import attach
from tests.benchmarks.figures import paired, spread
from tests.benchmarks.report import Report, say
from tests.integration.servers import nx27017

_COMMANDS = 200
_MICRO = 1e6

Client = MongoClient[dict[str, Any]]


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


def _meters() -> MeterProvider:
    return MeterProvider(metric_readers=[InMemoryMetricReader()], shutdown_on_exit=False)


def _tracers() -> TracerProvider:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_Nowhere()))
    return provider


def run(report: Report, rounds: int) -> None:
    """The section of the report."""
    report.section(
        "MongoDB commands",
        f"Process CPU of one `find_one` by `_id` with a synchronous client; {rounds} interleaved rounds of {_COMMANDS} "
        "commands. The server is another process and not counted; spans go to an exporter that drops them.",
    )
    if find_spec("nx_27017") is None:
        report.text("Left out: nx-27017 is not installed.")
        return
    with nx27017() as server, ExitStack() as stack:
        clients = _clients(server.uri, stack)
        found: dict[str, list[float]] = {name: [] for name in clients}
        for number in range(rounds + 1):
            say(f"MongoDB: round {number} of {rounds}")
            for name, client in clients.items():
                cost = _cost(client)
                if number:
                    found[name].append(cost * _MICRO)
    plain = found["no listeners"]
    rows = [
        [name, *(f"{v:.0f}" for v in (median(own), spread(own), min(own), paired(own, plain, "difference")))]
        for name, own in found.items()
    ]
    report.table(("listeners", "median µs", "± µs", "least µs", "added µs"), rows)


def _clients(uri: str, stack: ExitStack) -> dict[str, Client]:
    """A client for each way to listen; contrib's comes last, because it listens to all that are made after it."""

    def client(*listeners: Any) -> Client:
        made: Client = MongoClient(uri, event_listeners=listeners)
        stack.callback(made.close)
        return made

    def ours(tracers: TracerProvider | None) -> Client:
        made = client()
        instrumentation = attach(made.shop, tracer_provider=tracers, meter_provider=_meters())
        stack.callback(instrumentation.detach)
        return made

    plain = client()
    plain.shop.items.insert_one({"_id": 1, "name": "an item", "price": 9.5})
    found = {
        "no listeners": plain,
        "listeners that do nothing": client(_Commands(), _Pools()),
        "**otel_monitoring**, metrics": ours(None),
        "**otel_monitoring**, metrics and spans": ours(_tracers()),
    }
    contrib = PymongoInstrumentor()
    contrib.instrument(tracer_provider=_tracers())
    stack.callback(contrib.uninstrument)
    found["opentelemetry-instrumentation-pymongo, spans"] = client()
    return found


def _cost(client: Client) -> float:
    """CPU seconds of one command."""
    find: Callable[..., object] = client.shop.items.find_one
    gc.collect()
    began = time.process_time()
    for _ in range(_COMMANDS):
        find({"_id": 1})
    return (time.process_time() - began) / _COMMANDS
