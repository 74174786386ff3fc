"""One set of numbers: what diagnostics answer, what the Collector forwards and what Prometheus stores are the same."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import httpx
import pytest

from examples.earlybird.visitors import UNMATCHED, Report
from tests.integration import otlp
from tests.integration.collector import collecting
from tests.integration.earlybird import earlybird
from tests.integration.prometheus_server import Prometheus, prometheus_server
from tests.otlp_sink import HttpSink, Sink
from tests.ports import free_port
from tests.waiting import PATIENCE, eventually

pytestmark = pytest.mark.integration

DURATION = "http.server.request.duration"
SERIES = "http_server_request_duration_seconds"
ERRORS = f'sum by (http_route) (histogram_count({SERIES}{{http_response_status_code=~"5.."}}))'
REQUESTS = 500
ENOUGH = 50
"""Calls of a route from which on its p95 is compared."""


def newest(sink: Sink) -> dict[str, list[Any]]:
    """The newest points of the request histogram, by route."""
    series = {
        str(sorted(otlp.read(point.attributes).items())): point
        for metric in sink.metrics()
        if metric.name == DURATION
        for point in metric.exponential_histogram.data_points
    }
    routes: dict[str, list[Any]] = {}
    for point in series.values():
        routes.setdefault(str(otlp.read(point.attributes).get("http.route", UNMATCHED)), []).append(point)
    return routes


def requests(sink: Sink) -> int:
    return sum(point.count for points in newest(sink).values() for point in points)


def by_route(prometheus: Prometheus, expression: str) -> dict[str, float]:
    """What Prometheus answers for each route; requests that met none have no such label."""
    return {route or UNMATCHED: value for route, value in prometheus.values(expression, "http_route").items()}


def is_error(point: Any) -> bool:
    return int(otlp.read(point.attributes).get("http.response.status_code", 500)) >= 500


def bounds(points: list[Any], quantile: float) -> tuple[float, float]:
    """Between which seconds a quantile can be, by the buckets: those around its rank, and one sample to each side."""
    scale = min(point.scale for point in points)
    counts: Counter[int] = Counter()
    for point in points:
        for number, count in enumerate(point.positive.bucket_counts):
            counts[(point.positive.offset + number) >> (point.scale - scale)] += count
    indexes = sorted(index for index, count in counts.items() if count)
    until = list(accumulate(counts[index] for index in indexes))
    rank = quantile * until[-1]
    low = next(index for index, total in zip(indexes, until, strict=True) if total >= rank - 1)
    high = next(index for index, total in zip(indexes, until, strict=True) if total >= min(rank + 1, until[-1]))
    base = 2 ** (2**-scale)
    return base**low, base ** (high + 1)


@dataclass(frozen=True)
class Told:
    """The same traffic, as four parties tell it."""

    report: Report
    diagnostics: dict[str, dict[str, Any]]
    sink: HttpSink
    prometheus: Prometheus


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    folder = tmp_path_factory.mktemp("agreement")
    with HttpSink() as sink, prometheus_server(folder) as prometheus:
        variables = {"OTLP_ENDPOINT": sink.endpoint, "PROMETHEUS_OTLP_ENDPOINT": prometheus.otlp}
        with (
            collecting(folder, "base", "backend-otlp", "backend-prometheus", **variables) as collector,
            earlybird(
                folder,
                collector.endpoint,
                OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION="base2_exponential_bucket_histogram",
            ) as service,
        ):
            report = service.serve(REQUESTS)
            while not report.errors:  # its providers fail by chance
                report.answers.update(service.serve(REQUESTS, seed=report.requests).answers)
            eventually(lambda: requests(sink) == report.requests, "all requests are at the sink")
            stored = f"sum(histogram_count({SERIES}))"
            eventually(lambda: prometheus.values(stored, "").get("") == report.requests, "all are in Prometheus")
            yield Told(report, service.diagnostics()["endpoints"], sink, prometheus)


def test_requests_per_route_are_equal(told: Told) -> None:
    expected = dict(told.report.by_route())
    assert {route: figures["call_count"] for route, figures in told.diagnostics.items()} == expected
    assert {route: sum(p.count for p in points) for route, points in newest(told.sink).items()} == expected
    assert by_route(told.prometheus, f"sum by (http_route) (histogram_count({SERIES}))") == expected


def test_errors_per_route_are_equal(told: Told) -> None:
    expected: Counter[str] = Counter()
    for (_, route, status), count in told.report.answers.items():
        expected[route] += count if status >= 500 else 0
    assert expected.total(), "the traffic has errors in it"
    assert {route: figures["error_count"] for route, figures in told.diagnostics.items()} == dict(expected)
    at_sink = {route: sum(p.count for p in points if is_error(p)) for route, points in newest(told.sink).items()}
    assert at_sink == dict(expected)
    assert by_route(told.prometheus, ERRORS) == {route: n for route, n in expected.items() if n}


def test_p95_agrees_within_the_error_of_a_bucket(told: Told) -> None:
    stored = by_route(told.prometheus, f"histogram_quantile(0.95, sum by (http_route) ({SERIES}))")
    compared = [route for route, figures in told.diagnostics.items() if figures["call_count"] >= ENOUGH]
    assert len(compared) >= 3
    for route in compared:
        low, high = bounds(newest(told.sink)[route], 0.95)
        assert low <= stored[route] <= high, route
        # Its buckets are not the same ones: half a percent on either side.
        assert low * 0.99 <= told.diagnostics[route]["p95_time"] <= high * 1.01, route


def test_labels_say_which_service_environment_and_instance(told: Told) -> None:
    series = told.prometheus.query(SERIES)
    labels = series[0]["metric"]
    assert labels["service_name"] == labels["job"] == "EarlyBird Delivery Services"
    assert labels["service_instance_id"] == labels["instance"]
    assert labels["deployment_environment_name"] == "test"
    assert labels["service_version"] == "1.0.0"
    assert labels["host_name"]


def test_exemplars_lead_to_traces(told: Told) -> None:
    parameters = {"query": SERIES, "start": str(time.time() - 3600), "end": str(time.time() + 60)}
    url = f"{told.prometheus.url}/api/v1/query_exemplars"
    answer = httpx.get(url, params=parameters, timeout=PATIENCE, trust_env=False).json()
    found = {example["labels"]["trace_id"] for series in answer["data"] for example in series["exemplars"]}
    assert found
    eventually(lambda: found & {span.trace_id.hex() for span in told.sink.spans()}, "the traces are there")


def test_remote_write_stores_the_same_after_an_outage_and_a_crash(tmp_path: Path) -> None:
    port = free_port()
    variables = {"PROMETHEUS_REMOTE_WRITE_ENDPOINT": Prometheus(port).remote_write}
    with collecting(tmp_path, "base", "backend-prometheus-remote-write", **variables) as collector:
        start = time.time_ns() - 10**9
        counted = otlp.counter("orders.placed", 7, start, route="/orders")
        collector.send("metrics", otlp.metrics(counted, otlp.histogram("size", [3, 4, 5], start)))
        collector.send("traces", otlp.traces(otlp.span()))
        collector.kill()
        collector.start()
        with prometheus_server(tmp_path, port) as prometheus:
            eventually(lambda: prometheus.query("orders_placed_total"), "the counter is there")
            assert prometheus.values("orders_placed_total", "route") == {"/orders": 7}
            assert prometheus.values("histogram_count(size_seconds)", "job") == {"orders": 12}
