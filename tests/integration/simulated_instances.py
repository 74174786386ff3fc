"""Many instances of one service in simulated time: their exports over OTLP, and what all of them together measured."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric

from otel_monitoring import semconv as c
from tests.integration import otlp

SCALE = 4
"""Of the exponential histograms: buckets are 4.4 % wide."""
_CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE


@dataclass(frozen=True)
class Request:
    """A request: what the answers tell apart, and its duration in seconds."""

    route: str
    status: int
    seconds: float


@cache
def _attributes(route: str, status: int) -> list[KeyValue]:
    error = {c.ERROR_TYPE: str(status)} if status >= 500 else {}
    where = {c.HTTP_ROUTE: route} if route else {}
    return otlp.attributes({c.HTTP_REQUEST_METHOD: "GET", c.HTTP_RESPONSE_STATUS_CODE: status, **where, **error})


@dataclass
class _Distribution:
    bounds: Sequence[float] = c.REQUEST_DURATIONS.bounds
    buckets: Counter[int] = field(default_factory=Counter)
    explicit: Counter[int] = field(default_factory=Counter)
    count: int = 0
    sum: float = 0.0

    def add(self, seconds: float) -> None:
        self.buckets[math.ceil(math.log2(seconds) * 2**SCALE) - 1] += 1
        self.explicit[next((i for i, bound in enumerate(self.bounds) if seconds <= bound), len(self.bounds))] += 1
        self.count += 1
        self.sum += seconds


class Instance:
    """One process: what it has measured since it started.

    Args:
        name: Its `service.instance.id`.
        service: Its `service.name`.
        start: When it started, in Unix seconds.
        explicit: Whether it exports explicit buckets, as the SDK does by default.
    """

    def __init__(self, name: str, service: str, start: float, *, explicit: bool = False) -> None:
        self.name = name
        self._service = service
        self._explicit = explicit
        self.start(start)

    def start(self, at: float) -> None:
        """Start, or start again with the same identity: everything counts from zero."""
        self._started = at
        self._requests: dict[tuple[str, int], tuple[Request, _Distribution]] = {}
        self._counters: Counter[str] = Counter()
        self._recorded: dict[c.Durations, dict[tuple[tuple[str, str], ...], _Distribution]] = {}
        self.gauges: dict[tuple[str, str], float] = {}

    def serve(self, requests: Iterable[Request]) -> None:
        for request in requests:
            known = self._requests.setdefault((request.route, request.status), (request, _Distribution()))
            known[1].add(request.seconds)

    def record(self, kind: c.Durations, value: float, attributes: Mapping[str, str]) -> None:
        series = self._recorded.setdefault(kind, {})
        series.setdefault(tuple(sorted(attributes.items())), _Distribution(kind.bounds)).add(value)

    def count(self, counter: str, number: int) -> None:
        self._counters[counter] += number

    def export(self, into: ExportMetricsServiceRequest, at: float) -> None:
        """Add to a request what this process exports at `at`, in Unix seconds."""
        group = into.resource_metrics.add()
        host = f"host-{int(self.name.rpartition('-')[2]) // 4}"
        resource = {"service.name": self._service, "service.instance.id": self.name, "host.name": host}
        group.resource.attributes.extend(otlp.attributes({**resource, "service.version": "1.2"}))
        metrics = group.scope_metrics.add().metrics
        times = {"start_time_unix_nano": int(self._started * 1e9), "time_unix_nano": int(at * 1e9)}
        durations = [(_attributes(one.route, one.status), found) for one, found in self._requests.values()]
        metrics.append(self._histogram(c.REQUEST_DURATIONS, durations, times))
        for kind, series in self._recorded.items():
            points = [(otlp.attributes(dict(attributes)), found) for attributes, found in series.items()]
            metrics.append(self._histogram(kind, points, times))
        for name, number in self._counters.items():
            metric = metrics.add(name=name, unit="{order}")
            metric.sum.is_monotonic, metric.sum.aggregation_temporality = True, _CUMULATIVE
            metric.sum.data_points.add(as_int=number, **times)
        for (name, unit), value in {**self.gauges, (c.PROCESS_UPTIME, "s"): at - self._started}.items():
            metrics.add(name=name, unit=unit).gauge.data_points.add(as_double=value, **times)

    def _histogram(
        self, kind: c.Durations, points: Iterable[tuple[list[KeyValue], _Distribution]], times: Mapping[str, int]
    ) -> Metric:
        metric = Metric(name=kind.name, unit=kind.unit)
        for attributes, found in points:
            if self._explicit:
                metric.histogram.aggregation_temporality = _CUMULATIVE
                counts = [found.explicit[i] for i in range(len(found.bounds) + 1)]
                metric.histogram.data_points.add(
                    count=found.count,
                    sum=found.sum,
                    explicit_bounds=found.bounds,
                    bucket_counts=counts,
                    attributes=attributes,
                    **times,
                )
                continue
            first, last = min(found.buckets), max(found.buckets)
            metric.exponential_histogram.aggregation_temporality = _CUMULATIVE
            point = metric.exponential_histogram.data_points.add(
                count=found.count, sum=found.sum, scale=SCALE, attributes=attributes, **times
            )
            point.positive.offset = first
            point.positive.bucket_counts.extend(found.buckets[i] for i in range(first, last + 1))
        return metric


def exported(instances: Sequence[Instance], at: float) -> ExportMetricsServiceRequest:
    """One request with what all `instances` export at `at`."""
    request = ExportMetricsServiceRequest()
    for instance in instances:
        instance.export(request, at)
    return request
