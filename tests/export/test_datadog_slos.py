import json
import re
from typing import Any

import pytest

from otel_monitoring.alerts import Count, FasterThan, Percent, Slo, Succeeded
from otel_monitoring.alerts.rules.budget import Objective
from otel_monitoring.alerts.rules.slo import tiers_of
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.export import ExportOptions, datadog, datadog_slos

AVAILABLE = Slo("orders", objective=99.9, per="endpoint", labels={"team": "shop"})
FAST = Slo("checkout", objective=99, good=FasterThan(0.5), window="7d")
PAID = Slo("payments", objective=99.5, good=Percent(Count("orders.paid"), Count("orders.placed")))
SLOS = (AVAILABLE, FAST, PAID)
RULES = [rule for slo in SLOS for rule in slo.rules()]
DURATION = "http.server.request.duration"


def queries(*slos: Slo, **options: Any) -> dict[str, dict[str, str]]:
    made = datadog_slos([rule for slo in slos for rule in slo.rules()], ExportOptions(**options))
    return {name: slo["query"] for name, slo in made.items()}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["orders", "checkout", "payments"])
def test_datadogs_own_client_takes_it(name: str) -> None:
    from datadog_api_client import ApiClient, Configuration
    from datadog_api_client.v1.model.service_level_objective_request import ServiceLevelObjectiveRequest

    made = datadog_slos(RULES)[name]
    assert made.keys() <= ServiceLevelObjectiveRequest.openapi_types.keys()
    client = ApiClient(Configuration())  # type: ignore[no-untyped-call]
    read = client.deserialize(json.dumps(made), (ServiceLevelObjectiveRequest,), True)
    assert isinstance(read, ServiceLevelObjectiveRequest)
    assert not read._unparsed


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("made", datadog(RULES), ids=[rule.name for rule in RULES])
def test_datadogs_own_client_takes_the_burn_monitors(made: dict[str, Any]) -> None:
    from datadog_api_client import ApiClient, Configuration
    from datadog_api_client.v1.model.monitor import Monitor

    client = ApiClient(Configuration())  # type: ignore[no-untyped-call]
    read = client.deserialize(json.dumps(made), (Monitor,), True)
    assert not read._unparsed
    assert not read.options._unparsed
    assert made["query"].endswith(f"> {made['options']['thresholds']['critical']:g}")


def test_good_events_are_the_numerator() -> None:
    by = "by {service,env}.as_count()"
    found = queries(*SLOS, service="shop/orders")
    failed = "service:orders AND error.type:* AND NOT error.type:connectionerror"
    whole = f"count:{DURATION}{{service:orders}} by {{service,env,http.route}}.as_count()"
    part = f"count:{DURATION}{{{failed}}} by {{service,env,http.route}}.as_count()"
    assert found["orders"] == {"numerator": f"{whole} - default_zero({part})", "denominator": whole}
    assert found["checkout"]["numerator"] == f"count(v: v<=0.5):{DURATION}{{service:orders}} {by}"
    assert found["payments"]["numerator"] == f"sum:orders.paid{{service:orders}} {by}"
    one = Slo("orders", objective=99, good=Succeeded(frozenset({500, 429})))
    assert "{http.response.status_code IN (429,500)}" in queries(one)["orders"]["numerator"]


def test_the_target_is_the_objective() -> None:
    made = datadog_slos(RULES)
    assert made["orders"]["thresholds"] == [{"timeframe": "30d", "target": 99.9}]
    assert made["checkout"]["thresholds"] == [{"timeframe": "7d", "target": 99.0}]
    assert made["orders"]["tags"] == ["managed_by:otel_monitoring", "slo:orders", "team:shop"]


BURN = re.compile(
    r'burn_rate\("SLO_ID"\)\.over\("(\d+)d"\)\.long_window\("(\d+)h"\)\.short_window\("(\d+)m"\) > ([\d.]+)'
)


@pytest.mark.parametrize("window", ["24h", "25h", "3d", "7d", "14d", "30d"])
@pytest.mark.parametrize("objective", [80, 99, 99.9])
def test_what_burns_steadily_alerts_in_datadog_by_the_same_rules(objective: float, window: str) -> None:
    """The limits are those of Datadog: SLOs of 7 and 30 days, long windows of 1 to 48 hours, burn rates below the most.

    https://docs.datadoghq.com/service_management/service_level_objectives/burn_rate/
    """
    slo = Slo("orders", objective=objective, window=window)
    tiers, monitors = tiers_of(Objective(objective, slo.seconds)), datadog(slo.rules())
    for tier, monitor in zip(tiers, monitors, strict=True):
        found = BURN.fullmatch(monitor["query"])
        assert found is not None
        days, hours, minutes, rate = int(found[1]), int(found[2]), int(found[3]), float(found[4])
        assert rate == tier.burn_rate <= 100 / (100 - objective)
        assert hours == min(max(1, round(tier.long / 3600)), 48)
        assert minutes * 12 == hours * 60
        assert days == (7 if slo.seconds <= 7 * 86_400 else 30)
        assert datadog_slos(slo.rules())["orders"]["thresholds"][0]["timeframe"] == f"{days}d"


def test_what_has_no_query_is_refused() -> None:
    class Other:
        words, by_endpoint = "all", True
        counts, bad_percent, total = Succeeded.counts, Succeeded.bad_percent, Succeeded.total

    with pytest.raises(ConfigurationError, match="good: orders: Other has no query"):
        queries(Slo("orders", objective=99, good=Other()))
