"""`SdkHistogram`: values of bound series are in every reader what they would be if the SDK's instrument had them."""

import gc
import json
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, Histogram, MeterProvider, TraceBasedExemplarFilter
from opentelemetry.sdk.metrics._internal.aggregation import _ExplicitBucketHistogramAggregation
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import (
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    SumAggregation,
    View,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import get_current_span, set_span_in_context

from otel_monitoring import seams
from otel_monitoring.metrics.sdk_histogram import Place, SdkHistogram
from tests.measured import metrics_of

NAME = "work.duration"
ROUTES: list[dict[str, str | int]] = [{"route": "/a", "status": 200}, {"status": 500, "route": "/a"}, {"route": "/b"}]
VALUES = [0.0, 0.004, 0.005, 0.0051, 0.3, 2.0, 40.0, 0.3]

Record = Callable[[float, dict[str, str | int], Context | None], object]


def by_hand(instrument: metrics.Histogram) -> Record:
    return lambda value, attributes, context: instrument.record(value, attributes, context)


def bound(instrument: metrics.Histogram) -> Record:
    ours = SdkHistogram(instrument)
    places: dict[int, Place | None] = {}

    def record(value: float, attributes: dict[str, str | int], context: Context | None) -> None:
        places[id(attributes)] = ours.record(value, attributes, context, places.get(id(attributes)))

    record.places = places  # type: ignore[attr-defined]
    return record


def exported(reader: InMemoryMetricReader) -> list[Any]:
    """What a reader has, without the times."""
    points = [
        (metric.name, str(metric.unit), json.loads(point.to_json()))
        for metric in metrics_of(reader)
        for point in metric.data.data_points
    ]
    for _, _, point in points:
        del point["start_time_unix_nano"], point["time_unix_nano"]
        for exemplar in point["exemplars"]:
            del exemplar["time_unix_nano"]
    return points


VIEWS = {
    "the defaults": [],
    "fewer attributes": [View(instrument_name=NAME, attribute_keys={"route"})],
    "no attributes": [View(instrument_name=NAME, attribute_keys=set())],
    "other buckets": [View(instrument_name=NAME, aggregation=ExplicitBucketHistogramAggregation((0.3, 1.0)))],
    "exponential": [View(instrument_name=NAME, aggregation=ExponentialBucketHistogramAggregation())],
    "a sum": [View(instrument_name=NAME, aggregation=SumAggregation())],
    "dropped": [View(instrument_name=NAME, aggregation=DropAggregation())],
    "twice": [View(instrument_name=NAME, name="one"), View(instrument_name=NAME, name="two", attribute_keys={"route"})],
}


@pytest.mark.parametrize("views", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("always", [False, True])
def test_every_reader_has_what_the_instrument_would_have_told_it(views: list[View], always: bool) -> None:
    """Also exemplars, those of a context that is passed and those of the current one."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    passed = set_span_in_context(tracer.start_span("passed"))
    with tracer.start_as_current_span("current"):
        told = []
        for way in (by_hand, bound):
            random.seed(7)  # some of the SDK's reservoirs keep exemplars by chance
            delta = {Histogram: AggregationTemporality.DELTA}
            readers = [InMemoryMetricReader(), InMemoryMetricReader(preferred_temporality=delta)]  # type: ignore[arg-type]
            chosen = AlwaysOnExemplarFilter() if always else TraceBasedExemplarFilter()
            provider = MeterProvider(readers, views=views, shutdown_on_exit=False, exemplar_filter=chosen)
            record = way(provider.get_meter("test").create_histogram(NAME, unit="s"))
            answers = []
            for repetition in range(3):
                for attributes in ROUTES:
                    for value in VALUES:
                        record(value, attributes, passed if repetition else None)
                answers += [exported(reader) for reader in readers]
            told.append(answers)
    by_the_sdk, ours = told
    assert ours == by_the_sdk


def test_from_the_second_value_on_the_instrument_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    instrument = provider.get_meter("test").create_histogram(NAME)
    ours = SdkHistogram(instrument)
    place = ours.record(1.0, ROUTES[0], None, None)
    monkeypatch.delattr(Histogram, "record")
    for _ in range(9):
        place = ours.record(1.0, ROUTES[0], None, place)
    ((_, _, point),) = exported(reader)
    assert point["count"] == 10


@pytest.mark.parametrize("later", [10**9, -(10**9)])
def test_of_hundreds_of_values_a_second_the_first_and_the_slowest_become_exemplars(
    monkeypatch: pytest.MonkeyPatch, later: int
) -> None:
    """All of them count; also after the clock was set back."""
    now = 10**18
    monkeypatch.setattr("otel_monitoring.metrics.sdk_histogram.time_ns", lambda: now)
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False, exemplar_filter=AlwaysOnExemplarFilter())
    record = bound(provider.get_meter("test").create_histogram(NAME))

    def exemplars(*values: float) -> list[float]:
        for value in values:
            record(value, ROUTES[0], None)
        ((_, _, point),) = exported(reader)
        return [exemplar["value"] for exemplar in point["exemplars"]]

    record(1.0, ROUTES[0], None)  # by the SDK
    assert exemplars(*[6.0] * 50, *[3.0] * 100, 8.0, 4.0) == [1.0, 8.0]
    assert exemplars(*[7.0] * 100) == []
    now += later
    assert exemplars(4.0, *[3.0] * 100) == [3.0]
    assert exemplars(9.0) == [9.0]


def test_values_that_are_no_exemplars_leave_room_for_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a trace that is not sampled none is one."""
    monkeypatch.setattr("otel_monitoring.metrics.sdk_histogram.time_ns", lambda: 10**18)
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    record = bound(provider.get_meter("test").create_histogram(NAME))
    sampled = set_span_in_context(TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("one"))
    for _ in range(100):
        record(9.0, ROUTES[0], Context())
    record(1.0, ROUTES[0], sampled)
    ((_, _, point),) = exported(reader)
    assert [exemplar["value"] for exemplar in point["exemplars"]] == [1.0]


def test_while_readers_come_and_go_each_has_all_values_since_it_came() -> None:
    provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    record = bound(provider.get_meter("test").create_histogram(NAME))
    stop, ready = threading.Event(), threading.Barrier(4)

    def work(attributes: dict[str, str | int]) -> None:
        ready.wait()
        while not stop.is_set():
            record(1.0, attributes, None)

    threads = [threading.Thread(target=work, args=(attributes,)) for attributes in ROUTES]
    for thread in threads:
        thread.start()
    ready.wait()
    late: list[InMemoryMetricReader] = []
    for _ in range(30):
        late.append(InMemoryMetricReader())
        provider.add_metric_reader(late[-1])
        if len(late) > 5:
            provider.remove_metric_reader(late.pop(0))
    stop.set()
    for thread in threads:
        thread.join()
    before = [sum(point["count"] for _, _, point in exported(reader)) for reader in late]
    for attributes in ROUTES:
        for _ in range(100):
            record(1.0, attributes, None)
    after = [sum(point["count"] for _, _, point in exported(reader)) for reader in late]
    assert [new - old for old, new in zip(before, after, strict=True)] == [300] * len(late)


def test_a_value_that_the_sdk_refuses_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    record = bound(provider.get_meter("test").create_histogram(NAME))
    for value in (1.0, -1.0, 2.0, -2.0):
        record(value, ROUTES[0], None)
    ((_, _, point),) = exported(reader)
    assert (point["count"], point["sum"]) == (2, 3.0)
    assert caplog.text.count("must be non-negative") == 2


def test_a_histogram_that_is_not_the_sdks_gets_each_value() -> None:
    got: list[tuple[float, Any]] = []

    class Kept(metrics.Histogram):
        def __init__(self) -> None: ...

        def record(self, amount: float, attributes: Any = None, context: Any = None) -> None:
            got.append((amount, attributes))

    record = bound(Kept())
    for value in VALUES:
        record(value, ROUTES[0], None)
    assert got == [(value, ROUTES[0]) for value in VALUES]


class Doubling:
    """An instrument of an application that wraps its provider; it has everything else of the SDK's."""

    def __init__(self, instrument: Any) -> None:
        self._instrument = instrument

    def __getattr__(self, name: str) -> Any:
        return getattr(self._instrument, name)

    def record(self, amount: float, attributes: Any = None, context: Any = None) -> None:
        self._instrument.record(2 * amount, attributes, context)


def doubling(instrument: Any) -> Any:
    real = instrument.record
    instrument.record = lambda amount, *args: real(2 * amount, *args)
    return instrument


@pytest.mark.parametrize("wrap", [Doubling, doubling])
def test_a_histogram_that_does_something_of_its_own_gets_each_value(wrap: Callable[[Any], Any]) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    record = bound(wrap(provider.get_meter("test").create_histogram(NAME)))
    for value in VALUES:
        record(value, ROUTES[0], None)
    ((_, _, point),) = exported(reader)
    assert (point["count"], point["sum"]) == (len(VALUES), 2 * sum(VALUES))


@pytest.mark.parametrize("times", [1, 100])
def test_what_fails_in_the_applications_part_of_the_sdk_stays_there(
    monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """A request whose duration cannot be exported has been answered all the same, and counts in our own figures."""

    class Failing(AlwaysOnExemplarFilter):
        asked = 0

        def should_sample(self, *args: Any, **options: Any) -> bool:
            self.asked += 1
            if self.asked <= times:
                raise ValueError("no exemplars today")
            return super().should_sample(*args, **options)

    monkeypatch.setattr(seams.SDK_SERIES, "error", None)
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False, exemplar_filter=Failing())
    record = bound(provider.get_meter("test").create_histogram(NAME))
    for value in VALUES:
        record(value, ROUTES[0], None)
    assert [point["count"] for _, _, point in exported(reader)] == ([len(VALUES) - 1] if times == 1 else [])


class Consumer:
    """The SDK's, as a later version may have it."""

    def __init__(self, consumer: Any, **further: Any) -> None:
        self.consume_measurement = consumer.consume_measurement
        vars(self).update(further)


@pytest.mark.parametrize(("further", "told"), [({}, False), ({"_reader_storages": []}, True)])
def test_an_sdk_that_is_built_differently_gets_each_value(
    further: dict[str, Any], told: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(seams.SDK_SERIES, "error", None)
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    instrument: Any = provider.get_meter("test").create_histogram(NAME)
    instrument._measurement_consumer = Consumer(instrument._measurement_consumer, **further)
    record = bound(instrument)
    for value in VALUES:
        record(value, ROUTES[0], None)
    ((_, _, point),) = exported(reader)
    assert point["count"] == len(VALUES)
    assert seams.SDK_SERIES.holds is not told
    assert caplog.text.count("four times as long") == told


def test_an_aggregation_that_wants_to_know_more_is_asked_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(seams.SDK_SERIES, "error", None)
    real = _ExplicitBucketHistogramAggregation.aggregate

    def aggregate(self: Any, measurement: Any, should_sample: bool = True) -> None:
        assert measurement.instrument
        real(self, measurement, should_sample)

    monkeypatch.setattr(_ExplicitBucketHistogramAggregation, "aggregate", aggregate)
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    record = bound(provider.get_meter("test").create_histogram(NAME))
    for value in VALUES:
        record(value, ROUTES[0], None)
    ((_, _, point),) = exported(reader)
    assert point["count"] == len(VALUES) - 1
    assert caplog.text.count("four times as long") == 1


def test_nothing_of_a_request_is_kept() -> None:
    provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    record = bound(provider.get_meter("test").create_histogram(NAME))
    context = Context({"request": type("Request", (), {})()})
    for _ in range(3):
        record(1.0, ROUTES[0], context)
    del context
    gc.collect()
    assert [one for one in gc.get_objects() if type(one).__name__ == "Request"] == []
    assert not get_current_span().get_span_context().is_valid
