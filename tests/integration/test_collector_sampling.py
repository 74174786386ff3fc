"""Sampling keeps what matters and a share of the rest; span metrics count before it; gateways see whole traces."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.integration import otlp
from tests.integration.certificates import authority
from tests.integration.collector import Collector, collecting
from tests.integration.test_collector_backends import calls
from tests.otlp_sink import HttpSink
from tests.waiting import eventually

pytestmark = pytest.mark.integration

FAST = {"OTELCOL_DECISION_WAIT": "1s", "OTELCOL_SPAN_METRICS_INTERVAL": "500ms"}
ORDINARY = 2000


def trace(*, last: dict[str, Any] | None = None, **root: Any) -> list[Span]:
    """A request with a command in it; `last` are the fields of that child span."""
    number = os.urandom(16)
    content = {"http.request.method": "GET", "url.path": "/orders", "http.response.status_code": 200}
    content.update(root.pop("content", {}))
    parent = otlp.span("GET /orders", content, trace=number, **root)
    child = otlp.span(
        "find orders", trace=number, parent_span_id=parent.span_id, kind=Span.SPAN_KIND_CLIENT, **(last or {})
    )
    return [parent, child]


def poll(path: str, status: int = 200, **fields: Any) -> list[Span]:
    return trace(content={"url.path": path, "http.response.status_code": status}, **fields)


KEPT: dict[str, Callable[[], list[Span]]] = {
    "error": lambda: trace(error="broken"),
    "error in a child": lambda: trace(last={"error": "no primary"}),
    "5xx": lambda: trace(content={"http.response.status_code": 503}),
    "slow": lambda: trace(seconds=1.2),
    "failed health poll": lambda: poll("/api/health", 503),
}
DROPPED: dict[str, Callable[[], list[Span]]] = {
    "health poll": lambda: poll("/api/health"),
    "liveness": lambda: poll("/api/health/live"),
    "slow readiness": lambda: poll("/health/ready", seconds=2.0),
}


class Sampled:
    """What was sent, by kind, and where it went."""

    def __init__(self, sink: HttpSink, collector: Collector) -> None:
        self.sink = sink
        made = {name: [make() for _ in range(50)] for name, make in {**KEPT, **DROPPED}.items()}
        made["ordinary"] = [trace() for _ in range(ORDINARY)]
        self.names = Counter(span.name for spans in made.values() for pair in spans for span in pair)
        for spans in made.values():
            flat = [span for pair in spans for span in pair]
            for begin in range(0, len(flat), 500):
                collector.send("traces", otlp.traces(*flat[begin : begin + 500]))
        self.ids = {name: {pair[0].trace_id for pair in spans} for name, spans in made.items()}
        kept = set().union(*(self.ids[name] for name in KEPT))
        sink.wait(lambda s: kept <= {span.trace_id for span in s.spans()})
        eventually(lambda: calls(sink).total() == self.names.total(), "all spans are counted")
        collector.stop()  # decides on what it has
        self.arrived = Counter(span.trace_id for span in sink.spans())

    def share(self, name: str) -> float:
        return len(self.ids[name] & set(self.arrived)) / len(self.ids[name])


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sampled]:
    folder = tmp_path_factory.mktemp("sampling")
    files = ("base", "sampling", "spanmetrics", "backend-otlp")
    with HttpSink() as sink, collecting(folder, *files, OTLP_ENDPOINT=sink.endpoint, **FAST) as collector:
        yield Sampled(sink, collector)


@pytest.mark.parametrize("kind", KEPT)
def test_what_matters_is_always_kept(sampled: Sampled, kind: str) -> None:
    assert sampled.share(kind) == 1


@pytest.mark.parametrize("kind", DROPPED)
def test_health_polls_are_dropped(sampled: Sampled, kind: str) -> None:
    assert sampled.share(kind) == 0


def test_a_tenth_of_the_rest_is_kept(sampled: Sampled) -> None:
    # Six standard deviations of a binomial with 2000 trials: less than one in a hundred million runs is beyond.
    assert abs(sampled.share("ordinary") - 0.1) < 6 * (0.1 * 0.9 / ORDINARY) ** 0.5


def test_what_is_kept_is_kept_whole(sampled: Sampled) -> None:
    assert set(sampled.arrived.values()) == {2}


def test_span_metrics_count_before_sampling(sampled: Sampled) -> None:
    assert calls(sampled.sink) == sampled.names


ORDERS = 600
STEPS = 4


def flow(order: str | int) -> list[list[Span]]:
    """The traces of one order: in each, one span carries its id, not always the first one."""
    made = [trace() for _ in range(STEPS)]
    for number, spans in enumerate(made):
        spans[number % 2].attributes.extend(otlp.attributes({"order.id": order}))
    return made


DECIDED = "otelcol_processor_tail_sampling_global_count_traces_sampled"


def decided(collector: Collector, sink: HttpSink, traces: int) -> None:
    """Wait until all `traces`, of two spans each, are decided and those that are kept have arrived."""
    eventually(lambda: collector.figure(DECIDED) == traces, "all are decided")
    kept = 2 * collector.figure(DECIDED, sampled="true")
    sink.wait(lambda s: len(s.spans()) >= kept)


def kept_orders(sinks: Sequence[HttpSink], orders: dict[str | int, list[list[Span]]]) -> Counter[str | int]:
    """How many traces of each order arrived, each whole."""
    arrived = Counter(span.trace_id for sink in sinks for span in sink.spans())
    assert set(arrived.values()) <= {2}
    return Counter({order: sum(spans[0].trace_id in arrived for spans in made) for order, made in orders.items()})


def test_of_an_order_every_trace_is_kept_or_none_on_whichever_gateway(tmp_path: Path) -> None:
    """Two gateways and no agent that brings the traces of an order together; ids that differ in their last digits."""
    orders: dict[str | int, list[list[Span]]] = {order: flow(order) for order in range(100_000, 100_000 + ORDERS)}
    orders |= {f"order-{n}": flow(f"order-{n}") for n in range(ORDERS)}
    with ExitStack() as stack:
        sinks, gateways = [], []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            sinks.append(stack.enter_context(HttpSink()))
            variables = {"OTLP_ENDPOINT": sinks[-1].endpoint, "OTELCOL_FLOW_PERCENTAGE": "25", **FAST}
            variables["OTELCOL_SAMPLING_PERCENTAGE"] = "50"  # of traces that belong to no order
            gateways.append(
                stack.enter_context(collecting(tmp_path / name, "base", "sampling", "backend-otlp", **variables))
            )
        for step in range(STEPS):
            spans = [span for made in orders.values() for span in made[step]]
            for begin in range(0, len(spans), 600):
                gateways[step % 2].send("traces", otlp.traces(*spans[begin : begin + 600]))
        for gateway, sink in zip(gateways, sinks, strict=True):
            decided(gateway, sink, len(orders) * STEPS // 2)
        kept = kept_orders(sinks, orders)
    assert set(kept.values()) == {0, STEPS}
    for kind in (int, str):
        share = sum(count == STEPS for order, count in kept.items() if isinstance(order, kind)) / ORDERS
        # Six standard deviations of a binomial.
        assert abs(share - 0.25) < 6 * (0.25 * 0.75 / ORDERS) ** 0.5


@pytest.mark.parametrize(("percentage", "kept"), [("0", {0, 1}), ("100", {STEPS})])
def test_an_error_keeps_its_trace_and_a_share_of_all_keeps_every_order(
    tmp_path: Path, percentage: str, kept: set[int]
) -> None:
    orders: dict[str | int, list[list[Span]]] = {order: flow(order) for order in range(100)}
    for order in range(50):
        orders[order][1][1].status.code = Status.STATUS_CODE_ERROR
    variables = {"OTELCOL_FLOW_PERCENTAGE": percentage, "OTELCOL_SAMPLING_PERCENTAGE": "100", **FAST}
    with (
        HttpSink() as sink,
        collecting(tmp_path, "base", "sampling", "backend-otlp", OTLP_ENDPOINT=sink.endpoint, **variables) as collector,
    ):
        collector.send("traces", otlp.traces(*(span for made in orders.values() for spans in made for span in spans)))
        decided(collector, sink, len(orders) * STEPS)
        counted = kept_orders([sink], orders)
    assert set(counted.values()) == kept
    assert {order for order, count in counted.items() if count} >= set(range(50))


def test_another_attribute_can_say_what_belongs_together(tmp_path: Path) -> None:
    variables = {"OTELCOL_FLOW_ATTRIBUTE": "cart.id", "OTELCOL_FLOW_PERCENTAGE": "100", **FAST}
    variables["OTELCOL_SAMPLING_PERCENTAGE"] = "0"
    cart = trace(last={"content": {"cart.id": "c-1"}})
    with (
        HttpSink() as sink,
        collecting(tmp_path, "base", "sampling", "backend-otlp", OTLP_ENDPOINT=sink.endpoint, **variables) as collector,
    ):
        collector.send("traces", otlp.traces(*cart, *flow(1)[0]))
        decided(collector, sink, 2)
        assert {span.trace_id for span in sink.spans()} == {cart[0].trace_id}


def test_agents_send_a_trace_to_one_gateway_that_decides_on_all_of_it(tmp_path: Path) -> None:
    with ExitStack() as stack:
        folders = {name: tmp_path / name for name in ("gateway-1", "gateway-2", "agent-1", "agent-2")}
        for folder in folders.values():
            folder.mkdir()
        sinks = [stack.enter_context(HttpSink()) for _ in range(2)]
        files = authority(tmp_path)
        guarded = {
            "OTELCOL_TOKEN": "let-me-in",
            "OTELCOL_TLS_CERT_FILE": str(files / "server.pem"),
            "OTELCOL_TLS_KEY_FILE": str(files / "server.key"),
            "OTELCOL_TLS_CLIENT_CA_FILE": str(files / "ca.pem"),
            "OTELCOL_SAMPLING_PERCENTAGE": "0",
            **FAST,
        }
        options = ("base", "gateway", "tls", "mtls", "auth", "sampling", "backend-otlp")
        gateways = [
            stack.enter_context(collecting(folders[f"gateway-{n}"], *options, OTLP_ENDPOINT=sink.endpoint, **guarded))
            for n, sink in enumerate(sinks, 1)
        ]
        to_gateways = {
            "GATEWAY_ENDPOINTS": ",".join(f"127.0.0.1:{gateway.grpc}" for gateway in gateways),
            "GATEWAY_AUTHORIZATION": "Bearer let-me-in",
            "GATEWAY_CA_FILE": str(files / "ca.pem"),
            "GATEWAY_CERT_FILE": str(files / "client.pem"),
            "GATEWAY_KEY_FILE": str(files / "client.key"),
        }
        agents = [
            stack.enter_context(collecting(folders[f"agent-{n}"], "base", "agent", **to_gateways)) for n in (1, 2)
        ]
        # The halves of a trace come from two hosts; the error that decides is in the second.
        pairs = [trace(last={"error": "late"}) for _ in range(200)]
        agents[0].send("traces", otlp.traces(*(pair[0] for pair in pairs)))
        agents[1].send("traces", otlp.traces(*(pair[1] for pair in pairs)))
        agents[0].send("logs", otlp.logs(*(f"line {n}" for n in range(10))))
        agents[0].send("metrics", otlp.metrics(otlp.counter("orders", 1, 1)))
        eventually(lambda: sum(len(sink.spans()) for sink in sinks) == 400, "all spans arrive")
        eventually(lambda: sum(len(sink.records()) for sink in sinks) == 10, "all logs arrive")
        eventually(lambda: sum(len(sink.metrics()) for sink in sinks) == 1, "all points arrive")
        seen = [{span.trace_id for span in sink.spans()} for sink in sinks]
        assert all(seen), "both gateways have work"
        assert not seen[0] & seen[1]
        # One gateway goes: what it would have got waits on the agents' disks and arrives when it is back.
        gateways[0].kill()
        more = [trace(error="again") for _ in range(100)]
        agents[0].send("traces", otlp.traces(*(span for pair in more for span in pair)))
        gateways[0].start()
        ids = {pair[0].trace_id for pair in more}
        eventually(
            lambda: ids <= {span.trace_id for sink in sinks for span in sink.spans()}, "nothing is lost on the way"
        )
