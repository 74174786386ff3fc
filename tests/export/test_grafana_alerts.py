import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import yaml

from otel_monitoring import semconv as c
from otel_monitoring.alerts import Gauge, NoData, Rule
from otel_monitoring.alerts.rules.defaults import default_rules
from otel_monitoring.config.settings import Thresholds
from otel_monitoring.export import ExportOptions, grafana
from otel_monitoring.export.grafana_alerts import grafana_alerts

RULES = default_rules(Thresholds())

# pkg/services/provisioning/alerting/rules_types.go of Grafana
RULE_FIELDS = {
    *("uid", "title", "condition", "data", "noDataState", "execErrState", "for", "keepFiringFor"),
    *("annotations", "labels", "isPaused"),
}
QUERY_FIELDS = {"refId", "relativeTimeRange", "datasourceUid", "model"}


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return grafana(RULES)


def rules(*given: Rule, **options: Any) -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(grafana_alerts(given, ExportOptions(**options)))["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def test_every_rule_is_one_that_grafana_provisions() -> None:
    found = rules(*RULES)
    titles = {rule["uid"]: rule["title"] for rule in found}
    assert list(titles) == [rule.name for rule in RULES]
    assert (titles["database_down"], titles["check_failed"]) == ("DATABASE_DOWN", "CHECK_FAILED")
    assert titles["critical_check_failed"] == "CHECK_FAILED (critical_check_failed)", "Grafana wants each title once"
    assert len({rule["uid"] for rule in found}) == len(RULES)
    for rule in found:
        assert rule.keys() <= RULE_FIELDS
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", rule["uid"])
        assert [query["refId"] for query in rule["data"]] == ["A", rule["condition"]]
        for query in rule["data"]:
            assert query.keys() <= QUERY_FIELDS
            assert query["model"]["datasource"]["uid"] == query["datasourceUid"]
        assert not any("$" in text for text in (*rule["labels"].values(), *rule["annotations"].values())), (
            "Grafana would look for a variable in its environment"
        )


def test_rules_of_two_services_are_two_rules() -> None:
    name = "a" * 50
    uids = {rules(RULES[0], service=service)[0]["uid"] for service in ("", "a", "b", "x/y", name, name + "b")}
    assert len(uids) == 6
    assert all(len(uid) <= 40 for uid in uids)


@pytest.mark.parametrize(
    ("comparison", "clear", "begins", "ends"),
    [(">", 4.0, "gt", "lte"), (">=", 4.0, "gte", "lt"), ("<", 6.0, "lt", "gte"), ("<=", 6.0, "lte", "gt")],
)
def test_hysteresis_is_a_recovery_threshold(comparison: Any, clear: float, begins: str, ends: str) -> None:
    rule = Rule("r", Gauge("g"), comparison, 5, clear=clear)
    (condition,) = rules(rule)[0]["data"][1]["model"]["conditions"]
    assert condition == {
        "evaluator": {"type": begins, "params": [5.0]},
        "unloadEvaluator": {"type": ends, "params": [clear]},
    }
    (condition,) = rules(replace(rule, clear=None))[0]["data"][1]["model"]["conditions"]
    assert "unloadEvaluator" not in condition


@pytest.mark.parametrize(
    ("no_data", "state"), [(NoData.RESOLVE, "OK"), (NoData.KEEP, "KeepLast"), (NoData.FIRE, "Alerting")]
)
def test_no_data_and_times_are_grafanas(no_data: NoData, state: str) -> None:
    (rule,) = rules(Rule("r", Gauge("g"), ">", 5, hold=30, keep_firing_for=120, no_data=no_data))
    assert (rule["noDataState"], rule["for"], rule["keepFiringFor"]) == (state, "30s", "2m")


def test_everything_refers_to_a_source_that_is_provisioned(files: dict[str, str]) -> None:
    sources = yaml.safe_load(files["grafana/provisioning/datasources/datasources.yaml"])["datasources"]
    uids = {source["uid"] for source in sources}
    assert len(uids) == len(sources) == 4
    assert len([source for source in sources if source.get("isDefault")]) == 1
    named = {uid for path in files if path.endswith(".json") for uid in datasource_uids(json.loads(files[path]))}
    alerting = yaml.safe_load(files["grafana/provisioning/alerting/rules.yaml"])
    linked = set(re.findall(r"datasourceUid: (\S+)", files["grafana/provisioning/datasources/datasources.yaml"]))
    assert named | linked | set(datasource_uids(alerting)) - {"__expr__"} == uids


def test_only_known_variables_are_taken_from_grafanas_environment(files: dict[str, str]) -> None:
    known = {"HEALTH_URL", "OTEL_MONITORING_ADMIN_TOKEN"}
    text = files["grafana/provisioning/datasources/datasources.yaml"].replace("$$", "")
    assert set(re.findall(r"\$(\w+)", text)) == known


@pytest.mark.parametrize("name", ["service", "health"])
def test_dashboards_are_complete(files: dict[str, str], name: str) -> None:
    dashboard = json.loads(files[f"grafana/dashboards/{name}.json"])
    panels = dashboard["panels"]
    rows = [panel["title"] for panel in panels if panel["type"] == "row"]
    documented = ["System Health", "Performance Metrics", "System Resources", "Database Health", "Recent Alerts"]
    assert [row for row in rows if row in documented] == documented
    assert len({panel["id"] for panel in panels}) == len(
        {panel["title"] for panel in panels if panel["type"] != "row"}
    ) + len(rows)
    assert all(panel.get("targets") for panel in panels if panel["type"] != "row")
    assert not list(overlapping([panel["gridPos"] for panel in panels]))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="grafana-foundation-sdk needs Python 3.11")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_dashboards_fit_the_schema(files: dict[str, str]) -> None:
    """Read with the types of Grafana's schema and written again, nothing is lost: it knows every field."""
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    written = json.loads(files["grafana/dashboards/service.json"])
    assert json.loads(JSONEncoder().encode(Dashboard.from_json(written))) == written


def test_panels_show_every_metric_we_emit_for_operators(files: dict[str, str]) -> None:
    text = files["grafana/dashboards/service.json"]
    shown = (
        *(c.HTTP_SERVER_REQUEST_DURATION, c.HTTP_SERVER_ACTIVE_REQUESTS, c.DB_CLIENT_OPERATION_DURATION),
        *(c.DB_CLIENT_CONNECTION_COUNT, c.DB_CLIENT_CONNECTION_MAX, c.DB_CLIENT_CONNECTION_WAIT_TIME),
        *(c.DB_CLIENT_CONNECTION_PENDING_REQUESTS, c.PROCESS_CPU_UTILIZATION, c.PROCESS_MEMORY_USAGE),
        *(c.SYSTEM_CPU_UTILIZATION, c.SYSTEM_MEMORY_UTILIZATION, c.EVENT_LOOP_LAG, c.GC_PAUSE_DURATION),
        *(c.DATABASE_UP, c.DATABASE_PING_DURATION, c.COLLECTION_DOCUMENTS, c.ALERTS, c.PROCESS_UPTIME),
    )
    assert [name for name in shown if c.prometheus_label(name) not in text] == []


def datasource_uids(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        source = content.get("datasource")
        if isinstance(source, dict):
            yield source["uid"]
        if isinstance(content.get("datasourceUid"), str):
            yield content["datasourceUid"]
        content = list(content.values())
    if isinstance(content, list):
        for item in content:
            yield from datasource_uids(item)


def overlapping(places: list[dict[str, int]]) -> Iterator[tuple[dict[str, int], dict[str, int]]]:
    for i, a in enumerate(places):
        for b in places[:i]:
            beside = a["x"] >= b["x"] + b["w"] or b["x"] >= a["x"] + a["w"]
            if not beside and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]:
                yield a, b
