"""A real Prometheus 3 for tests, with OTLP receiver, native histograms and exemplars; and promtool."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import unavailable
from tests.integration.builds import PROMETHEUS
from tests.integration.processes import PATIENCE, eventually, free_port

FEATURES = "native-histograms,exemplar-storage"


def executable(name: str) -> str:
    """`prometheus` or `promtool`, where they have been built."""
    if not PROMETHEUS.path.exists():
        unavailable("Prometheus is not built: python -m tests.integration.builds prometheus")
    return str(PROMETHEUS.path.with_name(name))


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [executable("promtool"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


class PrometheusServer:
    """A running server.

    Attributes:
        url: Its base URL.
    """

    def __init__(self, url: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.url = url
        self._process = process
        self._log = log
        self._client = httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The vector that an instant query answers; a query that is refused is an error."""
        found: list[dict[str, Any]] = self._ask("/api/v1/query", query=expression)["result"]
        return found

    def exemplars(self, expression: str, start: float, end: float) -> list[dict[str, Any]]:
        period = {"start": str(start), "end": str(end)}
        found: list[dict[str, Any]] = self._ask("/api/v1/query_exemplars", query=expression, **period)
        return found

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self._ask("/api/v1/rules")["groups"] for rule in group["rules"]]

    def label_values(self, label: str, match: str) -> list[str]:
        found: list[str] = self._ask(f"/api/v1/label/{label}/values", **{"match[]": match})
        return found

    def ready(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()[-3000:]
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def close(self) -> None:
        self._client.close()
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(PATIENCE)

    def _ask(self, path: str, **parameters: str) -> Any:
        answer = self._client.get(path, params=parameters).json()
        assert answer["status"] == "success", f"{parameters}: {answer.get('error')}"
        return answer["data"]


@contextmanager
def prometheus_server(directory: Path, config: str) -> Iterator[PrometheusServer]:
    """Run one with `config` as its configuration file; paths in it are relative to `directory`."""
    program = executable("prometheus")
    (directory / "prometheus.yaml").write_text(config)
    port, log = free_port(), directory / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={directory / 'prometheus.yaml'}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--web.enable-otlp-receiver",
                f"--enable-feature={FEATURES}",
            ],
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    server = PrometheusServer(f"http://127.0.0.1:{port}", process, log)
    try:
        eventually(server.ready, "Prometheus is ready")
        yield server
    finally:
        server.close()
