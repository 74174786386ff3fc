"""What the base configuration costs: spans through `base` + `backend-otlp` beside a bare otlp → otlp Collector.

Each round runs all, one after the other, with the same spans into the same receiver, until everything has left but what
may wait for more to fill a batch. CPU time a span is what throughput comes to where a core has nothing else to do, and
the same on a machine that has: it is judged, and what the clock says stands beside it.
"""

import gzip
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

import psutil
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from tests.benchmarks import collector_source
from tests.benchmarks.figures import paired
from tests.benchmarks.processes import Sink
from tests.benchmarks.report import Report, say
from tests.integration.builds import COLLECTOR
from tests.integration.collector import Collector, collecting
from tests.waiting import eventually

BARE = """
receivers: {otlp: {protocols: {http: {endpoint: "${env:OTELCOL_HOST}:${env:OTELCOL_HTTP_PORT}"}}}}
exporters: {otlp_http: {endpoint: "${env:OTLP_ENDPOINT}"}}
extensions: {health_check: {endpoint: "${env:OTELCOL_HOST}:${env:OTELCOL_HEALTH_PORT}"}}
service:
  extensions: [health_check]
  telemetry:
    metrics:
      readers:
        - pull:
            exporter:
              prometheus:
                host: ${env:OTELCOL_HOST}
                port: ${env:OTELCOL_METRICS_PORT}
  pipelines: {traces: {receivers: [otlp], exporters: [otlp_http]}}
"""
RECOMMENDED = {"GOMEMLIMIT": "410MiB", "GOGC": "400", "OTELCOL_FLUSH_TIMEOUT": "1s"}
"""As in .env.example."""
IN_MEMORY = {"OTELCOL_QUEUE_STORAGE": "null"}
"""What is given up then is in the README: a crash loses what waits."""
PARTIAL_BATCH = 2_000
"""More spans than `min_size` of the backends: fewer wait for `flush_timeout`, which says nothing about throughput."""
TUNED = """
exporters:
  otlp_http:
    compression_params: {level: 1}
    sending_queue:
      sizer: items
      queue_size: 500000
      batch: {sizer: bytes, min_size: 500000, max_size: 4000000, flush_timeout: 1s}
"""
UNREDACTED = "service: {pipelines: {traces/in: {processors: [memory_limiter]}}}"
SENDERS = 4
SERVICES = 2


@dataclass(frozen=True)
class Kind:
    """A configuration.

    Attributes:
        files: Of ours.
        own: Further ones, as text.
        environment: Variables besides the endpoint.
    """

    files: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


OURS = ("base", "backend-otlp")
KINDS = {
    "bare otlp → otlp": Kind(own=(BARE,)),
    "base + otlp": Kind(OURS, environment=RECOMMENDED),
    "base + otlp, queues in memory": Kind(OURS, environment={**RECOMMENDED, **IN_MEMORY}),
}
PARTS = {
    "bare, with our GOGC, compression and batches": Kind(own=(BARE, TUNED), environment=RECOMMENDED),
    "base + otlp, nothing redacted": Kind(OURS, (UNREDACTED,), RECOMMENDED),
    "base + otlp, nothing redacted, queues in memory": Kind(OURS, (UNREDACTED,), {**RECOMMENDED, **IN_MEMORY}),
}
"""What the difference consists of."""


@dataclass
class Measured:
    """Of one configuration, a value per round, in µs a span: elapsed, CPU of the Collector, CPU of the services."""

    elapsed: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    senders: list[float] = field(default_factory=list)

    @property
    def together(self) -> list[float]:
        """CPU of all that are measured."""
        return [sum(both) for both in zip(self.cpu, self.senders, strict=True)]


def run(report: Report, sink: Sink, rounds: int, batches: int, *, lean: bool) -> None:
    """Measure the configurations, with as much as they take and with what services send.

    Args:
        report: Where to print.
        sink: Receives what leaves.
        rounds: How often each is measured.
        batches: Requests of 512 spans in a round; services send a fifth of it.
        lean: Whether to leave out the configurations that are not judged.
    """
    report.section(
        "Collector",
        "Spans like the example service's, 512 in a request. Saturated: prepared requests over four connections, as "
        f"fast as they are acknowledged. Services: {SERVICES} processes that make and send them with the SDK. To bare: "
        "what it gets through, as its CPU time says and as the clock says.",
    )
    if not COLLECTOR.path.exists():
        report.leave_out("collector", "make collector")
        return
    saturated = _measured("saturated", KINDS if lean else {**KINDS, **PARTS}, sink, _prepared(batches), rounds)
    sending = dict(list(KINDS.items())[:2]) if lean else KINDS
    services = _measured("services", sending, sink, _services(batches // 10), 1 if lean else rounds)
    for name, figures in (("saturated", saturated), ("services", services)):
        report.table((name, "CPU µs a span", "to bare", "spans/s", "to bare"), _rows(figures))
    bare, disk, memory = (saturated[kind] for kind in KINDS)
    _figure(report, "collector.saturated", disk.cpu, bare.cpu)
    _figure(report, "collector.saturated.memory", memory.cpu, bare.cpu)
    bare, disk, *_ = services.values()
    _figure(report, "collector.services", disk.together, bare.together)


def _measured(name: str, kinds: Mapping[str, Kind], sink: Sink, send: "Send", rounds: int) -> dict[str, Measured]:
    figures = {kind: Measured() for kind in kinds}
    for number in range(rounds):
        say(f"Collector, {name}, round {number + 1} of {rounds}")
        for kind, measured in figures.items():
            _round(kinds[kind], sink, send, measured)
    return figures


def _rows(figures: Mapping[str, Measured]) -> list[tuple[str, ...]]:
    bare = next(iter(figures.values()))
    return [
        (
            kind,
            f"{median(measured.together):.1f}",
            f"{paired(bare.together, measured.together):.2f}",
            f"{1e6 / median(measured.elapsed):,.0f}",
            f"{paired(bare.elapsed, measured.elapsed):.2f}",
        )
        for kind, measured in figures.items()
    ]


def _figure(report: Report, key: str, ours: list[float], bare: list[float]) -> None:
    told, beside = (f"{median(values):.1f} µs a span" for values in (ours, bare))
    report.figure(key, paired(ours, bare), ours=told, peer=beside)


Send = Callable[[Collector], tuple[int, float]]
"""Sends everything to a Collector; how many spans that were, and the seconds of CPU of the services that sent them."""


def _round(kind: Kind, sink: Sink, send: Send, measured: Measured) -> None:
    with tempfile.TemporaryDirectory(prefix="otel-monitoring-bench-") as folder:
        own = [Path(folder) / f"own{number}.yaml" for number in range(len(kind.own))]
        for path, text in zip(own, kind.own, strict=True):
            path.write_text(text)
        environment = {"OTLP_ENDPOINT": sink.url, **kind.environment}
        with collecting(Path(folder), *kind.files, *map(str, own), **environment) as collector:
            assert collector.process is not None
            process = psutil.Process(collector.process.pid)
            used = _cpu(process)
            begin = time.perf_counter()
            sent, senders = send(collector)
            spans = sent - PARTIAL_BATCH
            eventually(lambda: collector.figure("otelcol_exporter_sent_spans") >= spans, "everything has left")
            measured.elapsed.append((time.perf_counter() - begin) / spans * 1e6)
            measured.cpu.append((_cpu(process) - used) / spans * 1e6)
            measured.senders.append(senders / sent * 1e6)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _prepared(batches: int) -> Send:
    collected = collector_source.Collected()
    maker = collector_source.tracer(collected)
    spans = [collector_source.batch(maker, collected) for _ in range(8)]
    requests = [gzip.compress(encode_spans(made).SerializeToString()) for made in spans]

    def send(collector: Collector) -> tuple[int, float]:
        shares = [range(first, batches, SENDERS) for first in range(SENDERS)]
        with ThreadPoolExecutor(SENDERS) as pool:
            list(pool.map(partial(_post, collector.http, requests), shares))
        return batches * collector_source.BATCH, 0.0

    return send


def _post(port: int, requests: list[bytes], numbers: Iterable[int]) -> None:
    """Send over one connection, each until it is acknowledged."""
    headers = {"content-type": "application/x-protobuf", "content-encoding": "gzip"}
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        for number in numbers:
            status = 503
            while status == 503:  # for now, says the Collector; a client tries again
                connection.request("POST", "/v1/traces", requests[number % len(requests)], headers)
                answer = connection.getresponse()
                answer.read()
                status = answer.status
                time.sleep(0.02 * (status == 503))
            assert status == 200


def _services(batches: int) -> Send:
    def send(collector: Collector) -> tuple[int, float]:
        command = [sys.executable, "-m", "tests.benchmarks.collector_source", collector.endpoint, str(batches)]
        services = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(SERVICES)]
        told = [service.communicate()[0] for service in services]
        assert [service.returncode for service in services] == [0] * SERVICES, "every batch is acknowledged"
        return SERVICES * batches * collector_source.BATCH, sum(map(float, told))

    return send
