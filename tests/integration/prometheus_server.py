"""A running Prometheus 3 with `collector-config/prometheus/prometheus.yaml`, taking OTLP, as its users have it."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.integration.collector import CONFIG, prometheus
from tests.integration.processes import PATIENCE, eventually, free_port


class Prometheus:
    """Its HTTP API."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.otlp = f"{self.url}/api/v1/otlp"
        self.remote_write = f"{self.url}/api/v1/write"

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant vector, now."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=PATIENCE, trust_env=False)
        assert answer.status_code == 200, answer.text
        result: list[dict[str, Any]] = answer.json()["data"]["result"]
        return result

    def values(self, expression: str, label: str) -> dict[str, float]:
        """The value for each value of one label."""
        return {series["metric"].get(label, ""): float(series["value"][1]) for series in self.query(expression)}


@contextmanager
def prometheus_server(directory: Path, port: int | None = None) -> Iterator[Prometheus]:
    """Run it, its data and output in `directory`, on a free port or the one where it was expected before."""
    port = port or free_port()
    command = [
        str(prometheus()),
        f"--config.file={CONFIG / 'prometheus' / 'prometheus.yaml'}",
        f"--storage.tsdb.path={directory / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-otlp-receiver",
        "--web.enable-remote-write-receiver",
        "--enable-feature=native-histograms,exemplar-storage",
    ]
    log = directory / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    server = Prometheus(port)
    try:
        eventually(server.ready, f"Prometheus is ready, see {log}")
        yield server
    finally:
        process.kill()
        process.wait(PATIENCE)
