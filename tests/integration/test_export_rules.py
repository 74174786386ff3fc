"""Exported rules under promtool: Prometheus says what we say about the same series."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest

from otel_monitoring import semconv as c
from otel_monitoring.alerts import Gauge, NoData, Rule
from otel_monitoring.alerts.rules.defaults import default_rules
from otel_monitoring.config.settings import Thresholds
from otel_monitoring.export import ExportOptions, prometheus
from otel_monitoring.export.options import Histograms
from tests.integration.fleet import STEP, Fleet, Story, Worker
from tests.integration.prometheus_server import promtool
from tests.integration.servers import ROOT

pytestmark = pytest.mark.integration

RULES = default_rules(Thresholds())
MINUTES = 60
HOST = {c.RESOURCE_SCOPE: "host"}
QUEUE: dict[str, str | bool] = {c.CHECK_NAME: "queue", c.CHECK_CRITICAL: True}
CACHE: dict[str, str | bool] = {c.CHECK_NAME: "cache", c.CHECK_CRITICAL: False}
MARGIN = 45  # seconds: PromQL's window of five minutes has 20 of our 21 measurements


def business_as_usual(workers: Sequence[Worker]) -> None:
    for worker in workers:
        worker.requests(3, 0.05)
        worker.requests(1, 0.1, route="/b")
        worker.requests(1, 0.01, status=404, route=None)
        worker.gauge(c.DATABASE_UP, 1)
        worker.gauge(c.DATABASE_PING_DURATION, 0.002)
        worker.gauge(c.DATABASE_POOL_WAIT, 0)
        worker.gauge(c.DATABASE_ERROR, 0)
        worker.gauge(c.CPU_PRESSURE, 0.3, HOST)
        worker.gauge(c.MEMORY_PRESSURE, 0.5, HOST)
        worker.gauge(c.EVENT_LOOP_LAG, 0.001)
        worker.gauge(c.TELEMETRY_LOSS, 0)
        worker.gauge(c.CHECK_FAILING, 0, CACHE)
        worker.gauge(c.CHECK_FAILING, 0, QUEUE)


def database_breaks(now: int, workers: Sequence[Worker]) -> None:
    business_as_usual(workers)
    if 6 * MINUTES < now <= 10 * MINUTES:
        workers[0].gauge(c.DATABASE_UP, 0)
    # Above, between where it fires and where it resolves, below; between again does not fire.
    ping = {3: 1.5, 4: 0.9, 5: 0.9, 6: 0.5, 7: 0.9}.get(now // MINUTES, 0.002)
    workers[1].gauge(c.DATABASE_PING_DURATION, ping)
    workers[0].gauge(c.DATABASE_POOL_WAIT, 2.5 if 12 * MINUTES < now <= 15 * MINUTES else 0)
    # Too short to fire, then long enough.
    workers[1].gauge(c.DATABASE_ERROR, 1 if 0 < now - 16 * MINUTES <= 15 or 0 < now - 18 * MINUTES <= 240 else 0)


def checks_fail(now: int, workers: Sequence[Worker]) -> None:
    business_as_usual(workers)
    workers[0].gauge(c.CHECK_FAILING, 1 if 4 * MINUTES < now <= 7 * MINUTES else 0, QUEUE)
    workers[1].gauge(c.CHECK_FAILING, 1 if 5 * MINUTES < now <= 9 * MINUTES else 0, CACHE)


def errors_come_and_go(now: int, workers: Sequence[Worker]) -> None:
    business_as_usual(workers)
    if 8 * MINUTES < now <= 11 * MINUTES:
        for worker in workers:
            worker.requests(3, 0.02, status=500)
    elif (
        now > 11 * MINUTES and now % 30 == 0
    ):  # 4.8 % of the requests of both workers: no reason to begin, one to go on
        workers[0].requests(1, 0.02, status=503, route="/b")
    if now == 36 * MINUTES:
        workers[1].requests(12, 0.2, error="ValueError")
    if now > 30 * MINUTES:
        workers[0].requests(5, 0.02, error="ConnectionError")


def first_errors_of_their_kind(now: int, workers: Sequence[Worker]) -> None:
    """Series that begin with what matters: `increase` alone would see nothing of it."""
    if now > 2 * MINUTES:
        workers[0].requests(1, 0.05)
    if now == 10 * MINUTES:
        workers[0].requests(10, 0.05, status=500, route="/new")
        workers[0].requests(60, 0.01, status=401, route="/login")
        workers[0].requests(8, 6.0, route="/report")
        workers[0].count(c.BILLING_FAILURES)
    if now == 20 * MINUTES:
        workers[0].count(c.DELIVERY_FAILURES, 3)
        workers[0].count(c.BILLING_FAILURES)


def too_few_to_tell(now: int, workers: Sequence[Worker]) -> None:
    if now % MINUTES == 0:
        workers[0].requests(1, 0.05, status=500)
        workers[0].requests(1, 0.05)
    if now == 8 * MINUTES:
        workers[0].requests(4, 9.0, route="/slow")


def slow_endpoints(now: int, workers: Sequence[Worker]) -> None:
    business_as_usual(workers)
    if 5 * MINUTES < now <= 9 * MINUTES:
        workers[0].requests(3, 4.0, route="/b")
        workers[1].requests(2, 7.0, route=None)


def resources_run_short(now: int, workers: Sequence[Worker]) -> None:
    business_as_usual(workers)
    minute = now // MINUTES
    workers[0].gauge(c.CPU_PRESSURE, 0.95 if 300 < now <= 320 or 10 <= minute < 12 else 0.2, HOST)
    memory = {4: 0.9, 5: 0.9, 6: 0.78, 7: 0.78, 8: 0.7, 9: 0.7, 10: 0.78}.get(minute, 0.4)
    workers[1].gauge(c.MEMORY_PRESSURE, memory, HOST)
    workers[1].gauge(c.EVENT_LOOP_LAG, 3.0 if minute in (6, 7) else 0.001)


def exports_fail(now: int, workers: Sequence[Worker]) -> None:
    """Twice: for as long as an exporter may, then for longer."""
    business_as_usual(workers)
    begins, ends = (3 * MINUTES, 7 * MINUTES) if now <= 7 * MINUTES else (9 * MINUTES, 17 * MINUTES)
    workers[1].gauge(c.TELEMETRY_LOSS, now - begins if begins < now <= ends else 0)


def rejections(now: int, workers: Sequence[Worker]) -> None:
    business_as_usual(workers)
    workers[0].requests(1, 0.01, status=401, route="/login")
    if 10 * MINUTES < now <= 11 * MINUTES:
        workers[1].requests(15, 0.01, status=403, route="/login")
        workers[0].count(c.WRONG_TOKENS, 14)
    elif now % MINUTES == 0:
        workers[0].count(c.WRONG_TOKENS)


STORIES: dict[str, tuple[Story, int]] = {
    "database": (database_breaks, 24),
    "checks": (checks_fail, 12),
    "errors": (errors_come_and_go, 45),
    "first of their kind": (first_errors_of_their_kind, 30),
    "too few": (too_few_to_tell, 20),
    "slow": (slow_endpoints, 20),
    "resources": (resources_run_short, 18),
    "exports": (exports_fail, 22),
    "rejections": (rejections, 22),
}
WITHOUT_HISTOGRAMS = {"database", "checks", "resources", "exports"}
FIRING = 'group by (rule, endpoint, instance, scope, check) (ALERTS{alertstate="firing"})'


def test_prometheus_fires_when_we_do(tmp_path: Path) -> None:
    """One test, because everything is simulated once."""
    fleets = {name: Fleet(RULES, workers=2).run(story, minutes * MINUTES) for name, (story, minutes) in STORIES.items()}
    _assert_every_rule_is_compared(fleets.values())
    for histograms in get_args(Histograms):
        folder = tmp_path / histograms
        folder.mkdir()
        (folder / "rules.yaml").write_text(prometheus(RULES, ExportOptions(histograms=histograms)))
        stories = STORIES.keys() - (WITHOUT_HISTOGRAMS if histograms == "classic" else set())
        tests = [_test(name, fleets[name], histograms) for name in sorted(stories)]
        (folder / "test.yaml").write_text(  # JSON is YAML, and written at once
            json.dumps({"rule_files": ["rules.yaml"], "evaluation_interval": f"{STEP}s", "tests": tests})
        )
    outcome = promtool("test", "rules", *(str(file) for file in sorted(tmp_path.glob("*/test.yaml"))))
    assert outcome.returncode == 0, (outcome.stdout + outcome.stderr)[-6000:]


def test_what_prometheus_says(tmp_path: Path) -> None:
    """Labels and annotations, templates filled in; and the committed file passes promtool's own checks."""
    checked = promtool(
        "check", "rules", "--lint=all", "--lint-fatal", str(ROOT / "collector-config/prometheus/rules.yaml")
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    (tmp_path / "rules.yaml").write_text(prometheus(RULES, ExportOptions(histograms="classic")))
    labels = 'job="shop/orders",instance="a",deployment_environment_name="test"'
    name = "http_server_request_duration_seconds"
    series = [
        {"series": f'{name}_bucket{{{labels},le="{bound}"}}', "values": values}
        for bound, values in (("2.5", "0x10"), ("5.0", "0+4x10"), ("+Inf", "0+4x10"))
    ]
    alert = {
        "exp_labels": {
            "alert_type": "api_timeout",
            "severity": "warning",
            "rule": "api_timeout",
            "service": "orders",
            "environment": "test",
            "endpoint": "(unmatched)",
            "job": "shop/orders",
            "deployment_environment_name": "test",
        },
        "exp_annotations": {
            "summary": "Slow API response: (unmatched) (4875.00ms)",
            "value": "4875",
            "threshold": "2000",
        },
    }
    test = {
        "interval": "30s",
        "input_series": [*series, {"series": f"{name}_count{{{labels}}}", "values": "0+4x10"}],
        "alert_rule_test": [{"eval_time": "4m", "alertname": "API_TIMEOUT", "exp_alerts": [alert]}],
    }
    (tmp_path / "test.yaml").write_text(
        json.dumps({"rule_files": ["rules.yaml"], "evaluation_interval": "30s", "tests": [test]})
    )
    outcome = promtool("test", "rules", str(tmp_path / "test.yaml"))
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_no_data_fires_where_a_rule_says_so(tmp_path: Path) -> None:
    rule = Rule("heartbeat", Gauge("heartbeat"), "<", 1, no_data=NoData.FIRE)
    (tmp_path / "rules.yaml").write_text(prometheus([rule]))
    up = 'target_info{job="orders",deployment_environment_name="test"}'
    test = {
        "interval": "1m",
        "input_series": [
            {"series": up, "values": "1x200"},
            {"series": 'heartbeat{job="orders",deployment_environment_name="test"}', "values": "1x10 _x20 1x10 0x5"},
        ],
        "promql_expr_test": [
            {"expr": "count(ALERTS)", "eval_time": time, "exp_samples": [{"value": 1}] if fires else []}
            for time, fires in (("5m", False), ("25m", True), ("35m", False), ("43m", True))
        ],
    }
    (tmp_path / "test.yaml").write_text(json.dumps({"rule_files": ["rules.yaml"], "tests": [test]}))
    outcome = promtool("test", "rules", str(tmp_path / "test.yaml"))
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def _assert_every_rule_is_compared(fleets: Iterable[Fleet]) -> None:
    """Each rule, both firing and quiet."""
    compared = [fleet.firing[second // STEP] for fleet in fleets for second in fleet.settled(MARGIN)]
    seen = Counter(name for firing in compared for name in {name for name, _ in firing})
    assert seen.keys() == {rule.name for rule in RULES}
    assert all(0 < times < len(compared) for times in seen.values())
    assert len(compared) > 100


def _test(name: str, fleet: Fleet, histograms: str) -> dict[str, Any]:
    """Every 45 seconds: exactly the alerts that fire here."""
    return {
        "name": name,
        "interval": f"{STEP}s",
        "input_series": fleet.series(histograms),
        "promql_expr_test": [
            {
                "expr": FIRING,
                "eval_time": f"{second}s",
                "exp_samples": [
                    {"labels": _labels({"rule": rule, **dict(labels)}), "value": 1}
                    for rule, labels in fleet.firing[second // STEP]
                ],
            }
            for second in fleet.settled(MARGIN)
        ],
    }


def _labels(labels: dict[str, str]) -> str:
    return "{" + ", ".join(f'{key}="{value}"' for key, value in labels.items()) + "}"
