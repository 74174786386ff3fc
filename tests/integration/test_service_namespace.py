"""A service in a namespace finds its own series, and not those of another one of its name: `job` has both."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.processes import serving
from tests.integration.prometheus_server import Prometheus, prometheus_server
from tests.integration.simulated_instances import Instance
from tests.integration.test_prometheus import SERVICE, SOURCE, traffic
from tests.integration.victoriametrics_server import victoriametrics_server
from tests.waiting import eventually

pytestmark = pytest.mark.integration

Engine = Callable[[Path], AbstractContextManager[Prometheus]]


@pytest.mark.parametrize("engine", [prometheus_server, victoriametrics_server])
def test_a_service_in_a_namespace_finds_its_own_series(tmp_path: Path, engine: Engine) -> None:
    with engine(tmp_path) as server:
        now = time.time()
        traffic(server, [Instance(f"sim-{i}", SERVICE, now - 3000, explicit=True) for i in range(10)])
        with serving(
            tmp_path,
            SOURCE,
            OTEL_SERVICE_NAME=SERVICE,
            OTEL_MONITORING_SERVICE_NAMESPACE="shop",
            OTEL_MONITORING_ENVIRONMENT="qa",
            OTEL_MONITORING_PROMETHEUS_URL=server.url,
            OTEL_MONITORING_SAMPLE_INTERVAL="1",
            OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=f"{server.otlp}/v1/metrics",
            OTEL_METRIC_EXPORT_INTERVAL="1000",
        ) as service:
            placed = 0

            def counted() -> Any:
                nonlocal placed
                service.client.post("/place").raise_for_status()
                placed += 1
                found = service.get("/api/health/metrics").raise_for_status().json()
                return found if found["scope"] == "service" and found["requests_recorded"] else None

            found = eventually(counted, "the engine answers for the service")
        # The engine extrapolates.
        assert 0 < found["requests_recorded"] <= 2 * placed, "the other service has had a thousand"
        assert server.label_values("job", 'process_uptime_seconds{deployment_environment_name="qa"}') == ["shop/orders"]
