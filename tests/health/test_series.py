"""A metric of the past: its steps and values, gaps as gaps, and what is wrong in a query."""

from typing import Any

import pytest

from otel_monitoring.alerts.store.memory.slices import MemorySlices
from otel_monitoring.health.readings import DOCUMENTS, OWN
from otel_monitoring.health.series import series
from otel_monitoring.health.series_query import POINTS_LIMIT, Grid, SeriesQuery, SeriesQueryError
from otel_monitoring.health.slice_metrics import BUCKETS_LIMIT, METRICS, Known
from otel_monitoring.metrics.slices.codec import encoded_routes, encoded_service
from otel_monitoring.metrics.slices.model import TIERS, GaugeFigures, Requests, Slice
from otel_monitoring.metrics.slices.table import Position, SliceRow
from tests.metrics.slices.test_model import durations_of

NOW = 1_800_003_605.0
"""Five seconds after a whole hour."""
HOUR = 1_800_003_600
ONE = Slice(
    10.0,
    Requests(durations_of(*[0.1] * 30, *[0.9] * 10), 10),
    {"/a": Requests(durations_of(*[0.1] * 30)), "/b": Requests(durations_of(*[0.9] * 10), 10)},
    {
        "cpu": GaugeFigures(2, 100.0, 40.0, 60.0),
        "loop_lag": GaugeFigures(2, 0.5, 0.1, 0.4),
        DOCUMENTS + "orders": GaugeFigures(1, 7.0, 7.0, 7.0),
        DOCUMENTS + "users": GaugeFigures(1, 5.0, 5.0, 5.0),
        OWN + "queue": GaugeFigures(1, 3.0, 3.0, 3.0),
        OWN + "cpu": GaugeFigures(1, 9.0, 9.0, 9.0),
    },
    {"sold": 40.0},
    {"size": durations_of(2.0, 4.0, 6.0)},
)


def row(start: int, content: Slice = ONE, tier: int = 10) -> SliceRow:
    return SliceRow(tier, start, encoded_service(content), encoded_routes(content.routes))


@pytest.fixture
def table() -> MemorySlices:
    """Ten seconds, a gap of 20, and ten seconds, up to the last whole hour."""
    table = MemorySlices()
    table.advance("", Position("one", b""), [row(HOUR - 40), row(HOUR - 10)])
    return table


def answered(
    table: MemorySlices,
    query: SeriesQuery,
    known: Known = Known(),  # noqa: B008 - it is immutable
    least_step: float = 0.0,
) -> dict[str, Any]:
    return series(table, query, Grid.of(query, NOW, least_step), known)


def asked(table: MemorySlices, *metrics: str, known: Known = Known(), **query: Any) -> dict[str, Any]:  # noqa: B008
    return answered(table, SeriesQuery(metrics, **{"range": "60s", **query}), known)


def values(table: MemorySlices, metric: str, **query: Any) -> list[float | None]:
    return [point["value"] for point in asked(table, metric, **query)["points"]]


def test_every_step_is_a_point_and_gaps_stay(table: MemorySlices) -> None:
    answer = asked(table, "requests", step="10s")
    assert [point["value"] for point in answer["points"]] == [None, None, 4.0, None, None, 4.0]
    assert answer["points"][-1]["time"] == "2027-01-15T08:59:50.000+00:00"
    assert {k: answer[k] for k in ("metric", "unit", "endpoint", "range_seconds", "step_seconds")} == {
        "metric": "requests",
        "unit": "1/s",
        "endpoint": None,
        "range_seconds": 60,
        "step_seconds": 10,
    }


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("requests", 4.0),
        ("error_rate", 25.0),
        ("p50", pytest.approx(0.1, rel=0.02)),
        ("p99", pytest.approx(0.9, rel=0.02)),
        ("cpu", 50.0),
        ("loop_lag", 0.4),
        ("documents", 12.0),
        ("documents/orders", 7.0),
        ("queue", 3.0),
        ("sold", 4.0),
        ("size", 4.0),
        ("size/p95", pytest.approx(6.0, rel=0.05)),
        ("ping", None),
    ],
)
def test_the_values_of_a_step_are_merged(table: MemorySlices, metric: str, expected: object) -> None:
    assert values(table, metric, step="10s")[-1] == expected
    assert values(table, metric, step="60s")[-1] == expected


def test_the_requests_of_one_endpoint(table: MemorySlices) -> None:
    assert values(table, "requests", endpoint="/a", step="60s") == [3.0]
    assert values(table, "error_rate", endpoint="/b", step="60s") == [100.0]
    assert values(table, "p95", endpoint="/a", step="60s") == [pytest.approx(0.1, rel=0.05)]
    quiet = asked(table, "p95", known=Known(endpoints=["/c"]), endpoint="/c", step="60s")
    assert quiet["points"][0]["value"] is None


def test_where_nothing_was_measured_there_are_points_without_values() -> None:
    assert values(MemorySlices(), "requests", step="20s") == [None, None, None]
    quiet = answered(MemorySlices(), SeriesQuery(["queue"]), Known(metrics=["queue"]))
    assert {point["value"] for point in quiet["points"]} == {None}


def test_no_requests_have_no_percentile_and_no_error_rate() -> None:
    table = MemorySlices()
    table.advance("", Position("one", b""), [row(HOUR - 10, Slice(10.0))])
    assert values(table, "requests", step="60s") == [0.0]
    assert values(table, "error_rate", step="60s") == values(table, "p99", step="60s") == [None]


def test_the_newest_time_comes_from_finer_slices(table: MemorySlices) -> None:
    position = table.position()
    assert position is not None
    table.advance(position.version, Position("two", b""), [row(HOUR - 120, tier=60), row(HOUR - 70)])
    answer = asked(table, "requests", range="2h", step="1m")
    assert [point["value"] for point in answer["points"][-2:]] == [4.0, 4.0]
    assert asked(table, "requests", range="2h", step="2m")["points"][-1]["value"] == 4.0


@pytest.mark.parametrize(
    ("span", "step", "expected"),
    [
        ("1h", None, 10),
        ("900", None, 10),
        ("24h", None, 300),
        ("30d", None, 7200),
        ("1h", "1s", 10),
        ("1h", "15s", 20),
        ("2h", "10s", 60),
        ("2d", "1m", 300),
        ("30d", "1h", 3600),
    ],
)
def test_the_step_fits_what_is_kept_and_the_number_of_points(span: str, step: str | None, expected: int) -> None:
    answer = asked(MemorySlices(), "requests", range=span, step=step)
    assert answer["step_seconds"] == expected
    assert len(answer["points"]) <= POINTS_LIMIT


@pytest.mark.parametrize("span", [60, 3600, 3601, 86_400, 86_401, 259_200, 259_201, TIERS[-1].kept])
@pytest.mark.parametrize("step", [None, "1s", "7s", "61s"])
def test_no_answer_has_too_many_points(span: int, step: str | None) -> None:
    if step is not None and int(step[:-1]) > span:
        return
    assert 1 <= len(asked(MemorySlices(), "requests", range=str(span), step=step)["points"]) <= POINTS_LIMIT


def test_a_step_is_not_shorter_than_the_time_between_measurements() -> None:
    answer = answered(MemorySlices(), SeriesQuery(["requests"], "1h"), least_step=45.0)
    assert answer["step_seconds"] == 60


@pytest.mark.parametrize(
    ("query", "field", "named"),
    [
        ({"metric": "speed"}, "metric", "requests, error_rate"),
        ({"metric": "speed"}, "metric", "queue, size, sold"),
        ({"metric": "size/p42"}, "metric", "size"),
        ({"metric": "/p95"}, "metric", "size"),
        ({"metric": "documents/gone"}, "metric", "documents/orders"),
        ({"metric": "cpu", "endpoint": "/a"}, "endpoint", "requests, error_rate, p50, p95, p99, durations"),
        ({"metric": "p50", "endpoint": "/gone"}, "endpoint", "/a, /b"),
        ({"metric": "p50", "range": "1y"}, "range", "7d"),
        ({"metric": "p50", "range": "31d"}, "range", "30d"),
        ({"metric": "p50", "range": "1s"}, "range", "60s"),
        ({"metric": "p50", "range": "9" * 400}, "range", "7d"),
        ({"metric": "p50", "step": "-1"}, "step", "7d"),
        ({"metric": "p50", "step": "2h"}, "step", "range"),
        ({"metric": "p50", "step": "0"}, "step", "1s"),
        ({"metric": "p50", "end": NOW - 31 * 86_400}, "end", "30 days"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_known(
    table: MemorySlices, query: dict[str, Any], field: str, named: str
) -> None:
    with pytest.raises(SeriesQueryError, match=r"must|only") as raised:
        asked(table, query.pop("metric"), **query)
    assert raised.value.field == field
    assert named in str(raised.value)


def test_the_list_of_what_is_known_is_short() -> None:
    many = Known(endpoints=[f"/{number:04}" for number in range(2000)])
    with pytest.raises(SeriesQueryError, match="and 1950 more"):
        asked(MemorySlices(), "p50", known=many, endpoint="/x")


def test_every_metric_has_an_answer(table: MemorySlices) -> None:
    for metric in METRICS:
        assert asked(table, metric)["metric"] == metric


def test_a_slice_that_cannot_be_read_is_a_gap(table: MemorySlices) -> None:
    table.advance("one", Position("two", b""), [SliceRow(10, HOUR - 30, b"broken", b"")])
    assert values(table, "requests", step="10s") == [None, None, 4.0, None, None, 4.0]


def test_several_metrics_are_columns_of_one_answer(table: MemorySlices) -> None:
    answer = asked(table, "requests", "p99", "cpu", "sold", step="10s")
    assert answer == {
        "endpoint": None,
        "range_seconds": 60,
        "step_seconds": 10,
        "start": "2027-01-15T08:59:00.000+00:00",
        "series": [
            {"metric": "requests", "unit": "1/s", "values": [None, None, 4.0, None, None, 4.0]},
            {"metric": "p99", "unit": "s", "values": values(table, "p99", step="10s")},
            {"metric": "cpu", "unit": "%", "values": [None, None, 50.0, None, None, 50.0]},
            {"metric": "sold", "unit": "1/s", "values": [None, None, 4.0, None, None, 4.0]},
        ],
    }


def test_the_distribution_has_each_request_in_the_bucket_of_its_duration(table: MemorySlices) -> None:
    answer = asked(table, "durations", step="20s")
    bounds, counts = answer["bounds"], [point["counts"] for point in answer["points"]]
    assert counts[0] is None
    assert sum(counts[1]) == sum(counts[2]) == 40
    assert bounds == sorted(bounds)
    for value, count in ((0.1, 30), (0.9, 10)):
        place = next(place for place, bound in enumerate(bounds) if value <= bound)
        assert counts[1][place] == count
        assert bounds[place] / value <= 1.42
    alone = asked(table, "durations", endpoint="/b", step="20s")
    assert [sum(point["counts"] or [0]) for point in alone["points"]] == [0, 10, 10]
    both = asked(table, "requests", "durations", step="20s")["series"][1]
    assert (both["bounds"], both["counts"]) == (bounds, counts)


@pytest.mark.parametrize("seconds", [(0.0,), (0.0, 0.2), (1e-9, 1e6), (1e-300, 1e300), (5e-324,), (1e308,)])
def test_a_distribution_has_few_buckets_whatever_was_measured(seconds: tuple[float, ...]) -> None:
    table, content = MemorySlices(), Slice(10.0, Requests(durations_of(*seconds)))
    table.advance("", Position("one", b""), [row(HOUR - 10, content), row(HOUR - 20, Slice(10.0))])
    answer = asked(table, "durations")
    assert 1 <= len(answer["bounds"]) <= BUCKETS_LIMIT
    assert sum(answer["points"][-1]["counts"]) == len(seconds)
    assert answer["points"][-2]["counts"] is None


def test_a_range_may_end_before_now(table: MemorySlices) -> None:
    answer = asked(table, "requests", step="10s", end=HOUR - 30.0)
    assert [point["value"] for point in answer["points"]] == [None, None, None, None, None, 4.0]
    assert asked(table, "requests", step="10s", end=NOW + 500) == asked(table, "requests", step="10s")


@pytest.mark.parametrize(
    ("ago", "step"), [(30, 10), (3600, 60), (86_400, 300), (4 * 86_400, 3600), (29 * 86_400, 3600)]
)
def test_what_is_long_ago_comes_from_what_is_still_kept(table: MemorySlices, ago: int, step: int) -> None:
    answer = asked(table, "requests", range="1h", step="1s", end=NOW - ago)
    assert answer["step_seconds"] == step
    assert len(answer["points"]) == 3600 // step
