"""A replay over the slices makes the transitions that were made live."""

import math
from collections.abc import Mapping, Sequence
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_monitoring import semconv as c
from otel_monitoring.alerts import Attribute, Count, Gauge, Percent, Quantile, Rule, Slo, by_group, error_rate, requests
from otel_monitoring.alerts.evaluation.evaluate import Evaluation
from otel_monitoring.alerts.evaluation.incident import labels_by_rule, saved_incidents
from otel_monitoring.alerts.evaluation.notification_policy import NotificationPolicy
from otel_monitoring.alerts.evaluation.transitions import Transitions
from otel_monitoring.alerts.evaluation.worker_report import WorkerReport
from otel_monitoring.alerts.model import AlertEvent
from otel_monitoring.alerts.replay import ReplayOptions, replay, why_not
from otel_monitoring.alerts.rules.defaults import default_rules
from otel_monitoring.alerts.rules.expressions import Expression
from otel_monitoring.alerts.rules.matchers import Both, Failed
from otel_monitoring.alerts.rules.slo import wanted_sums
from otel_monitoring.alerts.store import MemoryStore
from otel_monitoring.config.settings import Thresholds
from otel_monitoring.metrics.buckets import Buckets
from otel_monitoring.metrics.slices.codec import encoded_routes, encoded_service
from otel_monitoring.metrics.slices.model import ROUTE_SCALE, TIERS, GaugeFigures, Requests, Slice, merged_requests
from otel_monitoring.metrics.slices.recorder import WrittenUpTo
from otel_monitoring.metrics.slices.sums import EventSumsReader
from otel_monitoring.metrics.slices.table import Position, SliceRow
from otel_monitoring.metrics.snapshot import Histogram, Series, Snapshot, merged
from otel_monitoring.metrics.window import History

START = 1_800_000_000
"""A whole hour."""
DAY = 86_400
OPTIONS = ReplayOptions(window=60.0)
RULES: Mapping[str, tuple[Rule, ...]] = {
    "an objective": Slo("orders", objective=99, window="24h", min_requests=20).rules(),
    "for each endpoint": Slo("each", objective=95, window="24h", min_requests=5, per="endpoint").rules()[:2],
    "requests": (
        Rule("errors", error_rate(), ">", 20, clear=10, hold=20, min_samples=5),
        *by_group(
            Rule("errors_of", error_rate(group_by=c.HTTP_ROUTE), ">", 50, label="endpoint", keep_firing_for=30),
            {"/b": 30},
        ),
        *by_group(
            Rule(
                "slow", Quantile(c.HTTP_SERVER_REQUEST_DURATION, 0.9, group_by=c.HTTP_ROUTE), ">", 1, label="endpoint"
            ),
            {"/b": 1.5},
        ),
    ),
    "the rest": (
        Rule("idle", requests(), "<", 5, hold=30),
        Rule("waiting", Gauge("orders.waiting"), ">", 10),
        Rule("lost", Count("orders.lost"), ">", 3),
    ),
}
FAILED = ((c.ERROR_TYPE, "500"), (c.HTTP_RESPONSE_STATUS_CODE, 500))
Second = tuple[dict[str, tuple[int, int]], float, int]
"""Of ten seconds: requests and errors by route, the gauge, the counter."""


class Live:
    """The worker that leads: it measures, writes the slices, and evaluates."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = rules
        self.now = START
        self.store = MemoryStore()
        self.events: list[AlertEvent] = []
        self._version = ""
        self._begin()

    def _begin(self) -> None:
        self._reader = EventSumsReader()
        self._history = History(self.now, span=OPTIONS.window, resolution=OPTIONS.interval)
        self._evaluation = Evaluation()

    def restart(self, seconds: int) -> None:
        """Nobody measures for so long, and nothing of before is in the window."""
        self.now += seconds
        self._begin()

    def tick(self, routes: Mapping[str, tuple[int, int]], waiting: float, lost: int) -> None:
        start, self.now = self.now, self.now + 10
        found = {route: (durations(good, 0.1), durations(bad, 2.0)) for route, (good, bad) in routes.items()}
        histograms = {}
        for route, (good, bad) in found.items():
            where = (c.HTTP_ROUTE, route)
            for cause, part in ((((c.HTTP_RESPONSE_STATUS_CODE, 200),), good), (FAILED, bad)):
                if part.count:
                    histograms[Series(c.HTTP_SERVER_REQUEST_DURATION, (*cause, where))] = part
        sums = {Series("orders.lost"): float(lost)} if lost else {}
        self._history.add(Snapshot(start, self.now, histograms, sums, {Series("orders.waiting"): waiting}))
        requests = {route: Requests(merged(parts), parts[1].count) for route, parts in found.items()}
        counters = {"orders.lost": float(lost)} if lost else {}
        gauges = {"~orders.waiting": GaugeFigures(1, waiting, waiting, waiting)}
        self._write(start, Slice(10.0, merged_requests(requests.values()), requests, gauges, counters))
        self._evaluate()

    def _write(self, start: int, content: Slice) -> None:
        row = SliceRow(10, start, encoded_service(content), encoded_routes(content.routes))
        position = Position(str(self.now), WrittenUpTo(self.now, {}, ()).encoded())
        assert self.store.slices.advance(self._version, position, [row])
        self._version = position.version

    def _evaluate(self) -> None:
        past = self._reader.read(self.store.slices, wanted_sums(self.rules))
        known = {incident.key: incident for incident in saved_incidents(self.store.incidents)}
        transitions = Transitions(self.store, NotificationPolicy((), 4 * 3600, OPTIONS.window), self.now)
        reports = {"worker": WorkerReport(self._history.recent)}
        results = self._evaluation.evaluate(self.rules, reports, labels_by_rule(known.values()), None, past)
        transitions.apply(results, known, reports, self.rules)
        self.events += transitions.events


@cache
def durations(count: int, seconds: float) -> Histogram:
    """So many equal durations, in the buckets of slices."""
    if not count:
        return Histogram()
    index = math.ceil(math.log2(seconds) * 2**ROUTE_SCALE) - 1
    return Histogram(count, count * seconds, seconds, seconds, ROUTE_SCALE, 0, *Buckets.of(index, [count]))


def told(events: Sequence[AlertEvent]) -> list[tuple[float, str, str, str, str, str]]:
    return [(e.time, e.rule, e.status.value, e.outcome.value, str(dict(e.labels)), e.message) for e in events]


Counts = st.tuples(st.integers(0, 12), st.sampled_from((0, 0, 0, 1, 4, 30)))
Tens = st.tuples(
    st.dictionaries(st.sampled_from(("/a", "/b")), Counts, max_size=2),
    st.sampled_from((0.0, 11.0)),
    st.sampled_from((0, 0, 0, 4)),
)
Phases = st.lists(st.tuples(Tens, st.integers(1, 12), st.sampled_from((0, 0, 0, 120, 700))), min_size=1, max_size=4)


@pytest.mark.slow
@pytest.mark.timeout(600)  # pure arithmetic: 8 s of CPU in all, which a busy machine stretches
@pytest.mark.parametrize("kind", RULES)
@settings(max_examples=100, suppress_health_check=list(HealthCheck), deadline=None)
@given(Phases)
def test_a_replay_makes_the_transitions_that_were_made_live(kind: str, phases: list[tuple[Second, int, int]]) -> None:
    """In hundreds of histories."""
    live = Live(RULES[kind])
    for seen, times, pause in phases:
        for _ in range(times):
            live.tick(*seen)
        if pause:
            live.restart(pause)
    replayed = list(replay(live.store.slices, live.rules, START, live.now, OPTIONS))
    assert told(replayed) == told(live.events)


REPLAYED = (
    error_rate(),
    error_rate(group_by=c.HTTP_ROUTE),
    requests(group_by=c.HTTP_ROUTE),
    Quantile(c.HTTP_SERVER_REQUEST_DURATION, 0.95, group_by=c.HTTP_ROUTE),
    Count("orders.placed"),
    Percent(Count("orders.paid"), Count("orders.placed")),
    Gauge("orders.waiting"),
    Gauge(c.DATABASE_PING_DURATION, "s", scale=1000),
)
LACKING = (
    (error_rate([429]), "their other attributes"),
    (requests(where=Attribute(c.HTTP_RESPONSE_STATUS_CODE, (401,))), "their other attributes"),
    (requests(group_by=c.HTTP_REQUEST_METHOD), "not by http.request.method"),
    (Quantile("job.duration", 0.9), "not job.duration"),
    (Count("job.duration", "s", "histogram"), "not job.duration"),
    (Quantile(c.HTTP_SERVER_REQUEST_DURATION, 0.9, where=Failed()), "the durations of all requests together"),
    (error_rate([429], group_by=c.HTTP_ROUTE), "their other attributes"),
    (
        requests(where=Both(Attribute(c.HTTP_ROUTE, ("/a",)), Attribute(c.HTTP_REQUEST_METHOD, ("GET",)))),
        "their other attributes",
    ),
    (Count("orders.placed", group_by="warehouse"), "without its attributes"),
    (Count(c.BILLING_FAILURES), "counters, not billing.failures"),
    (Gauge("orders.waiting", over="min"), "without its attributes"),
    (Gauge(c.DATABASE_UP, "1"), f"does not have {c.DATABASE_UP}"),
    (Percent(Count("a"), Count("b", where=Attribute("x", (1,)))), "without its attributes"),
)


@pytest.mark.parametrize("expression", REPLAYED, ids=str)
def test_what_slices_have_can_be_replayed(expression: Expression) -> None:
    assert why_not(Rule("r", expression, ">", 1)) is None


@pytest.mark.parametrize(("expression", "why"), LACKING, ids=str)
def test_what_slices_lack_cannot_be_replayed(expression: Expression, why: str) -> None:
    assert why in str(why_not(Rule("r", expression, ">", 1)))


def test_rules_about_each_worker_cannot_be_replayed() -> None:
    assert "not each of them" in str(why_not(Rule("r", Gauge("orders.waiting"), ">", 1, scope="instance")))


def test_which_of_our_rules_can_be_replayed() -> None:
    replayed = {rule.name for rule in default_rules(Thresholds()) if why_not(rule) is None}
    assert replayed == {"high_error_rate", "api_timeout", "database_slow"}
    assert all(why_not(rule) is None for rule in Slo("orders", objective=99.9).rules())
    of_one = Thresholds(api_response_time_ms_by_endpoint={"/a": 50.0}, error_rate_percent_by_endpoint={"/a": 1.0})
    replayed = {rule.name for rule in default_rules(of_one) if why_not(rule) is None}
    assert replayed == {"high_error_rate", "high_error_rate_a", "api_timeout", "api_timeout_a", "database_slow"}
    statuses = frozenset({500, 429})
    (rule,) = (rule for rule in default_rules(Thresholds(), statuses) if rule.name == "high_error_rate")
    assert why_not(rule, statuses) is None


def _past(ends: int, failed: range) -> MemoryStore:
    """Three weeks until `ends` with ten requests in ten seconds, all of which failed in some hours; all tiers."""
    live = MemoryStore()
    rows = []
    for tier in TIERS:
        for start in range(ends - min(tier.kept, 21 * DAY), ends, tier.seconds):
            count = tier.seconds
            bad = count if (start - START) // 3600 in failed else 0
            both = (durations(count - bad, 0.1), durations(bad, 2.0))
            routes = {"/a": Requests(merged(both), bad)}
            content = Slice(float(tier.seconds), routes["/a"], routes)
            rows.append(SliceRow(tier.seconds, start, encoded_service(content), encoded_routes(routes)))
    assert live.slices.advance("", Position("1", WrittenUpTo(ends, {}, ()).encoded()), rows)
    return live


@pytest.mark.slow
def test_of_weeks_the_rules_are_replayed_over_coarser_slices() -> None:
    """Ten days ago, two days ago and half an hour ago all requests of an hour failed."""
    ends = START + 40 * DAY
    hours = [30 * 24, 38 * 24, 40 * 24 - 1]
    rules = (
        Rule("errors", error_rate(), ">", 20, hold=60, min_samples=100),
        Rule("busy", requests(), ">", 400),
        Rule("slow", Quantile(c.HTTP_SERVER_REQUEST_DURATION, 0.9), ">", 1),
        *Slo("orders", objective=99.9).rules(),
    )
    events = []
    for hour in hours:
        store = _past(ends, range(hour, hour + 1))
        events += list(replay(store.slices, rules, ends - 12 * DAY, ends))
    began = [round((e.time - START) / 3600, 2) for e in events if e.rule == "errors" and e.status.value == "firing"]
    for hour, at in zip(hours, began, strict=True):
        assert hour <= at <= hour + 0.5
    assert not [e for e in events if e.rule == "busy"], "of an hour's requests a window has five minutes"
    assert len([e for e in events if e.rule == "slow" and e.status.value == "firing"]) == 3
    assert len([e for e in events if e.rule == "orders_fast_burn" and e.status.value == "firing"]) == 3
    assert {e.outcome.value for e in events if e.rule == "orders_medium_burn"} == {"inhibited"}


def test_nothing_is_replayed_before_the_time_that_is_asked_for() -> None:
    ends = START + 40 * DAY
    store = _past(ends, range(39 * 24, 39 * 24 + 1))
    rules = [Rule("errors", error_rate(), ">", 20)]
    assert list(replay(store.slices, rules, ends - 12 * 3600, ends)) == []
    assert list(replay(MemoryStore().slices, rules, ends - DAY, ends)) == []
