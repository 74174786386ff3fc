"""The example service, instrumented as a user would, on a real database: a source of real telemetry for tests."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from examples.earlybird import processes, traffic
from examples.earlybird.visitors import Report
from tests.integration.servers import nx27017
from tests.ports import free_port
from tests.waiting import PATIENCE

_STAFF = "staff-of-the-test"
_ADMIN = "admin-of-the-test"


class EarlyBird:
    """A running EarlyBird API."""

    def __init__(self, part: processes.Part, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.part = part

    def serve(self, requests: int, seed: int = 1) -> Report:
        """Send it this many requests, the same for the same seed; what came back."""
        return asyncio.run(traffic.run(self.url, requests=requests, rate=None, seed=seed, staff_token=_STAFF))

    def diagnostics(self) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {_ADMIN}"}
        answer = httpx.get(
            f"{self.url}/api/health/diagnostics", headers=headers, timeout=PATIENCE, trust_env=False
        ).raise_for_status()
        content: dict[str, Any] = answer.json()
        return content


@contextmanager
def earlybird(directory: Path, endpoint: str, **env: str) -> Iterator[EarlyBird]:
    """Run it, exporting all signals to `endpoint` every half second; it flushes when the block ends."""
    port = free_port()
    with nx27017() as database:
        environment = {
            "MONGODB_URI": database.uri,
            "EARLYBIRD_STAFF_TOKEN": _STAFF,
            "OTEL_MONITORING_ADMIN_TOKEN": _ADMIN,
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_BSP_MAX_QUEUE_SIZE": "20000",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
            **env,
        }
        with processes.running(processes.api(port, directory, environment)) as part:
            processes.api_ready(part, f"http://127.0.0.1:{port}/api/health/ready")
            yield EarlyBird(part, port)
