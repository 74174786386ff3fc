"""A running VictoriaMetrics (single node), set up for this package as `docs/backends.md` says."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.builds import VICTORIAMETRICS
from tests.integration.collector import built
from tests.integration.prometheus_server import Prometheus, started
from tests.ports import free_port

RELABELLING = """
- {source_labels: [service_name], target_label: job}
- {source_labels: [service_namespace, service_name], separator: /, regex: (.+/.+), target_label: job}
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
    with started(VictoriaMetrics(port), command, directory / "victoriametrics.log") as server:
        yield server
