from dataclasses import replace
from typing import Any

import pytest
import yaml

from otel_monitoring.alerts import (
    AlertSeverity,
    AlertType,
    Count,
    FasterThan,
    Gauge,
    NoData,
    Percent,
    Quantile,
    Rule,
    Slo,
    requests,
)
from otel_monitoring.alerts.rules.matchers import Attribute
from otel_monitoring.alerts.rules.promql import Dialect, prometheus_duration
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.export import ExportOptions, prometheus
from otel_monitoring.export.options import number_text
from otel_monitoring.export.templates import go_template, label_names, message_template

ENGINE = go_template("$value", "$labels")
SLOW = Rule("slow", Quantile("job.duration", 0.9, group_by="job.kind"), ">", 2, label="kind", min_samples=3)


def exported(*rules: Rule, **options: Any) -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(prometheus(rules, ExportOptions(**options)))["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


@pytest.mark.parametrize(
    ("seconds", "text"), [(30, "30s"), (300, "5m"), (7200, "2h"), (90, "90s"), (1.5, "1500ms"), (0, "0s")]
)
def test_durations_have_one_unit(seconds: float, text: str) -> None:
    assert prometheus_duration(seconds) == text


def test_numbers_are_written_without_binary_tails() -> None:
    assert number_text(0.1 + 0.2) == "0.3"
    assert number_text(1234567) == "1234567"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{value:.2f}%", '{{ $value | printf "%.2f" }}%'),
        ("{value:.4g} > {threshold:g}", '{{ $value | printf "%.4g" }} > 2'),
        ("{value}", '{{ $value | printf "%v" }}'),
        ("{value:.1%}", "{{ $value | humanizePercentage }}"),
        ("{rule} of {team}: {kind}", "slow of db: {{ $labels.job_kind }}"),
        ("{{literal}} {{{{", '{literal} {{ "{{" }}'),
    ],
)
def test_messages_become_go_templates(template: str, text: str) -> None:
    rule = replace(SLOW, message=template, labels={"team": "db"})
    assert message_template(rule, ENGINE, label_names(rule)) == text


def test_one_service_is_chosen_by_name_with_any_namespace_or_with_a_given_one() -> None:
    assert ExportOptions(service="a.b").dialect.selector == r'job=~"(.+/)?a\\.b"'
    assert ExportOptions(service='shop/"orders"').dialect.selector == r'job="shop/\"orders\""'
    (record, alert) = exported(Rule("up", Gauge("db.up", "1", over="min"), "<", 1), service="orders")
    assert record["expr"] == 'min by (job, deployment_environment_name) (db_up_ratio{job=~"(.+/)?orders"})'
    assert alert["expr"] == 'otel_monitoring:up{job=~"(.+/)?orders"} < 1'


def test_a_rule_is_recorded_and_alerts() -> None:
    rule = Rule(
        "queue_long",
        Gauge("queue.length"),
        ">",
        100,
        "Queue: {value:.0f}",
        AlertType.DELIVERY_ISSUE,
        severity=AlertSeverity.CRITICAL,
        hold=90,
        keep_firing_for=300,
        clear=80,
        scope="instance",
        labels={"team": "{{ops}}"},
        runbook="https://example.com/queue",
    )
    record, alert = exported(rule)
    by = "job, deployment_environment_name, instance"
    assert record == {"record": "otel_monitoring:queue_long", "expr": f"max by ({by}) (queue_length)"}
    assert alert == {
        "alert": "DELIVERY_ISSUE",
        "expr": (
            "otel_monitoring:queue_long > 100\nor\n"
            f"otel_monitoring:queue_long > 80 and on ({by}) "
            'ALERTS{alertname="DELIVERY_ISSUE",alertstate="firing",rule="queue_long"}'
        ),
        "for": "90s",
        "keep_firing_for": "5m",
        "labels": {
            "team": '{{ "{{" }}ops}}',
            "alert_type": "delivery_issue",
            "severity": "critical",
            "rule": "queue_long",
            "service": '{{ reReplaceAll ".*/" "" $labels.job }}',
            "environment": "{{ $labels.deployment_environment_name }}",
        },
        "annotations": {
            "summary": 'Queue: {{ $value | printf "%.0f" }}',
            "value": '{{ $value | printf "%.4g" }}',
            "threshold": "100",
            "runbook_url": "https://example.com/queue",
        },
    }


def test_groups_are_labels_and_too_few_samples_are_no_data() -> None:
    record, alert = exported(SLOW, window=60)
    series = "job_duration_seconds"
    grown = f"{series} unless last_over_time({series}[1h] offset 1m) or increase({series}[1m])"
    by = "sum by (job, deployment_environment_name, job_kind)"
    assert record["expr"] == f"histogram_quantile(0.9, {by} ({grown}))\nand {by} (histogram_count({grown})) >= 3"
    assert alert["alert"] == "slow", "a custom alert is called as its rule"
    assert alert["labels"]["kind"] == "{{ $labels.job_kind }}"


@pytest.mark.parametrize(
    ("expression", "counted"),
    [
        (Count("a.b"), "sum by (job) (increase(a_b_total[5m]))"),
        (Percent(Count("a"), Count("b")), "sum by (job) (increase(b_total[5m]))"),
        (Gauge("g", "s", group_by="x.y"), "count by (job, x_y) (g_seconds)"),
        (requests(), "sum by (job) (increase(http_server_request_duration_seconds_count[5m]))"),
    ],
)
def test_samples_are_counted_as_the_process_counts_them(expression: Any, counted: str) -> None:
    from otel_monitoring.export.rule_promql import value

    rule = Rule("r", expression, ">", 1, min_samples=7)
    assert value(rule, Dialect(native=False)) == f"{expression.promql(Dialect(native=False))}\nand {counted} >= 7"


def test_rules_that_fire_without_data_have_an_alert_for_it() -> None:
    rule = Rule("heartbeat", Gauge("heartbeat"), "<", 1, no_data=NoData.FIRE, hold=60)
    _, alert, missing = exported(rule)
    by = "job, deployment_environment_name"
    lately = "last_over_time(target_info[1h])"
    assert missing["expr"] == f"group by ({by}) ({lately}) unless on ({by}) otel_monitoring:heartbeat"
    assert missing["annotations"]["summary"] == "heartbeat: no data"
    assert (missing["alert"], missing["labels"], missing["for"]) == (alert["alert"], alert["labels"], "1m")
    assert len(exported(replace(rule, expression=Gauge("heartbeat", group_by="job.kind")))) == 2, "unknown groups"


def test_nothing_failed_is_zero_percent_of_what_was_done() -> None:
    """`part / whole` has no value where no series of the part exists: `success < 90 %` would not fire at 0 %."""
    done = Count("jobs", where=Attribute("ok", (True,)))
    text = Percent(done, Count("jobs")).promql(Dialect())
    part = 'sum by (job) (increase(jobs_total{ok="true"}[5m]))'
    whole = "sum by (job) (increase(jobs_total[5m]))"
    assert text == f"100 * ({part} or 0 * {whole}) / {whole}"


def test_a_limit_that_classic_histograms_do_not_have_is_named_with_its_rule() -> None:
    rules = Slo("checkout", objective=99, good=FasterThan(0.3)).rules()
    with pytest.raises(ConfigurationError, match=r"^good: checkout_fast_burn: classic histograms have no bucket"):
        prometheus(rules, ExportOptions(histograms="classic"))
