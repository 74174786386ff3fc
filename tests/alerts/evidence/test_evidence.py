"""What an alert says about its cause, from what was really recorded."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from otel_monitoring import semconv as c
from otel_monitoring.alerts.evaluation.worker_report import WorkerReport
from otel_monitoring.alerts.evidence.alert import Alert
from otel_monitoring.alerts.evidence.collector import ALERTS_LIMIT, EvidenceCollector
from otel_monitoring.alerts.evidence.own_figures import own_figures
from otel_monitoring.alerts.evidence.sources import EvidenceSources
from otel_monitoring.alerts.rules.defaults import default_rules
from otel_monitoring.alerts.rules.expressions import Count, Gauge
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.alerts.store import MemoryStore
from otel_monitoring.config.settings import Thresholds
from otel_monitoring.metrics.direct_histogram import DirectHistogram
from otel_monitoring.metrics.error_groups import ErrorGroup
from otel_monitoring.metrics.outcome import OutcomeClassifier
from otel_monitoring.metrics.slices.codec import encoded_routes, encoded_service
from otel_monitoring.metrics.slices.model import GaugeFigures, Requests, Slice
from otel_monitoring.metrics.slices.recorder import WrittenUpTo
from otel_monitoring.metrics.slices.table import Position, SliceRow
from otel_monitoring.metrics.slow_requests import SlowRequest
from otel_monitoring.metrics.snapshot import Histogram, Series, Snapshot, merged
from otel_monitoring.metrics.window import Moment, Window
from otel_monitoring.timestamps import rfc3339
from tests.documented_keys import compare
from tests.pages import keys

NOW = 1_780_000_000.0
WINDOW = 300.0
RULES = {rule.name: rule for rule in default_rules(Thresholds())}
CLASSIFY = OutcomeClassifier()
Counts = Mapping[tuple[str, int, str], tuple[int, float]]
"""Number and seconds of requests, by route, status and error type."""


def of(number: int, seconds: float) -> Histogram:
    bound = DirectHistogram("durations").bind({})
    for _ in range(number):
        bound.record(seconds)
    return bound.take() or Histogram()


def requests(counts: Counts) -> dict[Series, Histogram]:
    found = {}
    for (route, status, cause), (number, seconds) in counts.items():
        known: dict[str, Any] = {c.HTTP_REQUEST_METHOD: "GET", c.HTTP_ROUTE: route, c.HTTP_RESPONSE_STATUS_CODE: status}
        if cause:
            known[c.ERROR_TYPE] = cause
        found[Series(c.HTTP_SERVER_REQUEST_DURATION, tuple(sorted(known.items())))] = of(number, seconds)
    return found


def commands(counts: Mapping[str, tuple[int, float]]) -> dict[Series, Histogram]:
    return {
        Series(c.DB_CLIENT_OPERATION_DURATION, ((c.DB_COLLECTION_NAME, name), (c.DB_OPERATION_NAME, "find"))): of(*cell)
        for name, cell in counts.items()
    }


def calls(counts: Mapping[str, tuple[int, int]]) -> dict[Series, Histogram]:
    """Requests of HTTP clients by host, and how many of them fail."""
    found = {}
    for host, (number, failed) in counts.items():
        good = Series("http.client.request.duration", ((c.SERVER_ADDRESS, host),))
        bad = Series("http.client.request.duration", ((c.ERROR_TYPE, "ConnectError"), (c.SERVER_ADDRESS, host)))
        found[good], found[bad] = of(number - failed, 0.1), of(failed, 0.1)
    return {series: histogram for series, histogram in found.items() if histogram.count}


def plus(one: Mapping[Series, Histogram], other: Mapping[Series, Histogram]) -> dict[Series, Histogram]:
    return {series: merged([found[series] for found in (one, other) if series in found]) for series in {*one, *other}}


class Service:
    """A service that was well for an hour, and then was not."""

    def __init__(self, before: Mapping[Series, Histogram], lately: Mapping[Series, Histogram]) -> None:
        self.before = Window(Snapshot(0.0, 3600.0, before))
        self.total = Window(Snapshot(0.0, 3600.0 + WINDOW, plus(before, lately)))
        self.recent = Window(Snapshot(3600.0, 3600.0 + WINDOW, lately))
        self.errors: dict[tuple[str, str], ErrorGroup] = {}
        self.reports: dict[str, WorkerReport] = {}
        self.store = MemoryStore()
        self.shown = self.before

    def worker(
        self, pid: int, lately: Counts | None = None, version: str = "1", started: float | None = None, **figures: Any
    ) -> None:
        window = Window(Snapshot(0.0, WINDOW, requests(lately or {})))
        given = own_figures(window, CLASSIFY, gauges={}, slow=(), peers={}) | figures
        state: dict[str, Any] = {"host": "web-1", "pid": pid, "version": version}
        if started is not None:
            state["started_at"] = rfc3339(started)
        evidence = figures.pop("evidence", {})
        self.reports[str(pid)] = WorkerReport(self.recent, evidence, state, figures=lambda: given)

    def evidence(self, rule: Rule | str, value: float = 50.0, **labels: str) -> Mapping[str, Any]:
        rule = RULES[rule] if isinstance(rule, str) else rule
        sources = EvidenceSources(
            history=lambda: Moment(self.shown, self.recent, (), ()),
            errors=lambda: self.errors,
            table=lambda: self.store.slices,
            classify=CLASSIFY,
            window=WINDOW,
            trace_url="https://traces.example.com/{trace_id}",
            page_url="https://orders.example.com/api/status",
        )
        collector = EvidenceCollector(sources)
        collector.note(NOW - WINDOW)
        self.shown = self.total
        if not self.reports:
            self.worker(1)
        (found,) = collector.collect([Alert(rule, labels, NOW - 60, value)], self.reports, self.recent, NOW)
        assert list(compare(found, keys("docs/endpoints.md", "evidence"), "", set())) == []
        return found

    def first(self, rule: Rule | str, value: float = 50.0, **labels: str) -> tuple[str, list[str]]:
        culprits = self.evidence(rule, value, **labels).get("culprits", [])
        return (culprits[0]["kind"], culprits[0]["names"]) if culprits else ("", [])


GOOD = {("/a", 200, ""): (3000, 0.01), ("/b", 200, ""): (3000, 0.02), ("/c", 200, ""): (3000, 0.03)}
SOON = {("/a", 200, ""): (250, 0.01), ("/b", 200, ""): (250, 0.02), ("/c", 200, ""): (250, 0.03)}


def test_the_failing_route_is_named_first_with_its_exception() -> None:
    service = Service(requests(GOOD), requests({**SOON, ("/b", 500, "KeyError"): (100, 0.02)}))
    stack = '  File "/srv/shop/orders.py", line 33, in create\n  File "/x/site-packages/lib.py", line 4, in get'
    group = ErrorGroup("KeyError", "GET /b", 100, NOW - 60, NOW, "2.0", f"{stack}\nKeyError: order 4711 of 0x7f03a1")
    service.errors = {group.key: group}
    found = service.evidence("high_error_rate")
    assert [one["kind"] for one in found["culprits"]] == ["route", "exception", "status"]
    assert found["culprits"][0]["text"] == "route GET /b: 100 % of the errors, 41 % of the requests"
    assert found["exception"] == {
        "type": "KeyError",
        "message": "KeyError: order … of …",
        "place": "shop/orders.py:33 in create",
        "request": "GET /b",
        "new_in": "2.0",
    }
    assert found["page_url"] == "https://orders.example.com/api/status"


def test_an_exception_in_all_routes_is_named_before_them() -> None:
    failing = {(route, 500, "TimeoutError"): (50, 0.01) for route in ("/a", "/b", "/c")}
    assert Service(requests(GOOD), requests({**SOON, **failing})).first("high_error_rate") == (
        "exception",
        ["TimeoutError"],
    )


@pytest.mark.parametrize("bad", [(1,), (1, 2)])
def test_failing_workers_are_named_first(bad: tuple[int, ...]) -> None:
    failing = {(route, 500, "KeyError"): (40, 0.01) for route in ("/a", "/b", "/c")}
    service = Service(requests(GOOD), requests({**SOON, **failing}))
    for pid in (1, 2, 3, 4):
        share = {key: (number // len(bad), seconds) for key, (number, seconds) in failing.items()}
        quarter = {key: (number // 4, seconds) for key, (number, seconds) in SOON.items()}
        service.worker(pid, {**quarter, **(share if pid in bad else {})})
    kind, names = service.first("high_error_rate")
    assert (kind, sorted(names)) == ("worker", [f"{pid} on web-1" for pid in bad])


def test_the_version_of_the_failing_workers_is_named_first() -> None:
    failing = {(route, 500, "KeyError"): (40, 0.01) for route in ("/a", "/b", "/c")}
    service = Service(requests(GOOD), requests({**SOON, **failing}))
    quarter = {key: (number // 4, seconds) for key, (number, seconds) in SOON.items()}
    half = {key: (number // 2, seconds) for key, (number, seconds) in failing.items()}
    for pid in (1, 2, 3, 4):
        service.worker(pid, {**quarter, **(half if pid > 2 else {})}, version="2" if pid > 2 else "1")
    assert service.first("high_error_rate") == ("version", ["2"])


def test_the_host_that_is_down_is_named_first() -> None:
    before = requests(GOOD) | calls({"payments": (300, 0), "mail": (300, 0)})
    lately = requests({**SOON, ("/b", 502, "502"): (60, 0.02)}) | calls({"payments": (60, 60), "mail": (25, 0)})
    assert Service(before, lately).first("high_error_rate") == ("host", ["payments"])


def test_the_host_is_known_from_exceptions_too() -> None:
    service = Service(requests(GOOD), requests({**SOON, ("/b", 500, "httpx.ConnectError"): (60, 0.02)}))
    group = ErrorGroup("httpx.ConnectError", "GET /b", 60, NOW - 60, NOW, None, "x")
    service.errors = {group.key: group}
    service.worker(1, peers=[["httpx.ConnectError", "GET /b", "payments:443"]])
    assert service.first("high_error_rate") == ("host", ["payments:443"])


def test_the_slow_collection_is_named_before_the_route_that_waits_for_it() -> None:
    before = requests(GOOD) | commands({"orders": (6000, 0.002), "users": (9000, 0.002)})
    slow = {**SOON, ("/b", 200, ""): (250, 1.5)}
    lately = requests(slow) | commands({"orders": (500, 0.7), "users": (750, 0.002)})
    found = Service(before, lately).evidence("api_timeout", 1500.0, endpoint="/b")
    assert [(one["kind"], one["names"]) for one in found["culprits"]] == [("collection", ["orders"]), ("route", ["/b"])]
    assert found["culprits"][0]["text"] == "database, find on orders: 2 ms → 700 ms usually"


def test_a_slow_route_is_its_own_cause_where_nothing_below_is_slow() -> None:
    before = requests(GOOD) | commands({"orders": (6000, 0.002)})
    lately = requests({**SOON, ("/b", 200, ""): (250, 1.5)}) | commands({"orders": (500, 0.002)})
    assert Service(before, lately).first("api_timeout", 1500.0, endpoint="/b") == ("route", ["/b"])


def test_the_route_that_works_is_named_not_those_that_wait_for_it() -> None:
    before = {("/a", 200, ""): (3000, 0.01), ("/b", 200, ""): (300, 0.02)}
    service = Service(requests(before), {})
    waiting = [of(150, 0.01), of(100, 1.0)]
    (a, b) = requests({("/a", 200, ""): (1, 0.01), ("/b", 200, ""): (1, 0.02)})
    lately = {a: merged(waiting), b: of(25, 1.5)}
    service.recent = Window(Snapshot(0.0, WINDOW, lately))
    service.total = Window(Snapshot(0.0, 3600.0 + WINDOW, plus(requests(before), lately)))
    for pid in (1, 2):
        service.worker(pid, gauges={"cpu": [80.0, 10.0]})
    assert service.first("high_cpu", 90.0, scope="host") == ("route", ["/b"])


def test_the_worker_whose_readings_rise_is_named() -> None:
    service = Service(requests(GOOD), requests(SOON))
    for pid, memory in ((1, 900.0), (2, 105.0), (3, 100.0)):
        service.worker(pid, gauges={"memory": [memory, 100.0]})
    found = service.evidence("high_memory", 90.0, scope="host")
    assert found["culprits"][0]["text"] == "worker 1 on web-1 (100 → 900 MiB)"


def test_a_blocked_loop_names_the_code_where_no_route_stands_out() -> None:
    service = Service(requests(GOOD), requests(SOON))
    stack = ["/srv/shop/jobs.py:12 in nightly", "/usr/lib/python3.12/json/encoder.py:200 in encode"]
    service.worker(1, evidence={"event_loop_blocked": {"stack": stack}})
    service.reports["1"] = WorkerReport(
        service.recent, {"event_loop_blocked": {"stack": stack}}, service.reports["1"].state, figures=dict
    )
    assert service.first("event_loop_blocked", 3000.0, instance="1") == ("code", ["shop/jobs.py:12 in nightly"])


def test_the_full_pool_is_named_first() -> None:
    service = Service(requests(GOOD), requests(SOON))
    service.worker(1, pools={"db-1:27017": [100, 100], "db-2:27017": [3, 10]})
    assert service.first("database_pool_exhausted", 1.0) == ("pool", ["db-1:27017"])


def slices(
    service: Service, *contents: tuple[float, Slice], releases: Sequence[tuple[float, str]] = ((NOW - 9000, "1"),)
) -> None:
    """Write slices of ten seconds as the process that leads does."""
    rows = [
        SliceRow(10, int(at) // 10 * 10, encoded_service(content), encoded_routes(content.routes))
        for at, content in contents
    ]
    position = Position("1", WrittenUpTo(NOW, {}, releases).encoded())
    assert service.store.slices.advance("", position, rows)


def answered(number: int, *, errors: int = 0, gauges: Mapping[str, float] = {}) -> Slice:
    found = Requests(of(number, 0.01), errors)
    return Slice(10, found, {"/a": found}, {name: GaugeFigures(1, *[value] * 3) for name, value in gauges.items()})


def test_the_trace_ids_of_the_route_come_first_the_slowest_before_the_others() -> None:
    service = Service(requests(GOOD), requests({**SOON, ("/b", 500, "KeyError"): (100, 0.02)}))
    failed: dict[str, str | int] = {
        c.HTTP_REQUEST_METHOD: "GET",
        c.HTTP_ROUTE: "/b",
        c.HTTP_RESPONSE_STATUS_CODE: 500,
    }
    fine = {**failed, c.HTTP_ROUTE: "/a", c.HTTP_RESPONSE_STATUS_CODE: 200}
    slow = [
        SlowRequest(9.0, 1, fine),
        *(SlowRequest(seconds, int(seconds * 10), failed) for seconds in (0.9, 0.5, 0.3, 0.2)),
    ]
    service.worker(1, traces=own_figures(Window(Snapshot(0, 1)), CLASSIFY, gauges={}, slow=slow, peers={})["traces"])
    found = service.evidence("high_error_rate")["traces"]
    assert [one["seconds"] for one in found] == [0.9, 0.5, 0.3]
    assert found[0]["trace_id"] == f"{9:032x}"
    assert found[0]["url"] == f"https://traces.example.com/{9:032x}"
    assert found[0]["request"] == "GET /b"


def test_what_cannot_be_read_costs_no_more_than_itself() -> None:
    service = Service(requests(GOOD), requests({**SOON, ("/b", 500, "KeyError"): (100, 0.02)}))
    service.worker(1, routes="nonsense", traces=[1, 2], peers=[3], gauges=4, pools=5)

    def broken() -> Any:
        raise RuntimeError("the store is away")

    service.store = type("Away", (), {"slices": property(lambda _: broken())})()
    kinds = [one["kind"] for one in service.evidence("high_error_rate").get("culprits", [])]
    assert "route" in kinds


def test_an_own_gauge_by_attribute_names_its_group() -> None:
    rule = Rule("queue", Gauge("queue.length", group_by="queue.name"), ">", 10, label="queue")
    assert Service({}, {}).first(rule, 50.0, queue="mails") == ("name", ["mails"])


def test_of_an_own_metric_only_the_series_of_the_alerts_group_stand_out() -> None:
    def of_queue(metric: str, queue: str, region: str) -> Series:
        return Series(metric, (("queue", queue), ("region", region)))

    service = Service({}, {})
    gauges = {of_queue("waiting", *each): value for each, value in {("a", "eu"): 20.0, ("a", "us"): 5.0}.items()}
    gauges |= {of_queue("waiting", "b", "asia"): 90.0}
    sums = {
        of_queue("failed", "a", "eu"): 20.0,
        of_queue("failed", "a", "us"): 5.0,
        of_queue("failed", "b", "us"): 90.0,
    }
    service.recent = Window(Snapshot(3600.0, 3600.0 + WINDOW, {}, sums, gauges))
    waiting = Rule("waiting", Gauge("waiting", group_by="queue"), ">", 10, label="queue")
    found = service.evidence(waiting, 20.0, queue="a")["culprits"]
    assert [one["text"] for one in found] == ["queue a", "region=eu: 20"]
    failed = Rule("failed", Count("failed", group_by="queue"), ">", 10, label="queue")
    found = service.evidence(failed, 25.0, queue="a")["culprits"]
    assert [one["text"] for one in found] == ["queue a", "region eu: 80 % of the failed"]


@pytest.mark.parametrize("attribute", ["queue", "pool", "worker", "version", "release"])
def test_a_secret_in_an_attribute_of_an_own_metric_is_not_told(attribute: str) -> None:
    """Whatever it is called: of our own dimensions some have values that look like secrets and are none."""
    service, secret = Service({}, {}), "mongodb://shop:hunter2@db/orders"
    series = [Series("failed", ((attribute, value),)) for value in (secret, "other")]
    service.recent = Window(Snapshot(3600.0, 3600.0 + WINDOW, {}, {series[0]: 95.0, series[1]: 5.0}))
    for rule in (
        Rule("failed", Count("failed"), ">", 10),
        Rule("each", Count("failed", group_by=attribute), ">", 10, label="place"),
    ):
        found = json.dumps(service.evidence(rule, 95.0, place=secret)["culprits"])
        assert attribute in found
        assert "hunter2" not in found


def course(service: Service, rule: Rule | str, value: float, **labels: str) -> list[float | None]:
    found: list[float | None] = service.evidence(rule, value, **labels)["course"]["values"]
    return found


def test_the_course_is_that_of_the_rule_minute_by_minute() -> None:
    service = Service(requests(GOOD), requests(SOON))
    end = NOW // 60 * 60
    slices(
        service,
        (end - 115, answered(100, gauges={"cpu": 40.0})),
        (end - 55, answered(100, errors=20, gauges={"cpu": 95.0})),
    )
    assert course(service, "high_error_rate", 33.3) == [*[None] * 28, 0.0, 20.0, 33.3]
    assert course(service, "high_cpu", 97.0, scope="host") == [*[None] * 28, 40.0, 95.0, 97.0]


def test_a_threshold_for_one_endpoint_has_a_course_too() -> None:
    limits = Thresholds(error_rate_percent_by_endpoint={"/a": 1.0}, api_response_time_ms_by_endpoint={"/a": 50.0})
    service, end = Service(requests(GOOD), requests(SOON)), NOW // 60 * 60
    slices(service, (end - 115, answered(100)), (end - 55, answered(100, errors=20)))
    rules = {rule.name: rule for rule in default_rules(limits)}
    assert course(service, rules["high_error_rate_a"], 33.3, endpoint="/a") == [*[None] * 28, 0.0, 20.0, 33.3]
    durations = course(service, rules["api_timeout_a"], 70.0, endpoint="/a")
    assert durations[-3:] == [pytest.approx(10, rel=0.1), pytest.approx(10, rel=0.1), 70.0]


BAD = {("/a", 200, ""): (150, 0.01), ("/a", 500, "KeyError"): (100, 0.01), ("/b", 200, ""): (250, 0.02)}


@pytest.mark.parametrize(("ago", "kind"), [(150, "release"), (600, "route")])
def test_a_release_is_named_first_where_the_errors_begin_with_it(ago: float, kind: str) -> None:
    service = Service(requests(GOOD), requests(BAD))
    well = [(NOW - 1200 + 10 * number, answered(100)) for number in range(105)]
    ill = [(NOW - 140 + 10 * number, answered(100, errors=30)) for number in range(14)]
    slices(service, *well, *ill, releases=[(NOW - 9000, "1.0.0"), (NOW - ago, "1.1.0")])
    found = service.evidence("high_error_rate", 30.0)
    assert found["culprits"][0]["kind"] == kind
    assert found["release"]["version"] == "1.1.0"
    assert (found["release"]["before"], found["release"]["seconds_before"]) == ("1.0.0", ago - 60)


def test_no_release_is_told_where_the_version_is_the_first_or_old() -> None:
    for releases in ([(NOW - 100, "1.0.0")], [(NOW - 9000, "1.0.0"), (NOW - 8000, "1.1.0")]):
        service = Service(requests(GOOD), requests(BAD))
        slices(service, (NOW - 100, answered(100)), releases=releases)
        assert "release" not in service.evidence("high_error_rate")


def test_the_collection_that_has_grown_says_so() -> None:
    before = requests(GOOD) | commands({"orders": (6000, 0.002)})
    lately = requests({**SOON, ("/b", 200, ""): (250, 1.5)}) | commands({"orders": (500, 0.7)})
    service = Service(before, lately)
    documents = [answered(10, gauges={"documents/orders": count}) for count in (1200.0, 96000.0)]
    slices(service, (NOW - 3000, documents[0]), (NOW - 60, documents[1]))
    text = service.evidence("api_timeout", 1500.0, endpoint="/b")["culprits"][0]["text"]
    assert text == "database, find on orders: 2 ms → 700 ms on average; it grew from 1,200 to 96,000 documents"


def test_without_a_past_things_are_compared_with_one_another() -> None:
    bad = {**SOON, ("/b", 500, "KeyError"): (100, 0.02)}
    assert Service({}, requests(bad)).first("high_error_rate") == ("route", ["GET /b"])
    slow = requests({**SOON, ("/b", 200, ""): (250, 1.5)}) | commands({"orders": (500, 0.7), "users": (750, 0.002)})
    assert Service({}, slow).first("api_timeout", 1500.0, endpoint="/b") == ("collection", ["orders"])


def test_a_secret_in_a_name_is_not_told() -> None:
    route = "/reset/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
    service = Service(requests(GOOD), requests({**SOON, (route, 500, "KeyError"): (100, 0.02)}))
    assert "eyJhbGci" not in str(service.evidence("high_error_rate"))


def test_a_storm_of_alerts_gets_evidence_for_the_first() -> None:
    service = Service(requests(GOOD), requests(BAD))
    service.worker(1)
    sources = EvidenceSources(
        lambda: Moment(service.total, service.recent, (), ()), dict, lambda: service.store.slices, CLASSIFY, WINDOW
    )
    alerts = [Alert(RULES["high_error_rate"], {}, NOW - 60, 20.0)] * 30
    found = EvidenceCollector(sources).collect(alerts, service.reports, service.recent, NOW)
    assert [bool(one) for one in found] == [True] * ALERTS_LIMIT + [False] * (30 - ALERTS_LIMIT)


def test_where_all_commands_wait_for_one_collection_it_is_named() -> None:
    before = requests(GOOD) | commands({"orders": (6000, 0.002), "users": (9000, 0.002), "events": (9000, 0.002)})
    waiting = {"orders": (300, 0.9), "users": (700, 0.2), "events": (600, 0.2)}
    lately = requests({**SOON, ("/b", 200, ""): (250, 1.5)}) | commands(waiting)
    assert Service(before, lately).first("api_timeout", 1500.0, endpoint="/b") == ("collection", ["orders"])


@pytest.mark.parametrize(("old_errors", "kind"), [(0, "release"), (40, "route")])
def test_a_release_is_not_blamed_where_the_version_before_it_fails_as_well(old_errors: int, kind: str) -> None:
    service = Service(requests(GOOD), requests(BAD))
    well = [(NOW - 1200 + 10 * number, answered(100)) for number in range(105)]
    ill = [(NOW - 140 + 10 * number, answered(100, errors=30)) for number in range(14)]
    slices(service, *well, *ill, releases=[(NOW - 9000, "1.0.0"), (NOW - 150, "1.1.0")])
    for pid, version in ((1, "1.0.0"), (2, "1.1.0")):
        failed = old_errors if version == "1.0.0" else 60
        service.worker(pid, {("/a", 500, "KeyError"): (failed, 0.01), ("/b", 200, ""): (100, 0.01)}, version=version)
    assert service.first("high_error_rate", 30.0)[0] == kind


@pytest.mark.parametrize("written", [True, False])
def test_a_release_began_when_its_first_process_did(written: bool) -> None:
    service = Service(requests(GOOD), requests(BAD))
    marks = [(NOW - 9000, "1.0.0"), *([(NOW - 70, "1.1.0")] if written else [])]
    slices(service, *[(NOW - 1200 + 10 * number, answered(100)) for number in range(105)], releases=marks)
    service.worker(1, BAD, version="1.1.0", started=NOW - 80)
    service.worker(2, BAD, version="1.1.0", started=NOW - 75)
    found = service.evidence("high_error_rate", 30.0)
    assert found["release"] == {
        "version": "1.1.0", "before": "1.0.0", "at": rfc3339(NOW - 80), "seconds_before": 20
    }  # fmt: skip
    assert found["culprits"][0]["kind"] == "release"


def test_a_release_is_not_blamed_for_errors_from_before_it() -> None:
    service = Service(requests(GOOD), requests(BAD))
    well = [(NOW - 1200 + 10 * number, answered(100)) for number in range(100)]
    ill = [(NOW - 200 + 10 * number, answered(100, errors=30)) for number in range(20)]
    slices(service, *well, *ill, releases=[(NOW - 9000, "1.0.0"), (NOW - 100, "1.1.0")])
    found = service.evidence("high_error_rate", 30.0)
    assert (found["culprits"][0]["kind"], found["release"]["version"]) == ("route", "1.1.0")


def test_two_bad_workers_of_three_are_named_together_from_a_handful_of_errors() -> None:
    failing = {(route, 500, "KeyError"): (6, 0.01) for route in ("/a", "/b")}
    service = Service(requests(GOOD), requests({**SOON, **failing}))
    third = {key: (number // 3, seconds) for key, (number, seconds) in SOON.items()}
    half = {key: (number // 2, seconds) for key, (number, seconds) in failing.items()}
    for pid in (1, 2, 3):
        service.worker(pid, {**third, **(half if pid < 3 else {})})
    kind, names = service.first("high_error_rate")
    assert (kind, sorted(names)) == ("worker", ["1 on web-1", "2 on web-1"])


def test_a_host_that_is_slow_and_not_down_is_named_first() -> None:
    before = requests(GOOD) | calls({"payments": (300, 0), "mail": (300, 0)})
    lately = requests({**SOON, ("/b", 200, ""): (60, 1.2)}) | {
        **calls({"mail": (25, 0)}),
        Series("http.client.request.duration", ((c.SERVER_ADDRESS, "payments"),)): of(60, 1.1),
    }
    assert Service(before, lately).first("api_timeout", 1200.0, endpoint="/b") == ("host", ["payments"])


def test_where_most_commands_wait_the_collection_that_is_slower_still_is_named() -> None:
    before = requests(GOOD) | commands({"orders": (6000, 0.002), "users": (9000, 0.002), "events": (900, 0.002)})
    # The commands for users take more time in all, but no longer than others that wait.
    lately = requests({**SOON, ("/b", 200, ""): (250, 1.5)}) | commands(
        {"orders": (500, 0.2), "users": (900, 0.2), "events": (90, 0.8)}
    )
    assert Service(before, lately).first("api_timeout", 1500.0, endpoint="/b") == ("collection", ["events"])


@pytest.mark.parametrize(("seen", "kind"), [(3, "route"), (20, "worker")])
def test_a_worker_is_not_named_by_a_handful_of_slow_requests(seen: int, kind: str) -> None:
    # The reports of the processes are older than what is known of the service: they lack what came last.
    service = Service(requests(GOOD), requests({**SOON, ("/b", 200, ""): (20, 1.5)}))
    service.worker(1, {("/b", 200, ""): (seen, 1.5)})
    service.worker(2, {("/b", 200, ""): (seen, 0.02)})
    assert service.first("api_timeout", 1500.0, endpoint="/b")[0] == kind
