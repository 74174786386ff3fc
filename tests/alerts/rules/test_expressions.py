"""What each expression reads from a window, that a hint changes no verdict, and that Prometheus takes its PromQL."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_monitoring.alerts import Attribute, Count, Gauge, Percent, Quantile, error_rate, requests
from otel_monitoring.alerts.rules.expressions import Expression, Reading
from otel_monitoring.alerts.rules.matchers import Failed
from otel_monitoring.alerts.rules.promql import Dialect
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.metrics.outcome import OutcomeClassifier
from otel_monitoring.metrics.snapshot import AttributeValue, Histogram, Series, Snapshot
from otel_monitoring.metrics.window import Window
from otel_monitoring.semconv import HTTP_RESPONSE_STATUS_CODE, HTTP_ROUTE, HTTP_SERVER_REQUEST_DURATION
from tests.integration.prometheus_server import promtool
from tests.measured import Meter, slow_requests

NOTHING = Window(Snapshot(0.0, 300.0))
REJECTED = Attribute(HTTP_RESPONSE_STATUS_CODE, (401, 403))


def values(expression: Expression, window: Window, above: float | None = None) -> dict[str, float]:
    return {reading.group: reading.value for reading in expression.readings(window, above=above)}


def gauges(**named: float) -> Window:
    return Window(Snapshot(0.0, 300.0, gauges={Series("heat", (("room", room),)): v for room, v in named.items()}))


# Gauges


def test_a_gauge_is_the_largest_or_the_smallest_of_its_series() -> None:
    window = gauges(kitchen=0.2, bath=0.5)
    assert Gauge("heat", scale=100).readings(window) == [Reading(50.0, 2)]
    assert Gauge("heat", over="min").readings(window) == [Reading(0.2, 2)]
    assert values(Gauge("heat", group_by="room"), window) == {"kitchen": 0.2, "bath": 0.5}
    assert Gauge("heat").readings(NOTHING) == []


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_no_data(broken: float) -> None:
    assert Gauge("heat").readings(gauges(kitchen=broken, bath=0.5)) == [Reading(0.5, 1)]
    assert Gauge("heat", over="min").readings(gauges(kitchen=broken)) == []


# Counts


def test_a_counter_counts_by_how_much_it_grew_and_nothing_is_zero() -> None:
    meter = Meter()
    meter.count("orders", 2, {"kind": "new"})
    meter.count("orders", 3, {"kind": "old"})
    window = meter.window()
    assert Count("orders").readings(window) == [Reading(5, 5)]
    assert Count("orders", where=Attribute("kind", "old")).readings(window) == [Reading(3, 3)]
    assert values(Count("orders", group_by="kind"), window) == {"new": 2, "old": 3}
    assert Count("orders").readings(NOTHING) == [Reading(0, 0)]
    assert Count("orders", group_by="kind").readings(NOTHING) == []


def test_requests_are_counted_by_status_and_route() -> None:
    meter = Meter()
    meter.requests(3, "/a", 401)
    meter.requests(2, "/b", 403)
    meter.requests(4, "/b", 200)
    window = meter.window()
    assert values(requests(), window) == {"": 9}
    assert values(requests(where=REJECTED), window) == {"": 5}
    assert values(requests(where=REJECTED, group_by=HTTP_ROUTE), window) == {"/a": 3, "/b": 2}
    assert requests().counts(window) is requests().counts(window), "worked out once, whichever rules ask"


@pytest.mark.parametrize(
    ("given", "kept"),
    [("new", ("new",)), (["new", "old"], ("new", "old")), ((401, 401, 403), (401, 403)), ({5}, (5,))],
)
def test_an_attribute_takes_its_values_as_they_are_written(given: object, kept: tuple[AttributeValue, ...]) -> None:
    assert Attribute("kind", given).values == kept  # type: ignore[arg-type]


def test_an_attribute_without_values_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="values: kind"):
        Attribute("kind", ())


def test_requests_without_a_route_are_one_group_and_other_attributes_may_be_missing() -> None:
    meter = Meter()
    meter.requests(2, None, 404)
    meter.count("orders", 1, {"paid": True})
    meter.count("orders", 1, {"tags": ("a", "b")})
    meter.count("orders", 1)
    window = meter.window()
    assert values(requests(group_by=HTTP_ROUTE), window) == {"(unmatched)": 2}
    assert values(Count("orders", group_by="paid"), window) == {"true": 1, "": 2}, "as Prometheus spells them"
    assert values(Count("orders", group_by="tags"), window) == {'["a","b"]': 1, "": 2}


# Shares


def test_the_error_rate_is_the_share_of_requests_that_were_errors() -> None:
    meter = Meter()
    meter.requests(90, "/a")
    meter.requests(4, "/a", 404)
    meter.requests(3, "/a", 500, error="500")
    meter.requests(1, "/b", 200, error="ValueError")
    meter.requests(2, "/a", None, error="ConnectionError")
    window = meter.window()
    assert error_rate().readings(window) == [Reading(4.0, 100)]
    assert error_rate([404]).readings(window) == [Reading(5.0, 100)], "and what nobody handled"
    assert values(error_rate(group_by=HTTP_ROUTE), window) == pytest.approx({"/a": 300 / 99, "/b": 100})


def test_a_share_of_nothing_is_no_data_and_no_part_is_zero() -> None:
    assert error_rate().readings(NOTHING) == []
    meter = Meter()
    meter.request("/a")
    assert values(error_rate(group_by=HTTP_ROUTE), meter.window()) == {"/a": 0}


def test_parts_and_wholes_of_different_groups_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="group_by"):
        Percent(Count("a", group_by="kind"), Count("b"))


# Quantiles


def test_a_quantile_is_read_for_each_route() -> None:
    window = slow_requests([("/a", 0.1)] * 19 + [("/a", 5.0)] + [("/b", 0.2)] * 10)
    p95 = Quantile(HTTP_SERVER_REQUEST_DURATION, 0.95, scale=1000, group_by=HTTP_ROUTE)
    assert values(p95, window) == pytest.approx({"/a": 100, "/b": 200}, rel=0.02)
    samples = {reading.group: reading.samples for reading in p95.readings(window)}
    assert samples == {"/a": 20, "/b": 10}
    assert values(Quantile(HTTP_SERVER_REQUEST_DURATION, 1.0), window) == {"": 5.0}
    assert values(Quantile(HTTP_SERVER_REQUEST_DURATION, 1.0, where=Attribute(HTTP_ROUTE, "/b")), window) == {"": 0.2}
    assert p95.readings(NOTHING) == []


@pytest.mark.parametrize(("q", "scale", "named"), [(95, 1, "q"), (-0.1, 1, "q"), (math.nan, 1, "q"), (0.5, 0, "scale")])
def test_what_is_no_quantile_is_refused(q: float, scale: float, named: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{named}: latency"):
        Quantile("latency", q, scale=scale)


def test_of_groups_only_those_that_are_asked_for_are_read() -> None:
    meter = Meter()
    meter.requests(3, "/a", 500, error="500")
    meter.requests(2, "/b")
    meter.gauge("heat", 1, {"room": "/a"})
    window = meter.window()
    slow = Quantile(HTTP_SERVER_REQUEST_DURATION, 0.5, group_by=HTTP_ROUTE)
    for expression in (requests(group_by=HTTP_ROUTE), error_rate(group_by=HTTP_ROUTE), slow):
        everything = values(expression, window)
        assert everything.keys() == {"/a", "/b"}
        assert values(expression, window, 1000) == {}
        some = {reading.group: reading.value for reading in expression.readings(window, above=1000, known={"/b"})}
        assert some == {"/b": everything["/b"]}


durations = st.lists(
    st.tuples(st.sampled_from(["/a", "/b", "/c"]), st.sampled_from([0.5, 0.999, 1.0, 1.001]) | st.floats(0, 1e4)),
    min_size=1,
    max_size=12,
)


@given(durations, st.sampled_from([1.0, 0.999, 0.5]) | st.floats(0, 1e4), st.sampled_from([1.0, 1000.0, 0.1, 1 / 3]))
@settings(max_examples=60, deadline=None)
def test_what_the_hint_leaves_out_breaches_nothing(
    recorded: list[tuple[str, float]], limit: float, scale: float
) -> None:
    window = slow_requests(recorded)
    above = limit * scale
    for q in (0.0, 0.5, 0.95, 1.0):
        expression = Quantile(HTTP_SERVER_REQUEST_DURATION, q, scale=scale, group_by=HTTP_ROUTE)
        everything, some = values(expression, window), values(expression, window, above)
        assert some.items() <= everything.items()
        assert {group: value for group, value in everything.items() if value >= above}.items() <= some.items()


# PromQL

WEIRD = ('a"b', "back\\slash", "{value}", "two\nlines", "a|b", ".*", "ünï", "tab\there", "a.b", "$1", "x")
EXPRESSIONS: tuple[Expression, ...] = (
    Gauge("heat"),
    Gauge("otel_monitoring.database.up", "1", over="min"),
    Gauge("system.cpu.utilization", "1", scale=100, group_by="host.name"),
    Count("orders", "{order}"),
    Count("orders", where=Attribute("kind", WEIRD), group_by="shop"),
    *(Count("orders", where=Attribute("kind", value)) for value in WEIRD),
    requests(),
    requests(where=REJECTED, group_by=HTTP_ROUTE),
    error_rate(),
    error_rate([500, 503], group_by=HTTP_ROUTE),
    Quantile(HTTP_SERVER_REQUEST_DURATION, 0.95),
    Quantile(HTTP_SERVER_REQUEST_DURATION, 0.99, scale=1000, where=REJECTED, group_by=HTTP_ROUTE),
)
DIALECTS = (
    Dialect(),
    Dialect(native=False),
    Dialect(by=("job", "instance"), span="90s", selector='job="orders",namespace!=""'),
)


def promtool_says(path: Path, rules: object, *command: str) -> str:
    path.write_text(json.dumps(rules))  # which is YAML
    ran = promtool(*command, str(path))
    return "" if ran.returncode == 0 else ran.stdout + ran.stderr


def test_prometheus_takes_every_expression(tmp_path: Path) -> None:
    rules = [
        {"record": f"expression:{number}", "expr": expression.promql(dialect)}
        for dialect in DIALECTS
        for number, expression in enumerate(EXPRESSIONS)
    ]
    # A name each: `check` finds rules that are the same.
    numbered = [{**rule, "labels": {"n": str(n)}} for n, rule in enumerate(rules)]
    document = {"groups": [{"name": "all", "rules": numbered}]}
    assert promtool_says(tmp_path / "rules.yml", document, "check", "rules") == ""


def test_prometheus_and_we_choose_the_same_series_whatever_is_in_their_labels(tmp_path: Path) -> None:
    """Each weird value beside others that a careless pattern would match as well."""
    kinds = [*WEIRD, "aXb", "a", "b", "two", "", "11"]
    window = Window(Snapshot(0, 300, sums={Series("orders", (("kind", kind),)): 1.0 for kind in kinds}))
    matchers = [Attribute("kind", (kind,)) for kind in WEIRD]
    matchers += [Attribute("kind", (kind, "x")) for kind in WEIRD] + [Attribute("kind", WEIRD)]
    tests = [
        {
            "expr": f"count(orders_total{{{matcher.promql()}}})",
            "eval_time": "1m",
            "exp_samples": [{"labels": "{}", "value": values(Count("orders", where=matcher), window)[""]}],
        }
        for matcher in matchers
    ]
    series = [{"series": f"orders_total{{kind={json.dumps(kind)}}}", "values": "1 1"} for kind in kinds]
    document = {"tests": [{"interval": "1m", "input_series": series, "promql_expr_test": tests}]}
    assert promtool_says(tmp_path / "test.yml", document, "test", "rules") == ""


def test_the_dialect_decides_how_histograms_are_asked_for() -> None:
    p95 = Quantile(HTTP_SERVER_REQUEST_DURATION, 0.95, scale=1000, group_by=HTTP_ROUTE)
    native, classic = p95.promql(Dialect()), p95.promql(Dialect(native=False))
    assert "http_server_request_duration_seconds[5m]" in native
    assert "by (job, http_route)" in native
    assert "http_server_request_duration_seconds_bucket[5m]" in classic
    assert "by (job, http_route, le)" in classic
    assert native.startswith("1000 * histogram_quantile(0.95, ")
    assert "histogram_count(" in requests().promql(Dialect())
    assert "http_server_request_duration_seconds_count[5m]" in requests().promql(Dialect(native=False))


@pytest.mark.parametrize(
    ("matcher", "text"),
    [
        (Attribute("http.route", "/a"), 'http_route="/a"'),
        (REJECTED, 'http_response_status_code=~"401|403"'),
        (Attribute("paid", (True,)), 'paid="true"'),
        (Attribute("kind", ("a.b", 'c"d')), r'kind=~"a\\.b|c\"d"'),
        (Failed(), 'error_type!~"|ConnectionError"'),
        (Failed(OutcomeClassifier(frozenset({503, 500}))), 'http_response_status_code=~"500|503"'),
    ],
)
def test_matchers_as_promql(matcher: Attribute | Failed, text: str) -> None:
    assert matcher.promql() == text


def test_a_scale_keeps_all_its_digits() -> None:
    assert Gauge("free", scale=1 / 1048576).promql(Dialect()).startswith("9.5367431640625e-07 * max")
    assert Gauge("free", scale=1048576).promql(Dialect()).startswith("1048576 * max")


@pytest.mark.parametrize("statuses", [None, frozenset({404}), frozenset({200, 500})])
def test_errors_found_by_the_windows_indexes_are_those_found_one_by_one(statuses: frozenset[int] | None) -> None:
    failed = Failed(OutcomeClassifier(statuses))
    causes = (None, "404", "500", "ValueError", "ConnectionError")
    series = {
        Series(
            HTTP_SERVER_REQUEST_DURATION,
            tuple((key, value) for key, value in (("error.type", cause), (HTTP_RESPONSE_STATUS_CODE, status)) if value),
        ): 2**i
        for i, (status, cause) in enumerate((s, c) for s in (None, 200, 404, 500) for c in causes)
    }
    recorded = {one: Histogram(count=count, sum=1.0, min=0.1, max=0.2) for one, count in series.items()}
    (reading,) = requests(where=failed).readings(Window(Snapshot(0, 300, recorded)))
    assert reading.value == sum(count for one, count in series.items() if failed(one))
