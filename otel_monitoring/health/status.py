"""`status`: the rules for the status of the service; `basic` and `health_json`: the public answers."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from otel_monitoring.config.settings import Thresholds
from otel_monitoring.timestamps import rfc3339

HEALTHY, DEGRADED, UNHEALTHY, UNKNOWN = "healthy", "degraded", "unhealthy", "unknown"

MIN_REQUESTS = 20
"""Minimum number of requests in the window for which the error rate is evaluated."""

MIN_SAMPLES = 3
"""Number of samples in a row above the threshold with which CPU or memory degrade the service."""

HEALTH_JSON = "application/health+json"
_IETF_STATUS = {HEALTHY: "pass", DEGRADED: "warn", UNHEALTHY: "fail"}


class ServiceFacts(NamedTuple):
    """The facts from which the status follows.

    Attributes:
        database: Status of the database: `healthy`, `degraded`, `unhealthy`, `unknown`; None: there is no database.
        database_problem: Why the database is degraded; None if it is not.
        critical_failures: Names of failing critical checks.
        failures: Names of other failing checks.
        errors: The redacted error of each failing check, by name.
        troubles: Why the figures may be out of date.
        cpu_percent: The latest samples of CPU in use (0 to 100; 0 if this service has no part in it), oldest first.
        memory_percent: The latest samples of memory in use, likewise.
        cpu_scope: Whose CPU it is: `host` or `container`; empty if unknown.
        memory_scope: Whose memory it is, likewise.
        requests: Number of requests in the window.
        error_rate: Share of errors among them, in percent.
    """

    database: str | None = None
    database_problem: str | None = None
    critical_failures: Sequence[str] = ()
    failures: Sequence[str] = ()
    errors: Mapping[str, str] = {}
    troubles: Sequence[str] = ()
    cpu_percent: Sequence[float] = ()
    memory_percent: Sequence[float] = ()
    cpu_scope: str = ""
    memory_scope: str = ""
    requests: int = 0
    error_rate: float = 0.0


def status(facts: ServiceFacts, thresholds: Thresholds) -> tuple[str, list[str]]:
    """The status of the service and the reasons for it; those that make it unhealthy come first.

    Unhealthy: the database is down, or a critical check fails. Degraded: another check fails, the database is degraded,
    CPU or memory is above its threshold in the last `MIN_SAMPLES` samples, the error rate is above its threshold with
    at least `MIN_REQUESTS` requests, or figures are out of date. Unknown facts change nothing.
    """
    fatal = [_failing(name, facts.errors) for name in facts.critical_failures]
    if facts.database == UNHEALTHY:
        fatal.insert(0, "database is down")
    reasons = [_failing(name, facts.errors) for name in facts.failures]
    if facts.database == DEGRADED:
        reasons.append(facts.database_problem or "database is slow")
    if _stays_above(facts.cpu_percent, thresholds.cpu_percent):
        reasons.append(f"CPU{_of(facts.cpu_scope)} above {thresholds.cpu_percent:g}%")
    if _stays_above(facts.memory_percent, thresholds.memory_percent):
        reasons.append(f"memory{_of(facts.memory_scope)} above {thresholds.memory_percent:g}%")
    if facts.requests >= MIN_REQUESTS and facts.error_rate > thresholds.error_rate_percent:
        reasons.append(f"error rate above {thresholds.error_rate_percent:g}%")
    reasons.extend(facts.troubles)
    return (UNHEALTHY if fatal else DEGRADED if reasons else HEALTHY), fatal + reasons


def _failing(name: str, errors: Mapping[str, str]) -> str:
    return f"check {name} fails: {errors[name]}" if errors.get(name) else f"check {name} fails"


def _of(scope: str) -> str:
    return f" of the {scope}" if scope else ""


def _stays_above(samples: Sequence[float], threshold: float) -> bool:
    latest = samples[-MIN_SAMPLES:]
    return len(latest) == MIN_SAMPLES and all(value > threshold for value in latest)


def basic(service_status: str, *, now: float, uptime: float) -> dict[str, Any]:
    """The public answer: `status`, `timestamp` (RFC 3339, from `now` in Unix seconds), `uptime_seconds`."""
    return {"status": service_status, "timestamp": rfc3339(now), "uptime_seconds": int(uptime)}


def health_json(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of `basic` as `application/health+json` (draft-inadarei-api-health-check-06)."""
    uptime = {
        "componentType": "system",
        "observedValue": answer["uptime_seconds"],
        "observedUnit": "s",
        "status": "pass",
        "time": answer["timestamp"],
    }
    return {"status": _IETF_STATUS.get(answer["status"], "pass"), "checks": {"uptime": [uptime]}}
