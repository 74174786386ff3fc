"""The documented figures of requests, and what is recorded by hand."""

from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider

from otel_monitoring.health.performance_metrics import LastError, PerformanceMetrics
from otel_monitoring.health.request_statistics import RequestStatistics
from otel_monitoring.metrics.aggregator import Aggregator
from otel_monitoring.metrics.direct_histogram import RecordedHistogram
from otel_monitoring.semconv import (
    REQUEST_DURATIONS,
    SCOPE,
)

pytestmark = pytest.mark.anyio


class Bench:
    """The metrics over a real provider, refreshed at once."""

    def __init__(self, *, current_path: str | None = None, max_endpoints: int = 3) -> None:
        self.now = 0.0
        self.aggregator = Aggregator(clock=self.tick, span=300, resolution=10, cost_clock=lambda: 0.0)
        provider = MeterProvider(shutdown_on_exit=False)
        provider.add_metric_reader(self.aggregator.reader)
        durations = self.aggregator.reader.direct(REQUEST_DURATIONS.name)
        self.metrics = PerformanceMetrics(
            RecordedHistogram(durations, REQUEST_DURATIONS.create(provider.get_meter(SCOPE)), [provider]),
            self.aggregator,
            RequestStatistics(),
            refresh=self.refresh,
            is_measured=lambda endpoint: endpoint == current_path,
            max_endpoints=max_endpoints,
        )

    def tick(self) -> float:
        self.now += 0.001
        return self.now

    async def refresh(self) -> None:
        self.aggregator.collect()


async def test_the_documented_summary() -> None:
    bench = Bench()
    for _ in range(98):
        await bench.metrics.record_request("/api/orders/", 0.1, 200)
    await bench.metrics.record_request("/api/orders/", 0.3, 404, error="no such order")
    await bench.metrics.record_request("/api/orders/", 0.9, 500, error="password=hunter2: Database connection timeout")
    summary = await bench.metrics.get_summary()
    counts = {key: summary[key] for key in ("requests_recorded", "success_count", "error_count", "client_error_count")}
    assert counts == {"requests_recorded": 100, "success_count": 99, "error_count": 1, "client_error_count": 1}
    assert summary["error_rate"] == 1.0
    assert summary["avg_response_time"] == pytest.approx(0.11)
    assert summary["p50_response_time"] == pytest.approx(0.1, rel=0.025)
    assert summary["p99_response_time"] == pytest.approx(0.3, rel=0.025)
    assert "hunter2" not in summary["last_error"]
    assert summary["last_error_time"].endswith("+00:00")
    assert summary["window"]["requests_recorded"] == 100
    endpoint = bench.metrics.endpoints["/api/orders/"]
    assert (endpoint["call_count"], endpoint["error_count"], endpoint["error_rate"]) == (100, 1, 1.0)
    assert (endpoint["min_time"], endpoint["max_time"]) == (0.1, 0.9)


async def test_before_the_first_request_every_figure_is_a_number() -> None:
    summary = await Bench().metrics.get_summary()
    assert summary["requests_recorded"] == summary["error_rate"] == summary["p95_response_time"] == 0
    assert (summary["last_error"], summary["last_error_time"]) == (None, None)


async def test_a_request_that_is_measured_anyway_is_not_recorded_again(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(current_path="/api/orders/7")
    for _ in range(3):
        await bench.metrics.record_request("/api/orders/7", 0.1, 200)
    await bench.metrics.record_request("/api/complex-op/", 0.1, 200)
    assert (await bench.metrics.get_summary())["requests_recorded"] == 1
    assert [r.getMessage()[:54] for r in caplog.records] == ["record_request was called for a request that instrumen"]


async def test_names_beyond_the_limit_are_one_endpoint() -> None:
    bench = Bench(max_endpoints=2)
    for i in range(10):
        await bench.metrics.record_request(f"/orders/{i}", 0.1)
    calls = {name: figures["call_count"] for name, figures in bench.metrics.endpoints.items()}
    assert calls == {}
    await bench.metrics.get_summary()
    calls = {name: figures["call_count"] for name, figures in bench.metrics.endpoints.items()}
    assert calls == {"(other)": 8, "/orders/0": 1, "/orders/1": 1}


@pytest.mark.parametrize("duration", [float("nan"), float("inf"), "soon"])
async def test_an_impossible_duration_is_refused_without_harm(duration: float) -> None:
    bench = Bench()
    await bench.metrics.record_request("/x", duration)
    await bench.metrics.record_request("/x", -5.0)
    summary = await bench.metrics.get_summary()
    assert (summary["requests_recorded"], summary["avg_response_time"]) == (1, 0.0)


async def test_whatever_is_recorded_the_answer_is_json_in_printable_lines() -> None:
    class Hostile(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise SystemExit

    bench = Bench()
    names: list[Any] = ["/a\n\x1b[31m\ud800", Hostile(), "x" * 10_000]
    for name in names:
        await bench.metrics.record_request(name, 0.1, 500, error=Hostile())  # type: ignore[arg-type] # what applications do
    assert (await bench.metrics.get_summary())["last_error"] == "unprintable Hostile"
    assert set(bench.metrics.endpoints) == {"/a  [31m ", "unprintable Hostile", "x" * 500}
    await bench.metrics.record_request("/b", 0.1, 500, error=ValueError("password=hunter2"))  # type: ignore[arg-type]
    assert (await bench.metrics.get_summary())["last_error"] == "ValueError: password=[REDACTED]"


def test_the_last_error_is_redacted_when_it_is_read() -> None:
    last = LastError("ValueError: password=hunter2", "GET /orders/{id}", 17.0)
    assert (last.text, last.time) == ("ValueError: password=[REDACTED] (GET /orders/{id})", 17.0)
    assert LastError("x", "GET /a@example.com", 1.0).text == "x (GET /[REDACTED])"
