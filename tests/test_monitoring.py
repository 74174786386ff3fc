"""`MonitoringService` in process: whose providers are used, restarts, and what is asked before the start."""

import pytest
from fastapi import FastAPI
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_monitoring import MonitoringService
from otel_monitoring.monitoring import get_monitoring, set_monitoring

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other service, and no provider that another test of this process made global and that would be joined."""
    set_monitoring(None)
    monkeypatch.setattr("opentelemetry.metrics.get_meter_provider", NoOpMeterProvider)


async def test_stop_and_start_are_idempotent_and_counting_goes_on() -> None:
    monitoring = MonitoringService(None)
    await monitoring.stop()
    await monitoring.start()
    await monitoring.start()
    await monitoring.performance_metrics.record_request("/a", 0.1)
    assert (await monitoring.performance_metrics.get_summary())["requests_recorded"] == 1
    await monitoring.stop()
    await monitoring.stop()
    assert not monitoring.ready
    await monitoring.start()
    await monitoring.performance_metrics.record_request("/a", 0.1)
    assert (await monitoring.performance_metrics.get_summary())["requests_recorded"] == 2
    await monitoring.stop()


async def test_before_the_start_every_answer_exists() -> None:
    monitoring = MonitoringService(None)
    health = await monitoring.get_health_status()
    assert (health["status"], health["uptime_seconds"]) == ("healthy", 0)
    assert (await monitoring.get_detailed_diagnostics())["endpoints"] == {}
    assert not monitoring.ready


async def test_draining_makes_it_not_ready_and_leaves_it_running() -> None:
    monitoring = MonitoringService(None)
    await monitoring.start()
    assert monitoring.ready
    monitoring.drain()
    assert not monitoring.ready
    assert (await monitoring.get_health_status())["status"] == "healthy"
    await monitoring.stop()


async def test_services_of_one_process_do_not_count_each_others_requests() -> None:
    one, two = MonitoringService(None), MonitoringService(None)
    await one.start()
    await two.start()
    await one.performance_metrics.record_request("/a", 0.1)
    assert (await one.performance_metrics.get_summary())["requests_recorded"] == 1
    assert (await two.performance_metrics.get_summary())["requests_recorded"] == 0
    await one.stop()
    await two.stop()


def test_instrument_makes_it_the_processs_service() -> None:
    monitoring = MonitoringService(None).instrument(FastAPI())
    assert get_monitoring() is monitoring


async def test_a_meter_provider_chosen_for_the_application_is_read() -> None:
    pytest.importorskip("fastapi.telemetry", reason="this FastAPI has no telemetry of its own")
    import httpx

    reader = InMemoryMetricReader()
    chosen = MeterProvider([reader], shutdown_on_exit=False)
    app = FastAPI(telemetry={"meter_provider": chosen})

    @app.get("/a")
    async def a() -> str:
        return "a"

    monitoring = MonitoringService(None).instrument(app)
    await monitoring.start()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        await client.get("/a")
    summary = await monitoring.performance_metrics.get_summary()
    await monitoring.stop()
    assert summary["requests_recorded"] == 1
    data = reader.get_metrics_data()
    assert data is not None
    names = {m.name for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics}
    assert {"http.server.request.duration", "process.cpu.utilization"} <= names


async def test_without_metric_export_only_what_is_answered_is_measured() -> None:
    import httpx

    app = FastAPI()
    monitoring = MonitoringService(None).instrument(app)
    provider = monitoring._parts.telemetry.meter_provider
    assert isinstance(provider, MeterProvider)
    await monitoring.start()
    reader = InMemoryMetricReader()
    provider.add_metric_reader(reader)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        await client.get("/nowhere")
    data = reader.get_metrics_data()
    await monitoring.stop()
    assert data is not None
    names = {m.name for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics}
    assert "http.server.request.duration" in names
    assert "http.server.active_requests" not in names
