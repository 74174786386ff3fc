"""Sampling keeps what matters and a share of the rest; span metrics count before it; gateways see whole traces."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

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
