"""Error budgets against arithmetic: when they burn, what is left, and what is said about them."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from otel_monitoring.alerts import Count, Percent
from otel_monitoring.alerts.model import AlertSeverity
from otel_monitoring.alerts.rules.budget import Objective, in_words, rough, spenders
from otel_monitoring.alerts.rules.expressions import Reading
from otel_monitoring.alerts.rules.indicators import CounterShare, FasterThan, Succeeded, good_of
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.alerts.rules.slo import Slo, tiers_of, wanted_sums
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.metrics.event_sums import ALL, Counts, EventSums, WindowSum
from otel_monitoring.metrics.slices.model import Slice
from otel_monitoring.metrics.slices.sums import RunningSums
from otel_monitoring.metrics.snapshot import Snapshot
from otel_monitoring.metrics.window import Window
from tests.metrics.slices.test_sums import START, content

HOUR, DAY = 3600, 86_400
ORDERS = Slo("orders", objective=99.9)
FAST, MEDIUM, SLOW = ORDERS.rules()


def reading(rule: Rule, past: EventSums, group: str = "") -> Reading | None:
    found = rule.expression.readings(Window(Snapshot(0, 0), past), known=[group] if group else [])
    return next((one for one in found if one.group == group), None)


def burning(slo: Slo, slices: Iterator[tuple[int, Slice]]) -> dict[str, int]:
    """When each rule begins to burn, in seconds."""
    rules = slo.rules()
    sums = RunningSums(wanted_sums(rules))
    began: dict[str, int] = {}
    for at, each in slices:
        sums.add(START + at, START + at + 10, each)
        past = sums.at(START + at + 10)
        for rule in rules:
            found = reading(rule, past)
            if found is not None and found.value > rule.threshold:
                began.setdefault(rule.name, at + 10)
    return began


def steady(percent: float, *, clean: int = 0, seconds: int = HOUR, requests: int = 1000) -> Iterator[tuple[int, Slice]]:
    """So many percent of errors from 0 on, after so many seconds without any."""
    errors = round(requests * percent / 100)
    for at in range(-clean, seconds, 10):
        yield at, content({"/a": (requests, errors if at >= 0 else 0)})


def test_the_tiers_are_those_of_the_workbook() -> None:
    assert [(tier.long, tier.short, tier.burn_rate) for tier in tiers_of(Objective(99.9, 30 * DAY))] == [
        (HOUR, 300, 14.4),
        (6 * HOUR, 1800, 6.0),
        (3 * DAY, 6 * HOUR, 1.0),
    ]
    assert [rule.urgency for rule in ORDERS.rules()] == [
        AlertSeverity.CRITICAL,
        AlertSeverity.ERROR,
        AlertSeverity.WARNING,
    ]


@pytest.mark.parametrize("window", ["24h", "2d", "7d", "14d", "28d", "30d"])
def test_a_tier_means_the_same_share_of_the_budget_whatever_the_window(window: str) -> None:
    """2 %, 5 % and 10 % of the budget, in the Workbook's words."""
    seconds = Slo("orders", objective=99.9, window=window).seconds
    tiers = tiers_of(Objective(99.9, seconds))
    shares = [tier.burn_rate * tier.long / seconds for tier in tiers]
    assert shares == pytest.approx([0.02, 0.05, 0.1], rel=0.01)
    for tier in tiers:
        assert tier.short == pytest.approx(tier.long / 12, abs=5) or tier.short == 60


def test_steady_errors_page_within_the_hour() -> None:
    """4.9 % against 99.9 %: 49 times too fast. In the hour it is above 14.4 after 14.4 / 49 of it: 1058 s."""
    began = burning(ORDERS, steady(4.9, clean=6 * HOUR))
    longest = 31 / 30  # a window may be so much longer, because it consists of whole entries
    for rule, share, seconds in (("orders_fast_burn", 14.4 / 49, HOUR), ("orders_medium_burn", 6 / 49, 6 * HOUR)):
        assert share * seconds < began[rule] <= share * seconds * longest + 10
    assert began["orders_fast_burn"] < HOUR / 3


def test_a_new_service_pages_when_half_an_hour_is_known() -> None:
    assert burning(ORDERS, steady(4.9))["orders_fast_burn"] == 1800


def test_errors_within_the_budget_never_page() -> None:
    assert burning(ORDERS, steady(0.1, clean=HOUR, seconds=4 * HOUR)) == {}


@pytest.mark.parametrize("percent", [50, 95, 98, 99, 99.5, 99.7, 99.8, 99.9, 99.95, 99.99, 99.999])
def test_a_burn_exactly_at_the_threshold_does_not_page(percent: float) -> None:
    """One failed request in a thousand is what 99.9 % allows, and 100 - 99.9 is less than 0.1 in binary."""
    objective = Objective(percent, 30 * DAY)
    for tier in tiers_of(objective):
        bad = round(tier.burn_rate * (100 - percent) * 10_000)
        rate = objective.burn_rate(Counts(1_000_000, bad))
        assert rate == pytest.approx(tier.burn_rate, rel=1e-12)
        assert not rate > tier.burn_rate
        assert objective.burn_rate(Counts(1_000_000, bad + 1)) > tier.burn_rate
    assert objective.left(Counts(1_000_000, round((100 - percent) * 10_000))) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("percent", [5, 50, 80, 90, 93, 95, 99])
def test_an_outage_pages_whatever_the_objective(percent: float) -> None:
    """A budget of 10 % burns at most ten times too fast: 14.4 times is never reached."""
    slo = Slo("orders", objective=percent)
    assert burning(slo, steady(100, clean=HOUR, seconds=HOUR))["orders_fast_burn"] <= HOUR
    rates = [rule.threshold for rule in slo.rules()]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == 1, "what keeps to the objective burns nowhere"
    assert rates[0] <= 14.4


def test_both_windows_must_burn() -> None:
    """A burst of 30 s makes the short window burn, but not the hour; an incident that is over burns in the hour."""
    burst = ((at, content({"/a": (1000, 200 if 0 <= at < 30 else 0)})) for at in range(-HOUR, 600, 10))
    assert burning(ORDERS, burst) == {}
    rules, sums = ORDERS.rules(), RunningSums(wanted_sums(ORDERS.rules()))
    for at in range(-HOUR, 2400, 10):
        sums.add(START + at, START + at + 10, content({"/a": (1000, 49 if 0 <= at < 1800 else 0)}))
    past = sums.at(START + 2400)
    assert past.over(Succeeded(), HOUR).of(ALL).bad == 49 * 180
    found = reading(rules[0], past)
    assert found is not None
    assert found.value == 0, "the last five minutes were good"


def test_few_requests_are_quiet() -> None:
    few = [(at, content({"/a": (1, 1)} if at % 60 == 0 else {})) for at in range(0, HOUR, 10)]
    assert burning(ORDERS, iter(few)) == {}
    assert burning(Slo("orders", objective=99.9, min_requests=30), iter(few)) == {"orders_fast_burn": 1800}


def test_what_was_not_measured_is_unknown_and_not_good() -> None:
    sums = RunningSums(wanted_sums(ORDERS.rules()))
    for at in range(0, 1200, 10):
        sums.add(START + at, START + at + 10, content({"/a": (1000, 49)}))
    assert reading(FAST, sums.at(START + 1200)) is None, "a third of an hour is known"
    for at in range(1200, HOUR, 10):
        sums.add(START + at, START + at + 10, content({}))
    past = sums.at(START + HOUR)
    assert reading(FAST, past) == Reading(0.0, 120_000), "measured: nobody asked"
    assert reading(FAST, sums.at(START + HOUR + 160)) is None, "for half of the short window nobody measured"
    assert FAST.expression.readings(Window(Snapshot(0, 0))) == [], "no past is known"


def test_each_endpoint_has_a_budget_of_its_own() -> None:
    slo = Slo("orders", objective=99, per="endpoint")
    rule = slo.rules()[0]
    sums = RunningSums(wanted_sums([rule]))
    for at in range(0, HOUR, 10):
        sums.add(START + at, START + at + 10, content({"/good": (1000, 0), "/bad": (100, 50), "/few": (0, 0)}))
    past = sums.at(START + HOUR)
    found = rule.expression.readings(Window(Snapshot(0, 0), past), above=14.4, known=["/gone"])
    assert [(one.group, round(one.value, 3)) for one in found] == [("/bad", 50.0), ("/gone", 0.0)]
    assert rule.identity("/bad", "") == {"slo": "orders", "endpoint": "/bad"}
    assert "/bad spends" not in found[0].details["budget"], "it is the only one that can"


def test_an_alert_says_what_is_left_and_who_spends_it() -> None:
    sums = RunningSums(wanted_sums(ORDERS.rules()))
    for at in range(-20 * HOUR, HOUR, 10):
        routes = {"/a": (1000, 40 if at >= 0 else 0), "/b": (1000, 10 if at >= 0 else 0)}
        sums.add(START + at, START + at + 10, content(routes))
    found = reading(FAST, sums.at(START + HOUR))
    assert found is not None
    assert found.value == pytest.approx(25)
    assert found.details == {"budget": "the error budget is used up (119 % of it); /a spends 80 % of it"}
    assert FAST.text(found.value, FAST.identity("", "")) == "orders: the error budget burns 25.0 times too fast"


@pytest.mark.parametrize(
    ("whole", "rate", "text"),
    [
        (Counts(1_000_000, 380), 31.9, "62 % of the error budget left, gone in 14 h at this rate"),
        (Counts(1_000_000, 380), 0.5, "62 % of the error budget left, it lasts at this rate"),
        (Counts(1_000_000, 0), 14.4, "100 % of the error budget left, gone in 2 d at this rate"),
        (Counts(1_000_000, 998), 20, "0.2 % of the error budget left, gone in 4 min at this rate"),
        (Counts(1_000_000, 1), 0, "99.9 % of the error budget left, it lasts at this rate"),
        (Counts(1_000_000, 1000), 3, "the error budget is used up"),
        (Counts(1_000_000, 2500), 3, "the error budget is used up (250 % of it)"),
    ],
)
def test_budgets_in_words(whole: Counts, rate: float, text: str) -> None:
    assert in_words(Objective(99.9, 30 * DAY), whole, rate, None) == text


def test_the_time_that_is_left_is_exact() -> None:
    """At the rate of the Workbook's example, 1000, the budget of 30 days is gone in 43 minutes."""
    objective = Objective(99.9, 30 * DAY)
    assert objective.gone_in(1.0, 1000) == pytest.approx(43.2 * 60)
    assert objective.gone_in(0.25, 1) == 7.5 * DAY
    assert objective.gone_in(0.25, 0.2) is None, "old errors leave the window as fast"
    assert objective.gone_in(-0.1, 0.2) == 0


def test_who_spends_a_budget() -> None:
    groups = {ALL: Counts(100, 10), "/a": Counts(50, 2), "/b": Counts(25, 8), "/c": Counts(25, 0)}
    assert spenders(WindowSum(10, groups)) == [("/b", 0.8), ("/a", 0.2)]


@pytest.mark.parametrize(
    ("seconds", "text"), [(45, "45 s"), (119, "119 s"), (2100, "35 min"), (50_400, "14 h"), (520_000, "6 d")]
)
def test_a_time_in_one_unit(seconds: float, text: str) -> None:
    assert rough(seconds) == text


def test_counters_of_the_application_have_objectives() -> None:
    slo = Slo("payments", objective=99, good=Percent(Count("paid"), Count("tried")))
    good = slo.rules()[0].expression.good  # type: ignore[attr-defined] # a burn rate
    assert good == CounterShare(Percent(Count("paid"), Count("tried")))
    assert good.counts(Slice(10.0, counters={"paid": 97.0, "tried": 100.0})) == {ALL: Counts(100, 3)}


def test_a_counter_of_amounts_leaves_nothing_in_a_window_that_is_empty() -> None:
    """Sums of amounts as 0.1 are not exact: a remainder of a millionth of a millionth would burn at any rate."""
    slo = Slo("payments", objective=99.5, good=Percent(Count("paid"), Count("tried")), min_requests=1)
    fast, sums = slo.rules()[0], RunningSums(wanted_sums(slo.rules()))
    for at in range(0, HOUR, 10):
        tried = (at * 11 % 990 + 1) / 100 if at < HOUR - 300 else 0.0
        sums.add(START + at, START + at + 10, Slice(10.0, counters={"tried": tried, "paid": 0.3 * tried}))
    past = sums.at(START + HOUR)
    assert past.over(good_of(slo.good, None), 300) == WindowSum(300.0, {})
    found = reading(fast, past)
    assert found is not None
    assert found.value == 0
    assert found.samples > 1000
    endless = good_of(slo.good, None).counts(Slice(10.0, counters={"tried": math.inf, "paid": 1.0}))
    assert endless == {ALL: Counts(0, 0)}, "nothing could be subtracted from it"


WRONG: tuple[tuple[Mapping[str, Any], str], ...] = (
    ({"name": "Orders"}, "name: "),
    ({"name": "o" * 49}, "name: "),
    ({"objective": 100}, "objective: orders"),
    ({"objective": 0}, "objective: orders"),
    ({"objective": "99"}, "objective: orders"),
    ({"window": "90d"}, "window: orders"),
    ({"window": "1h"}, "window: orders"),
    ({"window": "soon"}, "window: orders"),
    ({"per": "user"}, "per: orders"),
    ({"per": "endpoint", "good": Percent(Count("a"), Count("b"))}, "per: orders"),
    ({"good": Percent(Count("a", kind="histogram"), Count("b"))}, "good: "),
    ({"good": Count("a")}, "good: "),
    ({"min_requests": -1}, "min_requests: orders"),
    ({"labels": {"slo": "x", "bad label": "x"}}, "labels: "),
    ({"runbook": "ftp://x"}, "runbook: "),
)


@pytest.mark.parametrize(("fields", "begins"), WRONG)
def test_a_wrong_field_is_named(fields: Mapping[str, Any], begins: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        Slo(**{"name": "orders", "objective": 99.9, **fields})
    assert str(error.value).startswith(begins)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), True, "1"])
def test_a_limit_is_a_positive_number(seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match="seconds"):
        FasterThan(seconds)
