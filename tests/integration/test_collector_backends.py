"""Every backend gets what it asks for: one Collector forwards the example service's telemetry to all of them."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped] # it ships no types
import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from examples.earlybird.visitors import Report
from tests.integration import otlp
from tests.integration.collector import collecting
from tests.integration.earlybird import earlybird
from tests.otlp_sink import HttpSink, Received, Sink
from tests.waiting import eventually

pytestmark = pytest.mark.integration

SIGNALS = {"traces", "metrics", "logs"}
DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
DURATION = "http.server.request.duration"
FILES = (
    *("base", "spanmetrics", "backend-debug", "backend-otlp", "backend-prometheus", "backend-grafana"),
    *("backend-grafana-cloud", "backend-datadog", "backend-signoz", "backend-elastic", "backend-new-relic"),
    "backend-dash0",
)
VENDORS = {
    "datadog": ("dd-api-key", "secret-of-datadog"),
    "signoz": ("signoz-ingestion-key", "secret-of-signoz"),
    "elastic": ("authorization", "ApiKey c2VjcmV0"),
    "new-relic": ("api-key", "secret-of-new-relic"),
    "dash0": ("authorization", "Bearer secret-of-dash0"),
}
"""By backend the header that says who sends."""
DELTAS = {
    "datadog": {"sum", "histogram", "exponential_histogram"},
    "new-relic": {"sum", "histogram", "exponential_histogram"},
    "elastic": {"histogram", "exponential_histogram"},
}
"""By backend what leaves as deltas; everything else is cumulative."""


@dataclass(frozen=True)
class Forwarded:
    """What the service was asked, what arrived at each backend, and what the Collector wrote."""

    report: Report
    sinks: dict[str, HttpSink]
    output: str


@pytest.fixture(scope="module")
def forwarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forwarded]:
    folder = tmp_path_factory.mktemp("backends")
    with ExitStack() as stack:
        names = (
            "otlp",
            "prometheus",
            "tempo",
            "mimir",
            "loki",
            "cloud",
            *("datadog", "signoz", "elastic", "new-relic", "dash0"),
        )
        sinks = {name: stack.enter_context(HttpSink()) for name in names}
        environment = {
            "OTLP_ENDPOINT": sinks["otlp"].endpoint,
            "OTLP_HEADERS": "{api-key: secret-of-otlp}",
            "PROMETHEUS_OTLP_ENDPOINT": f"{sinks['prometheus'].endpoint}/api/v1/otlp",
            "TEMPO_ENDPOINT": sinks["tempo"].endpoint,
            "MIMIR_ENDPOINT": f"{sinks['mimir'].endpoint}/otlp",
            "LOKI_ENDPOINT": f"{sinks['loki'].endpoint}/otlp",
            "GRAFANA_TENANT": "team-a",
            "GRAFANA_CLOUD_OTLP_ENDPOINT": f"{sinks['cloud'].endpoint}/otlp",
            "GRAFANA_CLOUD_AUTH": "MTI6YWJj",
            "DD_API_KEY": "secret-of-datadog",
            "DD_OTLP_ENDPOINT": sinks["datadog"].endpoint,
            "SIGNOZ_ENDPOINT": sinks["signoz"].endpoint,
            "SIGNOZ_INGESTION_KEY": "secret-of-signoz",
            "ELASTIC_OTLP_ENDPOINT": sinks["elastic"].endpoint,
            "ELASTIC_API_KEY": "c2VjcmV0",
            "NEW_RELIC_OTLP_ENDPOINT": sinks["new-relic"].endpoint,
            "NEW_RELIC_LICENSE_KEY": "secret-of-new-relic",
            "DASH0_ENDPOINT": sinks["dash0"].endpoint,
            "DASH0_AUTH_TOKEN": "secret-of-dash0",
            "OTELCOL_SPAN_METRICS_INTERVAL": "500ms",
        }
        collector = stack.enter_context(collecting(folder, *FILES, **environment))
        with earlybird(folder, collector.endpoint) as service:
            report = service.serve(300)
        # Its last export was acknowledged, which is when every backend has it to come.
        spans = collector.figure("otelcol_receiver_accepted_spans")
        for name in ("otlp", "tempo", "cloud", *VENDORS):
            sinks[name].wait(lambda sink: len(sink.spans()) == spans)
        eventually(
            lambda: all(calls(sinks[name]).total() == spans for name in ("otlp", "datadog")), "all spans are counted"
        )
        eventually(lambda: edges(sinks["mimir"]), "the service graph has an edge")
        collector.stop()
        yield Forwarded(report, sinks, collector.output)


def calls(sink: Sink) -> Counter[str]:
    """How often the span metrics counted each span name, whatever their temporality."""
    counts: dict[tuple[str, str], int] = {}
    for metric in sink.metrics():
        if metric.name == "traces.span.metrics.calls":
            adds = metric.sum.aggregation_temporality == DELTA
            for point in metric.sum.data_points:
                series = (otlp.read(point.attributes)["span.name"], str(point.attributes))
                counts[series] = point.as_int + (counts.get(series, 0) if adds else 0)
    names: Counter[str] = Counter()
    for (name, _), count in counts.items():
        names[name] += count
    return names


def edges(sink: Sink) -> set[tuple[str, str]]:
    """Client and server of each edge of the service graph."""
    found = (otlp.read(point.attributes) for point in points(sink, "traces_service_graph_request_total"))
    return {(content["client"], content["server"]) for content in found}


def points(sink: Sink, name: str) -> list[Any]:
    """All points of a metric, oldest first, each with its metric's kind."""
    found = [getattr(metric, metric.WhichOneof("data")) for metric in sink.metrics() if metric.name == name]
    return [point for data in found for point in data.data_points]


def kinds(requests: Sequence[Received]) -> set[tuple[str, str]]:
    return {(received.signal, received.path) for received in requests}


def headers(requests: Sequence[Received], *names: str) -> set[tuple[str | None, ...]]:
    return {tuple(received.headers.get(name) for name in names) for received in requests}


def test_any_otlp_backend(forwarded: Forwarded) -> None:
    requests = forwarded.sinks["otlp"].requests
    assert kinds(requests) == {(signal, f"/v1/{signal}") for signal in SIGNALS}
    sent = headers(requests, "content-type", "content-encoding", "api-key")
    assert sent == {("application/x-protobuf", "gzip", "secret-of-otlp")}


def test_prometheus_gets_metrics_alone(forwarded: Forwarded) -> None:
    assert kinds(forwarded.sinks["prometheus"].requests) == {("metrics", "/api/v1/otlp/v1/metrics")}
    assert points(forwarded.sinks["prometheus"], DURATION)


def test_each_part_of_grafana_gets_its_signal(forwarded: Forwarded) -> None:
    expected = {"tempo": ("traces", "/v1/traces"), "mimir": ("metrics", "/otlp/v1/metrics")}
    for name, kind in {**expected, "loki": ("logs", "/otlp/v1/logs")}.items():
        requests = forwarded.sinks[name].requests
        assert kinds(requests) == {kind}
        assert headers(requests, "x-scope-orgid", "content-encoding") == {("team-a", "gzip")}


def test_grafana_cloud(forwarded: Forwarded) -> None:
    requests = forwarded.sinks["cloud"].requests
    assert kinds(requests) == {(signal, f"/otlp/v1/{signal}") for signal in SIGNALS}
    assert headers(requests, "authorization") == {("Basic MTI6YWJj",)}


def test_datadog(forwarded: Forwarded) -> None:
    requests = forwarded.sinks["datadog"].requests
    assert kinds(requests) == {(signal, f"/v1/{signal}") for signal in SIGNALS}
    assert headers(requests, "dd-api-key", "content-encoding") == {("secret-of-datadog", "zstd")}
    assert all('"resource_attributes_as_tags": true' in r.headers["dd-otel-metric-config"] for r in requests)


@pytest.mark.parametrize("name", VENDORS)
def test_a_vendor_gets_every_signal_and_knows_who_sends(forwarded: Forwarded, name: str) -> None:
    requests = forwarded.sinks[name].requests
    header, value = VENDORS[name]
    assert kinds(requests) == {(signal, f"/v1/{signal}") for signal in SIGNALS}
    assert headers(requests, header, "content-encoding") == {(value, "zstd" if name == "datadog" else "gzip")}


def test_dash0_gets_the_data_set(forwarded: Forwarded) -> None:
    assert headers(forwarded.sinks["dash0"].requests, "dash0-dataset") == {("default",)}


def test_new_relic_gets_requests_below_its_limit(tmp_path: Path) -> None:
    variables = {"NEW_RELIC_LICENSE_KEY": "secret-of-new-relic", "OTELCOL_FLUSH_TIMEOUT": "1s"}
    with (
        HttpSink() as sink,
        collecting(
            tmp_path, "base", "backend-new-relic", NEW_RELIC_OTLP_ENDPOINT=sink.endpoint, **variables
        ) as collector,
    ):
        for _ in range(4):
            collector.send("traces", otlp.traces(*(otlp.span(content={"note": "word " * 100}) for _ in range(1000))))
        sink.wait(lambda s: len(s.spans()) == 4000)
        sizes = [received.message.ByteSize() for received in sink.requests]
    assert max(sizes) <= 1_000_000
    assert len(sizes) < 10, "nor are they small ones"


def test_who_wants_deltas_gets_them_and_they_add_up(forwarded: Forwarded) -> None:
    for name in ("otlp", "prometheus", "mimir", "cloud", *VENDORS):
        for metric in forwarded.sinks[name].metrics():
            kind = metric.WhichOneof("data")
            data = getattr(metric, kind)
            if kind in ("histogram", "exponential_histogram") or getattr(data, "is_monotonic", False):
                expected = DELTA if kind in DELTAS.get(name, ()) else CUMULATIVE
                assert data.aggregation_temporality == expected, (name, metric.name)
    total = {str(point.attributes): point.count for point in points(forwarded.sinks["otlp"], DURATION)}
    for name in DELTAS:
        delta = sum(point.count for point in points(forwarded.sinks[name], DURATION))
        assert delta == sum(total.values()) == forwarded.report.requests


def test_the_resource_says_service_version_environment_and_host(forwarded: Forwarded) -> None:
    for name, sink in forwarded.sinks.items():
        resources = [r for r in sink.resources() if r.get("service.name") == "EarlyBird Delivery Services"]
        assert resources, name
        for resource in resources:
            if "service.version" in resource:  # the metrics made of spans keep what identifies the service
                assert resource["service.version"] == "1.0.0"
                assert resource["deployment.environment.name"] == "test"
                assert resource["host.name"]
        assert any("service.instance.id" in resource for resource in resources), name


def test_traces_and_logs_belong_together_at_the_backend(forwarded: Forwarded) -> None:
    sink = forwarded.sinks["datadog"]
    spans = {span.span_id for span in sink.spans()}
    related = [record for record in sink.records() if record.trace_id]
    assert related
    assert {record.span_id for record in related} <= spans


def test_span_metrics_count_what_arrives(forwarded: Forwarded) -> None:
    for name in ("otlp", "datadog"):
        sink = forwarded.sinks[name]
        assert calls(sink) == Counter(span.name for span in sink.spans()), name


def test_the_service_graph_leads_to_the_database(forwarded: Forwarded) -> None:
    assert ("EarlyBird Delivery Services", "earlybird") in edges(forwarded.sinks["mimir"])


def test_debug_shows_every_signal_and_nothing_is_deprecated(forwarded: Forwarded) -> None:
    for line in ("Traces", "Metrics", "Logs"):
        assert f"{line}\t" in forwarded.output or f'"{line.lower()}' in forwarded.output
    assert "deprecated" not in forwarded.output.lower()


def test_grpc_is_taken_as_well(tmp_path: Path) -> None:
    with HttpSink() as sink, collecting(tmp_path, "base", "backend-otlp", OTLP_ENDPOINT=sink.endpoint) as collector:
        with grpc.insecure_channel(f"127.0.0.1:{collector.grpc}") as channel:
            otlp.export(channel, otlp.traces(otlp.span()), timeout=30)
        collector.send("metrics", otlp.metrics(otlp.counter("c", 1, time.time_ns())))
        sink.wait(lambda s: len(s.requests) == 2)
        assert len(sink.spans()) == 1
        assert next(sink.resources())["os.type"] == "linux"
