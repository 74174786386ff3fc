import json
import re
from dataclasses import replace
from typing import Any

import pytest

from otel_monitoring.alerts import Count, Gauge, NoData, Quantile, Rule, error_rate
from otel_monitoring.alerts.rules.defaults import default_rules
from otel_monitoring.config.settings import Thresholds
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.export import ExportOptions, datadog

RULES = default_rules(Thresholds())
MONITORS = datadog(RULES)


def monitor(rule: Rule, **options: Any) -> dict[str, Any]:
    (made,) = datadog([rule], ExportOptions(**options))
    return made


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("made", MONITORS, ids=[rule.name for rule in RULES])
def test_datadogs_own_client_takes_it(made: dict[str, Any]) -> None:
    from datadog_api_client import ApiClient, Configuration
    from datadog_api_client.v1.model.monitor import Monitor
    from datadog_api_client.v1.model.monitor_options import MonitorOptions
    from datadog_api_client.v1.model.monitor_thresholds import MonitorThresholds

    # It keeps fields it does not know, and marks as unparsed what has a value it does not know.
    assert made.keys() <= Monitor.openapi_types.keys()
    assert made["options"].keys() <= MonitorOptions.openapi_types.keys()
    assert made["options"]["thresholds"].keys() <= MonitorThresholds.openapi_types.keys()
    client = ApiClient(Configuration())  # type: ignore[no-untyped-call]
    read = client.deserialize(json.dumps(made), (Monitor,), True)
    assert isinstance(read, Monitor)
    assert not read._unparsed
    assert not read.options._unparsed


@pytest.mark.parametrize("made", MONITORS, ids=[rule.name for rule in RULES])
def test_critical_is_the_number_in_the_query(made: dict[str, Any]) -> None:
    assert float(re.split(r" (?:[<>]=?) ", made["query"])[-1]) == made["options"]["thresholds"]["critical"]


@pytest.mark.parametrize(
    ("rule", "query"),
    [
        (
            Rule("r", error_rate(), ">", 5),
            "sum(last_5m):100 * default_zero(count:http.server.request.duration{error.type:* AND NOT "
            "error.type:connectionerror} by {service,env}.as_count()) / "
            "count:http.server.request.duration{*} by {service,env}.as_count() > 5",
        ),
        (
            Rule("r", error_rate([500, 429]), ">", 5),
            "sum(last_5m):100 * default_zero(count:http.server.request.duration{http.response.status_code IN "
            "(429,500)} by {service,env}.as_count()) / "
            "count:http.server.request.duration{*} by {service,env}.as_count() > 5",
        ),
        (
            Rule("r", Quantile("job.duration", 0.95, scale=1000, group_by="job.kind"), ">", 2),
            "percentile(last_5m):1000 * p95:job.duration{*} by {service,env,job.kind} > 2",
        ),
        (
            Rule("r", Gauge("system.cpu.utilization", "1", scale=100), ">", 80, hold=90),
            "min(last_2m):100 * max:otel.system.cpu.utilization{*} by {service,env} > 80",
        ),
        (
            Rule("r", Gauge("up", over="min"), "<", 1, scope="instance"),
            "min(last_1m):min:up{*} by {service,env,service.instance.id} < 1",
        ),
        (
            Rule("r", Gauge("free"), "<=", 0.5, hold=60),
            "max(last_1m):max:free{*} by {service,env} <= 0.5",
        ),
    ],
)
def test_queries(rule: Rule, query: str) -> None:
    assert monitor(rule)["query"] == query


def test_thresholds_of_single_endpoints_select_them_as_datadog_stores_their_routes() -> None:
    """A tag is in lower case, without braces and blanks, and ends with no underscore."""
    limits = Thresholds(
        api_response_time_ms_by_endpoint={"/Orders/{id}": 50.0, "/a b/x": 5.0},
        error_rate_percent_by_endpoint={"/a": 1.0},
    )
    found = {rule.name: monitor(rule)["query"] for rule in default_rules(limits)}
    assert "{http.route NOT IN (/orders/_id,/a_b/x)}" in found["api_timeout"]
    assert "{http.route IN (/orders/_id)}" in found["api_timeout_orders_id"]
    failed = "error.type:* AND NOT error.type:connectionerror AND http.route IN (/a)"
    assert f"{{{failed}}}" in found["high_error_rate_a"]


def test_one_service() -> None:
    query = monitor(Rule("r", Count("a.b"), ">", 0), service="shop/orders", window=90)["query"]
    assert query == "sum(last_2m):sum:a.b{service:orders} by {service,env}.as_count() > 0"


def test_what_datadog_cannot_do_is_said() -> None:
    rule = Rule("r", Gauge("g"), ">", 1, "{value:.2f} of {threshold}", min_samples=3, keep_firing_for=60)
    text = "{{value}} of 1\nNot part of this monitor: min_samples 3, keep_firing_for 1m."
    assert monitor(rule)["message"] == text


def test_no_data() -> None:
    rule = Rule("r", Gauge("g"), ">", 1)
    assert monitor(rule)["options"]["timeout_h"] == 1
    assert "timeout_h" not in monitor(replace(rule, no_data=NoData.KEEP))["options"]
    fires = monitor(replace(rule, no_data=NoData.FIRE))["options"]
    assert (fires["notify_no_data"], fires["no_data_timeframe"]) == (True, 10)


def test_an_expression_of_somebody_else_is_refused_by_name() -> None:
    class Other:
        metrics = frozenset(("m",))
        group_by = ""

        def readings(self, window: Any, *, above: float | None = None, known: Any = ()) -> list[Any]:
            return []

        def promql(self, dialect: Any) -> str:
            return "m"

    with pytest.raises(ConfigurationError, match="expression: odd: Other has no query for Datadog"):
        monitor(Rule("odd", Other(), ">", 1))
