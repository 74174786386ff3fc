"""Slices merge exactly, in any order and grouping, and stay bounded."""

import math
import random
from itertools import pairwise

import pytest

from otel_monitoring.metrics.direct_histogram import DirectHistogram
from otel_monitoring.metrics.slices.model import (
    COUNTERS_LIMIT,
    GAUGES_LIMIT,
    HISTOGRAMS_LIMIT,
    OTHER_ROUTES,
    ROUTES_LIMIT,
    TIERS,
    GaugeFigures,
    Requests,
    Slice,
    merged_slices,
    shares,
)
from otel_monitoring.metrics.snapshot import Histogram


def durations_of(*seconds: float) -> Histogram:
    direct = DirectHistogram("durations")
    series = direct.bind({})
    for value in seconds:
        series.record(value)
    return series.take() or Histogram()


def any_slice(chance: random.Random) -> Slice:
    routes = {
        f"/{number}": Requests(durations_of(*(chance.lognormvariate(-3, 1) for _ in range(chance.randint(1, 30)))), 1)
        for number in range(chance.randint(0, 4))
    }
    whole = merged_slices([Slice(requests=one) for one in routes.values()]).requests
    figures = GaugeFigures.of([chance.randint(0, 100)])
    assert figures is not None
    return Slice(
        10.0, whole, routes, {"cpu": figures}, {"orders": float(chance.randint(0, 9))}, {"size": durations_of(7.0)}
    )


def test_each_tier_consists_of_whole_slots_of_the_finer_one() -> None:
    for finer, coarser in pairwise(TIERS):
        assert coarser.seconds % finer.seconds == 0
        assert coarser.kept > finer.kept
        assert coarser.slot(coarser.seconds * 7 + finer.seconds) == coarser.seconds * 7
    assert TIERS[0].slot(-0.5) == -10


@pytest.mark.parametrize("seed", range(5))
def test_a_sum_of_sums_is_the_sum(seed: int) -> None:
    chance = random.Random(seed)
    slices = [any_slice(chance) for _ in range(12)]
    whole = merged_slices(slices)
    halves = merged_slices([merged_slices(slices[:5]), merged_slices(slices[5:])])
    backwards = merged_slices(reversed(slices))
    for other in (halves, backwards):
        assert other.requests.durations.buckets.counts() == whole.requests.durations.buckets.counts()
        assert (other.requests.errors, other.seconds) == (whole.requests.errors, 120)
        assert {name: one.durations.count for name, one in other.routes.items()} == {
            name: one.durations.count for name, one in whole.routes.items()
        }
        assert (other.gauges, other.counters) == (whole.gauges, whole.counters)
    assert whole.requests.durations.count == sum(one.requests.durations.count for one in slices)


def test_readings_are_their_mean_and_extremes() -> None:
    assert GaugeFigures.of([math.nan, 4.0, math.inf, 1.0]) == GaugeFigures(2, 5.0, 1.0, 4.0)
    assert GaugeFigures.of([math.nan]) is None
    one, two = GaugeFigures.of([1.0, 2.0]), GaugeFigures.of([6.0])
    assert one is not None
    assert two is not None
    whole = merged_slices([Slice(gauges={"a": one}), Slice(gauges={"a": two, "b": two})]).gauges
    assert (whole["a"], whole["a"].mean, whole["b"]) == (GaugeFigures(3, 9.0, 1.0, 6.0), 3.0, two)


def test_the_routes_with_the_fewest_requests_are_one() -> None:
    few = {f"/rare/{number}": Requests(durations_of(0.1), 1) for number in range(ROUTES_LIMIT)}
    often = {f"/often/{number}": Requests(durations_of(0.1, 0.2)) for number in range(ROUTES_LIMIT - 1)}
    whole = merged_slices([Slice(routes=few), Slice(routes={**often, OTHER_ROUTES: Requests(durations_of(3.0))})])
    assert len(whole.routes) == ROUTES_LIMIT
    assert whole.routes.keys() == often.keys() | {OTHER_ROUTES}
    assert whole.routes[OTHER_ROUTES].durations.count == ROUTES_LIMIT + 1
    assert whole.routes[OTHER_ROUTES].errors == ROUTES_LIMIT
    assert merged_slices([whole, whole]).routes[OTHER_ROUTES].durations.count == 2 * (ROUTES_LIMIT + 1)


@pytest.mark.parametrize("number", [1, 2, 7, 60])
def test_shares_are_even_and_their_sum_is_the_whole(number: int) -> None:
    chance = random.Random(number)
    zeros = Requests(durations_of(0.0, 0.0, *(chance.lognormvariate(-3, 1) for _ in range(200))), 90)
    whole = merged_slices([*(any_slice(chance) for _ in range(9)), Slice(10.0, zeros, {"/z": zeros})])
    parts = shares(whole, number)
    again = merged_slices(parts)
    for name, one in {"": whole.requests, **whole.routes}.items():
        found = again.routes[name] if name else again.requests
        assert (found.errors, found.durations.count, found.durations.at_zero) == (
            one.errors,
            one.durations.count,
            one.durations.at_zero,
        )
        assert list(found.durations.buckets.counts()) == list(one.durations.buckets.counts())
        assert found.durations.sum == pytest.approx(one.durations.sum)
    assert again.counters == pytest.approx(whole.counters)
    assert again.seconds == pytest.approx(whole.seconds)
    counts = [part.requests.durations.count for part in parts]
    assert max(counts) - min(counts) <= 1
    assert all(one.errors <= one.durations.count for part in parts for one in (part.requests, *part.routes.values()))


def test_the_metrics_of_the_application_are_bounded() -> None:
    names = [f"name{number:04}" for number in range(2 * GAUGES_LIMIT)]
    gauges, one = dict.fromkeys(names, GaugeFigures(1, 1.0, 1.0, 1.0)), durations_of(1.0)
    many = Slice(gauges=gauges, counters=dict.fromkeys(names, 1.0), histograms=dict.fromkeys(names, one))
    for whole in (merged_slices([many, Slice()]), merged_slices([many, many])):
        assert list(whole.gauges) == names[:GAUGES_LIMIT]
        assert list(whole.counters) == names[:COUNTERS_LIMIT]
        assert list(whole.histograms) == names[:HISTOGRAMS_LIMIT]
