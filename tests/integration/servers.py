"""Real MongoDB-compatible servers for tests, each its own process on a free port of the loopback.

`python -m tests.integration.servers build` builds FerretDB beforehand; otherwise the first test that needs it does.
"""

import fcntl
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import unavailable

ROOT = Path(__file__).parents[2]
FERRETDB_SOURCE = Path(__file__).parent / "ferretdb"
NX27017_VARIABLE = "OTEL_MONITORING_TEST_NX27017"

_START_SECONDS = 30.0


class Server:
    """A server process that can be killed, frozen and started again on the same port.

    Args:
        name: For error messages.
        command: How to start it; `{port}` and `{directory}` are filled in.
        directory: Where it keeps its data and its output.
    """

    def __init__(self, name: str, command: list[str], directory: Path) -> None:
        self.name = name
        self.port = _free_port()
        self._command = [part.format(port=self.port, directory=directory) for part in command]
        self._output = directory / "output.log"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}"

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, stdout=output, stderr=output, cwd=self._directory, start_new_session=True
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._accepts():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.name} did not start:\n{self._output.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._signal(signal.SIGKILL)
        self._wait()

    def freeze(self) -> None:
        """Let it hang: connections are accepted by the kernel, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it, whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def _accepts(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(self.address) == 0

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def _wait(self) -> None:
        if self._process is not None:
            self._process.wait(timeout=10)


@contextmanager
def nx27017() -> Iterator[Server]:
    """A running `nx-27017`, in memory."""
    command = [str(_nx27017_path()), "--db", "memory", "--host", "127.0.0.1", "-p", "{port}"]
    with _running(
        "nx-27017", [*command, "--log-file", "{directory}/server.log", "--pid-file", "{directory}/pid"]
    ) as server:
        yield server


@contextmanager
def ferretdb() -> Iterator[Server]:
    """A running FerretDB over SQLite; built first, once, where it has not been."""
    with _running("FerretDB", [str(build_ferretdb()), "127.0.0.1:{port}", "{directory}"]) as server:
        yield server


@contextmanager
def _running(name: str, command: list[str]) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="otel-monitoring-test-") as directory:
        server = Server(name, command, Path(directory))
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _nx27017_path() -> Path:
    candidates = [
        os.environ.get(NX27017_VARIABLE, ""),
        str(Path(sysconfig.get_path("scripts")) / "nx-27017"),
        str(ROOT / ".venv" / "bin" / "nx-27017"),
    ]
    found = next((path for path in candidates if path and os.access(path, os.X_OK)), None)
    if found is None:
        unavailable(f"nx-27017 is missing: pip install nx-27017, or name the executable in {NX27017_VARIABLE}")
    return Path(found)


def build_ferretdb() -> Path:
    """The FerretDB executable, built into the user's cache on first use (about a minute).

    Kept by version and source; several processes asking at once build it once.
    """
    source = b"".join((FERRETDB_SOURCE / name).read_bytes() for name in ("main.go", "go.mod", "go.sum"))
    version = re.search(r"FerretDB/FerretDB v(\S+)", (FERRETDB_SOURCE / "go.mod").read_text())
    assert version is not None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otel_monitoring"
    folder = cache / f"ferretdb-{version[1]}-{hashlib.sha256(source).hexdigest()[:12]}"
    executable = folder / "ferretdb"
    if executable.exists():
        return executable
    go = shutil.which("go")
    if go is None:
        unavailable("FerretDB is built from source: install Go 1.24 or newer and put it on the PATH")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not executable.exists():
            _build(go, executable)
    return executable


def _build(go: str, executable: Path) -> None:
    partial = executable.with_suffix(".partial")
    done = subprocess.run(
        [go, "build", "-trimpath", "-o", str(partial), "."],
        cwd=FERRETDB_SOURCE,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if done.returncode != 0:
        unavailable(f"FerretDB could not be built (are its Go modules within reach?): {done.stderr[-500:]}")
    partial.rename(executable)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    if sys.argv[1:] != ["build"]:
        sys.exit("usage: python -m tests.integration.servers build")
    print(build_ferretdb())  # noqa: T201 - a command's answer
