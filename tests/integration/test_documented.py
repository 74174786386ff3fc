"""The documented integration, as it is written, but for its imports: no `instrument`, everything by hand."""

from pathlib import Path

import pytest

from tests.integration.processes import serving
from tests.integration.servers import nx27017
from tests.waiting import eventually

DOCUMENTED = """
import os, time
from datetime import datetime
from typing import Optional
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from pydantic import BaseModel
{client}

from otel_monitoring.monitoring import MonitoringService, get_monitoring, set_monitoring
from otel_monitoring.alerts import (
    AlertManager, AlertSeverity, AlertType, alert_database_down, alert_high_error_rate, alert_performance_issue,
    get_alert_manager, initialize_alerts, set_alert_manager,
)

app = FastAPI()
api_router = APIRouter(prefix="/api")
db = Client(os.environ["MONGODB_URI"])["earlybird"]

# Step 1
monitoring_service = MonitoringService(db, check_interval=30)
alert_manager = initialize_alerts()
set_monitoring(monitoring_service)
set_alert_manager(alert_manager)

@app.on_event("startup")
async def startup():
    await monitoring_service.start()
    print("Monitoring system started")

@app.on_event("shutdown")
async def shutdown():
    await monitoring_service.stop()
    print("Monitoring system stopped")

# Step 2
@api_router.get("/health")
async def health_check():
    monitor = get_monitoring()
    if monitor:
        return await monitor.get_health_status()
    return {{"status": "unknown"}}

@api_router.get("/health/metrics")
async def performance_metrics():
    monitor = get_monitoring()
    if monitor:
        summary = await monitor.performance_metrics.get_summary()
        return summary
    return {{}}

@api_router.get("/health/diagnostics")
async def system_diagnostics():
    monitor = get_monitoring()
    if monitor:
        return await monitor.get_detailed_diagnostics()
    return {{}}

@api_router.get("/alerts/summary")
async def alerts_summary():
    alert_mgr = get_alert_manager()
    if alert_mgr:
        return await alert_mgr.get_alert_summary()
    return {{}}

@api_router.get("/alerts/history")
async def alerts_history(limit: int = 100, alert_type: Optional[str] = None, severity: Optional[str] = None):
    alert_mgr = get_alert_manager()
    if alert_mgr:
        return await alert_mgr.get_alert_history(limit=limit, alert_type=alert_type, severity=severity)
    return []

# Step 3
@app.middleware("http")
async def record_metrics(request, call_next):
    start_time = time.time()

    try:
        response = await call_next(request)
        duration = time.time() - start_time

        monitor = get_monitoring()
        if monitor:
            endpoint = request.url.path
            await monitor.performance_metrics.record_request(
                endpoint=endpoint,
                duration=duration,
                status_code=response.status_code,
                error=None
            )

        return response

    except Exception as e:
        duration = time.time() - start_time
        monitor = get_monitoring()
        if monitor:
            endpoint = request.url.path
            await monitor.performance_metrics.record_request(
                endpoint=endpoint,
                duration=duration,
                status_code=500,
                error=str(e)
            )
        raise

class CreateOrderRequest(BaseModel):
    number: int

async def get_current_user():
    return {{"role": "admin"}}

# Usage example 1
@api_router.post("/orders/")
async def create_order(request: CreateOrderRequest, current_user: dict = Depends(get_current_user)):
    monitor = get_monitoring()
    if monitor:
        health = await monitor.get_health_status()
        if health["status"] == "unhealthy":
            raise HTTPException(status_code=503, detail="Service temporarily unavailable")
    result = db.orders.insert_one({{"number": request.number}})
    if hasattr(result, "__await__"):
        await result
    return {{"number": request.number}}

# Usage example 2
@api_router.post("/billing/")
async def generate_billing():
    alert_manager = get_alert_manager()

    try:
        raise RuntimeError("no provider")

    except Exception as e:
        if alert_manager:
            await alert_manager.send_alert(
                AlertType.BILLING_FAILURE,
                f"Billing generation failed: {{str(e)}}",
                AlertSeverity.CRITICAL,
                details={{
                    "error": str(e),
                    "timestamp": datetime.utcnow().isoformat()
                }}
            )
        raise

# Usage example 3
@api_router.post("/complex/")
async def complex_operation():
    monitor = get_monitoring()
    start_time = time.time()
    duration = time.time() - start_time
    if monitor:
        await monitor.performance_metrics.record_request(
            endpoint="/api/complex-op/",
            duration=duration,
            status_code=200
        )
    summary = await monitor.performance_metrics.get_summary()
    if summary["error_rate"] > 5:
        await alert_high_error_rate(
            summary["error_rate"],
            {{"endpoints": monitor.performance_metrics.endpoints}}
        )
    await alert_database_down({{"error": "sample"}})
    alert_manager.mute_alert_type(AlertType.HIGH_ERROR_RATE, 300)

app.include_router(api_router)
"""

CLIENTS = {
    "async": "from pymongo import AsyncMongoClient as Client",
    "sync": "from pymongo import MongoClient as Client",
}


@pytest.mark.parametrize("kind", CLIENTS)
def test_the_documented_integration_works_as_written(tmp_path: Path, kind: str) -> None:
    with (
        nx27017() as database,
        serving(
            tmp_path,
            DOCUMENTED.format(client=CLIENTS[kind]),
            ready="/api/health",
            MONGODB_URI=database.uri,
            OTEL_MONITORING_SAMPLE_INTERVAL="0.2",
        ) as service,
    ):
        for number in range(3):
            assert service.client.post("/api/orders/", json={"number": number}).status_code == 200
        assert service.client.post("/api/billing/").status_code == 500
        assert service.client.post("/api/complex/").status_code == 200
        health = service.get("/api/health").json()
        assert health["status"] in ("healthy", "degraded")
        assert {"timestamp", "uptime_seconds", "database", "system", "performance"} <= health.keys()
        assert health["database"]["response_time_ms"] > 0
        expected = {"/api/orders/": 3, "/api/billing/": 1, "/api/complex-op/": 1}
        eventually(lambda: service.calls(5).items() >= expected.items(), "all calls are counted, each once")
        assert service.diagnostics()["endpoints"]["/api/billing/"]["error_count"] == 1
        assert service.get("/api/health/metrics").json()["last_error"] == "no provider"
        summary = service.get("/api/alerts/summary").json()
        assert summary["alerts_by_type"]["billing_failure"] == 1
        assert summary["alerts_by_type"]["database_down"] == 1
        assert "high_error_rate" in summary["muted_alerts"]
        history = service.get("/api/alerts/history", params={"alert_type": "billing_failure"}).json()
        assert [alert["message"] for alert in history] == ["Billing generation failed: no provider"]
        eventually(
            lambda: service.get("/api/health").json()["database"]["collections"] is not None, "collections are listed"
        )
        output = service.stop()
        assert "Monitoring system started" in output
        assert "Monitoring system stopped" in output
