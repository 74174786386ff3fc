"""`SnapshotReader`: the metric reader from which the aggregator gets the measurements that are also exported.

It is registered beside the SDK's periodic OTLP reader and independent of it, so a Collector that hangs delays only the
export. Its temporality is delta: collecting costs only what changed, a snapshot is the sparse difference that the
history keeps, and minimum and maximum belong to their interval.
"""

import inspect
import threading
from collections.abc import Callable, Container, Iterable, Mapping
from operator import attrgetter
from typing import Any

from opentelemetry.metrics import NoOpMeter
from opentelemetry.sdk.metrics import (
    Counter,
    Exemplar,
    ExemplarReservoir,
    Histogram,
    MeterProvider,
    ObservableCounter,
    ObservableUpDownCounter,
    UpDownCounter,
)
from opentelemetry.sdk.metrics import export as sdk
from opentelemetry.sdk.metrics.view import (
    Aggregation,
    DropAggregation,
    ExponentialBucketHistogramAggregation,
    SumAggregation,
)
from opentelemetry.sdk.resources import Resource

from otel_monitoring import seams
from otel_monitoring.forks import renewed
from otel_monitoring.metrics import snapshot as ours
from otel_monitoring.metrics.buckets import Buckets
from otel_monitoring.metrics.direct_histogram import MAX_SCALE, MAX_SIZE, OVERFLOW, DirectHistogram
from otel_monitoring.metrics.snapshot import AttributeValue, Series, Snapshot
from otel_monitoring.semconv import DB_CLIENT_CONNECTION_COUNT, SCOPE

_OVERFLOW = tuple(OVERFLOW.items())
_FASTAPI = "fastapi"
"""The instrumentation scope of FastAPI's own telemetry."""
_ANSWERED = frozenset({DB_CLIENT_CONNECTION_COUNT})
"""Up-down counters of this package that the endpoints use."""
_NOTHING = sdk.MetricsData(resource_metrics=[])


class _NoExemplars(ExemplarReservoir):
    """Keeps no exemplars: they link exported points to traces, and this reader exports nothing."""

    def offer(self, *_: object, **__: object) -> None:
        return None

    def collect(self, *_: object, **__: object) -> list[Exemplar]:
        return []


class _Exponential(ExponentialBucketHistogramAggregation):
    """The SDK's aggregation without exemplars, and none for what comes directly.

    The application's `record` runs it, so it must never raise.
    """

    used = 0
    direct: Container[str] = ()
    leave_out: Callable[[Any], object]
    """Gets an instrument that comes directly, with its first series."""

    def _create_aggregation(self, *args: Any, **kwargs: Any) -> Any:
        create = super()._create_aggregation
        with seams.EXEMPLARS:
            call = inspect.signature(create).bind(*args, **kwargs)
            instrument = call.arguments["instrument"]
            if _comes_directly(instrument.name, instrument.instrumentation_scope.name, self.direct):
                self.leave_out(instrument)
                return DropAggregation()._create_aggregation(*args, **kwargs)  # noqa: SLF001
            if seams.EXEMPLARS.holds and call.arguments["reservoir_factory"] is not None:
                reservoir = _NoExemplars()
                call.arguments["reservoir_factory"] = lambda _kind: lambda **_: reservoir
                made = create(*call.args, **call.kwargs)
                self.used += 1
                return made
        return create(*args, **kwargs)


class _UpAndDown(DropAggregation):
    """Sums what up-down counters count, the application's own and those that are wanted, and drops all others.

    The application's `add` runs it, so it must never raise.
    """

    def __init__(self) -> None:
        self.wanted: set[str] = {*_ANSWERED}
        self.dropped: set[str] = set()

    def _create_aggregation(self, *args: Any, **kwargs: Any) -> Any:
        create = SumAggregation()._create_aggregation  # noqa: SLF001
        with seams.EXEMPLARS:
            instrument = inspect.signature(create).bind(*args, **kwargs).arguments["instrument"]
            if _is_of_application(instrument.instrumentation_scope.name) or instrument.name in self.wanted:
                return create(*args, **kwargs)
            self.dropped.add(instrument.name)
        return super()._create_aggregation(*args, **kwargs)


def _comes_directly(name: str, scope: str, direct: Container[str]) -> bool:
    """Whether a metric of the SDK's has what a `DirectHistogram` has, too.

    FastAPI's own telemetry measures the same requests where it cannot be switched off; elsewhere, those of applications
    that are not instrumented.
    """
    return name in direct and (scope == SCOPE or (scope == _FASTAPI and not seams.FASTAPI_OPTIONS.holds))


def _exponential(direct: Container[str], leave_out: Callable[[Any], object]) -> Aggregation:
    """The aggregation of histograms. A trial histogram is recorded and read here to test the seam."""
    ours = _Exponential(max_size=MAX_SIZE, max_scale=MAX_SCALE)
    ours.direct, ours.leave_out = direct, leave_out
    with seams.EXEMPLARS:
        reader = sdk.InMemoryMetricReader(preferred_aggregation={Histogram: ours})
        provider = MeterProvider((reader,), Resource.get_empty(), shutdown_on_exit=False)
        meter = provider.get_meter(__name__)
        if isinstance(meter, NoOpMeter):  # OTEL_SDK_DISABLED: nothing is measured
            return ours
        meter.create_histogram("trial").record(1.0)
        data = reader.get_metrics_data()
        if not ours.used:
            raise NotImplementedError("it is not called any more")
        points: list[Any] = [one for metric, _ in _metrics(data or _NOTHING) for one in metric.data.data_points]
        if [point.count for point in points] != [1]:
            raise ValueError("what it makes does not measure")
    if seams.EXEMPLARS.holds:
        return ours
    return ExponentialBucketHistogramAggregation(max_size=MAX_SIZE, max_scale=MAX_SCALE)


class SnapshotReader(sdk.InMemoryMetricReader):
    """Collects on demand; each snapshot has what was measured since the previous one.

    Args:
        now: Start of the first snapshot, in seconds of the caller's monotonic clock.
        max_series: Maximum number of series over all metrics. Measurements of further series go into one series for
            each metric, with the attribute `otel.metric.overflow`
            (https://opentelemetry.io/docs/specs/otel/metrics/sdk/#cardinality-limits).
        in_place_of: A reader that takes no snapshots meanwhile: its direct histograms are read here.

    Attributes:
        exports: False: what it reads stays in the process.
        application: The metrics that are the application's own, by name: their units.
        direct_histograms: The histograms that are in the snapshots without the SDK, by name.
    """

    exports = False

    def __init__(self, now: float, *, max_series: int = 10_000, in_place_of: "SnapshotReader | None" = None) -> None:
        delta = sdk.AggregationTemporality.DELTA
        self.direct_histograms: dict[str, DirectHistogram] = in_place_of.direct_histograms if in_place_of else {}
        self._up_and_down = _UpAndDown()
        aggregations: dict[type, Aggregation] = {
            Histogram: _exponential(self.direct_histograms, self._leave_out),
            UpDownCounter: self._up_and_down,
            ObservableUpDownCounter: self._up_and_down,
        }
        super().__init__(
            preferred_temporality=dict.fromkeys((Counter, Histogram, ObservableCounter), delta),
            preferred_aggregation=aggregations,
        )
        self._max_series = max_series
        self._known: dict[Series, Series] = {}
        self.application: dict[str, str] = {}
        self._last = now
        self._taking = renewed(self, "_taking", threading.Lock)

    def _leave_out(self, instrument: object) -> None:
        """Have the SDK forget an instrument for this reader: of what is dropped it keeps every set of attributes."""
        collect: Any = self._collect
        with seams.READER_STORAGE:
            collect.__self__._reader_storages[self]._instrument_view_instrument_matches[instrument] = []  # noqa: SLF001

    def direct(self, name: str) -> DirectHistogram:
        """The histogram of this name that is in the snapshots without the SDK."""
        return self.direct_histograms.setdefault(name, DirectHistogram(name, max_series=self._max_series))

    def want(self, names: Iterable[str]) -> set[str]:
        """Have up-down counters of these names in the snapshots, whoever makes them.

        Returns:
            Those that are left out for good, because they counted before anybody wanted them.
        """
        self._up_and_down.wanted.update(names)
        return self._up_and_down.dropped & self._up_and_down.wanted

    @property
    def has_values(self) -> bool:
        """Whether a request, or another value of a direct histogram, was measured since the last `take`."""
        return any(direct.has_values for direct in list(self.direct_histograms.values()))

    def take(self, now: float) -> Snapshot:
        """Collect what was measured since the last call.

        It runs every observable callback of the provider, including the application's own: call it in a thread that may
        block, never on the application's event loop.

        Args:
            now: End of the snapshot, in seconds of the caller's monotonic clock.

        Raises:
            MetricsTimeoutError: A callback took longer than ten seconds; the next snapshot has all measurements.
        """
        with self._taking:
            snapshot = self._convert(self.get_metrics_data() or _NOTHING, self._last, now)
            self._last = now
            return snapshot

    def take_direct(self, now: float) -> Snapshot:
        """The part of `take` that needs neither the SDK nor a callback; it does not wait for a `take` in progress."""
        return Snapshot(min(self._last, now), now, self._direct_values())

    def _direct_values(self) -> dict[Series, ours.Histogram]:
        found: dict[Series, ours.Histogram] = {}
        for direct in list(self.direct_histograms.values()):
            for bound, values in direct.take():
                if bound.series is None:
                    bound.series = self._series(direct.name, bound.attributes)
                _add(found, bound.series, values)
        return found

    def _convert(self, data: sdk.MetricsData, start: float, end: float) -> Snapshot:
        histograms = self._direct_values()
        sums: dict[Series, float] = {}
        gauges: dict[Series, float] = {}
        observed: set[Series] = set()
        for metric, scope in _metrics(data):
            points = metric.data
            if _comes_directly(metric.name, scope, self.direct_histograms):
                continue
            if _is_of_application(scope):
                self.application[metric.name] = metric.unit or ""
            if isinstance(points, sdk.ExponentialHistogram):
                for point in filter(attrgetter("count"), points.data_points):
                    _add(histograms, self._series(metric.name, point.attributes), _histogram(point))
            elif isinstance(points, sdk.Sum) and points.is_monotonic:
                for number in points.data_points:
                    series = self._series(metric.name, number.attributes)
                    sums[series] = sums.get(series, 0) + number.value
            elif isinstance(points, sdk.Gauge | sdk.Sum):
                for number in points.data_points:
                    series = self._series(metric.name, number.attributes)
                    gauges[series] = number.value
                    if scope == SCOPE:
                        observed.add(series)
        return Snapshot(start, end, histograms, {s: v for s, v in sums.items() if v}, gauges, observed)

    def _series(self, name: str, attributes: Mapping[str, Any] | None) -> Series:
        if not attributes:
            return Series(name)
        series = Series(name, tuple(sorted((key, _hashable(value)) for key, value in attributes.items())))
        known = self._known.get(series)
        if known is not None:
            return known  # one object, shared by all snapshots
        if len(self._known) >= self._max_series:
            return Series(name, _OVERFLOW)
        self._known[series] = series
        return series


def _metrics(data: sdk.MetricsData) -> list[tuple[sdk.Metric, str]]:
    """Each metric, and the name of its instrumentation scope."""
    scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
    return [(metric, scope.scope.name) for scope in scopes for metric in scope.metrics]


def _add(histograms: dict[Series, ours.Histogram], series: Series, values: ours.Histogram) -> None:
    known = histograms.setdefault(series, values)
    if known is not values:
        histograms[series] = known.plus(values)


def _is_of_application(scope: str) -> bool:
    """Whether neither this package, nor FastAPI, nor an instrumentation of OpenTelemetry has the scope."""
    return scope not in {SCOPE, _FASTAPI} and not scope.startswith("opentelemetry.")


def _hashable(value: Any) -> AttributeValue:
    return value if isinstance(value, (str, int, float)) else tuple(value)


def _histogram(point: sdk.ExponentialHistogramDataPoint) -> ours.Histogram:
    positive = point.positive
    inside = positive.bucket_counts
    return ours.Histogram(
        point.count,
        point.sum,
        point.min,
        point.max,
        point.scale,
        point.count - sum(inside),
        *Buckets.of(positive.offset, inside),
    )
