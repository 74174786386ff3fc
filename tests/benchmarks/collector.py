"""What the base configuration costs: spans through `base` + `backend-otlp` beside a bare otlp → otlp Collector.

Each round runs all, one after the other, with the same spans into the same receiver, until everything has left but what
may wait for more to fill a batch.
"""

import gzip
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
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
"""`min_size` of the backends: fewer wait for `flush_timeout`, which says nothing about throughput."""
SENDERS = 4
SERVICES = 2


KINDS: dict[str, dict[str, str] | None] = {
    "bare otlp → otlp": None,
    "base + otlp": RECOMMENDED,
    "base + otlp, queues in memory": {**RECOMMENDED, **IN_MEMORY},
}
"""By name the environment of our configuration; `None` is the bare one."""


@dataclass
class Measured:
    """Of one configuration, a value per round, in µs a span: elapsed, and CPU of the Collector."""

    elapsed: list[float]
    cpu: list[float]


def run(report: Report, sink: Sink, rounds: int, batches: int) -> None:
    """Measure both configurations, with as much as they take and with what services send."""
    report.section(
        "Collector",
        "Spans like the example service's, 512 in a request. Saturated: prepared requests over four connections, as "
        f"fast as they are acknowledged. Services: {SERVICES} processes that make and send them with the SDK.",
    )
    if not COLLECTOR.path.exists():
        report.leave_out("collector", "make collector")
        return
    for name, send, kinds in (
        ("saturated", _prepared(batches), tuple(KINDS)),
        ("services", _services(batches // 4), tuple(KINDS)[:2]),
    ):
        figures = {kind: Measured([], []) for kind in kinds}
        for number in range(rounds):
            say(f"Collector, {name}, round {number + 1} of {rounds}")
            for kind, measured in figures.items():
                _round(KINDS[kind], sink, send, measured)
        bare, *ours = figures.values()
        rows = [
            (kind, f"{1e6 / min(m.elapsed):,.0f}", f"{min(m.cpu):.1f}", f"{paired(bare.elapsed, m.elapsed):.2f}")
            for kind, m in figures.items()
        ]
        report.table((name, "spans/s", "CPU µs a span", "throughput to bare"), rows)
        for figure, measured in zip((f"collector.{name}", f"collector.{name}.memory"), ours, strict=False):
            # Saturated, CPU time is what bounds throughput, and what other processes on the machine do not change.
            mine, other = ((m.cpu if name == "saturated" else m.elapsed) for m in (measured, bare))
            told, theirs = (f"{median(values):.1f} µs a span" for values in (mine, other))
            report.figure(figure, paired(mine, other), ours=told, peer=theirs)


Send = Callable[[Collector], int]
"""Sends everything to a Collector; how many spans that were."""


def _round(ours: dict[str, str] | None, sink: Sink, send: Send, measured: Measured) -> None:
    with tempfile.TemporaryDirectory(prefix="otel-monitoring-bench-") as folder:
        bare = Path(folder) / "bare.yaml"
        bare.write_text(BARE)
        files = (str(bare),) if ours is None else ("base", "backend-otlp")
        environment = {"OTLP_ENDPOINT": sink.url, **(ours or {})}
        with collecting(Path(folder), *files, **environment) as collector:
            assert collector.process is not None
            process = psutil.Process(collector.process.pid)
            used = _cpu(process)
            begin = time.perf_counter()
            spans = send(collector) - PARTIAL_BATCH
            eventually(lambda: collector.figure("otelcol_exporter_sent_spans") >= spans, "everything has left")
            measured.elapsed.append((time.perf_counter() - begin) / spans * 1e6)
            measured.cpu.append((_cpu(process) - used) / spans * 1e6)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _prepared(batches: int) -> Send:
    collected = collector_source.Collected()
    maker = collector_source.tracer(collected)
    spans = [collector_source.batch(maker, collected) for _ in range(8)]
    requests = [gzip.compress(encode_spans(made).SerializeToString()) for made in spans]

    def send(collector: Collector) -> int:
        shares = [range(first, batches, SENDERS) for first in range(SENDERS)]
        with ThreadPoolExecutor(SENDERS) as pool:
            list(pool.map(partial(_post, collector.http, requests), shares))
        return batches * collector_source.BATCH

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
    def send(collector: Collector) -> int:
        command = [sys.executable, "-m", "tests.benchmarks.collector_source", collector.endpoint, str(batches)]
        services = [subprocess.Popen(command) for _ in range(SERVICES)]
        assert [service.wait() for service in services] == [0] * SERVICES, "every batch is acknowledged"
        return SERVICES * batches * collector_source.BATCH

    return send
