"""The status rules as a table, and the public forms of the answer."""

import pytest

from otel_monitoring.config.settings import Thresholds
from otel_monitoring.health.status import ServiceFacts, basic, health_json, status


@pytest.mark.parametrize(
    ("facts", "expected", "reasons"),
    [
        (ServiceFacts(), "healthy", []),
        (ServiceFacts(database="healthy"), "healthy", []),
        (ServiceFacts(database="unknown"), "healthy", []),
        (ServiceFacts(database="degraded"), "degraded", ["database is slow"]),
        (ServiceFacts(database="unhealthy"), "unhealthy", ["database is down"]),
        (ServiceFacts(critical_failures=["queue"]), "unhealthy", ["check queue fails"]),
        (ServiceFacts(failures=["cache"]), "degraded", ["check cache fails"]),
        (ServiceFacts(cpu_percent=[90, 90, 90]), "degraded", ["CPU above 80%"]),
        (ServiceFacts(cpu_percent=[90, 90]), "healthy", []),
        (ServiceFacts(cpu_percent=[90, 79, 90]), "healthy", []),
        (ServiceFacts(cpu_percent=[10, 90, 90, 90]), "degraded", ["CPU above 80%"]),
        (ServiceFacts(memory_percent=[80.0] * 3), "healthy", []),
        (ServiceFacts(memory_percent=[80.1] * 3), "degraded", ["memory above 80%"]),
        (ServiceFacts(requests=19, error_rate=100.0), "healthy", []),
        (ServiceFacts(requests=20, error_rate=5.0), "healthy", []),
        (ServiceFacts(requests=20, error_rate=5.1), "degraded", ["error rate above 5%"]),
        (
            ServiceFacts(
                database="unhealthy",
                critical_failures=["queue"],
                failures=["cache"],
                errors={"queue": "refused", "cache": "slow"},
            ),
            "unhealthy",
            ["database is down", "check queue fails: refused", "check cache fails: slow"],
        ),
        (
            ServiceFacts(database="degraded", database_problem="database: no free connection within 5 s"),
            "degraded",
            ["database: no free connection within 5 s"],
        ),
        (ServiceFacts(cpu_percent=[90] * 3, cpu_scope="container"), "degraded", ["CPU of the container above 80%"]),
        (ServiceFacts(troubles=["the background thread has ended"]), "degraded", ["the background thread has ended"]),
    ],
)
def test_status_rules(facts: ServiceFacts, expected: str, reasons: list[str]) -> None:
    assert status(facts, Thresholds()) == (expected, reasons)


def test_the_public_answer_has_three_fields() -> None:
    answer = basic("degraded", now=1_700_000_000.5, uptime=3600.9)
    assert answer == {
        "status": "degraded",
        "timestamp": "2023-11-14T22:13:20.500+00:00",
        "uptime_seconds": 3600,
    }
    form = health_json(answer)
    assert form["status"] == "warn"
    assert form["checks"]["uptime"][0]["observedValue"] == 3600
