"""promtool, and a running Prometheus 3 with `collector-config/prometheus/prometheus.yaml`, as its users have it."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tests.integration.collector import CONFIG, prometheus
from tests.ports import free_port
from tests.waiting import PATIENCE, eventually


class Prometheus:
    """Its HTTP API."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.otlp = f"{self.url}/api/v1/otlp"
        self.remote_write = f"{self.url}/api/v1/write"
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE, trust_env=False)

    def ready(self) -> bool:
        return self.answers("/-/ready")

    def answers(self, path: str) -> bool:
        try:
            return self.client.get(path).status_code == 200
        except httpx.TransportError:
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant vector, now."""
        result: list[dict[str, Any]] = self._ask("query", query=expression)["result"]
        return result

    def exemplars(self, expression: str, start: float, end: float) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("query_exemplars", query=expression, start=str(start), end=str(end))
        return found

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]

    def label_values(self, label: str, match: str) -> list[str]:
        found: list[str] = self._ask(f"label/{label}/values", **{"match[]": match})
        return found

    def values(self, expression: str, label: str) -> dict[str, float]:
        """The value for each value of one label."""
        return {series["metric"].get(label, ""): float(series["value"][1]) for series in self.query(expression)}

    def _ask(self, what: str, **parameters: str) -> Any:
        answer = self.client.get(f"/api/v1/{what}", params=parameters)
        assert answer.status_code == 200, f"{parameters}: {answer.text}"
        return answer.json()["data"]


P = TypeVar("P", bound=Prometheus)


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(prometheus().with_name("promtool")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


@contextmanager
def prometheus_server(
    directory: Path,
    port: int | None = None,
    *arguments: str,
    config: Path = CONFIG / "prometheus" / "prometheus.yaml",
) -> Iterator[Prometheus]:
    """Run it, its data and output in `directory`, on a free port or the one where it was expected before."""
    port = port or free_port()
    command = [
        str(prometheus()),
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-otlp-receiver",
        "--web.enable-remote-write-receiver",
        "--enable-feature=exemplar-storage",
        *arguments,
    ]
    with started(Prometheus(port), command, directory / "prometheus.log") as server:
        yield server


@contextmanager
def started(server: P, command: list[str], log: Path) -> Iterator[P]:
    """The process of a server, from when it is ready until it is killed; its output is in `log`."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        eventually(server.ready, f"{type(server).__name__} is ready, see {log}")
        yield server
    finally:
        server.client.close()
        process.kill()
        process.wait(PATIENCE)
