"""A running VictoriaMetrics (single node), set up for this package as `docs/backends.md` says."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.builds import VICTORIAMETRICS
from tests.integration.collector import built
from tests.integration.prometheus_server import Prometheus
from tests.ports import free_port
from tests.waiting import PATIENCE, eventually

RELABELLING = """
- {source_labels: [service_name], target_label: job}
- {source_labels: [service_instance_id], target_label: instance}
"""
"""What Prometheus' OTLP receiver does by itself."""


class VictoriaMetrics(Prometheus):
    """Its HTTP API, that of Prometheus."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.otlp = f"{self.url}/opentelemetry"

    def ready(self) -> bool:
        return self.answers("/health")


@contextmanager
def victoriametrics_server(directory: Path) -> Iterator[VictoriaMetrics]:
    """Run it, its data and output in `directory`, on a free port."""
    port = free_port()
    (directory / "relabel.yaml").write_text(RELABELLING)
    command = [
        str(built(VICTORIAMETRICS)),
        f"-storageDataPath={directory / 'victoriametrics'}",
        f"-httpListenAddr=127.0.0.1:{port}",
        f"-relabelConfig={directory / 'relabel.yaml'}",
        "-opentelemetry.usePrometheusNaming",
        "-search.latencyOffset=0s",
    ]
    log = directory / "victoriametrics.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    server = VictoriaMetrics(port)
    try:
        eventually(server.ready, f"VictoriaMetrics is ready, see {log}")
        yield server
    finally:
        server.client.close()
        process.kill()
        process.wait(PATIENCE)
