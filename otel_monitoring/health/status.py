"""The status rules, and the documented answers assembled from what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from otel_monitoring.config.settings import Thresholds
from otel_monitoring.timestamps import rfc3339

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
        database_problem: What is wrong with it, where there is something to say.
        critical_failures: Names of critical checks that fail.
        failures: Names of other checks that fail.
        errors: Why checks fail, by name.
        troubles: Why what is known may be out of date.
        cpu_percent: The latest samples of what the service has a part in, oldest first.
        memory_percent: The same of memory.
        cpu_scope: Whose CPU: `host` or `container`; empty where that is not known.
        memory_scope: Whose memory.
        requests: Requests in the window.
        error_rate: Errors among them, in percent.
    """

    database: str | None = None
    database_problem: str | None = None
    critical_failures: Sequence[str] = ()
    failures: Sequence[str] = ()
    errors: Mapping[str, str] = field(default_factory=dict)
    troubles: Sequence[str] = ()
    cpu_percent: Sequence[float] = ()
    memory_percent: Sequence[float] = ()
    cpu_scope: str = ""
    memory_scope: str = ""
    requests: int = 0
    error_rate: float = 0.0


def status(facts: Facts, thresholds: Thresholds) -> tuple[str, list[str]]:
    """The status of the service and every reason for it, the fatal ones first.

    Database down or a critical check failing: unhealthy. Any other check failing, a database that is slow or answers
    with errors, CPU or memory above their thresholds for `MIN_SAMPLES`, an error rate above its threshold over
    `MIN_REQUESTS`, figures that are out of date: degraded. What is not known changes nothing.
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
