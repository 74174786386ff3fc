"""The documented rules with the documented numbers; a rule in three lines; what cannot work is refused by name."""

import math
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest

from otel_monitoring import semconv as c
from otel_monitoring.alerts import THRESHOLDS, Attribute, Count, Gauge, NoData, Rule, error_rate
from otel_monitoring.alerts.model import AlertSeverity, AlertType
from otel_monitoring.alerts.rules.defaults import default_rules
from otel_monitoring.alerts.rules.expressions import Reading
from otel_monitoring.alerts.rules.promql import Dialect
from otel_monitoring.config import Settings
from otel_monitoring.config.settings import Thresholds
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.metrics.snapshot import Series, Snapshot
from otel_monitoring.metrics.window import Window
from otel_monitoring.redact import redact
from tests.measured import Meter

DEFAULTS = {rule.name: rule for rule in default_rules(Thresholds())}
ORDERS = Count("orders.failed")


def gauge(name: str, value: float) -> Window:
    return Window(Snapshot(0.0, 300.0, gauges={Series(name): value}))


def used(name: str, value: float, scope: str) -> Window:
    return Window(Snapshot(0.0, 300.0, gauges={Series(name, ((c.RESOURCE_SCOPE, scope),)): value}))


def fires(rule: Rule, window: Window) -> list[str]:
    """What an evaluation of `rule` alone would say at once."""
    return [
        rule.text(reading.value, rule.identity(reading.group, "worker-1"))
        for reading in rule.expression.readings(window)
        if reading.samples >= rule.min_samples and rule.breached_by(reading.value, firing=False)
    ]


# The default rules


@pytest.mark.parametrize(
    ("name", "severity", "threshold"),
    [
        ("database_down", "critical", 1),
        ("database_slow", "warning", 1000),
        ("high_error_rate", "warning", 5),
        ("high_cpu", "warning", 80),
        ("high_memory", "warning", 80),
        ("api_timeout", "warning", 2000),
        ("billing_failure", "critical", 0),
        ("delivery_issue", "error", 0),
        ("security_alert", "critical", 50),
        ("event_loop_blocked", "warning", 1000),
        ("telemetry_lost", "warning", 300),
        ("database_pool_exhausted", "error", 0),
        ("database_error", "error", 0),
        ("check_failed", "warning", 0),
    ],
)
def test_every_documented_type_has_its_rule(name: str, severity: str, threshold: float) -> None:
    rule = DEFAULTS[name]
    assert (rule.type.value, rule.urgency.value, rule.threshold) == (name, severity, threshold)


def test_there_is_one_rule_for_each_type_one_more_for_critical_checks_and_one_for_wrong_tokens() -> None:
    assert {rule.type for rule in DEFAULTS.values()} == set(AlertType) - {AlertType.CUSTOM, AlertType.ERROR_BUDGET}
    assert DEFAULTS.keys() - {kind.value for kind in AlertType} == {"critical_check_failed", "wrong_admin_token"}
    assert DEFAULTS["wrong_admin_token"].type is AlertType.SECURITY_ALERT
    critical = DEFAULTS["critical_check_failed"]
    assert (critical.type, critical.urgency) == (AlertType.CHECK_FAILED, AlertSeverity.CRITICAL)


def test_a_failing_check_has_an_alert_of_its_name_and_its_severity() -> None:
    def check(name: str, failing: float, *, critical: bool) -> tuple[Series, float]:
        return Series(c.CHECK_FAILING, ((c.CHECK_CRITICAL, critical), (c.CHECK_NAME, name))), failing

    window = Window(
        Snapshot(
            0.0,
            300.0,
            gauges=dict(
                [
                    check("queue", 1, critical=True),
                    check("disk", 0, critical=True),
                    check("cache", 1, critical=False),
                ]
            ),
        )
    )
    assert fires(DEFAULTS["critical_check_failed"], window) == ["Critical check fails: queue"]
    assert fires(DEFAULTS["check_failed"], window) == ["Check fails: cache"]
    assert DEFAULTS["check_failed"].identity("cache", "") == {"check": "cache"}


def test_a_message_that_cannot_be_filled_falls_back_to_the_figures() -> None:
    rule = Rule("each", Gauge("heat", group_by="room"), ">", 80, "{group:{value:.0f}}", label="group")
    assert rule.text(90.0, {"group": "bath"}).startswith("bath")
    assert rule.text(float("inf"), {"group": "bath"}) == "each: inf (threshold 80)"


@pytest.mark.parametrize(
    ("name", "quiet", "breach", "message"),
    [
        ("database_down", gauge(c.DATABASE_UP, 1), gauge(c.DATABASE_UP, 0), "Database connection lost"),
        (
            "database_slow",
            gauge(c.DATABASE_PING_DURATION, 1.0),
            gauge(c.DATABASE_PING_DURATION, 1.2344),
            "Slow database response: 1234ms",
        ),
        (
            "high_cpu",
            used(c.CPU_PRESSURE, 0.80, "host"),
            used(c.CPU_PRESSURE, 0.91, "host"),
            "High CPU usage of the host: 91.0%",
        ),
        (
            "high_memory",
            used(c.MEMORY_PRESSURE, 0.80, "container"),
            used(c.MEMORY_PRESSURE, 0.912, "container"),
            "High memory usage of the container: 91.2%",
        ),
        (
            "database_pool_exhausted",
            gauge(c.DATABASE_POOL_WAIT, 0),
            gauge(c.DATABASE_POOL_WAIT, 5.02),
            "No free database connection within 5 s",
        ),
        ("database_error", gauge(c.DATABASE_ERROR, 0), gauge(c.DATABASE_ERROR, 1), "Database answers with an error"),
        (
            "event_loop_blocked",
            gauge(c.EVENT_LOOP_LAG, 1.0),
            gauge(c.EVENT_LOOP_LAG, 1.5),
            "Event loop blocked for 1500ms",
        ),
        (
            "telemetry_lost",
            gauge(c.TELEMETRY_LOSS, 300),
            gauge(c.TELEMETRY_LOSS, 301),
            "Telemetry has been lost for 301 s: exports fail, or a queue is full",
        ),
    ],
)
def test_gauges_are_held_against_the_documented_thresholds(
    name: str, quiet: Window, breach: Window, message: str
) -> None:
    assert fires(DEFAULTS[name], quiet) == []
    assert fires(DEFAULTS[name], breach) == [message]
    assert fires(DEFAULTS[name], Window(Snapshot(0, 300))) == []


def test_the_error_rate_is_one_of_the_window_and_needs_a_score_of_requests() -> None:
    meter, rule = Meter(), DEFAULTS["high_error_rate"]
    meter.requests(9)
    meter.requests(10, status=500, error="500")
    assert fires(rule, meter.window()) == [], "19 requests are too few to speak of a rate"
    meter.requests(18)
    meter.requests(2, status=500, error="500")
    assert fires(rule, meter.window()) == ["High error rate: 10.00%"]
    meter.requests(95)
    meter.requests(5, status=500, error="500")
    assert fires(rule, meter.window()) == [], "5 % is not above 5 %"


def test_which_statuses_are_errors_is_a_setting() -> None:
    meter = Meter()
    meter.requests(18)
    meter.requests(2, status=429)
    window = meter.window()
    assert fires(DEFAULTS["high_error_rate"], window) == []
    (rule,) = (r for r in default_rules(Thresholds(), frozenset({429})) if r.name == "high_error_rate")
    assert fires(rule, window) == ["High error rate: 10.00%"]


def test_a_slow_endpoint_is_named_in_the_documented_form() -> None:
    meter, rule = Meter(), DEFAULTS["api_timeout"]
    for _ in range(10):
        meter.request("/api/orders/", seconds=2.5)
        meter.request("/api/fast/", seconds=0.1)
    for _ in range(4):
        meter.request("/api/rare/", seconds=9.0)
    (message,) = fires(rule, meter.window())
    assert message == "Slow API response: /api/orders/ (2500.00ms)"
    assert rule.identity("/api/orders/", "") == {"endpoint": "/api/orders/"}


def test_a_burst_of_rejected_requests_is_a_security_alert() -> None:
    meter, rule = Meter(), DEFAULTS["security_alert"]
    meter.requests(50, status=401)
    meter.requests(9, status=404)
    assert fires(rule, meter.window()) == []
    meter.requests(30, status=401)
    meter.requests(21, status=403)
    assert fires(rule, meter.window()) == ["Unauthorized access: 51 requests rejected with 401 or 403"]


@pytest.mark.parametrize(
    ("name", "counter", "message"),
    [
        ("billing_failure", c.BILLING_FAILURES, "Billing failed 2 times"),
        ("delivery_issue", c.DELIVERY_FAILURES, "Delivery confirmation failed 2 times"),
    ],
)
def test_a_failed_business_operation_is_counted(name: str, counter: str, message: str) -> None:
    meter = Meter()
    assert fires(DEFAULTS[name], meter.window()) == []
    meter.count(counter, 2)
    assert fires(DEFAULTS[name], meter.window()) == [message]


def test_what_a_dead_database_causes_is_kept_quiet_by_it() -> None:
    assert DEFAULTS["database_down"].inhibits == {
        AlertType.DATABASE_SLOW,
        AlertType.DATABASE_ERROR,
        AlertType.DATABASE_POOL_EXHAUSTED,
        AlertType.HIGH_ERROR_RATE,
        AlertType.API_TIMEOUT,
        AlertType.ERROR_BUDGET,
    }
    assert DEFAULTS["database_down"].no_data is NoData.KEEP


def test_the_blocked_loop_is_a_workers_own_the_rest_are_the_services() -> None:
    assert {name for name, rule in DEFAULTS.items() if rule.scope == "instance"} == {"event_loop_blocked"}
    assert DEFAULTS["event_loop_blocked"].identity("", "worker-1") == {"instance": "worker-1"}


@pytest.mark.parametrize("setting", THRESHOLDS)
def test_every_threshold_is_overridden_by_environment_and_in_code(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_default = {rule.name: rule.threshold for rule in default_rules(Settings.load().thresholds)}
    monkeypatch.setenv(f"OTEL_MONITORING_THRESHOLD_{setting.upper()}", "61")
    from_environment = {rule.name: rule.threshold for rule in default_rules(Settings.load().thresholds)}
    in_code = {r.name: r.threshold for r in default_rules(Settings.load(thresholds={setting: 62}).thresholds)}
    changed = {name for name, threshold in by_default.items() if from_environment[name] != threshold}
    assert len({DEFAULTS[name].type for name in changed}) == 1
    assert {(from_environment[name], in_code[name]) for name in changed} == {(61, 62)}
    assert in_code == {**by_default, **dict.fromkeys(changed, 62)}


@pytest.mark.parametrize("value", ["0.5", "100", "1e-3"])
def test_any_allowed_threshold_gives_rules_that_can_resolve(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in THRESHOLDS:
        monkeypatch.setenv(f"OTEL_MONITORING_THRESHOLD_{setting.upper()}", value)
    for rule in default_rules(Settings.load().thresholds):
        assert rule.clear is None or rule.clear <= rule.threshold


# Rules of one's own


def test_a_rule_in_three_lines() -> None:
    rule = Rule(
        "orders_failing", Count("orders.failed"), ">", 10, "{value:.0f} orders failed", severity=AlertSeverity.ERROR
    )
    meter = Meter()
    meter.count("orders.failed", 11)
    assert fires(rule, meter.window()) == ["11 orders failed"]
    assert (rule.type, rule.urgency, rule.scope) == (AlertType.CUSTOM, AlertSeverity.ERROR, "service")
    assert rule.promql() == "sum by (job) (increase(orders_failed_total[5m])) > 10"


def test_names_are_taken_for_what_they_name() -> None:
    rule = Rule(
        "own",
        ORDERS,
        ">",
        1,
        type="billing_failure",  # type: ignore[arg-type]
        severity="error",  # type: ignore[arg-type]
        no_data="keep",  # type: ignore[arg-type]
        inhibits={"high_cpu"},  # type: ignore[arg-type]
    )
    assert rule.type is AlertType.BILLING_FAILURE
    assert rule.severity is AlertSeverity.ERROR
    assert rule.no_data is NoData.KEEP
    assert rule.inhibits == {AlertType.HIGH_CPU}


def test_labels_may_be_named_as_attributes_are() -> None:
    assert Rule("own", ORDERS, ">", 1, labels={"team.name": "shop"}).identity("", "") == {"team.name": "shop"}


def test_the_message_knows_value_threshold_rule_and_labels() -> None:
    rule = Rule(
        "errors",
        error_rate(group_by="http.route"),
        ">",
        5,
        "{rule} {team}: {endpoint} {value:.1f} % > {threshold:g} %, {{literally}}",
        label="endpoint",
        labels={"team": "shop"},
    )
    labels = rule.identity("/a {value}", "")
    assert labels == {"team": "shop", "endpoint": "/a {value}"}
    assert rule.text(12.345, labels) == "errors shop: /a {value} 12.3 % > 5 %, {literally}"
    assert Rule("plain", ORDERS, ">=", 3).text(4, {}) == "plain: 4 (threshold 3)"


@pytest.mark.parametrize(
    ("comparison", "threshold", "clear", "begins", "goes_on", "over"),
    [
        (">", 80, 70, [80.1, 100], [80, 70.1], [70, 0]),
        (">=", 80, 70, [80, 100], [79.9, 70], [69.9, 0]),
        ("<", 10, 20, [9.9, -5], [10, 19.9], [20, 99]),
        ("<=", 10, 20, [10, -5], [10.1, 20], [20.1, 99]),
        (">", 80, None, [80.1], [], [80]),
    ],
)
def test_it_begins_beyond_the_threshold_and_ends_across_the_clear_one(
    comparison: Any, threshold: float, clear: float | None, begins: list[float], goes_on: list[float], over: list[float]
) -> None:
    rule = Rule("own", ORDERS, comparison, threshold, clear=clear)
    assert all(rule.breached_by(value, firing=firing) for value in begins for firing in (False, True))
    assert all(rule.breached_by(value, firing=True) for value in goes_on)
    assert not any(rule.breached_by(value, firing=False) for value in goes_on)
    assert not any(rule.breached_by(value, firing=firing) for value in over for firing in (False, True))


def test_the_condition_in_promql_tells_instances_apart_where_the_rule_does() -> None:
    rule = Rule("lag", Gauge("lag", "s"), ">", 1234567.5)
    assert rule.promql() == "max by (job) (lag_seconds) > 1234567.5"
    each = replace(rule, scope="instance")
    assert each.promql(Dialect(by=("service_name",))) == "max by (service_name, instance) (lag_seconds) > 1234567.5"


class OneReading:
    """An expression of somebody's own: it only has to look like one."""

    metrics = frozenset({"lag"})
    group_by = ""

    def readings(self, window: Window, *, above: float | None = None, known: Collection[str] = ()) -> list[Reading]:
        return [Reading(window.seconds, 1)]

    def promql(self, dialect: Dialect) -> str:
        return dialect.select("lag")


def test_an_expression_of_ones_own_is_welcome() -> None:
    assert fires(Rule("own", OneReading(), ">", 299), gauge("any", 1)) == ["own: 300 (threshold 299)"]


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "Orders"},
        {"name": ""},
        {"name": "orders-failed"},
        {"name": "x" * 65},
        {"name": None},
        {"expression": "orders.failed"},
        {"expression": Attribute("a", "b")},
        {"comparison": "=="},
        {"comparison": None},
        {"threshold": math.nan},
        {"threshold": math.inf},
        {"threshold": "5"},
        {"threshold": None},
        {"message": "{nothing}"},
        {"message": "{value:d}"},
        {"message": "{value"},
        {"message": "{}"},
        {"message": "{value.real.nothing}"},
        {"message": "{value[0]}"},
        {"message": None},
        {"type": "Disk full"},
        {"type": None},
        {"severity": "fatal"},
        {"hold": -1},
        {"hold": math.nan},
        {"keep_firing_for": -0.1},
        {"keep_firing_for": math.inf},
        {"clear": 6},
        {"clear": math.nan},
        {"min_samples": -1},
        {"no_data": "ignore"},
        {"scope": "host"},
        {"label": "end-point"},
        {"label": "value"},
        {"label": "instance"},
        {"labels": {"team name": "shop"}},
        {"labels": {"": "x"}},
        {"labels": {"rule": "x"}},
        {"labels": {"instance": "x"}},
        {"labels": {"team": 5}},
        {"labels": {"group": "x"}, "expression": Count("orders", group_by="kind")},
        {"inhibits": frozenset({"Disk full"})},
        {"inhibits": frozenset({AlertType.CUSTOM})},
        {"runbook": "javascript:alert(1)"},
        {"runbook": "wiki/orders"},
    ],
    ids=str,
)
def test_a_field_that_cannot_work_is_refused_by_its_name(fields: dict[str, Any]) -> None:
    good: dict[str, Any] = {"name": "orders", "expression": ORDERS, "comparison": ">", "threshold": 5}
    Rule(**good)
    with pytest.raises(ConfigurationError) as refused:
        Rule(**{**good, **fields})
    assert str(refused.value).startswith(f"{next(iter(fields))}: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ("{vale:.0f} orders wait", "there is no {vale}, it may have {value}, {threshold}, {rule}; did you mean value?"),
        ("{endpoint}", "there is no {endpoint}, it may have {value}, {threshold}, {rule}"),
        ("{} orders wait", "its fields have names: it may have {value}, {threshold}, {rule}"),
        ("{value orders wait", "expected '}' before end of string; it may have {value}, {threshold}, {rule}, with "),
    ],
)
def test_a_template_that_does_not_work_says_which_fields_there_are(message: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Rule("backlog", Gauge("orders.waiting"), ">", 100, message)
    assert str(refused.value).startswith(f"message: backlog: {says}")


@pytest.mark.parametrize("name", DEFAULTS)
def test_no_message_of_ours_is_taken_for_a_secret(name: str) -> None:
    rule = DEFAULTS[name]
    said = rule.text(51.0, rule.identity("stock", "a"))
    assert redact(said) == said
