"""Histograms without the SDK have the SDK's figures, in any number of threads, whoever reads them besides."""

import gc
import os
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_monitoring import seams
from otel_monitoring.metrics.direct_histogram import DirectHistogram, RecordedHistogram
from otel_monitoring.metrics.reader import SnapshotReader
from otel_monitoring.metrics.snapshot import Histogram, Series, merged
from otel_monitoring.semconv import SCOPE
from otel_monitoring.telemetry.meter_providers import GuardedMeterProvider, other_readers
from tests.measured import metrics_of

NAME = "work.duration"
DURATIONS = st.one_of(
    st.just(0.0), st.floats(1e-9, 1e-6), st.floats(1e-4, 10.0), st.floats(0.0, 1e9, allow_subnormal=False)
)


def by_the_sdk(values: list[float]) -> Histogram:
    reader = SnapshotReader(0.0)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    instrument = provider.get_meter(SCOPE).create_histogram(NAME)
    for value in values:
        instrument.record(value, {"a": 1})
    return reader.take(1.0).histograms[Series(NAME, (("a", 1),))]


@given(st.lists(DURATIONS, min_size=1, max_size=60))
def test_the_figures_are_those_of_the_sdk(values: list[float]) -> None:
    direct = DirectHistogram(NAME)
    for value in values:
        direct.bind({"a": 1}).record(value)
    ((series, ours),), theirs = direct.take(), by_the_sdk(values)
    assert series.attributes == {"a": 1}
    assert (ours.count, ours.min, ours.max, ours.at_zero) == (theirs.count, theirs.min, theirs.max, theirs.at_zero)
    assert ours.sum == pytest.approx(theirs.sum)
    scale = min(ours.scale, theirs.scale)
    assert len(ours.buckets.counts()) <= 480
    coarse, theirs_coarse = (one.buckets.coarser(one.scale - scale) for one in (ours, theirs))
    assert (coarse.first, list(coarse.counts())) == (theirs_coarse.first, list(theirs_coarse.counts())) or not sum(
        coarse.counts()
    ) + sum(theirs_coarse.counts())
    assert direct.take() == []


@pytest.mark.parametrize("switched_off", [True, False])
def test_the_snapshots_have_a_series_once_whoever_exports_it_too(
    monkeypatch: pytest.MonkeyPatch, switched_off: bool
) -> None:
    """FastAPI's own telemetry measures other applications, or the same requests where it cannot be switched off."""
    monkeypatch.setattr(seams.FASTAPI_OPTIONS, "error", None if switched_off else "gone")
    reader, exporting = SnapshotReader(0.0), InMemoryMetricReader()
    provider = MeterProvider([reader, exporting], shutdown_on_exit=False)
    both = RecordedHistogram(reader.direct(NAME), provider.get_meter(SCOPE).create_histogram(NAME), [reader])
    both.bind({"a": 1}).record(0.5)
    for scope in ("application", "fastapi"):
        provider.get_meter(scope).create_histogram(NAME).record(0.5, {"b": scope})
    found = {series.attributes: values.count for series, values in reader.take(1.0).histograms.items()}
    others = ["application", "fastapi"] if switched_off else ["application"]
    assert sorted(map(str, found.items())) == sorted(
        map(str, [((("a", 1),), 1), *[((("b", one),), 1) for one in others]])
    )
    assert len(metrics_of(exporting)) == 3


def test_the_sdk_keeps_no_series_for_the_reader_of_what_comes_directly() -> None:
    reader, exporting = SnapshotReader(0.0), InMemoryMetricReader()
    provider = MeterProvider([reader, exporting], shutdown_on_exit=False)
    both = RecordedHistogram(reader.direct(NAME), provider.get_meter(SCOPE).create_histogram(NAME), [exporting])
    before = dropped_series()
    for number in range(100):
        both.bind({"n": number}).record(0.5)
    assert dropped_series() - before <= 2
    assert len(reader.take(1.0).histograms) == 100
    assert len(metrics_of(exporting)[0].data.data_points) == 100


def dropped_series() -> int:
    """How many series the SDK's aggregations that drop everything have in this process."""
    return sum(type(one).__name__ == "_DropAggregation" for one in gc.get_objects())


@pytest.mark.parametrize("count", [1, 63, 64, 65, 1000])
def test_it_is_known_whether_there_are_values_to_take(count: int) -> None:
    direct = DirectHistogram(NAME)
    series = direct.bind({"a": 1})
    assert not direct.has_values
    for _ in range(count):
        series.record(1.0)
        assert direct.has_values
    assert [values.count for _, values in direct.take()] == [count]
    assert not direct.has_values


def test_further_series_are_one() -> None:
    direct = DirectHistogram(NAME, max_series=3)
    for number in range(10):
        direct.bind({"n": number}).record(1.0)
    taken = {tuple(series.attributes.items()): values.count for series, values in direct.take()}
    assert taken == {(("n", 0),): 1, (("n", 1),): 1, (("n", 2),): 1, (("otel.metric.overflow", True),): 7}


def beside(threads: int, work: object) -> Iterator[None]:
    assert callable(work)
    started = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for thread in started:
        thread.start()
    while any(thread.is_alive() for thread in started):
        yield
    for thread in started:
        thread.join()


def test_many_threads_lose_nothing_while_snapshots_are_taken() -> None:
    direct = DirectHistogram(NAME)

    def work(number: int) -> None:
        for _ in range(2000):
            direct.bind({"n": number % 2}).record(1.0)

    taken: list[Histogram] = []
    for _ in beside(4, work):
        taken += [values for _, values in direct.take()]
    taken += [values for _, values in direct.take()]
    assert (merged(taken).count, merged(taken).sum) == (8000, 8000.0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_counts_its_own_values_alone() -> None:
    """Those of the parent that were not taken yet are taken there."""
    direct = DirectHistogram(NAME)
    series, few = direct.bind({"n": 1}), direct.bind({"n": 2})
    for _ in range(21):  # some are added already, some wait
        series.record(1.0)
    few.record(1.0)
    pid = os.fork()
    if pid == 0:
        before = direct.has_values
        series.record(2.0)
        os._exit([(bound is series, values.sum) for bound, values in direct.take()] == [(True, 2.0)] and not before)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert [(values.count, values.sum) for _, values in direct.take()] == [(21, 21.0), (1, 1.0)]


def test_readers_come_and_go_while_values_are_recorded() -> None:
    """The aggregator has each value once, and a reader all since it was added."""
    reader = SnapshotReader(0.0)
    provider = GuardedMeterProvider(shutdown_on_exit=False)
    provider.add_metric_reader(reader)
    both = RecordedHistogram(
        reader.direct(NAME), provider.get_meter(SCOPE).create_histogram(NAME), other_readers(provider)
    )
    series = both.bind({"a": 1})

    def work(_: int) -> None:
        for _ in range(2000):
            series.record(1.0)

    counted = 0
    for _ in beside(4, work):
        passing = InMemoryMetricReader()
        provider.add_metric_reader(passing)
        counted += sum(one.count for one in reader.take(1.0).histograms.values())
        provider.remove_metric_reader(passing)
    assert not provider.exporting
    last = InMemoryMetricReader()
    provider.add_metric_reader(last)
    for _ in range(10):
        series.record(1.0)
    counted += sum(one.count for one in reader.take(2.0).histograms.values())
    assert counted == 8010
    ((point,),) = [metric.data.data_points for metric in metrics_of(last)]
    assert point.count == 10  # type: ignore[union-attr]
