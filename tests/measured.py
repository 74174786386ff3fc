"""Windows over what the real SDK pipeline measured."""

from collections.abc import Callable, Iterable, Mapping

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric

from otel_monitoring.metrics.reader import SnapshotReader
from otel_monitoring.metrics.snapshot import AttributeValue, Histogram, Series, merged
from otel_monitoring.metrics.window import Window
from otel_monitoring.semconv import (
    ERROR_TYPE,
    HTTP_REQUEST_METHOD,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
    HTTP_SERVER_REQUEST_DURATION,
)

Attributes = Mapping[str, AttributeValue]


def metrics_of(reader: InMemoryMetricReader) -> list[Metric]:
    """Every metric that the reader collects now, of all resources and scopes."""
    data = reader.get_metrics_data()
    return [
        metric
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    ]


class Meter:
    """Records, and answers with the window of everything recorded since the last time."""

    def __init__(self) -> None:
        self._reader = SnapshotReader(0.0)
        provider = MeterProvider(shutdown_on_exit=False)
        provider.add_metric_reader(self._reader)
        self._meter = provider.get_meter("test")
        self._requests = self._meter.create_histogram(HTTP_SERVER_REQUEST_DURATION, unit="s")
        self._now = 0.0

    def request(
        self, route: str | None = "/a", status: int | None = 200, *, error: str = "", seconds: float = 0.1
    ) -> None:
        """One request as the instrumentation records it."""
        given = {HTTP_REQUEST_METHOD: "GET", HTTP_ROUTE: route, HTTP_RESPONSE_STATUS_CODE: status, ERROR_TYPE: error}
        self._requests.record(seconds, {key: value for key, value in given.items() if value not in (None, "")})

    def requests(self, count: int, route: str | None = "/a", status: int | None = 200, *, error: str = "") -> None:
        """Several of the same."""
        for _ in range(count):
            self.request(route, status, error=error)

    def count(self, name: str, amount: float = 1, attributes: Attributes | None = None) -> None:
        """Add to a counter."""
        self._meter.create_counter(name).add(amount, attributes)

    def gauge(self, name: str, value: float, attributes: Attributes | None = None) -> None:
        """Set a gauge."""
        self._meter.create_gauge(name).set(value, attributes)

    def record(self, name: str, value: float, attributes: Attributes | None = None) -> None:
        """Record a value in a histogram."""
        self._meter.create_histogram(name).record(value, attributes)

    def window(self, seconds: float = 300.0) -> Window:
        """What was recorded since the last time."""
        self._now += seconds
        return Window(self._reader.take(self._now))


def recorded_in(window: Window, name: str, where: Callable[[Series], bool] = lambda _: True) -> Histogram:
    """All values of histogram `name` in `window`, of the series that `where` accepts."""
    return merged(histogram for series, histogram in window.histograms(name) if where(series))


def increase_in(window: Window, name: str) -> float:
    """By how much counter `name` grew in `window`."""
    return sum(value for _, value in window.sums(name))


def slow_requests(durations: Iterable[tuple[str, float]]) -> Window:
    """The window of one request for each route and duration in seconds."""
    meter = Meter()
    for route, seconds in durations:
        meter.request(route, seconds=seconds)
    return meter.window()
