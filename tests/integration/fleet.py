"""A service in simulated time: real instruments whose measurements go to our evaluation and, as series, to promtool."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import ExponentialHistogramDataPoint, HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import Aggregation, ExponentialBucketHistogramAggregation

from otel_monitoring import semconv as c
from otel_monitoring.alerts.evaluation.evaluate import Evaluation
from otel_monitoring.alerts.evaluation.lifecycle import AlertState, Phase, advance
from otel_monitoring.alerts.evaluation.worker_report import WorkerReport
from otel_monitoring.alerts.rules.matchers import attribute_text
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.metrics.aggregator import Aggregator

STEP = 15
"""Seconds between measurements, and between evaluations."""
JOB = "orders"

_BOUNDARIES = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_MISSING = "_"


class Worker:
    """One process of the service.

    Args:
        instance: Its `service.instance.id`.
    """

    def __init__(self, instance: str) -> None:
        self.instance = instance
        self._now = 0.0
        self.aggregator = Aggregator(clock=lambda: self._now, span=300, resolution=STEP, cost_clock=lambda: 0.0)
        aggregations: dict[type, Aggregation] = {Histogram: ExponentialBucketHistogramAggregation(max_scale=8)}
        self._exported = {
            "native": InMemoryMetricReader(preferred_aggregation=aggregations),
            "classic": InMemoryMetricReader(),
        }
        self._provider = MeterProvider([*self._exported.values(), self.aggregator.reader], shutdown_on_exit=False)
        meter = self._provider.get_meter("fleet")
        self._requests = meter.create_histogram(
            c.HTTP_SERVER_REQUEST_DURATION, "s", explicit_bucket_boundaries_advisory=_BOUNDARIES
        )
        self._counters = {name: meter.create_counter(name) for name in (c.BILLING_FAILURES, c.DELIVERY_FAILURES)}
        self._counters[c.WRONG_TOKENS] = meter.create_counter(c.WRONG_TOKENS, "{request}")
        units = dict.fromkeys((c.DATABASE_PING_DURATION, c.DATABASE_POOL_WAIT, c.EVENT_LOOP_LAG, c.TELEMETRY_LOSS), "s")
        gauges = (c.DATABASE_UP, c.DATABASE_ERROR, c.CPU_PRESSURE, c.MEMORY_PRESSURE, c.CHECK_FAILING, *units)
        self._gauges = {name: meter.create_gauge(name, units.get(name, "1")) for name in gauges}

    def requests(
        self, number: int, seconds: float, status: int = 200, route: str | None = "/a", error: str = ""
    ) -> None:
        attributes: dict[str, str | int] = {c.HTTP_REQUEST_METHOD: "GET", c.HTTP_RESPONSE_STATUS_CODE: status}
        if route is not None:
            attributes[c.HTTP_ROUTE] = route
        if error or status >= 500:
            attributes[c.ERROR_TYPE] = error or str(status)
        for i in range(number):
            self._requests.record(seconds * (1 + 0.01 * (i % 7)), attributes)

    def count(self, counter: str, number: int = 1) -> None:
        self._counters[counter].add(number)

    def gauge(self, name: str, value: float, attributes: Mapping[str, str | bool] | None = None) -> None:
        self._gauges[name].set(value, attributes)

    def measure(self, now: float) -> None:
        """Bring our own window up to date."""
        self._now = now
        self.aggregator.collect()

    def samples(self, histograms: str) -> dict[str, str]:
        """What Prometheus would store at this moment, by series, as promtool writes it."""
        data = self._exported[histograms].get_metrics_data()
        found: dict[str, str] = {}
        for metric in (m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics) if data else ():
            for point in metric.data.data_points:
                found.update(_samples(metric, point, {"job": JOB, "instance": self.instance}))
        return found

    @property
    def report(self) -> WorkerReport:
        return WorkerReport(self.aggregator.history.recent)


Story = Callable[[int, Sequence[Worker]], None]
"""What happens in the step that ends at the given second."""


class Fleet:
    """Runs a story; knows when which of our alerts fired, and every series.

    Args:
        rules: The rules.
        workers: How many workers there are.
    """

    def __init__(self, rules: Sequence[Rule], *, workers: int) -> None:
        self._rules = rules
        self._workers = [Worker(f"worker-{i}") for i in range(workers)]
        self._evaluation = Evaluation()
        self._states: dict[tuple[str, tuple[tuple[str, str], ...]], AlertState] = {}
        self._columns: dict[str, dict[str, list[str]]] = {"native": {}, "classic": {}}
        self.firing: list[frozenset[tuple[str, tuple[tuple[str, str], ...]]]] = [frozenset()]
        """The rule and the labels of each alert that fires, every step from 0."""

    def run(self, story: Story, seconds: int) -> "Fleet":
        for now in range(STEP, seconds + 1, STEP):
            story(now, self._workers)
            for worker in self._workers:
                worker.measure(now)
                for histograms, columns in self._columns.items():
                    for series, sample in worker.samples(histograms).items():
                        column = columns.setdefault(series, [])
                        column.extend([_MISSING] * (now // STEP - len(column)))
                        column.append(sample)
            self._evaluate(now)
        return self

    def _evaluate(self, now: float) -> None:
        known: dict[str, list[Mapping[str, str]]] = {}
        for name, labels in self._states:
            known.setdefault(name, []).append(dict(labels))
        reports = {worker.instance: worker.report for worker in self._workers}
        for result in self._evaluation.evaluate(self._rules, reports, known):
            key = (result.rule.name, tuple(sorted(result.labels.items())))
            state = advance(result.rule, self._states.get(key, AlertState(seen=now - STEP)), result.reading, now)
            self._states[key] = state
            if state.phase is Phase.INACTIVE:
                del self._states[key]
        assert not self._evaluation.errors
        self.firing.append(frozenset(k for k, state in self._states.items() if state.phase is Phase.FIRING))

    def series(self, histograms: str) -> list[dict[str, str]]:
        """For promtool's `input_series`; histograms `native` or `classic`."""
        return [{"series": name, "values": " ".join(values)} for name, values in self._columns[histograms].items()]

    def settled(self, margin: int) -> list[int]:
        """The seconds at which nothing of ours changes for `margin` seconds before and after."""
        steps = margin // STEP
        return [
            i * STEP
            for i in range(steps, len(self.firing) - steps, 3)
            if len(set(self.firing[i - steps : i + steps + 1])) == 1
        ]


def _samples(metric: Any, point: Any, resource: dict[str, str]) -> dict[str, str]:
    """One data point, under the names that Prometheus' OTLP receiver gives its series."""
    labels = {**resource, **{c.prometheus_label(key): attribute_text(value) for key, value in point.attributes.items()}}
    monotonic, gauge = getattr(metric.data, "is_monotonic", False), type(metric.data).__name__ == "Gauge"
    name = c.prometheus_name(metric.name, metric.unit, monotonic=monotonic, gauge=gauge)
    if isinstance(point, ExponentialHistogramDataPoint):
        return {_series(name, labels): _native(point)}
    if isinstance(point, HistogramDataPoint):
        total, found = 0, {}
        for boundary, count in zip((*point.explicit_bounds, math.inf), point.bucket_counts, strict=True):
            total += count
            bound = "+Inf" if math.isinf(boundary) else f"{boundary:g}" if boundary % 1 else f"{boundary:.1f}"
            found[_series(f"{name}_bucket", {**labels, "le": bound})] = str(total)
        return {
            **found,
            _series(f"{name}_count", labels): str(point.count),
            _series(f"{name}_sum", labels): str(point.sum),
        }
    return {_series(name, labels): f"{point.value:.12g}"}


def _native(point: ExponentialHistogramDataPoint) -> str:
    buckets = " ".join(map(str, point.positive.bucket_counts))
    # Bucket i is (base^i, base^(i+1)] in OpenTelemetry and (base^(i-1), base^i] in Prometheus.
    return (
        f"{{{{schema:{point.scale} count:{point.count} sum:{point.sum} z_bucket:{point.zero_count} "
        f"buckets:[{buckets}] offset:{point.positive.offset + 1}}}}}"
    )


def _series(name: str, labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    return f"{name}{{{inside}}}"
