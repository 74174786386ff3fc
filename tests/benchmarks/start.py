"""What the monitoring adds to the start of the example, and what it costs while nothing happens; and a probe."""

import compileall
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from tests.benchmarks.figures import added, spread
from tests.benchmarks.processes import QUIET, ROOT, Sink
from tests.benchmarks.report import Report, say
from tests.integration.servers import nx27017
from tests.ports import free_port

_MILLI = 1e3
_MIB = 2**20
_BARE, _OURS, _EVERYTHING = "bare", "**otel_monitoring**, embedded", "**otel_monitoring**, everything configured"
_SDK = "the SDK and its OTLP exporters alone"
_STAGES = ("imported", "started", "answered", "settled")
_JUDGED = "answered"
"""FastAPI prepares an included router with the first request that passes it; with the package, before the first."""
_SETTLE_SECONDS = 1.0
_TIMEOUT = 1800
_FOREIGN = ("OTEL_", "SMTP_", "ALERT", "SLACK_", "PYTHON")
_CHECK = "**otel-monitoring check**"


def run(report: Report, sink: Sink, rounds: int, *, lean: bool) -> None:
    """The section about the start, and the probe; `lean`: only what has a goal."""
    report.section(
        "Start of the example",
        "Process CPU of `examples/earlybird` under uvicorn, against a MongoDB-compatible server, once with the package "
        f"and once with names that stand for nothing; {rounds} interleaved rounds, each in new processes, whose "
        "bytecode is there. 'answered' is after the first two answers, a 401 and a 404 without the package: FastAPI "
        "prepares its routers with its first requests; ours asks them at the start. 'settled', in a full run, is a "
        "second later.",
    )
    if find_spec("nx_27017") is None:
        report.leave_out("start.instrument", "nx-27017 is not installed")
    else:
        with _examples(sink) as start:
            _start(report, start, rounds, lean=lean)
    _check(report, rounds, lean=lean)


def _start(report: Report, start: Any, rounds: int, *, lean: bool) -> None:
    names, shown = ((_BARE, _OURS), _STAGES[:-1]) if lean else ((_BARE, _OURS, _EVERYTHING), _STAGES)
    settle = 0.0 if lean else _SETTLE_SECONDS
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with ThreadPoolExecutor(len(names) if lean else 1) as at_once:
        for number in range(rounds + 1):
            say(f"start: round {number} of {rounds}")
            measured = list(at_once.map(lambda name: start(name, settle, 0), names))
            if number:  # the first reads from the disk what the others find read
                for name, one in zip(names, measured, strict=True):
                    found[name].append(one)
    rows = []
    for name, own in found.items():
        stages = [[one[stage] * _MILLI for one in own] for stage in shown]
        judged = [one[_JUDGED] * _MILLI for one in own]
        more = added(judged, [one[_JUDGED] * _MILLI for one in found[_BARE]])
        rows.append([name, *(f"{median(stage):.0f}" for stage in stages), f"{spread(judged):.0f}", f"{more:.0f}"])
    report.table(("variant", *(f"{stage} ms" for stage in shown), "± ms", "start: added ms"), rows)
    least = {name: min(one[_JUDGED] for one in own) * _MILLI for name, own in found.items()}
    report.figure(
        "start.instrument",
        least[_OURS] - least[_BARE],
        ours=f"{least[_OURS] - least[_BARE]:.0f} ms",
        peer=f"{least[_BARE]:.0f} ms",
    )


def _check(report: Report, rounds: int, *, lean: bool) -> None:
    report.section(
        "`otel-monitoring check`",
        f"CPU of the whole process that asks a service which answers at once; {rounds} interleaved rounds.",
    )
    found: dict[str, list[float]] = {}
    with _healthy() as url:
        commands = {_CHECK: ["-c", "from otel_monitoring.cli import main; main()", "check", url]}
        if not lean:
            commands |= {"`python -c pass`": ["-c", "pass"], "`python -c 'import httpx'`": ["-c", "import httpx"]}
        for number in range(rounds + 1):
            for name, command in commands.items():
                cost = _cpu_of([sys.executable, *command], _environment({}))
                if number:
                    found.setdefault(name, []).append(cost * _MILLI)
    rows = [[name, *(f"{v:.0f}" for v in (median(own), spread(own), min(own)))] for name, own in found.items()]
    report.table(("process", "median ms", "± ms", "least ms"), rows)
    report.figure("start.check", min(found[_CHECK]))


def idle(report: Report, sink: Sink, *, seconds: int, ticks: int, lean: bool) -> None:
    """The section about a service to which nothing happens; `lean`: its ticks pass while the example is idle."""
    report.section(
        "An idle service",
        f"The example for {seconds} s after its start, with all signals over OTLP, e-mail, Slack, a webhook and the "
        "SQLite store, and without the package; and a service that is driven by a clock set by hand, "
        f"{ticks:,} ticks of ten seconds, with requests in some of them and alerts that begin and end.",
    )
    has_server = find_spec("nx_27017") is not None
    if not has_server:
        for key in ("idle.cpu", "idle.memory", "idle.memory.ours"):
            report.leave_out(key, "nx-27017 is not installed")

    def week() -> dict[str, float]:
        found: dict[str, float] = _run_json(
            [sys.executable, "-m", "tests.benchmarks.ticks", str(ticks)], _environment({})
        )
        return found

    with ThreadPoolExecutor(1) as beside:
        begun = beside.submit(week) if lean else None
        if has_server:
            with _examples(sink) as start:
                _idle(report, start, seconds)
        grown = begun.result() if begun is not None else week()
    report.table(("after so many ticks", "resident MiB"), [[name, f"{mib:.1f}"] for name, mib in grown.items()])
    (*_, before, after) = grown.values()
    report.figure("idle.ticks", after - before)


def _idle(report: Report, start: Any, seconds: int) -> None:
    names = (_BARE, _SDK, _EVERYTHING)
    with ThreadPoolExecutor(len(names)) as pool:
        found = dict(zip(names, pool.map(lambda name: start(name, _SETTLE_SECONDS, seconds), names), strict=True))
    rows = [[name, f"{own['idle'] * 100:.2f}", f"{own['resident'] / _MIB:.1f}"] for name, own in found.items()]
    bare, ours = found[_BARE], found[_EVERYTHING]
    report.table(("variant", "% of a core", "resident MiB"), rows, "idle")
    report.figure("idle.cpu", (ours["idle"] - bare["idle"]) * 100)
    memory = {name: own["resident"] / _MIB for name, own in found.items()}
    for key, beside in (("idle.memory", _BARE), ("idle.memory.ours", _SDK)):
        more = memory[_EVERYTHING] - memory[beside]
        report.figure(key, more, ours=f"{memory[_EVERYTHING]:.1f} MiB", peer=f"{memory[beside]:.1f} MiB")


@contextmanager
def _examples(sink: Sink) -> Iterator[Any]:
    """Starts the example, by the name of its variant, and answers what it cost."""
    with ExitStack() as stack:
        server = stack.enter_context(nx27017())
        for package in ("otel_monitoring", "examples"):  # who compiles needs more time, and more memory
            compileall.compile_dir(ROOT / package, quiet=2)
        nowhere = f"http://127.0.0.1:{free_port()}"
        everything = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "SMTP_SERVER": "127.0.0.1",
            "SMTP_PORT": nowhere.rpartition(":")[2],
            "SMTP_SECURITY": "none",
            "ALERT_EMAIL_FROM": "ops@example.com",
            "ALERT_EMAIL_TO": "ops@example.com",
            "SLACK_WEBHOOK_URL": f"{nowhere}/slack",
            "ALERT_WEBHOOK_URL": f"{nowhere}/hook",
            "ALERT_WEBHOOK_ALLOW_PRIVATE": "true",
            "ALERTMANAGER_URL": nowhere,
            **QUIET,
        }

        def start(variant: str, settle_seconds: float, idle_seconds: float) -> dict[str, float]:
            which = {_BARE: "bare", _SDK: "sdk"}.get(variant, "monitored")
            state = stack.enter_context(TemporaryDirectory())
            configured = everything if variant in (_EVERYTHING, _SDK) else {}
            own = {"MONGODB_URI": server.uri, **configured, "OTEL_MONITORING_STATE_DIR": state}
            seconds = (str(settle_seconds), str(idle_seconds))
            command = [sys.executable, "-m", "tests.benchmarks.starting", which, *seconds]
            cost: dict[str, float] = _run_json(command, _environment(own))
            return cost

        yield start


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return {**kept, "PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT), **own}


def _run_json(command: list[str], environ: dict[str, str]) -> Any:
    done = subprocess.run(
        command, env=environ, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=_TIMEOUT, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def _cpu_of(command: list[str], environ: dict[str, str]) -> float:
    """CPU seconds of a process, which must succeed."""
    process = subprocess.Popen(command, env=environ, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_utime + usage.ru_stime


@contextmanager
def _healthy() -> Iterator[str]:
    """The URL of a service that says it is healthy."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = json.dumps({"status": "healthy", "uptime_seconds": 1}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
