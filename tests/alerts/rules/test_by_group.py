"""Thresholds of single groups: each a rule, and all others have the general one."""

from dataclasses import replace
from typing import Any

import pytest

from otel_monitoring.alerts import Count, Gauge, Percent, Quantile, Rule, by_group, requests
from otel_monitoring.alerts.evaluation.evaluate import Evaluation
from otel_monitoring.alerts.evaluation.worker_report import WorkerReport
from otel_monitoring.alerts.rules.defaults import default_rules
from otel_monitoring.alerts.rules.expressions import Expression
from otel_monitoring.alerts.rules.matchers import Attribute
from otel_monitoring.alerts.rules.promql import Dialect
from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.export.prometheus_rules import prometheus
from otel_monitoring.metrics.snapshot import Series, Snapshot
from otel_monitoring.metrics.window import Window

QUEUES = Rule("waiting", Gauge("waiting", group_by="queue"), ">", 100, "{queue}: {value:g}", clear=80, label="queue")


def breached(rules: tuple[Rule, ...], **waiting: float) -> dict[str, list[str]]:
    """The groups that breach each rule."""
    gauges = {Series("waiting", (("queue", queue),)): value for queue, value in waiting.items()}
    report = WorkerReport(Window(Snapshot(0, 300, gauges=gauges)))
    found = Evaluation().evaluate(rules, {"a": report}, {})
    return {rule.name: [one.labels["queue"] for one in found if one.rule is rule] for rule in rules}


def test_a_group_with_its_own_threshold_has_no_other() -> None:
    rules = by_group(QUEUES, {"mail": 1000, "pay": 5})
    assert [(rule.name, rule.threshold, rule.clear) for rule in rules] == [
        ("waiting", 100, 80),
        ("waiting_mail", 1000, 800),
        ("waiting_pay", 5, 4),
    ]
    assert breached(rules, mail=500, pay=6, other=101) == {
        "waiting": ["other"],
        "waiting_mail": [],
        "waiting_pay": ["pay"],
    }
    assert breached(rules, mail=1001, pay=5, other=99) == {"waiting": [], "waiting_mail": ["mail"], "waiting_pay": []}
    assert by_group(QUEUES, {}) == (QUEUES,)


def test_every_kind_of_expression_is_limited_here_and_in_promql() -> None:
    by_queue: dict[str, Any] = {"group_by": "queue"}
    first = Attribute("site", ("a",))
    expressions: list[Expression] = [
        Gauge("x", **by_queue),
        Count("x", where=first, **by_queue),
        Quantile("x", 0.5, **by_queue),
        Percent(Count("x", where=first, **by_queue), Count("x", **by_queue)),
        requests(**by_queue),
    ]
    for expression in expressions:
        others, one = by_group(Rule("rule", expression, ">", 1, label="queue"), {'a"b.c': 2})
        assert 'queue!~"a\\"b\\\\.c"' in others.promql()
        assert 'queue="a\\"b.c"' in one.promql()
        assert ('site="a",queue' in one.promql()) is ('site="a"' in expression.promql(Dialect()))


def test_names_are_those_of_the_groups_and_unique() -> None:
    rule = Rule("api_timeout", Gauge("x", group_by="route"), ">", 1, label="endpoint")
    routes = ["/api/orders/{id}", "/api/orders/id/", "/" + "x" * 100, "/" + "x" * 101, "/"]
    names = [one.name for one in by_group(rule, dict.fromkeys(routes, 2.0))]
    assert names[:2] == ["api_timeout", "api_timeout_api_orders_id"]
    assert len({*names}) == len(names)
    assert all(len(name) <= 64 for name in names)


@pytest.mark.parametrize(
    ("rule", "thresholds", "message"),
    [
        (Rule("plain", Gauge("x"), ">", 1), {"a": 2.0}, "thresholds: plain: its expression has no groups"),
        (QUEUES, {"a": float("nan")}, "threshold: waiting_a: "),
    ],
)
def test_what_cannot_work_is_refused(rule: Rule, thresholds: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{message}"):
        by_group(rule, thresholds)


def test_endpoints_have_thresholds_of_their_own_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = "OTEL_MONITORING_THRESHOLD_"
    monkeypatch.setenv(f"{prefix}API_RESPONSE_TIME_MS_BY_ENDPOINT", "/api/reports/=10000, /api/search?q=x=500")
    monkeypatch.setenv(f"{prefix}ERROR_RATE_PERCENT_BY_ENDPOINT", "/api/pay=1")
    settings = Settings.load(threshold_api_response_time_ms=1500)
    rules = {rule.name: rule for rule in default_rules(settings.thresholds)}
    assert {name: rule.threshold for name, rule in rules.items() if "api" in name} == {
        "api_timeout": 1500,
        "api_timeout_api_reports": 10_000,
        "api_timeout_api_search_q_x": 500,
        "high_error_rate_api_pay": 1,
    }
    assert rules["high_error_rate_api_pay"].text(2, {"endpoint": "/api/pay"}) == "High error rate: /api/pay (2.00%)"
    text = prometheus(rules.values())
    assert 'http_route="/api/reports/"' in text
    assert 'http_route!~"/api/reports/|/api/search' in text


@pytest.mark.parametrize("text", ["/a", "/a=", "=5", "/a=fast", "/a=-1", "/a=5,/b"])
def test_a_threshold_that_is_none_is_refused_by_name(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = "OTEL_MONITORING_THRESHOLD_API_RESPONSE_TIME_MS_BY_ENDPOINT"
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigurationError, match=f"^{variable}: "):
        Settings.load()


def test_the_link_to_the_runbook_is_a_template_too() -> None:
    rule = replace(QUEUES, runbook="https://wiki.example.com/{rule}?queue={queue}&over={threshold:g}")
    assert rule.runbook_for(5, {"queue": "a b&c"}) == "https://wiki.example.com/waiting?queue=a%20b%26c&over=100"
    secret = rule.runbook_for(5, {"queue": "mongodb://shop:hunter2@db/x"})
    assert secret == "https://wiki.example.com/waiting?queue=mongodb%3A%2F%2F%5BREDACTED%5D%40db%2Fx&over=100"
    assert "https://wiki.example.com/waiting?queue={{ $labels.queue }}&over=100" in prometheus([rule])
    with pytest.raises(ConfigurationError, match=r"^runbook: waiting: there is no \{host\}"):
        replace(QUEUES, runbook="https://wiki.example.com/{host}")
