"""Real servers for tests: applications under uvicorn or gunicorn, as processes of their own on free ports."""

import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx

import otel_monitoring
from tests.conftest import unavailable
from tests.ports import free_port
from tests.waiting import PATIENCE, eventually

ROOT = Path(otel_monitoring.__file__).parents[1]
_PATIENT = {
    "gunicorn": ("--timeout", "0", "--graceful-timeout", "60"),
    "uvicorn": ("--timeout-worker-healthcheck", "60"),
}
"""A busy machine is no reason to kill a worker, which takes along what it has not published yet."""


class Service:
    """A running application and what it wrote."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self.folder = log.parent
        self._log = log
        # A connection for each request: an unhandled exception closes one, and each worker has to get its turn.
        self.client = httpx.Client(base_url=url, timeout=PATIENCE, headers={"Connection": "close"})

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.client.get(path, **options)

    def diagnostics(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.get("/api/health/diagnostics").raise_for_status().json()
        return answer

    def calls(self, at_least: int) -> dict[str, int]:
        """How often each route was called, once so many calls are counted: an answer may be up to a second old."""

        def counted() -> dict[str, int] | None:
            endpoints = self.diagnostics()["endpoints"]
            found = {route: int(figures["call_count"]) for route, figures in endpoints.items()}
            return found if sum(found.values()) >= at_least else None

        return eventually(counted, f"{at_least} calls are counted")

    def ask(self, path: str) -> httpx.Response | None:
        try:
            return self.get(path)
        except httpx.TransportError:
            assert self.process.poll() is None, self.output
            return None

    def stop(self) -> str:
        """SIGTERM, as an orchestrator does; returns all that was written. uvicorn ends by the signal it was sent."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE) in (0, -signal.SIGTERM), self.output
        return self.output


@contextmanager
def serving(
    folder: Path,
    source: str,
    *,
    runner: tuple[str, ...] = ("uvicorn",),
    before: tuple[str, ...] = (),
    ready: str = "/api/health/live",
    port: int | None = None,
    python: str | Path = sys.executable,
    **env: str,
) -> Iterator[Service]:
    """Serve `source`, a module that defines `app`.

    Args:
        folder: Where the module and its log go.
        source: Python code.
        runner: `uvicorn`, `gunicorn`, `hypercorn`, `granian` or `fastapi`, and further arguments.
        before: The command that the server is an argument of.
        ready: The path that answers 200 once it serves; empty: nobody waits for that.
        port: Where it listens; a free one when not given.
        python: The interpreter that runs it.
        env: Further environment variables.
    """
    (folder / "service.py").write_text(source)
    port, log = port or free_port(), folder / "service.log"
    kind, *arguments = runner
    if find_spec(kind) is None:
        unavailable(f"{kind} is not installed: pip install {kind}")
    application = ["run", "service.py"] if kind == "fastapi" else ["service:app"]
    address = ["--bind", f"127.0.0.1:{port}"] if kind in ("gunicorn", "hypercorn") else ["--port", str(port)]
    scripts = sysconfig.get_path("scripts")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "MONGODB_"))},
        "OTEL_MONITORING_ACCESS": "open",
        # Tests keep every core busy: that must not decide the status of the service under test.
        "OTEL_MONITORING_THRESHOLD_CPU_PERCENT": "100",
        "OTEL_MONITORING_THRESHOLD_MEMORY_PERCENT": "100",
        "OTEL_MONITORING_THRESHOLD_EVENT_LOOP_LAG_MS": "60000",
        "OTEL_MONITORING_THRESHOLD_DATABASE_RESPONSE_TIME_MS": "60000",
        "OTEL_MONITORING_STATE_DIR": str(folder / "state"),
        # The package that the tests import, wherever another one may be installed.
        "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT))),
        "PATH": os.pathsep.join((scripts, os.environ.get("PATH", ""))),
        **env,
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*before, str(python), "-m", kind, *application, *address, *_PATIENT.get(kind, ()), *arguments],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    service = Service(process, f"http://127.0.0.1:{port}", log)
    try:
        if ready:
            eventually(lambda: (answer := service.ask(ready)) is not None and answer.status_code == 200, "it serves")
        yield service
    except BaseException:
        print(service.output[-20_000:])  # noqa: T201 - pytest shows it with the failure
        raise
    finally:
        service.client.close()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)
