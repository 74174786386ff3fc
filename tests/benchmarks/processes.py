"""The processes of a run: workers that take orders, and the receiver of telemetry. Always ended again."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.benchmarks.environments import PeerUnavailableError, python_of
from tests.benchmarks.report import say
from tests.benchmarks.variants import PROJECT, Variant

ROOT = Path(__file__).parents[2]
QUIET = {f"OTEL_MONITORING_THRESHOLD_{what}_PERCENT": "100" for what in ("ERROR_RATE", "CPU", "MEMORY")}
"""No alert fires: a busy or full host is the neighbours', and with an alert a service collects evidence and sends."""
_END_SECONDS = 20
_CHUNK = 400
_AS_IT_IS: Mapping[str, str] = {}
_FOREIGN = ("OTEL_", "DD_", "LOGFIRE_", "PYTHONPATH", "FASTAPI_")


class WorkerError(Exception):
    """A worker ended instead of answering; the message has its last words."""


class Process:
    """A child that reads lines and answers with lines."""

    def __init__(self, command: list[str], environ: dict[str, str], errors: int | None = subprocess.PIPE) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        # Each its own: workers side by side would be workers of one service, of which one evaluates for all.
        self._state = TemporaryDirectory(prefix="otel-monitoring-benchmark-")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
            env={**kept, "OTEL_MONITORING_STATE_DIR": self._state.name, **environ, "PYTHONHASHSEED": "0"},
            start_new_session=True,
        )

    def line(self) -> str:
        """The next line of its output."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(f"ended with {self._process.wait(_END_SECONDS)}")
        return line

    def write(self, text: str) -> None:
        """Give it a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def end(self) -> None:
        """Close its input, and end it if that does not."""
        try:
            self._process.communicate(timeout=_END_SECONDS)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self._process.kill()
            self._process.communicate()
        self._state.cleanup()


class Sink:
    """The receiver of telemetry."""

    def __init__(self) -> None:
        self._process = Process([sys.executable, "-m", "tests.benchmarks.sink"], {}, subprocess.DEVNULL)
        self.url = f"http://127.0.0.1:{self._process.line().strip()}"

    def received(self, part: str) -> int:
        """Bytes that came to paths with `part` in them."""
        with urllib.request.urlopen(f"{self.url}/counts", timeout=10) as answer:  # noqa: S310 - our own process
            counts: dict[str, int] = json.load(answer)
        return sum(count for path, count in counts.items() if part in path)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Inside, it takes connections and answers nothing."""
        self._process.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.signal(signal.SIGCONT)

    def end(self) -> None:
        """End it."""
        self._process.end()


class Worker:
    """One variant's process.

    Raises:
        PeerUnavailableError: Its environment cannot be made.
    """

    def __init__(self, variant: Variant, routes: int, sink: Sink, environ: Mapping[str, str]) -> None:
        self.variant = variant
        self._sink = sink
        python = python_of(variant.environment)
        own = {name: value.format(sink=sink.url) for name, value in variant.environ.items()}
        # A worker's standard error is the user's: there is nothing to hide, and a full pipe would block it.
        command = [str(python), "-m", "tests.benchmarks.worker", variant.name, str(routes)]
        self._process = Process(command, {**own, **environ}, None)

    def warm_up(self, requests: int) -> None:
        """Wait until it is ready, and make so many requests.

        Raises:
            WorkerError: It does not start, or does not do what it is compared for.
        """
        self._process.line()
        for done in range(0, requests, _CHUNK):  # more at once than an exporter's queue holds would be dropped
            self.do("requests", count=min(_CHUNK, requests - done))
        self._prove()

    def do(self, name: str, **arguments: Any) -> Any:
        """Have it run a function of `operations`."""
        self._process.write(json.dumps([name, arguments]))
        return json.loads(self._process.line())

    def _prove(self) -> None:
        missing = self.do("proof")
        if not missing and self.variant.sends is not None and not self._sink.received(self.variant.sends):
            missing = f"nothing was sent to {self.variant.sends}"
        if missing:
            raise WorkerError(missing)

    def end(self) -> None:
        """End it."""
        self._process.end()


@contextmanager
def workers(
    variants: list[Variant], routes: int, sink: Sink, warm_up: int, environ: Mapping[str, str] = _AS_IT_IS
) -> Iterator[list[Worker]]:
    """A warm worker for each variant; `environ` is added to the variant's own.

    A peer that cannot be had here is left out.

    Raises:
        WorkerError: A variant of this checkout's own environment does not work.
    """
    with ExitStack() as stack:
        started: list[Worker] = []
        for variant in variants:
            with _peers_may_be_missing(variant):
                started.append(Worker(variant, routes, sink, environ))
                stack.callback(started[-1].end)
        with ThreadPoolExecutor(os.cpu_count()) as cores:
            warming = [(worker, cores.submit(worker.warm_up, warm_up)) for worker in started]
        warm: list[Worker] = []
        for worker, done in warming:
            with _peers_may_be_missing(worker.variant):
                done.result()
                warm.append(worker)
        yield warm


@contextmanager
def _peers_may_be_missing(variant: Variant) -> Iterator[None]:
    try:
        yield
    except (PeerUnavailableError, WorkerError) as error:
        if variant.environment == PROJECT:
            raise
        say(f"{variant.name} is left out: {error}")
