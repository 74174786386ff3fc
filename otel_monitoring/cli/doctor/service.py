"""Does the service that runs already answer as it should?"""

from collections.abc import Iterator
from typing import Any

from otel_monitoring.cli.doctor.findings import Examination, Finding, Level
from otel_monitoring.cli.service import DeniedError, Service, UnreachableError

_NAME = "service"


def running_service(examination: Examination) -> Iterator[Finding]:
    """Its health, who may see the details, and whether its telemetry leaves."""
    service = examination.service
    if service is None:
        yield Finding(_NAME, Level.SKIPPED, "none named", "--url URL examines one that runs")
        return
    try:
        health = service.get("/health")
        if health is None or not isinstance(health.body, dict):
            yield Finding(_NAME, Level.FAILED, f"no monitoring endpoints at {service.url}", "is the prefix right?")
            return
        status = str(health.body.get("status"))
        level = {"healthy": Level.OK, "degraded": Level.WARNING}.get(status, Level.FAILED)
        yield Finding(_NAME, level, f"{service.url} is {status}", None if level is Level.OK else _look(service))
        yield from _details(service, examination.timeout)
    except UnreachableError as error:
        yield Finding(_NAME, Level.FAILED, f"{service.url}: {error}", "is it running and reachable from here?")


def _look(service: Service) -> str:
    return f"otel-monitoring watch {service.url} shows why"


def _details(service: Service, timeout: float) -> Iterator[Finding]:
    stranger = Service(service.url, timeout=timeout)
    try:
        stranger.get("/health/metrics")
    except DeniedError:
        yield Finding(_NAME, Level.OK, "strangers do not see the details")
    else:
        advice = "set OTEL_MONITORING_ADMIN_TOKEN, and OTEL_MONITORING_ACCESS=admin"
        yield Finding(_NAME, Level.WARNING, "everybody sees the details and may mute alerts", advice)
    finally:
        stranger.close()
    try:
        diagnostics = service.get("/health/diagnostics")
    except DeniedError as error:
        yield Finding(_NAME, Level.WARNING, f"its telemetry was not examined: {error}", "pass its admin token")
        return
    if diagnostics is not None:
        yield from _telemetry(diagnostics.body.get("telemetry", {}))


def _telemetry(telemetry: dict[str, Any]) -> Iterator[Finding]:
    for signal, block in telemetry.items():
        if block.get("failures") or block.get("dropped"):
            message = f"{signal}: {block.get('failures')} exports failed, {block.get('dropped')} items were dropped"
            yield Finding(_NAME, Level.WARNING, message, str(block.get("last_error") or "see the Collector's log"))
