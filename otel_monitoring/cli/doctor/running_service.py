"""Check: a running service: its health with the reasons, its privacy, and failures of its monitoring."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from otel_monitoring.cli.client import DeniedError, ServiceClient, UnreachableError
from otel_monitoring.cli.doctor.findings import Examination, Finding, Level

_NAME = "service"
_STATUS: Final = {
    "healthy": (Level.OK, ""),
    "degraded": (Level.WARNING, ": it does its work (200), and something needs attention"),
    "unhealthy": (Level.FAILED, ": it cannot do its work, and load balancers are told so (503)"),
}
_REASONS: Final = (
    (
        "database is down",
        "MongoDB was asked and does not answer: is it running, and reachable from where the service is?",
    ),
    (
        "database",
        "MongoDB answers, but late, with errors, or all connections of the pool are taken: look at its log and load",
    ),
    ("check ", "this check is the application's own, add_check(...): what it looks at does not work"),
    (
        "CPU",
        "the threshold is OTEL_MONITORING_THRESHOLD_CPU_PERCENT: is there more load than usual, or too little CPU?",
    ),
    (
        "memory",
        "the threshold is OTEL_MONITORING_THRESHOLD_MEMORY_PERCENT: does it grow for ever, or is the limit too low?",
    ),
)


def running_service(examination: Examination) -> Iterator[Finding]:
    """The service's health and the reasons for it, who may read the details, and which monitoring has failed."""
    service = examination.service
    if service is None:
        yield Finding(_NAME, Level.SKIPPED, "none named", "--url URL examines one that runs")
        return
    try:
        health = service.get("/health")
        if health is None and service.get("/health/live") is None:
            advice = "the prefix is what OTEL_MONITORING_PREFIX is where the service runs, /api if it is not set"
            yield Finding(_NAME, Level.FAILED, f"{service.url}: {service.nothing_found('/health')}", advice)
            return
        if service.moved:
            yield Finding(_NAME, Level.OK, service.moved)
        yield from _health(service, str(health.body.get("status")) if health is not None else None)
        yield from _privacy(service)
    except DeniedError as error:
        yield Finding(_NAME, Level.FAILED, f"{service.url}: {error}", "something before the service wants a login")
    except UnreachableError as error:
        yield Finding(_NAME, Level.FAILED, f"{service.url}: {error}", "is it running and reachable from here?")


def _health(service: ServiceClient, status: str | None) -> Iterator[Finding]:
    diagnostics, denied = _diagnostics(service)
    if status is None:
        advice = "ours are beside it: /health/live, /health/ready and, with the admin token, /health/detailed"
        yield Finding(_NAME, Level.WARNING, f"{service.url}/health is the application's own", advice)
        status = str(diagnostics.get("status")) if diagnostics is not None else None
    level = Level.WARNING
    if status is not None:
        level, meaning = _STATUS.get(status, (Level.FAILED, ": that is no status of ours"))
        advice = "with its admin token, --token or OTEL_MONITORING_ADMIN_TOKEN, the reasons stand here"
        needed = level is not Level.OK and diagnostics is None
        yield Finding(_NAME, level, f"{service.url} is {status}{meaning}", advice if needed else None)
    if denied is not None:
        yield Finding(_NAME, Level.WARNING, f"its details were not examined: {denied}", "pass its admin token: --token")
    if diagnostics is not None:
        yield from _reasons(diagnostics, level if level is not Level.OK else Level.WARNING)
        yield from _monitoring(diagnostics)


def _diagnostics(service: ServiceClient) -> tuple[dict[str, Any] | None, DeniedError | None]:
    try:
        answer = service.get("/health/diagnostics")
    except DeniedError as error:
        return None, error
    return (answer.body if answer is not None and isinstance(answer.body, dict) else None), None


def _reasons(diagnostics: dict[str, Any], level: Level) -> Iterator[Finding]:
    last_error = _block(diagnostics, "performance").get("last_error")
    for reason in _list(diagnostics.get("reasons")):
        advice = next((text for begin, text in _REASONS if reason.startswith(begin)), None)
        if reason.startswith("error rate"):
            advice = "of the latest requests; errors are answers with a 5xx status and unhandled exceptions"
            advice += f"; the last one: {last_error}" if last_error else ""
        yield Finding(_NAME, level, reason, advice or "/health/diagnostics has the figures behind it")


def _monitoring(diagnostics: dict[str, Any]) -> Iterator[Finding]:
    """Failures of the monitoring itself: exports, alert channels, the alert store, contained failures, broken seams."""
    telemetry = _block(diagnostics, "telemetry")
    for signal in telemetry:
        block = _block(telemetry, signal)
        if block.get("failures") or block.get("dropped"):
            message = f"{signal}: {block.get('failures')} exports failed, {block.get('dropped')} items were dropped"
            yield Finding(_NAME, Level.WARNING, message, str(block.get("last_error") or "see the Collector's log"))
    if _block(telemetry, "traces").get("provider") == "none":
        yield Finding(_NAME, Level.SKIPPED, "it records no spans, and carry() writes nothing into documents")
    alerting = _block(diagnostics, "alerting")
    channels = _block(alerting, "channels")
    for name in channels:
        channel = _block(channels, name)
        if channel.get("state", "ok") != "ok":
            message = f"alerts by {name} do not arrive: {channel.get('state')}, {channel.get('pending', 0)} wait"
            yield Finding(_NAME, Level.WARNING, message, str(channel.get("last_error") or "see the service's log"))
    if alerting.get("store_problem"):
        advice = "alert state is kept elsewhere meanwhile; OTEL_MONITORING_STATE_DIR names its directory"
        yield Finding(_NAME, Level.WARNING, str(alerting["store_problem"]), advice)
    failures = _block(_block(diagnostics, "worker"), "contained_failures")
    for what, count in failures.items():
        advice = "the application was not disturbed; the service's log has the reason: logger otel_monitoring"
        yield Finding(_NAME, Level.WARNING, f"monitoring failed at {what}, {count} times", advice)
    seams = diagnostics.get("seams")
    for seam in [one for one in seams if isinstance(one, dict)] if isinstance(seams, list) else ():
        message = (
            f"{seam.get('library')} {seam.get('version')} is built differently than expected: {seam.get('without')}"
        )
        advice = f"the application works; a newer otel-monitoring may know that version ({seam.get('error')})"
        yield Finding(_NAME, Level.WARNING, message, advice)


def _privacy(service: ServiceClient) -> Iterator[Finding]:
    try:
        service.without_token().get("/health/metrics")
    except DeniedError:
        yield Finding(_NAME, Level.OK, "strangers do not see the details")
    else:
        advice = "set OTEL_MONITORING_ADMIN_TOKEN, and OTEL_MONITORING_ACCESS=admin"
        yield Finding(_NAME, Level.WARNING, "everybody sees the details and may mute alerts", advice)


def _block(answer: dict[str, Any], key: str) -> dict[str, Any]:
    """An object in the answer, empty where the service's version of this package has none."""
    block = answer.get(key)
    return block if isinstance(block, dict) else {}


def _list(value: Any) -> Iterable[str]:
    return [str(one) for one in value] if isinstance(value, list) else []
