"""What was encoded is read as it was; what is damaged is refused."""

import random

import pytest

from otel_monitoring.metrics.serialization import UNREADABLE
from otel_monitoring.metrics.slices.codec import decoded_routes, decoded_service, encoded_routes, encoded_service
from otel_monitoring.metrics.slices.model import GaugeFigures, Requests, Slice
from tests.metrics.slices.test_model import any_slice, durations_of

ROUTES = {
    '/a\n"b"': Requests(durations_of(0.1, 0.1, 7.0), 1),
    "/many": Requests(durations_of(*[0.02] * 70_000, *[0.5] * 300), 0),
    "/zero": Requests(durations_of(0.0, 0.0)),
    "/ends": Requests(durations_of(1e-300, 1e300), 2),
}


def test_a_slice_is_read_as_it_was_written() -> None:
    figures = GaugeFigures(3, 6.5, -1.0, 4.0)
    sizes = {"orders.size": durations_of(1.0, 900.0), "": durations_of(5.0)}
    service = Slice(30.0, ROUTES["/many"], {}, {"cpu": figures}, {"orders.placed": 2.5}, sizes)
    read = decoded_service(encoded_service(service))
    assert {name: one.count for name, one in read.histograms.items()} == {"orders.size": 2}
    assert read.requests.durations.count == ROUTES["/many"].durations.count
    assert (read.seconds, read.gauges, read.counters, read.routes) == (
        30.0,
        {"cpu": figures},
        {"orders.placed": 2.5},
        {},
    )
    for routes in (ROUTES, {"": ROUTES["/zero"]}):
        again = decoded_routes(encoded_routes(routes))
        assert list(again) == list(routes)
        for name, one in routes.items():
            found = again[name]
            assert (found.errors, found.durations.count) == (one.errors, one.durations.count)
            assert found.durations.sum == pytest.approx(min(one.durations.sum, 3.4e38), rel=1e-6)
            assert found.durations.min <= one.durations.min <= one.durations.min * 1.01
            assert min(one.durations.max, 3.4e38) <= found.durations.max <= 1.01 * one.durations.max + 1e-40
            assert list(found.durations.buckets.counts()) == list(one.durations.buckets.counts())
            assert found.durations.quantile(0.5) == pytest.approx(one.durations.quantile(0.5), rel=1e-6)
    assert decoded_routes(encoded_routes({})) == {}
    assert decoded_service(encoded_service(Slice())) == Slice()


@pytest.mark.parametrize("seed", range(3))
def test_what_was_read_is_written_the_same(seed: int) -> None:
    content = any_slice(random.Random(seed))
    service, routes = encoded_service(content), encoded_routes(content.routes)
    assert encoded_service(decoded_service(service)) == service
    assert encoded_routes(decoded_routes(routes)) == routes


def test_one_route_is_read_alone() -> None:
    content = encoded_routes(ROUTES)
    for name, one in ROUTES.items():
        (found,) = decoded_routes(content, name).values()
        assert found == decoded_routes(content)[name]
        assert found.durations.count == one.durations.count
    assert decoded_routes(content, "/gone") == {}


def test_what_is_damaged_is_refused() -> None:
    whole = encoded_routes(ROUTES)
    for content in (b"", b"x", whole[:-3], whole[3:]):
        with pytest.raises(UNREADABLE):
            decoded_routes(content)
    with pytest.raises(UNREADABLE):
        decoded_service(whole)
