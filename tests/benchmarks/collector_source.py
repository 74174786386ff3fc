"""`python -m tests.benchmarks.collector_source URL BATCHES`: spans as a service makes them, sent by the SDK's exporter.

Each request is a server span with four database spans below it; 512 spans leave at once, as in `BatchSpanProcessor`.
It prints the seconds of CPU that making and sending them took.
"""

import sys
import time
from collections.abc import Sequence
from uuid import UUID

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.util.types import AttributeValue

BATCH = 512
ROUTES = ("/api/orders/{order_id}", "/api/orders/", "/api/deliveries/", "/api/subscriptions/{subscription_id}")
_ALL = (1 << 128) - 1
_FAR = 0x9E3779B97F4A7C15F39CC0605CEDC835
"""Neighbours have ids that have nothing in common, as those of orders have."""


class Collected(SpanExporter):
    """Keeps what ended."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        return SpanExportResult.SUCCESS


def tracer(collected: Collected) -> trace.Tracer:
    resource = Resource.create({"service.name": "EarlyBird Delivery Services", "service.version": "1.0.0"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(collected))
    return provider.get_tracer("tests.benchmarks")


def request(maker: trace.Tracer, number: int) -> None:
    """The spans of one request."""
    route = ROUTES[number % len(ROUTES)]
    server: dict[str, AttributeValue] = {
        "http.request.method": "GET",
        "http.route": route,
        "url.scheme": "http",
        "url.path": route.partition("{")[0] + UUID(int=number * _FAR & _ALL).hex,
        "network.peer.address": "127.0.0.1",
        "server.address": "127.0.0.1",
        "server.port": 8000,
        "network.protocol.version": "1.1",
        "user_agent.original": "python-httpx/0.28.1",
        "http.response.status_code": 200,
    }
    command: dict[str, AttributeValue] = {
        "db.system.name": "mongodb",
        "db.namespace": "earlybird",
        "db.collection.name": "orders",
        "db.operation.name": "find",
        "server.address": "127.0.0.1",
        "server.port": 27017,
    }
    with maker.start_as_current_span(f"GET {route}", kind=trace.SpanKind.SERVER, attributes=server):
        for _ in range(4):
            maker.start_span("find orders", kind=trace.SpanKind.CLIENT, attributes=command).end()


def batch(maker: trace.Tracer, collected: Collected) -> list[ReadableSpan]:
    """The next 512 spans."""
    number = 0
    while len(collected.spans) < BATCH:
        request(maker, number)
        number += 1
    made, collected.spans = collected.spans[:BATCH], collected.spans[BATCH:]
    return made


def main() -> None:
    """Send; the exit code is 1 if a batch was not acknowledged."""
    url, batches = sys.argv[1], int(sys.argv[2])
    exporter = OTLPSpanExporter(endpoint=f"{url}/v1/traces", compression=Compression.Gzip, timeout=60)
    collected = Collected()
    maker = tracer(collected)
    begin = time.process_time()
    results = {exporter.export(batch(maker, collected)) for _ in range(batches)}
    sys.stdout.write(f"{time.process_time() - begin}\n")
    sys.exit(results != {SpanExportResult.SUCCESS})


if __name__ == "__main__":
    main()
