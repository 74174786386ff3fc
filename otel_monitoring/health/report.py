"""The status rules, and the documented answers assembled from what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from otel_monitoring.config import Thresholds
from otel_monitoring.events import rfc3339

HEALTHY, DEGRADED, UNHEALTHY, UNKNOWN = "healthy", "degraded", "unhealthy", "unknown"

MIN_REQUESTS = 20
"""Below this many requests in the window an error rate says nothing about the service."""

MIN_SAMPLES = 3
"""CPU and memory degrade the service only after this many samples in a row above the threshold."""

HEALTH_JSON = "application/health+json"
_IETF_STATUS = {HEALTHY: "pass", DEGRADED: "warn", UNHEALTHY: "fail"}


@dataclass(frozen=True, slots=True)
class Facts:
    """What the status is decided on.

    Attributes:
        database: Status of the database: `healthy`, `degraded`, `unhealthy`, `unknown`; None without one.
        critical_failures: Names of critical checks that fail.
        failures: Names of other checks that fail.
        cpu_percent: The latest samples, oldest first.
        memory_percent: The latest samples, oldest first.
        requests: Requests in the window.
        error_rate: Errors among them, in percent.
    """

    database: str | None = None
    critical_failures: Sequence[str] = ()
    failures: Sequence[str] = ()
    cpu_percent: Sequence[float] = ()
    memory_percent: Sequence[float] = ()
    requests: int = 0
    error_rate: float = 0.0


def status(facts: Facts, thresholds: Thresholds) -> tuple[str, list[str]]:
    """The status of the service and the reasons for it.

    Database down or a critical check failing: unhealthy. Any other check failing, a slow database, CPU or memory above
    their thresholds for `MIN_SAMPLES`, an error rate above its threshold over `MIN_REQUESTS`: degraded. What is not
    known changes nothing.
    """
    fatal = [f"check {name} fails" for name in facts.critical_failures]
    if facts.database == UNHEALTHY:
        fatal.insert(0, "database is down")
    if fatal:
        return UNHEALTHY, fatal
    reasons = [f"check {name} fails" for name in facts.failures]
    if facts.database == DEGRADED:
        reasons.append("database is slow")
    if _stays_above(facts.cpu_percent, thresholds.cpu_percent):
        reasons.append(f"CPU above {thresholds.cpu_percent:g}%")
    if _stays_above(facts.memory_percent, thresholds.memory_percent):
        reasons.append(f"memory above {thresholds.memory_percent:g}%")
    if facts.requests >= MIN_REQUESTS and facts.error_rate > thresholds.error_rate_percent:
        reasons.append(f"error rate above {thresholds.error_rate_percent:g}%")
    return (DEGRADED, reasons) if reasons else (HEALTHY, [])


def _stays_above(samples: Sequence[float], threshold: float) -> bool:
    latest = samples[-MIN_SAMPLES:]
    return len(latest) == MIN_SAMPLES and all(value > threshold for value in latest)


def basic(service_status: str, *, now: float, uptime: float) -> dict[str, Any]:
    """The three public fields. `now` in Unix seconds, `uptime` in seconds."""
    return {"status": service_status, "timestamp": rfc3339(now), "uptime_seconds": int(uptime)}


def health_json(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What `basic` returned, in the form of draft-inadarei-api-health-check-06 (`application/health+json`)."""
    uptime = {
        "componentType": "system",
        "observedValue": answer["uptime_seconds"],
        "observedUnit": "s",
        "status": "pass",
        "time": answer["timestamp"],
    }
    return {"status": _IETF_STATUS.get(answer["status"], "pass"), "checks": {"uptime": [uptime]}}
