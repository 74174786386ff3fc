"""`make demo` as a person runs it: started, looked at, stopped; nothing is left."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import httpx
import psutil
import pytest
from pymongo import version_tuple

from tests.integration.servers import nx27017
from tests.waiting import PATIENCE, eventually

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parent.parent.parent
EMBEDDED = version_tuple >= (4, 18)
"""With an older PyMongo nx-27017 cannot be installed. Where it can, it is there."""
PARTS = ("nx_27017", "uvicorn") if EMBEDDED else ("uvicorn",)


class Demo:
    """The demo in a process of its own, as `make demo` starts it, and what it printed."""

    def __init__(self, temporary: Path, **environment: str) -> None:
        ours = ("OTEL_", "MONGODB_URI", "PORT", "DEMO_SECONDS")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "examples.earlybird.demo"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env={**inherited, "PORT": "0", "TMPDIR": str(temporary), **environment},
            start_new_session=True,
        )
        self._lines: dict[str, list[str]] = {"out": [], "err": []}
        self._readers = [self._read("out", self.process.stdout), self._read("err", self.process.stderr)]

    @property
    def out(self) -> str:
        return "".join(self._lines["out"])

    @property
    def err(self) -> str:
        return "".join(self._lines["err"])

    def found(self, pattern: str) -> re.Match[str]:
        """Wait for a line."""
        assert eventually(lambda: re.search(pattern, self.out) is not None or self.process.poll() is not None), self.out
        found = re.search(pattern, self.out)
        assert found is not None, f"{self.out}\n{self.err}"
        return found

    def curl(self, path: str, instead: str | None = None) -> Any:
        """What the printed curl line for `path` fetches; or what it fetches with another path."""
        pattern = rf"curl (?:-H 'Authorization: (?P<token>[^']+)' )?localhost:(?P<port>\d+)/api{path}\n"
        line = self.found(pattern)
        headers = {"Authorization": line["token"]} if line["token"] else {}
        url = f"http://127.0.0.1:{line['port']}/api{instead or path}"
        return httpx.get(url, headers=headers, timeout=30, trust_env=False).raise_for_status().json()

    def ended(self) -> int:
        code = self.process.wait(PATIENCE)
        self.read_all()
        return code

    def read_all(self) -> None:
        for reader in self._readers:
            reader.join(PATIENCE)

    def _read(self, name: str, stream: IO[str] | None) -> threading.Thread:
        assert stream is not None

        def read() -> None:
            with stream:
                for line in stream:
                    self._lines[name].append(line)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        return reader


@contextmanager
def demo(temporary: Path, **environment: str) -> Iterator[Demo]:
    running = Demo(temporary, **environment)
    try:
        yield running
    finally:
        process = psutil.Process(running.process.pid) if running.process.poll() is None else None
        parts = process.children(recursive=True) if process is not None else []
        running.process.terminate()
        try:
            running.process.wait(PATIENCE)
        finally:
            running.process.kill()
            running.read_all()
            for part in parts:
                if part.is_running():
                    part.kill()


@pytest.fixture(scope="module")
def mongodb() -> Iterator[dict[str, str]]:
    """The environment that gives the demo a database: its own, or, where that cannot be installed, another one."""
    if EMBEDDED:
        yield {}
    else:
        with nx27017() as server:
            yield {"MONGODB_URI": server.uri}


def _parts(running: Demo) -> dict[str, psutil.Process]:
    """The demo's child processes by what they run."""
    children = psutil.Process(running.process.pid).children(recursive=True)
    return {name: child for child in children for name in PARTS if name in " ".join(child.cmdline())}


def _gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_look_at_the_demo(tmp_path: Path, mongodb: dict[str, str]) -> None:
    before = _checkout()
    with demo(tmp_path, **mongodb) as running:
        running.found("Ctrl-C stops everything")
        parts = _parts(running)
        assert parts.keys() == set(PARTS)

        assert running.curl("/health").keys() == {"status", "timestamp", "uptime_seconds"}
        first = running.curl("/health/metrics")
        assert eventually(
            lambda: running.curl("/health/metrics")["requests_recorded"] > first["requests_recorded"] + 60
        )
        assert eventually(lambda: running.curl("/health/detailed")["database"]["status"] == "healthy")
        detailed = running.curl("/health/detailed")
        assert detailed["performance"]["p95_response_time"] > 0
        assert detailed["system"]["memory_mb"] > 0
        assert eventually(lambda: _documents(running, "orders") > 0)
        diagnostics = running.curl("/health/diagnostics")
        assert diagnostics["endpoints"]["/api/orders/"]["call_count"] > 0
        assert running.curl("/alerts/summary")["total_alerts"] >= 0

        running.found(r"(healthy|degraded) +up +\d+ s +\d+ requests +[1-9][\d.]*/s +p95 +\d+ ms +errors +[\d.]+ %\n")
        running.process.send_signal(signal.SIGINT)
        assert running.ended() == 0, running.err

    assert running.err == ""
    sent = re.search(r"sent (\d+) requests, (\d+) failed\n", running.out)
    counted = re.search(r"monitoring counted (\d+) requests, (\d+) errors\n", running.out)
    assert sent is not None
    assert counted is not None
    assert sent.groups() == counted.groups()
    assert all(map(_gone, parts.values()))
    assert list(tmp_path.iterdir()) == []
    assert _checkout() == before


def _documents(running: Demo, collection: str) -> int:
    collections = running.curl("/health/detailed")["database"]["collections"]
    return int(collections.get(collection, {}).get("document_count", 0))


def _checkout() -> str:
    """The files in the checkout that git neither has nor ignores."""
    command = ["git", "-C", str(ROOT), "ls-files", "--others", "--exclude-standard"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        pytest.skip("not a git checkout")
    return answer.stdout


def test_it_ends_by_itself_when_told_so(tmp_path: Path, mongodb: dict[str, str]) -> None:
    with demo(tmp_path, DEMO_SECONDS="2", **mongodb) as running:
        assert running.ended() == 0, running.err
    assert running.out.endswith("Stopped.\n")
    assert re.search(r"sent [1-9]\d* requests", running.out)
    assert list(tmp_path.iterdir()) == []


def test_an_api_that_dies_ends_the_demo_with_an_error(tmp_path: Path, mongodb: dict[str, str]) -> None:
    with demo(tmp_path, **mongodb) as running:
        running.found("Ctrl-C stops everything")
        parts = _parts(running)
        parts["uvicorn"].kill()
        assert running.ended() == 1
    assert re.match(r"The API ended with exit code -9", running.err)
    assert all(map(_gone, parts.values()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
@pytest.mark.skipif(not EMBEDDED, reason="the database is not the demo's own")
def test_a_database_that_is_killed_is_one_mail_and_one_message_and_so_is_its_return(tmp_path: Path) -> None:
    calm = {f"OTEL_MONITORING_THRESHOLD_{name}": "100" for name in ("CPU_PERCENT", "MEMORY_PERCENT")}
    with demo(tmp_path, OTEL_MONITORING_THRESHOLD_EVENT_LOOP_LAG_MS="60000", **calm) as running:
        os.kill(int(running.found(r"to see alerts: kill -9 (\d+)")[1]), signal.SIGKILL)
        running.found(r"MongoDB has died")
        running.found(r"unhealthy")
        running.found(r"MongoDB is started again")
        # What happens at the same moment, such as a declined payment, is in the same message.
        running.found(r"mail .*(DATABASE_DOWN resolved|resolved: .*DATABASE_DOWN)")
        running.found(r"Slack .*(DATABASE_DOWN resolved|resolved: .*DATABASE_DOWN)")
        history = running.curl("/alerts/summary", "/alerts/history?alert_type=database_down")
        assert [(e["status"], e["outcome"]) for e in history] == [("resolved", "notified"), ("firing", "notified")]
        running.process.send_signal(signal.SIGINT)
        assert running.ended() == 0, running.err
    told = [line.split()[0] for line in running.out.splitlines() if "DATABASE_DOWN" in line]
    assert sorted(told) == ["Slack", "Slack", "mail", "mail"], running.out


def test_a_killed_demo_takes_its_parts_with_it(tmp_path: Path, mongodb: dict[str, str]) -> None:
    with demo(tmp_path, **mongodb) as running:
        running.found("Ctrl-C stops everything")
        parts = _parts(running)
        running.process.kill()
        try:
            assert eventually(lambda: all(map(_gone, parts.values())))
        finally:
            for part in parts.values():
                if not _gone(part):
                    part.kill()


def test_stopping_while_starting(tmp_path: Path, mongodb: dict[str, str]) -> None:
    with demo(tmp_path, **mongodb) as running:
        running.found("Starting")
        running.process.send_signal(signal.SIGTERM)
        assert running.ended() == 0, running.err
    assert running.out.endswith("Stopped.\n")
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with demo(tmp_path, PORT=port) as running:
            assert running.ended() == 1
    assert re.fullmatch(rf"PORT: {port} cannot be used \(.*in use\); another: PORT=9000 make demo\n", running.err)
    assert running.out == ""


def test_a_database_that_does_not_answer_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        with demo(tmp_path, MONGODB_URI=f"mongodb://robin:secret@{address}/earlybird") as running:
            assert running.ended() == 1
    assert re.fullmatch(rf"MONGODB_URI: no MongoDB answers at .*@{address}/earlybird\n", running.err)
    assert "secret" not in running.err


def test_a_wrong_setting_is_one_clear_line(tmp_path: Path) -> None:
    with demo(tmp_path, OTEL_MONITORING_ACCESS="everybody") as running:
        assert running.ended() == 1
    assert running.err.startswith("OTEL_MONITORING_ACCESS: ")
    assert running.err.count("\n") == 1
