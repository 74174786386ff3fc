"""What rules see of one worker and of several; what travels between workers; rules that raise."""

import json
import logging
from collections.abc import Collection, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_monitoring.alerts import Count, Gauge, NoData, Quantile, Rule, error_rate, requests
from otel_monitoring.alerts.evaluation.evaluate import Evaluation
from otel_monitoring.alerts.evaluation.worker_report import INSTANCE_ATTRIBUTE, WorkerReport, merge_reports
from otel_monitoring.alerts.rules.expressions import Reading
from otel_monitoring.alerts.rules.promql import Dialect
from otel_monitoring.metrics.snapshot import Histogram, Series, Snapshot, merged
from otel_monitoring.metrics.window import Window
from otel_monitoring.semconv import HTTP_ROUTE, HTTP_SERVER_REQUEST_DURATION
from tests.measured import Meter, increase_in, recorded_in

METRICS = frozenset({HTTP_SERVER_REQUEST_DURATION, "orders", "heat"})


def report(*, heat: float | None = None, orders: float = 0, **requests_of: int) -> WorkerReport:
    """What a worker knows that has seen this much."""
    meter = Meter()
    if heat is not None:
        meter.gauge("heat", heat, {"room": "kitchen"})
    if orders:
        meter.count("orders", orders)
    for route, count in requests_of.items():
        meter.requests(count, f"/{route}")
    return WorkerReport(meter.window())


def results(
    rule: Rule, reports: Mapping[str, WorkerReport], *known: Mapping[str, str], evaluation: Evaluation | None = None
) -> list[tuple[dict[str, str], float | None, bool]]:
    """Labels, value and whether it is gone, of every look."""
    found = (evaluation or Evaluation()).evaluate([rule], reports, {rule.name: known})
    assert all(look.rule is rule for look in found)
    return [(look.labels, look.reading.value if look.reading else None, look.gone) for look in found]


# One alert for the service, or one for each worker

HOT = Rule("hot", Gauge("heat"), ">", 80)
EACH_HOT = Rule("each_hot", Gauge("heat"), ">", 80, scope="instance")


def test_a_service_is_looked_at_as_a_whole_an_instance_by_itself() -> None:
    reports = {"a": report(heat=81), "b": report(heat=99), "c": report(heat=10)}
    assert results(HOT, reports) == [({}, 99, False)]
    assert results(EACH_HOT, reports) == [({"instance": "a"}, 81, False), ({"instance": "b"}, 99, False)]


def test_only_what_begins_or_is_known_is_looked_at() -> None:
    reports = {"a": report(heat=10), "b": report(heat=20)}
    assert results(HOT, reports) == []
    assert results(HOT, reports, {}) == [({}, 20, False)]
    assert results(EACH_HOT, reports, {"instance": "b"}) == [({"instance": "b"}, 20, False)]


def test_what_a_worker_that_is_gone_knew_is_gone_with_it() -> None:
    assert results(EACH_HOT, {"a": report(heat=99)}, {"instance": "a"}, {"instance": "b"}) == [
        ({"instance": "a"}, 99, False),
        ({"instance": "b"}, None, True),
    ]
    by_room = Rule("by_room", Gauge("heat", group_by="room"), ">", 80, label="room", scope="instance")
    assert results(by_room, {"a": report()}, {"instance": "b", "room": "bath"}, {"instance": "a", "room": "bath"}) == [
        ({"instance": "b", "room": "bath"}, None, True),
        ({"instance": "a", "room": "bath"}, None, False),
    ]


def test_a_group_that_is_seen_no_more_is_no_data_and_not_gone() -> None:
    by_room = Rule("by_room", Gauge("heat", group_by="room"), ">", 80, label="room")
    assert results(by_room, {"a": report(heat=99)}, {"room": "bath"}) == [
        ({"room": "kitchen"}, 99, False),
        ({"room": "bath"}, None, False),
    ]


@pytest.mark.parametrize("no_data", NoData)
def test_no_data_is_looked_at_where_it_fires_or_something_is_known(no_data: NoData) -> None:
    rule = Rule("hot", Gauge("heat"), ">", 80, no_data=no_data)
    assert results(rule, {"a": report()}) == ([({}, None, False)] if no_data is NoData.FIRE else [])
    assert results(rule, {"a": report()}, {}) == [({}, None, False)]


def test_a_low_value_is_not_taken_for_no_data() -> None:
    fast = Quantile(HTTP_SERVER_REQUEST_DURATION, 0.95)
    rule = Rule("slow", fast, ">", 2, no_data=NoData.FIRE)
    assert results(rule, {"a": report(a=5)}) == []


def test_while_an_endpoint_is_known_all_are_seen_down_to_where_they_resolve() -> None:
    slow = Quantile(HTTP_SERVER_REQUEST_DURATION, 0.95, group_by=HTTP_ROUTE)
    rule = Rule("slow", slow, ">", 2, clear=1, label="endpoint")
    reports = {"a": report(a=5, b=5)}
    assert results(rule, reports) == []
    assert results(rule, reports, {"endpoint": "/a"}) == [({"endpoint": "/a"}, 0.1, False)]


def test_labels_are_an_alerts_identity_in_whatever_order_they_were_saved() -> None:
    rule = Rule("hot", Gauge("heat", group_by="room"), ">", 80, label="room", labels={"team": "x", "tier": "1"})
    known = {"room": "kitchen", "tier": "1", "team": "x"}
    assert results(rule, {"a": report(heat=99)}, known) == [(known, 99, False)]


# Several workers together


def test_workers_together_counts_added_gauges_apart() -> None:
    meters = {"a": Meter(), "b": Meter()}
    for (instance, meter), seconds in zip(meters.items(), (0.1, 5.0), strict=True):
        meter.count("orders", 2)
        meter.gauge("heat", 10 if instance == "a" else 30)
        for _ in range(10):
            meter.request("/a", seconds=seconds)
    meters["b"].requests(2, "/b", 500, error="500")
    windows = {instance: meter.window(300 if instance == "a" else 60) for instance, meter in meters.items()}
    whole = merge_reports({instance: WorkerReport(window) for instance, window in windows.items()})
    assert increase_in(whole, "orders") == 4
    assert recorded_in(whole, HTTP_SERVER_REQUEST_DURATION).count == 22
    assert {series.get(INSTANCE_ATTRIBUTE): value for series, value in whole.gauges("heat")} == {"a": 10, "b": 30}
    assert whole.seconds == 300
    of_a = recorded_in(whole, HTTP_SERVER_REQUEST_DURATION, lambda series: series.get(HTTP_ROUTE) == "/a")
    assert (of_a.min, of_a.max, of_a.count) == (0.1, 5.0, 20)
    assert of_a.quantile(0.75) == pytest.approx(5.0, rel=0.02)
    assert error_rate().readings(whole) == [Reading(100 * 2 / 22, 22)]


def test_one_worker_is_everything_and_none_is_nothing() -> None:
    alone = report(heat=1)
    assert merge_reports({"a": alone}) is alone.window
    assert merge_reports({}).seconds == 0
    assert results(HOT, {}) == []


# Between workers

texts = st.text(max_size=8)
scalars = texts | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False)
attributes = st.dictionaries(texts, scalars | st.lists(scalars, max_size=3).map(tuple), max_size=3).map(
    lambda found: tuple(sorted(found.items()))
)
names = st.sampled_from(sorted(METRICS))
series = st.builds(Series, names, attributes)
numbers = st.floats(allow_nan=False) | st.integers(-(2**63), 2**63)


def measured(values: list[float]) -> Histogram:
    meter = Meter()
    for value in values:
        meter.request(seconds=value)
    (histogram,) = meter.window().snapshot.histograms.values()
    return histogram


SOME = [measured(values) for values in ([0.0], [0.1, 0.2], [1e-9, 1e9], [0.01] * 300, [5.0, 0.0, 5.0])]
histograms = st.lists(st.sampled_from(SOME), min_size=1, max_size=4).map(merged)


@given(
    st.dictionaries(series, histograms, max_size=4),
    st.dictionaries(series, numbers, max_size=4),
    st.dictionaries(series, numbers, max_size=4),
    st.floats(0, 1e9),
)
@settings(max_examples=50, deadline=None)
def test_what_is_encoded_is_decoded(
    of_histograms: dict[Series, Histogram], sums: dict[Series, float], gauges: dict[Series, float], start: float
) -> None:
    snapshot = Snapshot(start, start + 300, of_histograms, sums, gauges)
    again = WorkerReport.decode(WorkerReport(Window(snapshot)).encode(METRICS)).window.snapshot
    assert again == snapshot
    assert sorted(map(repr, again.gauges)) == sorted(map(repr, gauges)), "False is not 0, nor 1.0 the same as 1"


def test_only_what_rules_read_travels_and_evidence_as_far_as_json_goes() -> None:
    meter = Meter()
    meter.count("orders")
    meter.count("secrets")
    meter.gauge("heat", 1)
    evidence = {"event_loop_blocked": {"stack": ("a", "b"), "error": ValueError("no")}}
    data = WorkerReport(meter.window(), evidence).encode({"orders"})
    assert b"secrets" not in data
    assert b"heat" not in data
    again = WorkerReport.decode(data)
    assert increase_in(again.window, "orders") == 1
    assert again.evidence == {"event_loop_blocked": {"stack": ["a", "b"], "error": "no"}}


def test_what_another_version_or_a_damaged_disk_left_is_refused() -> None:
    data = report(heat=1, a=1).encode(METRICS)
    read = json.loads(data)
    damaged: list[bytes] = [
        b"",
        b"null",
        b"{}",
        b"\xff",
        data[:-1],
        json.dumps({**read, "format": 2}).encode(),
        json.dumps({**read, "span": [1]}).encode(),
        json.dumps({**read, "histograms": [["a", [], [1, 2]]]}).encode(),
        json.dumps({**read, "gauges": [["a", 5, 1]]}).encode(),
    ]
    for content in damaged:
        with pytest.raises((ValueError, TypeError, LookupError)):
            WorkerReport.decode(content)


# Rules that raise


class Failing:
    """An expression with a bug that shows when it is told to."""

    metrics = frozenset({"heat"})
    group_by = ""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def readings(self, window: Window, *, above: float | None = None, known: Collection[str] = ()) -> list[Reading]:
        if self.error is not None:
            raise self.error
        return [Reading(90, 1)]

    def promql(self, dialect: Dialect) -> str:
        return "heat"


def test_a_rule_that_raises_leaves_the_others_and_its_own_alerts_alone(caplog: pytest.LogCaptureFixture) -> None:
    failing = Failing()
    broken = Rule("broken", failing, ">", 80)
    evaluation, reports = Evaluation(), {"a": report(heat=99)}
    known: dict[str, list[dict[str, str]]] = {"broken": [{}], "hot": [{}]}

    def seen() -> list[str]:
        return [look.rule.name for look in evaluation.evaluate([broken, HOT], reports, known)]

    assert seen() == ["broken", "hot"]
    failing.error = ZeroDivisionError("password=hunter2 by zero")
    assert seen() == ["hot"], "of the broken one nothing is seen: its alert stays as it is"
    assert evaluation.errors == {"broken": "ZeroDivisionError: password=[REDACTED] by zero"}
    assert seen() == ["hot"]
    assert [record.levelno for record in caplog.records] == [logging.WARNING], "logged once a minute"
    failing.error = None
    assert seen() == ["broken", "hot"]
    assert evaluation.errors == {}


def test_what_only_shows_when_it_is_evaluated_is_contained() -> None:
    expression = Count("orders", where=[])  # type: ignore[arg-type]
    evaluation = Evaluation()
    found = evaluation.evaluate([Rule("broken", expression, ">", 0), HOT], {"a": report(heat=99, orders=1)}, {})
    assert [look.rule.name for look in found] == ["hot"]
    assert list(evaluation.errors) == ["broken"]


@pytest.mark.parametrize("read", [None, 5, ["hot"], [("hot", 1)]])
def test_readings_of_a_wrong_kind_are_the_rules_failure(read: Any) -> None:
    class Wrong(Failing):
        def readings(self, *_: Any, **__: Any) -> Any:
            return read

    evaluation = Evaluation()
    found = evaluation.evaluate([Rule("broken", Wrong(), ">", 0), HOT], {"a": report(heat=99)}, {})
    assert [look.rule.name for look in found] == ["hot"]
    assert list(evaluation.errors) == ["broken"]
    assert "broken" not in evaluation.readings, "nobody is shown them"


def test_what_was_read_is_remembered_with_where_it_was_read() -> None:
    evaluation = Evaluation()
    assert results(EACH_HOT, {"a": report(heat=1), "b": report(), "c": report(heat=2)}, evaluation=evaluation) == []
    assert evaluation.readings == {"each_hot": {"a": [Reading(1, 1)], "b": [], "c": [Reading(2, 1)]}}
    by_route = Rule("busy", requests(group_by=HTTP_ROUTE), ">", 100, label="endpoint")
    assert results(by_route, {"a": report(x=2), "b": report(x=1)}, {"endpoint": "/x"}, evaluation=evaluation) == [
        ({"endpoint": "/x"}, 3, False)
    ]
    assert evaluation.readings["busy"] == {"": [Reading(3, 3, "/x")]}
