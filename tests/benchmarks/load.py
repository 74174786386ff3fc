"""The latency of a loaded service while what its monitoring depends on fails, beside the same service without."""

import asyncio
import contextlib
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import psutil
from pymongo import MongoClient

from tests.benchmarks.figures import exact_quantile, paired
from tests.benchmarks.processes import ROOT, Sink
from tests.benchmarks.report import Report, say
from tests.integration.servers import nx27017
from tests.ports import free_port

_CONNECTIONS = 4
_WAITING = 2
_WAITING_PAUSE = 0.05
_WARM_SECONDS = 1.0
_START_SECONDS = 30.0
_MILLI, _MICRO = 1e3, 1e6
_NO_DISK = "only root can mount a small disk"
# One request in twenty fails, so that an alert fires.
_ORDERS = [*(f"/orders/{number}" for number in range(19)), "/failing"]
_MENUS = [*(f"/menu/{number}" for number in range(19)), "/failing"]
Variables = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Round:
    """What a service did in one round.

    Attributes:
        latencies: Seconds that each answer took, sorted.
        cpu: Seconds of the service's CPU for each answer.
    """

    latencies: list[float]
    cpu: float

    @property
    def p50(self) -> float:
        """The median latency."""
        return exact_quantile(self.latencies, 0.5)

    @property
    def p99(self) -> float:
        """What one answer in a hundred exceeds."""
        return exact_quantile(self.latencies, 0.99)


Rounds = dict[str, list[Round]]
"""By the name of the load."""
_COLUMNS = ((_MICRO, attrgetter("cpu")), (_MILLI, attrgetter("p50")), (_MILLI, attrgetter("p99")))


@dataclass(frozen=True, slots=True)
class Load:
    """A service under load.

    Attributes:
        what: In words.
        beside: The load that is the same where nothing fails, or without the monitoring; None: there is none.
        environ: Settings of the service; values name what `Targets` has. None: those of another load's service.
        menus: Whether requests without a command are measured while others go on with commands, which may wait long.
    """

    what: str
    beside: str | None = "embedded"
    environ: Variables | None = field(default_factory=dict)
    menus: bool = False


_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_URI = "MONGODB_URI"
_MONITORED = {"MONITORED": "1"}
_MAIL = {
    "SMTP_SERVER": "127.0.0.1",
    "SMTP_PORT": "{hanging}",
    "SMTP_SECURITY": "none",
    "ALERT_EMAIL_FROM": "orders@example.com",
    "ALERT_EMAIL_TO": "ops@example.com",
}
LOADS = {
    "without": Load("without otel_monitoring", None),
    "embedded": Load("embedded default", "without", _MONITORED),
    "exporting": Load("traces, metrics and logs over OTLP", "without", {**_MONITORED, _ENDPOINT: "{collector}"}),
    "refused": Load("the Collector refuses", "exporting", {**_MONITORED, _ENDPOINT: "http://127.0.0.1:{refused}"}),
    "silent": Load("the Collector is silent", "exporting", {**_MONITORED, _ENDPOINT: "http://127.0.0.1:{silent}"}),
    "mail": Load("the SMTP server hangs", environ={**_MONITORED, **_MAIL}),
    "store": Load("the store is full", environ={**_MONITORED, "OTEL_MONITORING_STATE_DIR": "{full}"}),
    "menus": Load("requests without a command", None, None, menus=True),
    "database": Load(
        "the same, the database is dead", "menus", {**_MONITORED, _URI: "mongodb://127.0.0.1:{refused}"}, menus=True
    ),
}
_SERVICE_OF = {"menus": "embedded"}
"""Which service a load without one of its own asks."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What fails in a run, and what lives.

    Attributes:
        refused: A port where nobody listens.
        silent: A port where connections are neither accepted nor refused.
        hanging: A port where connections are accepted, and nothing is answered.
        full: A folder on a full disk; None where there can be none.
        collector: URL of what accepts telemetry.
        uri: Of the database.
    """

    refused: int
    silent: int
    hanging: int
    full: str | None
    collector: str
    uri: str

    def fill(self, environ: Variables) -> dict[str, str]:
        """The variables, with what they name."""
        return {name: value.format(**asdict(self)) for name, value in environ.items()}


class LoadedService:
    """A process of `loaded_service` under uvicorn."""

    def __init__(self, environ: Variables) -> None:
        self.port = free_port()
        self._folder = TemporaryDirectory(prefix="otel-monitoring-benchmark-")
        self._log = Path(self._folder.name) / "output.log"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "SMTP_", "ALERT_"))}
        state = {"OTEL_MONITORING_STATE_DIR": self._folder.name, "PYTHONHASHSEED": "0"}
        command = [sys.executable, "-m", "uvicorn", "--no-access-log", "--port", str(self.port)]
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [*command, "tests.benchmarks.loaded_service:app"],
                cwd=ROOT,
                env={**kept, **state, **environ},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    async def ready(self) -> None:
        """Wait until it accepts connections."""
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                return
            await asyncio.sleep(0.05)
        raise TimeoutError(self._log.read_text(errors="replace"))

    def cpu(self) -> float:
        """Seconds of CPU, of all threads, so far."""
        times = psutil.Process(self._process.pid).cpu_times()
        return times.user + times.system

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()


def run(report: Report, sink: Sink, rounds: int, seconds: float) -> None:
    """The section of the report."""
    report.section(
        "Latency under full load, while something fails",
        f"CPU, p50 and p99 of an answer of services under uvicorn that {_CONNECTIONS} connections ask without pause, "
        f"one after the other: a command and 40 objects as JSON; one in twenty is a 503. {rounds} interleaved rounds "
        f"of {seconds:g} s; a ratio is the median of the rounds' own, to the same service where nothing fails.",
    )
    if find_spec("nx_27017") is None:
        report.leave_out("load", "nx-27017 is not installed")
        return
    with _targets(sink) as targets:
        loads = {name: load for name, load in LOADS.items() if name != "store" or targets.full is not None}
        if targets.full is None:
            report.leave_out("load.store", _NO_DISK)
        found = asyncio.run(_measure(loads, targets, rounds, seconds))
    head = ("service", "beside", "CPU µs", "to", "p50 ms", "to", "p99 ms", "to")
    report.table(head, [_row(name, load, found) for name, load in loads.items()], "load")
    for name, load in loads.items():
        if load.beside is not None:
            ours, theirs = ([own.p99 for own in found[which]] for which in (name, load.beside))
            cells = (f"{median(rounds) * _MILLI:.1f} ms" for rounds in (ours, theirs))
            report.figure(f"load.{name}", paired(ours, theirs), ours=next(cells), peer=next(cells))


def _row(name: str, load: Load, found: Rounds) -> list[str]:
    cells = [load.what, LOADS[load.beside].what if load.beside else ""]
    for scale, of in _COLUMNS:
        ours = [of(own) for own in found[name]]
        ratio = f"{paired(ours, [of(own) for own in found[load.beside]]):.2f}" if load.beside else ""
        cells += [f"{median(ours) * scale:,.3g}", ratio]
    return cells


async def _measure(loads: Mapping[str, Load], targets: Targets, rounds: int, seconds: float) -> Rounds:
    found: Rounds = {name: [] for name in loads}
    async with _services(loads, targets) as services:
        for name, load in loads.items():
            await under_load(services[name].port, _WARM_SECONDS, menus=load.menus)
        order, shuffled = list(loads), random.Random(rounds)
        for number in range(rounds):
            say(f"load: round {number + 1} of {rounds}")
            shuffled.shuffle(order)
            for name in order:
                service = services[name]
                used = service.cpu()
                latencies = await under_load(service.port, seconds, menus=loads[name].menus)
                found[name].append(Round(latencies, (service.cpu() - used) / len(latencies)))
    return found


@asynccontextmanager
async def _services(loads: Mapping[str, Load], targets: Targets) -> AsyncIterator[dict[str, LoadedService]]:
    """The service of each load."""
    with ExitStack() as stack:
        services = {}
        for name, load in loads.items():
            if load.environ is not None:
                services[name] = LoadedService({_URI: targets.uri, **targets.fill(load.environ)})
                stack.callback(services[name].end)
        for service in services.values():
            await service.ready()
        yield services | {name: services[other] for name, other in _SERVICE_OF.items()}


async def under_load(port: int, seconds: float, *, menus: bool) -> list[float]:
    """Seconds that each answer took, sorted, while several connections ask without pause.

    Args:
        port: Of the service.
        seconds: For how long.
        menus: Whether to measure what needs no database, while something else asks for what does.
    """
    end = time.perf_counter() + seconds
    found: list[list[float]] = [[] for _ in range(_CONNECTIONS)]
    asking = [_ask(port, _MENUS if menus else _ORDERS, end, own) for own in found]
    asking += [_ask(port, _ORDERS[:1], end, [], pause=_WAITING_PAUSE) for _ in range(_WAITING * menus)]
    await asyncio.gather(*asking)
    return sorted(latency for own in found for latency in own)


async def _ask(port: int, paths: list[str], end: float, latencies: list[float], pause: float = 0.0) -> None:
    requests = [f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode() for path in paths]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with closing(writer):
        while (began := time.perf_counter()) < end:
            writer.write(requests[len(latencies) % len(requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            await reader.readexactly(length)
            latencies.append(time.perf_counter() - began)
            await asyncio.sleep(pause)


@contextmanager
def _targets(sink: Sink) -> Iterator[Targets]:
    with ExitStack() as stack:
        database = stack.enter_context(nx27017())
        with MongoClient[dict[str, object]](database.uri) as client:
            client.shop.orders.insert_many([{"_id": number} for number in range(len(_ORDERS))])
        hanging = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1000))
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(2):  # the queue of those that wait to be accepted is full
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(silent.getsockname())
        yield Targets(
            refused=free_port(),
            silent=silent.getsockname()[1],
            hanging=hanging.getsockname()[1],
            full=stack.enter_context(_full_disk()),
            collector=sink.url,
            uri=database.uri,
        )


@contextmanager
def _full_disk() -> Iterator[str | None]:
    """A folder on a disk without room; None where none can be mounted."""
    with TemporaryDirectory(prefix="otel-monitoring-benchmark-") as folder:
        command = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", folder]
        if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
            yield None
            return
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", folder], check=True)  # noqa: S607
