"""A running OpenTelemetry Collector with files of `collector-config/`: a process of its own on free loopback ports."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import unavailable
from tests.integration.builds import COLLECTOR, PROMETHEUS, Program
from tests.ports import free_port
from tests.waiting import PATIENCE, eventually

CONFIG = COLLECTOR.folder
VARIABLES = {
    "OTLP_ENDPOINT": "http://127.0.0.1:1",
    "PROMETHEUS_OTLP_ENDPOINT": "http://127.0.0.1:1/api/v1/otlp",
    "PROMETHEUS_REMOTE_WRITE_ENDPOINT": "http://127.0.0.1:1/api/v1/write",
    "TEMPO_ENDPOINT": "http://127.0.0.1:1",
    "MIMIR_ENDPOINT": "http://127.0.0.1:1/otlp",
    "LOKI_ENDPOINT": "http://127.0.0.1:1/otlp",
    "GRAFANA_CLOUD_OTLP_ENDPOINT": "http://127.0.0.1:1/otlp",
    "GRAFANA_CLOUD_AUTH": "MTI6YWJj",
    "DD_API_KEY": "0123456789abcdef",
    "SIGNOZ_ENDPOINT": "http://127.0.0.1:1",
    "SIGNOZ_INGESTION_KEY": "secret-of-signoz",
    "ELASTIC_OTLP_ENDPOINT": "http://127.0.0.1:1",
    "ELASTIC_API_KEY": "c2VjcmV0",
    "NEW_RELIC_LICENSE_KEY": "secret-of-new-relic",
    "DASH0_ENDPOINT": "http://127.0.0.1:1",
    "DASH0_AUTH_TOKEN": "secret-of-dash0",
    "OTELCOL_TOKEN": "let-me-in",
    "OTELCOL_TLS_CERT_FILE": "server.pem",
    "OTELCOL_TLS_KEY_FILE": "server.key",
    "OTELCOL_TLS_CLIENT_CA_FILE": "ca.pem",
    "GATEWAY_ENDPOINTS": "127.0.0.1:1,127.0.0.1:2",
    "GATEWAY_DNS_NAME": "localhost",
}
"""The variables without a default, with values that only `validate` has use for."""


def built(program: Program) -> Path:
    """The executable of a program that has been built; how to get it, otherwise."""
    if not program.path.exists():
        unavailable(f"{program.name} is not built: python -m tests.integration.builds {program.name} (make collector)")
    return program.path


def otelcol() -> Path:
    return built(COLLECTOR)


def prometheus() -> Path:
    return built(PROMETHEUS)


def arguments(files: Sequence[str]) -> list[str]:
    """`--config` for each of the files of `collector-config/`, by name without suffix; a path is taken as it is."""
    paths = [name if "/" in name else str(CONFIG / f"{name}.yaml") for name in files]
    return [part for path in paths for part in ("--config", path)]


def validate(files: Sequence[str], **env: str) -> subprocess.CompletedProcess[str]:
    """`otelcol validate`, with nothing in the environment but `env`."""
    command = [str(otelcol()), "validate", *arguments(files)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False)


class Collector:
    """A Collector that can be stopped, killed and started again on the same ports, with the same queues.

    Args:
        directory: Its queues and its output go there.
        files: As in `arguments`.
        env: Further environment variables; batches leave after 50 ms unless they say otherwise.
    """

    def __init__(self, directory: Path, files: Sequence[str], **env: str) -> None:
        self.grpc, self.http, self.health, self.metrics = (free_port() for _ in range(4))
        self.endpoint = f"http://127.0.0.1:{self.http}"
        self.storage = directory / "storage"
        self._command = [str(otelcol()), *arguments(files)]
        self._log = directory / "collector.log"
        self._env = {
            "OTELCOL_HOST": "127.0.0.1",
            "OTELCOL_GRPC_PORT": str(self.grpc),
            "OTELCOL_HTTP_PORT": str(self.http),
            "OTELCOL_HEALTH_PORT": str(self.health),
            "OTELCOL_METRICS_PORT": str(self.metrics),
            "OTELCOL_STORAGE_DIR": str(self.storage),
            "OTELCOL_FLUSH_TIMEOUT": "50ms",
            **env,
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def start(self) -> "Collector":
        """Start it and wait until it says that it is ready."""
        with self._log.open("ab") as output:
            self.process = subprocess.Popen(
                self._command, env=self._env, stdout=output, stderr=output, start_new_session=True
            )
        eventually(self._ready, "the Collector is ready")
        return self

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end, as an orchestrator does, and wait for it."""
        self._end(signal.SIGTERM)

    def post(self, signal_name: str, message: Any, **headers: str) -> httpx.Response:
        """One OTLP request over HTTP, as protobuf."""
        content = message if isinstance(message, bytes) else message.SerializeToString()
        headers = {"content-type": "application/x-protobuf", **headers}
        url = f"{self.endpoint}/v1/{signal_name}"
        return httpx.post(url, content=content, headers=headers, timeout=PATIENCE, trust_env=False)

    def send(self, signal_name: str, message: Any) -> None:
        """As `post`; it must be acknowledged in full."""
        answer = self.post(signal_name, message)
        assert answer.status_code == 200, answer.content
        assert answer.content in (b"", b"\n\0"), "nothing was rejected"

    def figure(self, name: str, **labels: str) -> float:
        """The sum of one of its own metrics over all series with these labels."""
        text = httpx.get(f"http://127.0.0.1:{self.metrics}/metrics", timeout=PATIENCE, trust_env=False).text
        series = re.findall(rf"^{name}(?:_total)?(?:__\w+)?{{(.*)}} (\S+)$", text, re.MULTILINE)
        return sum(float(value) for found, value in series if all(f'{k}="{v}"' in found for k, v in labels.items()))

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.output[-3000:]
        try:
            return httpx.get(f"http://127.0.0.1:{self.health}/", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def _end(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, number)
            self.process.wait(PATIENCE)


@contextmanager
def collecting(directory: Path, *files: str, **env: str) -> Iterator[Collector]:
    """A running Collector; whatever happens, it ends with the block."""
    collector = Collector(directory, files, **env)
    try:
        yield collector.start()
    finally:
        collector.kill()
