"""What every answer of a service of several processes must say, whichever of them gives it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from tests.waiting import PATIENCE, eventually

Get = Callable[[str], Any]
"""Asks a path below the prefix; the JSON of the answer."""

INSTANCE = {
    *("instance_id", "host", "pid", "version", "started_at", "uptime_seconds", "report_age_seconds", "leads", "status"),
    *("reasons", "requests_per_second", "requests_in_flight", "database", "checks", "event_loop", "system"),
}


def answers_are_the_services(
    get: Get, *, processes: int, hosts: set[str], sent: Mapping[str, int], database: str = "healthy"
) -> None:
    """Check each documented part of the answers, and that all answers have the same figures.

    Args:
        get: Asks any of the processes.
        processes: How many there are.
        hosts: Their hosts.
        sent: How many requests were sent to `/orders/{number}`, by class of status, and by method.
        database: The state of the database, as each of them sees it.
    """
    total = sum(count for key, count in sent.items() if key.endswith("xx"))
    answers = [get("/api/health/diagnostics") for _ in range(2 * processes)]
    for answer in answers:
        _figures(answer, total, sent)
    failed: list[AssertionError] = []

    def listed() -> bool:
        """A process that is late, on a busy machine, is not listed, or leads no more."""
        try:
            _processes(get("/api/health/diagnostics"), processes, hosts, database)
        except AssertionError as error:
            failed[:] = [error]
            return False
        return True

    for _ in range(processes):
        try:
            eventually(listed, "each process is listed")
        except AssertionError:
            raise failed[0] from None
    since = {answer["since"] for answer in answers}
    assert len(since) == 1, since
    detailed = get("/api/health/detailed")
    assert detailed.keys() <= answers[0].keys()
    assert detailed["service"].keys() == {"name", "version", "environment", "host"}
    alone = [get("/api/health/metrics?scope=instance") for _ in range(4 * processes)]
    assert {one["scope"] for one in alone} == {"instance"}
    assert max(one["requests_recorded"] for one in alone) < total


def _figures(answer: Mapping[str, Any], total: int, sent: Mapping[str, int]) -> None:
    assert answer["scope"] == "service"
    performance = answer["performance"]
    assert performance["requests_recorded"] == total
    assert performance["error_count"] == sent["5xx"]
    assert performance["client_error_count"] == sent["4xx"]
    assert 0 < performance["p50_response_time"] <= performance["p95_response_time"] <= performance["p99_response_time"]
    assert performance["requests_per_second"] > 0
    assert performance["requests_in_flight"] >= 0
    assert performance["last_error"] == "HTTP 503 (GET /orders/{number})"
    assert performance["window"]["requests_recorded"] <= total
    endpoint = answer["endpoints"]["/orders/{number}"]
    assert endpoint["call_count"] == total
    assert endpoint["statuses"] == {key: sent[key] for key in sent if key.endswith("xx") and sent[key]}
    assert endpoint["methods"] == {key: sent[key] for key in ("GET", "POST") if sent[key]}
    assert endpoint.keys() - {"window"} == endpoint["window"].keys()
    [counter] = answer["application"]["counters"]
    assert (counter["name"], counter["total"]) == ("orders.placed", total)


def _processes(answer: Mapping[str, Any], processes: int, hosts: set[str], database: str) -> None:
    listed = answer["instances"]
    assert len(listed) == len({(one["host"], one["pid"]) for one in listed}) == processes
    assert {one["host"] for one in listed} == hosts
    assert sum(one["leads"] for one in listed) == 1
    for one in listed:
        assert one.keys() >= INSTANCE
        assert (one["version"], one["database"]["status"]) == ("1.4.2", database)
        assert one["report_age_seconds"] <= 3
    assert sum(one["requests_per_second"] for one in listed) > 0
    system = answer["system"]
    for name in ("cpu_percent", "memory_mb"):
        assert 0 <= system[name] <= system["highest"][name]
        assert all(one["system"][name] is not None for one in listed)
    assert system["highest"]["memory_mb"] <= system["max_memory_mb"]
    gauges = [gauge for gauge in answer["application"]["gauges"] if gauge["name"] == "heat"]
    assert {gauge["instance_id"] for gauge in gauges} == {one["instance_id"] for one in listed}


def python_and_command_line_say_the_same(get: Get, url: str, total: int) -> None:
    """The Python API, which the application's `/python` asks, and `watch`, for a service at rest."""
    python = get("/python")
    assert python["summary"]["requests_recorded"] == total
    assert python["health"]["performance"]["requests_recorded"] == total
    assert python["diagnostics"]["endpoints"]["/orders/{number}"]["call_count"] == total
    arguments = [sys.executable, "-m", "otel_monitoring.cli", "watch", "--once", "--json", url]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=PATIENCE, env=environment)
    watched = {endpoint["route"]: endpoint["call_count"] for endpoint in json.loads(done.stdout)["endpoints"]}
    assert watched["/orders/{number}"] == total
