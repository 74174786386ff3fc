"""The commands against a real service, as an operator or a script runs them."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from otel_monitoring.cli import exit_codes
from tests.integration import servers
from tests.integration.processes import Service, serving
from tests.otlp_sink import HttpSink
from tests.ports import free_port
from tests.waiting import PATIENCE, eventually

pytestmark = pytest.mark.integration

KEYS = "q quit  ↑↓ select  m mute  u unmute"
TOKEN = "correct-horse-battery"
SERVICE = """
from pathlib import Path
from fastapi import FastAPI
from otel_monitoring import MonitoringService
from otel_monitoring.alerts import AlertType, get_alert_manager

app = FastAPI(title="orders")
monitoring = MonitoringService(None, sample_interval=0.2, check_interval=0.2).instrument(app)
monitoring.add_check("cache", lambda: not Path("cache-down").exists())
monitoring.add_check("queue", lambda: not Path("queue-down").exists(), critical=True)

@app.get("/orders/{number}")
async def order(number: int):
    return number

@app.post("/fail")
async def fail():
    await get_alert_manager().send_alert(AlertType.BILLING_FAILURE, "Billing failed")
"""


def command(*arguments: str, token: str | None = TOKEN, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "otel_monitoring.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        env={**environment(token), **env},
    )


def environment(token: str | None) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return {**clean, "TERM": "xterm", **({"OTEL_MONITORING_ADMIN_TOKEN": token} if token else {})}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    access = {"OTEL_MONITORING_ACCESS": "admin", "OTEL_MONITORING_ADMIN_TOKEN": TOKEN}
    with serving(folder, SERVICE, **access) as running:  # type: ignore[arg-type]
        for number in (1, 2, 3):
            running.get(f"/orders/{number}")
        yield running


@contextmanager
def down(service: Service, what: str, status: str) -> Iterator[None]:
    """While it is entered, a check of the service fails."""
    mark = service.folder / f"{what}-down"
    mark.touch()
    eventually(lambda: service.get("/api/health").json()["status"] == status, status)
    yield
    mark.unlink()
    eventually(lambda: service.get("/api/health").json()["status"] == "healthy", "healthy again")


def test_check_tells_health_by_its_exit_code(service: Service) -> None:
    healthy = command("check", service.url)
    assert (healthy.returncode, healthy.stdout.split()[:2]) == (exit_codes.OK, ["healthy", f"{service.url}/api/health"])
    assert command("check", "--probe", "ready", "--json", service.url, token=None).returncode == exit_codes.OK
    with down(service, "cache", "degraded"):
        assert command("check", service.url).returncode == exit_codes.OK
        strict = command("check", "--strict", "--json", service.url)
        assert strict.returncode == exit_codes.FAILED
        answer = json.loads(strict.stdout)
        assert (answer["status"], answer["exit_code"]) == ("degraded", exit_codes.FAILED)
        assert "cache" in answer["reasons"][0]
    with down(service, "queue", "unhealthy"):
        unhealthy = command("check", service.url)
        assert unhealthy.returncode == exit_codes.FAILED
        assert "queue" in unhealthy.stdout, "it says why"
        assert "queue" not in command("check", service.url, token=None).stdout


def test_check_without_an_answer(service: Service) -> None:
    refused = command("check", "--json", f"http://127.0.0.1:{free_port()}")
    assert refused.returncode == exit_codes.UNREACHABLE
    assert json.loads(refused.stdout)["status"] is None
    assert command("check", f"{service.url}/elsewhere").returncode == exit_codes.UNREACHABLE
    denied = command("check", service.url, token="wrong-token")
    assert denied.returncode == exit_codes.DENIED
    assert TOKEN not in denied.stdout + denied.stderr


def test_check_waits_for_a_service_that_starts(tmp_path: Path) -> None:
    port = free_port()
    arguments = ["check", "--wait", "30", f"http://127.0.0.1:{port}"]
    with (
        subprocess.Popen([sys.executable, "-m", "otel_monitoring.cli", *arguments], env=environment(None)) as waiting,
        serving(tmp_path, SERVICE, port=port),
    ):
        assert waiting.wait(PATIENCE) == exit_codes.OK


def test_watch_as_json(service: Service) -> None:
    once = command("watch", "--once", "--json", service.url)
    assert once.returncode == exit_codes.OK
    shown = json.loads(once.stdout)
    assert shown["status"] == "healthy"
    loads = {endpoint["route"]: endpoint["load_percent"] for endpoint in shown["endpoints"]}
    assert "/orders/{number}" in loads
    assert list(loads.values()) == sorted(loads.values(), reverse=True)
    assert sum(loads.values()) == pytest.approx(100, abs=0.1)
    picture = command("watch", "--once", service.url)
    assert "/orders/{number}" in picture.stdout
    assert command("watch", "--once", "--json", service.url, token=None).returncode == exit_codes.DENIED
    assert command("watch", "--once", f"http://127.0.0.1:{free_port()}").returncode == exit_codes.UNREACHABLE
    assert command("watch", service.url).returncode == exit_codes.USAGE, "no terminal"


def test_watch_prints_a_line_for_each_refresh(service: Service) -> None:
    arguments = ["watch", "--json", "--interval", "0.2", service.url]
    with subprocess.Popen(
        [sys.executable, "-m", "otel_monitoring.cli", *arguments], env=environment(TOKEN), stdout=subprocess.PIPE
    ) as watching:
        assert watching.stdout is not None
        lines = [json.loads(watching.stdout.readline()) for _ in range(3)]
        watching.kill()
    assert [one["status"] for one in lines] == ["healthy"] * 3
    assert lines[0]["time"] < lines[1]["time"] < lines[2]["time"]


class Terminal:
    """`watch` in a terminal of its own."""

    def __init__(self, *arguments: str, columns: int = 120, lines: int = 50, **env: str) -> None:
        self._main, theirs = pty.openpty()
        self.resize(columns, lines)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "otel_monitoring.cli", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**{k: v for k, v in environment(TOKEN).items() if k not in ("COLUMNS", "LINES")}, **env},
            start_new_session=True,
        )
        os.close(theirs)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._main, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    @property
    def modes(self) -> list[Any]:
        """Echo, line by line, …"""
        return termios.tcgetattr(self._main)

    def press(self, key: str) -> None:
        os.write(self._main, key.encode())

    def wait_for(self, text: str) -> list[str]:
        """Until `text` is drawn, from now on: the lines of the picture."""
        drawn, deadline = "", time.monotonic() + PATIENCE
        while True:
            assert time.monotonic() < deadline, f"{text!r} is not in {drawn[-3000:]!r}"
            if select.select([self._main], [], [], 0.2)[0]:
                drawn += os.read(self._main, 65_536).decode(errors="replace")
            for picture in drawn.split("\x1b[H")[1:-1]:  # each begins at the upper left
                plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", picture)
                if text in plain:
                    return plain.splitlines()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._main)


@contextmanager
def terminal(*arguments: str, **options: Any) -> Iterator[Terminal]:
    opened = Terminal(*arguments, **options)
    try:
        yield opened
    finally:
        opened.close()


def test_watch_in_a_terminal(tmp_path: Path) -> None:
    port = free_port()
    access: dict[str, Any] = {"OTEL_MONITORING_ACCESS": "admin", "OTEL_MONITORING_ADMIN_TOKEN": TOKEN, "port": port}
    with terminal("watch", "--interval", "0.2", f"http://127.0.0.1:{port}") as screen:
        screen.wait_for("no answer for")
        with serving(tmp_path, SERVICE, **access) as service:
            service.client.post("/fail")
            assert KEYS in screen.wait_for("> BILLING_FAILURE  recent")[-1]
            screen.press("m")
            assert KEYS in screen.wait_for("BILLING_FAILURE is muted until")[-1]
            authorized = {"Authorization": f"Bearer {TOKEN}"}
            muted = service.get("/api/alerts/summary", headers=authorized).json()["muted_alerts"]
            assert muted.keys() == {"billing_failure"}
            screen.press("u")
            assert KEYS in screen.wait_for("BILLING_FAILURE is no longer muted")[-1]
            pid = service.process.pid
        screen.wait_for(f"worker {pid} answered last at")
        with serving(tmp_path, SERVICE, **access) as service:
            assert screen.wait_for(f"worker {pid} is gone")[0].rstrip().endswith(f"worker {service.process.pid}")
        screen.press("q")
        assert screen.process.wait(PATIENCE) == exit_codes.OK


@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}, {"PYTHONIOENCODING": "ascii"}, {"TERM": "vt100"}], ids=str)
def test_watch_follows_the_size_of_the_terminal(service: Service, env: dict[str, str]) -> None:
    with terminal("watch", "--interval", "0.2", service.url, columns=60, lines=24, **env) as screen:
        for columns, lines in ((60, 24), (40, 20), (200, 60)):
            screen.resize(columns, lines)
            while True:
                shown = screen.wait_for("/orders/")
                if (len(shown), len(shown[-1])) == (lines, columns):
                    break
            assert "m mute" in shown[-1]
            assert max(map(len, shown)) <= columns
        screen.press("q")
        assert screen.process.wait(PATIENCE) == exit_codes.OK


def test_watch_needs_a_terminal_that_can_be_drawn_on(service: Service) -> None:
    with terminal("watch", service.url, TERM="dumb") as screen:
        assert screen.process.wait(PATIENCE) == exit_codes.USAGE


def test_watch_gives_the_terminal_back_as_it_was() -> None:
    endings: dict[int, Callable[[Terminal], None]] = {
        exit_codes.OK: lambda screen: screen.press("q"),
        128 + signal.SIGTERM: lambda screen: screen.process.terminate(),
    }
    for code, ending in endings.items():
        with terminal("watch", f"http://127.0.0.1:{free_port()}") as screen:
            before = screen.modes
            screen.wait_for("q quit")
            assert screen.modes != before, "keys arrive one by one"
            screen.press("m")
            screen.wait_for("no alert to mute")
            ending(screen)
            assert screen.process.wait(PATIENCE) == code
            assert screen.modes == before


def test_watch_says_which_worker_is_gone(tmp_path: Path) -> None:
    access: dict[str, Any] = {"OTEL_MONITORING_ACCESS": "admin", "OTEL_MONITORING_ADMIN_TOKEN": TOKEN}
    with (
        serving(tmp_path, SERVICE, runner=("uvicorn", "--workers", "2"), **access) as service,
        terminal("watch", "--interval", "0.2", service.url) as screen,
    ):
        first = screen.wait_for("worker ")[0].split()[-1]
        os.kill(int(first), signal.SIGKILL)
        shown = screen.wait_for(f"worker {first} is gone: it answered last")
        assert shown[0].split()[-1] != first


def test_doctor_examines_environment_database_and_service(service: Service, tmp_path: Path) -> None:
    with servers.nx27017() as mongodb, HttpSink() as sink:
        done = command(
            "doctor",
            "--json",
            "--database",
            f"{mongodb.uri}/shop",
            "--url",
            service.url,
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
            OTEL_MONITORING_STATE_DIR=str(tmp_path),
        )
    findings = json.loads(done.stdout)["findings"]
    assert done.returncode == exit_codes.OK, findings
    fine = {finding["check"]: finding["message"] for finding in findings if finding["level"] == "ok"}
    assert {"settings", "database", "OTLP traces", "OTLP metrics", "OTLP logs", "state directory"} <= fine.keys()
    assert "shop answers in" in fine["database"]
    clocks = [finding["message"] for finding in findings if finding["check"] == "clock"]
    assert len(clocks) == 3, "OTLP endpoint, service and database"
    said = [finding["message"] for finding in findings if finding["check"] == "service"]
    assert said == [
        f"{service.url}/api is healthy",
        "it records no spans, and carry() writes nothing into documents",
        "strangers do not see the details",
    ]


def test_doctor_says_why_a_running_service_is_not_healthy(service: Service) -> None:
    for check, status, strangers in (("cache", "degraded", (None, "wrong-token")), ("queue", "unhealthy", ())):
        with down(service, check, status):
            shown = command("doctor", "--url", service.url).stdout
            others = [command("doctor", "--url", service.url, token=token).stdout for token in strangers]
        assert f"{service.url}/api is {status}: it " in shown
        assert f"check {check} fails" in shown
        assert "add_check(...)" in shown, "it explains what that is"
        assert "carry() writes nothing" in shown
        for other in others:
            assert f"check {check} fails" not in other
            assert "its details were not examined" in other
            assert "with its admin token" in other


def test_below_a_path_the_endpoints_are_found(tmp_path: Path) -> None:
    source = SERVICE.replace('FastAPI(title="orders")', 'FastAPI(title="orders", root_path="/shop")')
    access = {"OTEL_MONITORING_ACCESS": "admin", "OTEL_MONITORING_ADMIN_TOKEN": TOKEN}
    with serving(tmp_path, source, **access) as service:  # type: ignore[arg-type]
        found = f"{service.url}/shop/api"
        said = f"no monitoring endpoints at {service.url}/shop: they are at {found}"
        check = command("check", f"{service.url}/shop")
        assert (check.returncode, check.stderr.strip()) == (exit_codes.OK, said)
        assert f"{found}/health" in check.stdout
        watch = command("watch", "--once", f"{service.url}/shop")
        assert (watch.returncode, watch.stderr.strip()) == (exit_codes.OK, said)
        doctor = command("doctor", "--json", "--url", f"{service.url}/shop")
        assert {said, f"{found} is healthy"} <= {one["message"] for one in json.loads(doctor.stdout)["findings"]}
        login = service.url.replace("//", "//ana:hunter2@")
        for line in (command("check", login), command("check", f"{login}/nowhere"), command("check", f"{login}:x")):
            assert "hunter2" not in line.stdout + line.stderr


def test_an_application_may_have_its_own_health(tmp_path: Path) -> None:
    own = '@app.get("/api/health")\ndef own():\n    return {"status": "ok"}\n'
    source = SERVICE.replace("monitoring = ", f"{own}monitoring = ", 1)
    access = {"OTEL_MONITORING_ACCESS": "admin", "OTEL_MONITORING_ADMIN_TOKEN": TOKEN}
    with serving(tmp_path, source, **access) as service:  # type: ignore[arg-type]
        check = command("check", service.url)
        assert check.returncode == exit_codes.UNREACHABLE
        assert f"{service.url}/api/health: this path is the application's own; ask for --probe ready" in check.stdout
        assert command("check", "--probe", "ready", service.url).returncode == exit_codes.OK
        assert command("watch", "--once", service.url).returncode == exit_codes.OK
        doctor = command("doctor", "--json", "--url", service.url)
        said = {one["message"] for one in json.loads(doctor.stdout)["findings"]}
        assert {f"{service.url}/api/health is the application's own", f"{service.url}/api is healthy"} <= said


PLAIN = """
from fastapi import FastAPI
app = FastAPI()
"""


def test_run_starts_the_command(tmp_path: Path) -> None:
    with serving(tmp_path, PLAIN, before=("otel-monitoring", "run")) as service:
        assert service.get("/api/health").json()["status"] == "healthy"
        service.stop()


def test_run_answers_with_the_exit_code_of_the_command(tmp_path: Path) -> None:
    assert command("run", sys.executable, "-c", "raise SystemExit(7)").returncode == 7
    missing = command("run", "no-such-command")
    assert (missing.returncode, missing.stderr) == (exit_codes.NOT_FOUND, "no-such-command: command not found\n")
    (tmp_path / "text").touch()
    assert command("run", str(tmp_path / "text")).returncode == exit_codes.NOT_EXECUTABLE


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("OTEL_MONITORING_CHECK_INTERVAL", "never"),
        ("ALERT_WEBHOOK_URL", "http://127.0.0.1:1"),
        ("ALERT_APPRISE_URLS", "nonsense://x"),
        ("OTEL_MONITORING_DATABASE_URI", "mongodb://user:hunter2@:::"),
    ],
)
def test_run_says_first_what_the_service_refuses(setting: str, value: str) -> None:
    variables = {setting: value}
    done = command("run", sys.executable, "-c", "print('started')", **variables)
    assert (done.returncode, done.stdout) == (exit_codes.USAGE, "")
    source = "from otel_monitoring import MonitoringService; from fastapi import FastAPI"
    refused = subprocess.run(
        [sys.executable, "-c", f"{source}; MonitoringService(None).instrument(FastAPI())"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    line = f": {setting}: "
    assert line in done.stderr
    assert done.stderr.partition(": ")[2] == refused.stderr.splitlines(keepends=True)[-1].partition(": ")[2]
