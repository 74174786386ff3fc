"""Real MongoDB-compatible servers for tests, each its own process on a free port of the loopback."""

import os
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import unavailable
from tests.integration.builds import FERRETDB, BuildError, Program
from tests.ports import free_port
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
NX27017_VARIABLE = "OTEL_MONITORING_TEST_NX27017"

_START_SECONDS = PATIENCE


class Server:
    """A server process that can be killed, frozen and started again on the same port.

    Args:
        name: For error messages.
        command: How to start it; `{port}` and `{directory}` are filled in.
        directory: Where it keeps its data and its output.
        environment: Variables that it gets besides those of the test; `{port}` and `{directory}` are filled in.
    """

    def __init__(
        self, name: str, command: list[str], directory: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.port = free_port()
        self._command = [part.format(port=self.port, directory=directory) for part in command]
        given = {name: value.format(port=self.port, directory=directory) for name, value in (environment or {}).items()}
        self._environment = {**os.environ, **given}
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
                self._command,
                stdout=output,
                stderr=output,
                cwd=self._directory,
                env=self._environment,
                start_new_session=True,
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
def nx27017(database: str = "memory") -> Iterator[Server]:
    """A running `nx-27017`, in memory, or in the file `database`, which outlives a restart."""
    command = [str(_nx27017_path()), "--db", database, "--host", "127.0.0.1", "-p", "{port}"]
    with running(
        "nx-27017", [*command, "--log-file", "{directory}/server.log", "--pid-file", "{directory}/pid"]
    ) as server:
        yield server


@contextmanager
def ferretdb() -> Iterator[Server]:
    """A running FerretDB over SQLite; built first, once, where it has not been."""
    with running("FerretDB", [str(made(FERRETDB)), "127.0.0.1:{port}", "{directory}"]) as server:
        yield server


def made(program: Program) -> Path:
    """The executable of a program, built first, once, where it has not been."""
    try:
        return program.build()
    except BuildError as error:
        unavailable(str(error))


@contextmanager
def running(name: str, command: list[str], environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Any server that listens on the port it is told, in a folder of its own; see `Server`."""
    with tempfile.TemporaryDirectory(prefix="otel-monitoring-test-") as directory:
        server = Server(name, command, Path(directory), environment)
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
