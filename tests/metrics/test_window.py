"""Histogram arithmetic is exact in counts and close in quantiles; windows hold exactly what fell into them."""

import math
import random
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider

from otel_monitoring.metrics.aggregator import Aggregator
from otel_monitoring.metrics.direct_histogram import DirectHistogram
from otel_monitoring.metrics.reader import SnapshotReader
from otel_monitoring.metrics.snapshot import Histogram, Series, Snapshot, merged
from otel_monitoring.metrics.window import History, Window
from otel_monitoring.semconv import SCOPE
from otel_monitoring.testing import ManualClock
from tests.measured import increase_in, recorded_in

NAME = "http.server.request.duration"

durations = st.floats(min_value=1e-6, max_value=1e3)


def recorded(*batches: list[float], attributes: dict[str, str] | None = None) -> list[Snapshot]:
    """What the real SDK pipeline makes of each batch."""
    reader = SnapshotReader(0.0)
    instrument = _provider(reader).get_meter("test").create_histogram(NAME, unit="s")
    snapshots = []
    for time, batch in enumerate(batches, start=1):
        for value in batch:
            instrument.record(value, attributes)
        snapshots.append(reader.take(float(time)))
    return snapshots


def _provider(reader: SnapshotReader) -> MeterProvider:
    provider = MeterProvider(shutdown_on_exit=False)
    provider.add_metric_reader(reader)
    return provider


def only(snapshot: Snapshot) -> Histogram:
    (histogram,) = snapshot.histograms.values()
    return histogram


def exact(values: list[float], q: float) -> float:
    return sorted(values)[max(0, math.ceil(q * len(values)) - 1)]


@pytest.mark.parametrize(
    "draw",
    [
        lambda r: r.lognormvariate(-3, 1),
        lambda r: abs(r.gauss(0.01, 0.001) if r.random() < 0.7 else r.gauss(1, 0.1)),
        lambda r: 0.001 * r.paretovariate(1.1),
    ],
    ids=["lognormal", "bimodal", "heavy-tailed"],
)
def test_quantiles_are_within_two_and_a_half_percent(draw: Callable[[random.Random], float]) -> None:
    generator = random.Random(7)
    values = [draw(generator) for _ in range(20_000)]
    histogram = only(recorded(values)[0])
    for q in (0.5, 0.95, 0.99):
        assert histogram.quantile(q) == pytest.approx(exact(values, q), rel=0.025)
    assert (histogram.min, histogram.max) == (min(values), max(values))
    assert histogram.sum == pytest.approx(sum(values))


def test_values_over_nine_decades_keep_their_count_and_order() -> None:
    values = [10.0**e for e in range(-6, 4)] * 3
    histogram = only(recorded(values)[0])
    assert histogram.count == len(values)
    assert histogram.quantile(0.0) == 1e-6
    assert histogram.quantile(1.0) == 1e3


@given(st.lists(st.just(0.0) | durations, max_size=300))
def test_several_quantiles_are_those_one_by_one(values: list[float]) -> None:
    direct = DirectHistogram(NAME)
    bound = direct.bind({})
    for value in values:
        bound.record(value)
    histogram = bound.take() or Histogram()
    qs = (0.0, 0.5, 0.66, 0.95, 1.0)
    assert histogram.quantiles(qs) == [histogram.quantile(q) for q in qs]
    assert all((found is not None) == bool(values) for found in histogram.quantiles(qs))


@given(st.lists(durations, min_size=1, max_size=50), st.lists(durations, min_size=1, max_size=50))
def test_taking_out_what_was_put_in_restores_the_counts(first: list[float], second: list[float]) -> None:
    one, two = (only(snapshot) for snapshot in recorded(first, second))
    whole = one.plus(two)
    assert whole.count == len(first) + len(second)
    rest = whole.minus(one, smallest=two.min, largest=two.max)
    assert rest.count == two.count
    assert sum(rest.buckets.counts()) + rest.at_zero == two.count
    assert all(count >= 0 for count in rest.buckets.counts())
    assert rest.quantile(0.5) == pytest.approx(two.quantile(0.5), rel=0.5)


def test_zeros_are_counted_below_everything_else() -> None:
    histogram = only(recorded([0.0, 0.0, 1.0])[0])
    assert (histogram.at_zero, histogram.quantile(0.5), histogram.quantile(1.0)) == (2, 0.0, 1.0)


def test_nothing_recorded_has_no_quantile() -> None:
    assert merged([]).quantile(0.5) is None
    assert Histogram().mean is None


def snapshot(start: float, end: float, *values: float, name: str = NAME) -> Snapshot:
    if not values:
        return Snapshot(start, end)
    return Snapshot(start, end, {Series(name): only(recorded(list(values))[0])}, {Series("errors"): len(values)})


def test_a_window_holds_exactly_what_fell_into_it() -> None:
    history = History(0.0, span=30.0, resolution=10.0)
    for tick in range(1, 8):
        history.add(snapshot(tick * 10.0 - 10, tick * 10.0, *[0.1 * tick] * tick))
    assert recorded_in(history.total, NAME).count == sum(range(1, 8))
    assert recorded_in(history.recent, NAME).count == 5 + 6 + 7
    assert increase_in(history.recent, "errors") == 5 + 6 + 7
    assert history.recent.seconds == 30.0
    recent = recorded_in(history.recent, NAME)
    assert (recent.min, recent.max) == pytest.approx((0.5, 0.7)), "extremes leave with their interval"


def test_what_left_the_window_is_gone_and_the_total_stays() -> None:
    history = History(0.0, span=20.0, resolution=10.0)
    history.add(snapshot(0, 10, 5.0, 5.0))
    for tick in range(1, 4):
        history.add(snapshot(tick * 10.0, tick * 10.0 + 10))
    assert recorded_in(history.recent, NAME).count == 0
    assert history.recent.histograms(NAME) == []
    assert recorded_in(history.total, NAME).count == 2


@pytest.mark.slow
def test_snapshots_on_demand_do_not_grow_the_ring() -> None:
    history = History(0.0, span=30.0, resolution=10.0)
    for i in range(1, 1001):
        history.add(snapshot(i / 10 - 0.1, i / 10, 0.2))
    assert recorded_in(history.total, NAME).count == 1000
    assert len(history._ring) <= 6
    assert len(history._parts) <= 101
    assert 300 <= recorded_in(history.recent, NAME).count <= 401


@given(st.lists(st.tuples(st.floats(0.5, 25.0), st.integers(0, 5)), min_size=1, max_size=60))
def test_any_rhythm_of_ticks_keeps_the_window_equal_to_its_entries(ticks: list[tuple[float, int]]) -> None:
    history, now = History(0.0, span=60.0, resolution=10.0), 0.0
    sample = snapshot(0, 1, 0.25)
    for gap, count in ticks:
        one = sample.histograms[Series(NAME)]
        several = {Series(NAME): merged([one] * count)} if count else {}
        history.add(Snapshot(now, now + gap, several))
        now += gap
    entries = history.moment.entries()
    inside = sum(count for entry in entries for count, *_ in entry.histograms().values())
    assert recorded_in(history.recent, NAME).count == inside
    assert history.recent.seconds == pytest.approx(now - entries[0].start)
    assert recorded_in(history.total, NAME).count == sum(count for _, count in ticks)


def test_series_beyond_the_limit_are_joined_and_none_is_lost() -> None:
    reader = SnapshotReader(0.0, max_series=10)
    instrument = _provider(reader).get_meter("test").create_histogram(NAME)
    for i in range(100):
        instrument.record(1.0, {"path": f"/{i}"})
    taken = reader.take(1.0)
    assert len(taken.histograms) == 11
    assert sum(h.count for h in taken.histograms.values()) == 100
    assert taken.histograms[Series(NAME, (("otel.metric.overflow", True),))].count == 90


def test_series_are_grouped_by_an_attribute() -> None:
    reader = SnapshotReader(0.0)
    instrument = _provider(reader).get_meter("test").create_histogram(NAME)
    for route, times in (("/a", 3), ("/b", 1)):
        for _ in range(times):
            instrument.record(0.1, {"http.route": route})
    history = History(0.0, span=60.0, resolution=10.0)
    history.add(reader.take(2.0))
    assert history.recent.seconds == 2.0
    groups = history.recent.grouped(NAME, "http.route")
    assert {route: sum(h.count for _, h in found) for route, found in groups.items()} == {"/a": 3, "/b": 1}


@pytest.mark.usefixtures("answers_are_reused")
def test_an_answer_is_reused_for_a_bounded_share_of_time() -> None:
    clock, cpu = ManualClock(0.0), [0.0]

    def cost() -> float:
        cpu[0] += 0.005
        return cpu[0]

    aggregator = Aggregator(clock=clock, span=60, resolution=10, cost_clock=cost)
    _provider(aggregator.reader)
    assert not aggregator.fresh
    aggregator.collect()
    assert not aggregator.fresh, "what the first one costs says nothing"
    aggregator.collect()
    assert aggregator.fresh
    clock.now = 0.099
    assert aggregator.fresh, "5 ms of work are reused for 100 ms"
    clock.now = 0.101
    assert not aggregator.fresh
    aggregator.collect()
    aggregator.invalidate()
    assert not aggregator.fresh, "something recorded by hand shows at once"


def gauges(start: float, end: float, **named: float) -> Snapshot:
    return Snapshot(start, end, gauges={Series(name): value for name, value in named.items()})


def test_gauges_are_known_for_five_minutes_after_they_were_seen() -> None:
    history = History(0.0, span=60.0, resolution=10.0)
    history.add(gauges(0, 10, once=1, always=1))
    assert history.gauges == {Series("once"): 1, Series("always"): 1}
    for tick in range(1, 30):
        history.add(gauges(tick * 10, tick * 10 + 10, always=tick))
    assert history.gauges == {Series("once"): 1, Series("always"): 29}, "as long as Prometheus looks back"
    history.add(gauges(300, 310, always=30))
    assert history.gauges == {Series("always"): 30}
    history.add(gauges(310, 320, once=2))
    assert history.gauges == {Series("always"): 30, Series("once"): 2}
    history.add(gauges(320, 10_000))
    assert history.gauges == {}, "a pause as after suspending a machine"


def test_of_our_own_gauges_only_what_is_observed_now_is_known() -> None:
    values: dict[str, float] = {"a": 1, "b": 2}

    def observe(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(value, {"db.namespace": name}) for name, value in values.items()]

    reader = SnapshotReader(0.0)
    provider = _provider(reader)
    for scope in (SCOPE, "theirs"):
        provider.get_meter(scope).create_observable_gauge(f"{scope}.up", [observe])
    history = History(0.0, span=300, resolution=10)
    history.add(reader.take(10.0))
    assert len(history.gauges) == 4
    del values["a"]
    history.add(reader.take(20.0))
    known = {(series.name, series.get("db.namespace")) for series in history.gauges}
    assert known == {(f"{SCOPE}.up", "b"), ("theirs.up", "a"), ("theirs.up", "b")}
    values.clear()
    history.add(reader.take(30.0))
    assert {series.name for series in history.gauges} == {"theirs.up"}
    assert not history.recent.gauges(f"{SCOPE}.up")


def test_gauges_seen_on_demand_count_from_then() -> None:
    history = History(0.0, span=60.0, resolution=10.0)
    history.add(gauges(0, 1, heat=1))
    for i in range(1, 400):
        history.add(gauges(i, i + 1, **({"heat": 2} if i == 5 else {})))
        assert (Series("heat") in history.gauges) == (i + 1 - 6 < 300), i


@given(
    st.lists(st.tuples(st.floats(0.5, 200.0), st.dictionaries(st.sampled_from("abc"), st.floats(0, 9))), max_size=30)
)
def test_gauges_are_the_last_of_each_that_is_young_enough(ticks: list[tuple[float, dict[str, float]]]) -> None:
    history, now = History(0.0, span=60.0, resolution=10.0), 0.0
    seen: dict[str, tuple[float, float]] = {}
    for gap, values in ticks:
        history.add(gauges(now, now + gap, **values))
        now += gap
        seen |= {name: (now, value) for name, value in values.items()}
        assert history.gauges == {Series(name): v for name, (at, v) in seen.items() if at > now - 300}


def test_what_was_read_of_gauges_before_does_not_change() -> None:
    history = History(0.0, span=60.0, resolution=10.0)
    history.add(gauges(0, 10, heat=1))
    before = history.gauges
    history.add(gauges(10, 20, heat=2, cold=3))
    assert before == {Series("heat"): 1}


def test_a_window_finds_each_kind_by_name() -> None:
    of_room = Series("heat", (("room", "bath"),))
    one = only(recorded([0.5])[0])
    window = Window(Snapshot(0, 10, {Series(NAME): one}, {Series("orders"): 2}, {of_room: 20, Series("cold"): 1}))
    assert window.gauges("heat") == [(of_room, 20)]
    assert window.sums("orders") == [(Series("orders"), 2)]
    assert window.histograms(NAME) == [(Series(NAME), one)]
    assert (window.gauges("orders"), window.sums("heat"), window.histograms("orders")) == ([], [], [])


def test_results_of_readers_hold_until_something_is_measured() -> None:
    history = History(0.0, span=2.0, resolution=1.0)
    (first, second) = recorded([1.0], [2.0])
    history.add(first)
    history.total.memo["count"] = 1
    history.add(Snapshot(1.0, 1.5, gauges={Series("queue"): 1.0}))
    assert history.total.memo == history.recent.memo == {"count": 1}
    history.add(Snapshot(1.5, 2.0, sums={Series("orders"): 1.0}))
    assert history.total.memo == {}
    history.total.memo["count"] = 1
    history.add(Snapshot(2.0, 3.0, second.histograms))
    history.add(Snapshot(3.0, 4.0))
    assert history.recent is not history.total
    history.total.memo["count"], history.recent.memo["count"] = 2, 1
    history.add(Snapshot(4.0, 4.5))
    assert (history.total.memo, history.recent.memo) == ({"count": 2}, {"count": 1})
    history.add(Snapshot(4.5, 9.0))
    assert not history.recent.histograms(NAME)
    assert (history.total.memo, history.recent.memo) == ({"count": 2}, {})


def test_bucket_counts_are_as_wide_as_what_they_hold() -> None:
    """Wide counts take memory and time: many values in many buckets need none, many in one bucket do."""
    histogram = DirectHistogram(NAME).bind({})
    histogram.record(0.5)
    one = histogram.take()
    assert one is not None
    spread = merged([one._replace(first=one.first + 2 * place) for place in range(400)])
    assert (spread.count, spread.width, sum(spread.buckets.counts())) == (400, 1, 400)

    for copies, width in ((127, 1), (255, 2), (256, 2), (70_000, 4)):
        same = merged([one] * copies)
        assert (same.count, list(same.buckets.counts())) == (copies, [copies])
        assert same.width <= width
    both = merged([spread, *[one] * 300])
    assert (both.count, sum(both.buckets.counts()), max(both.buckets.counts())) == (700, 700, 301)
