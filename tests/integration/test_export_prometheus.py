"""Dashboards and rules against a real Prometheus 3, fed by the example service under traffic."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from jsonata import Jsonata

from otel_monitoring.alerts.rules.defaults import default_rules
from otel_monitoring.config.settings import Thresholds
from otel_monitoring.export import ExportOptions, grafana, prometheus
from otel_monitoring.export.grafana_provisioning import HEALTH_UID, LOKI_UID, PROMETHEUS_UID
from tests.integration.collector import CONFIG as COMMITTED
from tests.integration.collector import collecting
from tests.integration.processes import Service, serving
from tests.integration.prometheus_server import Prometheus, prometheus_server
from tests.integration.servers import ROOT, nx27017
from tests.waiting import eventually

pytestmark = pytest.mark.integration

# Sensitive rules, so that something fires: the first rejected request.
RULES = default_rules(Thresholds(rejected_requests=0.01))
SERVICE = "EarlyBird Delivery Services"
# Customers. Nobody has the staff's token: some of what they ask is rejected.
TRAFFIC = (sys.executable, "-m", "examples.earlybird.traffic", "--seconds", "120", "--rate", "30")
SOURCE = "from examples.earlybird.app import app"


@dataclass
class Observed:
    """A service, and the Prometheus that has its metrics."""

    histograms: Literal["native", "classic"]
    prometheus: Prometheus
    service: Service
    started: float
    stop_traffic: Callable[[], None]

    def dashboard(self, name: str) -> dict[str, Any]:
        options = ExportOptions(histograms=self.histograms)
        made: dict[str, Any] = json.loads(grafana(RULES, options)[f"grafana/dashboards/{name}.json"])
        return made


@pytest.fixture(scope="module", params=["native", "classic"])
def observed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    """Native: by way of the Collector. Classic: straight into the OTLP receiver."""
    histograms: Literal["native", "classic"] = request.param
    started = time.time()
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp(histograms)
        (folder / "rules.yaml").write_text(prometheus(RULES, ExportOptions(histograms=histograms, interval=1)))
        server = stack.enter_context(prometheus_server(folder, config=configured(folder, nhcb=histograms == "native")))
        export: dict[str, Any] = {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{server.otlp}/v1/metrics"}
        if histograms == "native":
            collector = stack.enter_context(
                collecting(folder, "base", "backend-prometheus", PROMETHEUS_OTLP_ENDPOINT=server.otlp)
            )
            export = {
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
                "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "base2_exponential_bucket_histogram",
            }
        database = stack.enter_context(nx27017())
        service = stack.enter_context(
            serving(
                folder,
                SOURCE,
                MONGODB_URI=database.uri,
                PYTHONPATH=f"{folder}:{ROOT}",
                OTEL_METRIC_EXPORT_INTERVAL="1000",
                OTEL_MONITORING_ENVIRONMENT="test",
                OTEL_MONITORING_SAMPLE_INTERVAL="1",
                OTEL_MONITORING_CHECK_INTERVAL="1",
                OTEL_MONITORING_THRESHOLD_REJECTED_REQUESTS="0",
                **export,
            )
        )
        traffic = subprocess.Popen([*TRAFFIC, service.url], cwd=ROOT, stdout=subprocess.DEVNULL)
        stack.callback(traffic.wait)
        stack.callback(traffic.kill)
        eventually(lambda: firing(server), "an alert fires")
        yield Observed(histograms, server, service, started, traffic.kill)


def configured(folder: Path, *, nhcb: bool) -> Path:
    """The committed configuration, with the rules of `folder`, evaluated every second."""
    config = yaml.safe_load((COMMITTED / "prometheus/prometheus.yaml").read_text())
    config["global"]["evaluation_interval"] = "1s"
    config["otlp"]["convert_histograms_to_nhcb"] = nhcb
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    return folder / "prometheus.yaml"


def firing(server: Prometheus) -> list[dict[str, Any]]:
    return server.query('ALERTS{alertstate="firing",rule="security_alert"}')


def test_every_query_of_every_panel_returns_data(observed: Observed) -> None:
    asked = list(queries(observed.dashboard("service"), PROMETHEUS_UID))
    waiting = dict(asked)
    assert len(waiting) == len(asked) > 40, "titles are unique"

    def all_answered() -> bool:
        for title in [title for title, expression in waiting.items() if observed.prometheus.query(expression)]:
            del waiting[title]
        return not waiting

    try:
        eventually(all_answered, "every query returns data")
    except AssertionError:
        pytest.fail(f"no data: {json.dumps(waiting, indent=1)}")


def test_numbers_are_those_of_the_service(observed: Observed) -> None:
    asked = dict(queries(observed.dashboard("service"), PROMETHEUS_UID))

    def value(title: str) -> float:
        return float(observed.prometheus.query(asked[title])[0]["value"][1])

    def uptime() -> float:
        return float(observed.service.get("/api/health/detailed").raise_for_status().json()["uptime_seconds"])

    assert eventually(lambda: value("Workers A") == 1 or None, "the worker is counted")
    assert value("Connection A") == 1
    before, shown = uptime(), value("Uptime A")
    assert before - 20 <= shown <= uptime() + 20
    assert value("Status A") == 1, "an alert fires: degraded"
    assert value("Firing alerts A") >= 1
    assert 0 < value("Memory A") == pytest.approx(100 * value_of(observed, "system_memory_utilization_ratio"), abs=0.5)

    def labels(title: str, label: str) -> set[str]:
        return {row["metric"].get(label, "") for row in observed.prometheus.query(asked[title])}

    eventually(lambda: labels("Collections A", "db_collection_name") >= {"users", "orders"}, "both are counted")
    eventually(lambda: "/api/orders/{order_id}" in labels("Endpoints A", "http_route"), "the route is there")


def value_of(observed: Observed, metric: str) -> float:
    return float(observed.prometheus.query(f"max({metric})")[0]["value"][1])


def test_variables_find_service_environment_and_instance(observed: Observed) -> None:
    found = {}
    for variable in observed.dashboard("service")["templating"]["list"]:
        match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        assert match is not None
        found[variable["name"]] = observed.prometheus.label_values(match[2], filled(match[1]))
    assert found["service"] == [SERVICE]
    assert found["environment"] == ["test"]
    assert len(found["instance"]) == 1


def test_alert_in_prometheus_has_our_labels_and_our_message(observed: Observed) -> None:
    labels = firing(observed.prometheus)[0]["metric"]
    assert labels["alertname"] == "SECURITY_ALERT"
    assert labels["alert_type"] == "security_alert"
    assert (labels["severity"], labels["service"], labels["environment"]) == ("critical", SERVICE, "test")
    rules = observed.prometheus.rules()
    assert {rule["health"] for rule in rules} == {"ok"}, [rule.get("lastError") for rule in rules]
    (summary,) = [
        alert["annotations"]["summary"]
        for rule in rules
        for alert in rule.get("alerts", ())
        if alert["labels"]["rule"] == "security_alert"
    ]
    assert re.fullmatch(r"Unauthorized access: \d+ requests rejected with 401 or 403", summary)


@pytest.mark.parametrize("observed", ["native"], indirect=True)  # the other exports no traces
def test_exemplars_lead_to_traces(observed: Observed) -> None:
    expression = dict(queries(observed.dashboard("service"), PROMETHEUS_UID))["Response time C"]

    def traces() -> set[str]:
        series = observed.prometheus.exemplars(expression, observed.started, time.time() + 1)
        return {e["labels"]["trace_id"] for one in series for e in one["exemplars"] if "trace_id" in e["labels"]}

    assert all(re.fullmatch(r"[0-9a-f]{32}", trace) for trace in eventually(traces, "there are exemplars"))
    source = next(s for s in sources() if s["uid"] == PROMETHEUS_UID)
    assert source["jsonData"]["exemplarTraceIdDestinations"][0]["name"] == "trace_id"


def has_values(service: Service, target: dict[str, Any]) -> bool:
    """Whether each column has a value in some row of the answer."""
    variables = {"${__range_s}": "900", "${__to}": str(round(time.time() * 1000))}
    params = {
        param["key"]: variables.get(param["value"], param["value"]) for param in target["url_options"].get("params", ())
    }
    answer = service.get(target["url"], params=params).raise_for_status().json()
    rows = Jsonata(target["root_selector"]).evaluate(answer) if target["root_selector"] else answer
    found = rows if isinstance(rows, list) else [rows]
    return all(any(row[column["selector"]] is not None for row in found) for column in target["columns"])


def test_health_dashboard_finds_what_the_endpoints_answer(observed: Observed) -> None:
    for panel in observed.dashboard("health")["panels"]:
        for target in panel.get("targets", ()):
            eventually(lambda target=target: has_values(observed.service, target), f"{panel['title']} has values")  # type: ignore[misc]


def test_values_of_rules_are_those_we_evaluate(observed: Observed) -> None:
    """To the last request, once nothing happens any more; the last test, because of that."""
    observed.stop_traffic()

    def differences() -> dict[str, tuple[list[float], list[float]]]:
        ours = {rule["name"]: rule for rule in observed.service.get("/api/alerts/rules").raise_for_status().json()}
        both = {
            name: (
                [round(float(row["value"][1]), 4) for row in observed.prometheus.query(f"otel_monitoring:{name}")],
                [round(reading["value"], 4) for reading in ours[name]["values"]],
            )
            for name in ("database_down", "high_error_rate", "security_alert")
        }
        return {name: (theirs, mine) for name, (theirs, mine) in both.items() if not theirs or theirs != mine}

    try:
        eventually(lambda: not differences(), "both say the same")
    except AssertionError:
        pytest.fail(f"Prometheus and we: {differences()}")


def test_explicit_histograms_become_native_where_prometheus_converts_them(tmp_path: Path) -> None:
    """The exporter's default, without any setting of the service."""
    with (
        prometheus_server(tmp_path) as server,
        serving(
            tmp_path,
            "from fastapi import FastAPI\nfrom otel_monitoring import MonitoringService\n"
            "app = FastAPI(title='orders')\nMonitoringService(None).instrument(app)\n"
            "@app.get('/fast')\nasync def fast(): return {}\n",
            OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=f"{server.otlp}/v1/metrics",
            OTEL_METRIC_EXPORT_INTERVAL="500",
        ) as service,
    ):
        for _ in range(10):
            service.get("/fast")
        asked = dict(queries(json.loads(grafana(RULES)["grafana/dashboards/service.json"]), PROMETHEUS_UID))
        # Nothing grows any more.
        expression = re.sub(r"increase\((\w+{[^}]*})\[\w+\]\)", r"\1", asked["Response time C"])
        found = eventually(lambda: server.query(expression), "a quantile")
        assert 0 < float(found[0]["value"][1]) < 1


def queries(dashboard: dict[str, Any], source: str) -> Iterator[tuple[str, str]]:
    """Every query to one data source, by title of the panel and letter of the query, its variables filled in."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            if target["datasource"]["uid"] == source:
                yield f"{panel['title']} {target['refId']}", filled(target["expr"])
            else:
                assert target["datasource"]["uid"] in (LOKI_UID, HEALTH_UID)


def filled(expression: str) -> str:
    """With every value of every variable, and the intervals Grafana would choose."""
    values = {"__rate_interval": "15s", "__range": "1m", "service": ".*", "environment": ".*", "instance": ".*"}
    return re.sub(r"\$(\w+)", lambda match: values[match[1]], expression)


def sources() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(grafana(RULES)["grafana/provisioning/datasources/datasources.yaml"])[
        "datasources"
    ]
    return found
