"""Histograms of Prometheus: exponential buckets stay exact, others are spread, fractions become whole."""

import math

import pytest

from otel_monitoring.metrics.snapshot import Histogram
from otel_monitoring.prometheus.decoding import Bucket, classic_histogram, histogram_of, native_histogram, number_of


def exponential(scale: int, counts: dict[int, float]) -> list[Bucket]:
    return [Bucket(2 ** (i / 2**scale), 2 ** ((i + 1) / 2**scale), n) for i, n in sorted(counts.items())]


@pytest.mark.parametrize("scale", [-1, 0, 3, 8])
def test_exponential_buckets_are_taken_as_they_are(scale: int) -> None:
    found = histogram_of(12, 30.0, exponential(scale, {-7: 3, -6: 4, 2: 5}))
    assert (found.count, found.sum, found.scale, found.at_zero) == (12, 30.0, scale, 0)
    inside = dict(zip(range(found.buckets.first, 3), found.buckets.counts(), strict=True))
    assert {index: count for index, count in inside.items() if count} == {-7: 3, -6: 4, 2: 5}


def test_values_at_zero_are_counted_apart() -> None:
    found = histogram_of(10, 8.0, [Bucket(-1e-128, 1e-128, 4), *exponential(3, {0: 6})])
    assert (found.count, found.at_zero, found.min) == (10, 4, 0.0)


def test_fractions_become_whole_and_none_is_lost() -> None:
    found = histogram_of(10.2, 5.0, exponential(3, dict.fromkeys(range(40), 0.255)))
    assert found.count == 10 == sum(found.buckets.counts())


@pytest.mark.parametrize("q", [0.1, 0.5, 0.9, 0.95])
def test_explicit_buckets_are_interpolated_as_promql_does(q: float) -> None:
    below = {0.005: 0.0, 0.01: 100.0, 0.025: 200.0, math.inf: 200.0}
    found = classic_histogram(below, 2.0).quantile(q)
    rank = q * 200
    expected = 0.005 + 0.005 * rank / 100 if rank <= 100 else 0.01 + 0.015 * (rank - 100) / 100
    assert found == pytest.approx(expected, rel=0.005)


def test_beyond_the_last_bound_is_the_last_bound() -> None:
    found = classic_histogram({0.1: 1.0, 10.0: 1.0, math.inf: 101.0}, 2000.0)
    assert found.quantile(0.99) == pytest.approx(10.0, rel=0.01)
    assert found.max == 10.0


@pytest.mark.parametrize(
    "sample",
    [{}, {"value": [1, "NaN"]}, {"value": [1, "+Inf"]}, {"value": "x"}, {"value": [1, None]}, {"histogram": [1, {}]}],
)
def test_what_is_no_number_is_none(sample: dict[str, object]) -> None:
    assert number_of(sample) is None
    assert native_histogram(sample) is None


def test_nothing_is_an_empty_histogram() -> None:
    assert histogram_of(0, 0.0, []) == Histogram()
    assert classic_histogram({}, 0.0) == Histogram()
