"""Starts the example's processes: an embedded MongoDB-compatible server, services under uvicorn, workers."""

import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import httpx
from pymongo import MongoClient
from pymongo.errors import PyMongoError

T = TypeVar("T")

START_SECONDS = 60.0
STOP_SECONDS = 10.0


class PartFailedError(Exception):
    """A process did not start, or ended unexpectedly."""


class Part:
    """A process with its output in a log file, which ends when this process does.

    Args:
        name: The name in messages.
        command: The function to run, `module:function`.
        args: The arguments of the command line.
        log: The log file.
        env: Variables in addition to this process's; None removes one.
    """

    def __init__(self, name: str, command: str, args: Sequence[str], log: Path, env: Mapping[str, str | None]) -> None:
        self.name = name
        self.log = log
        environment = {**os.environ, **env, "PYTHONUNBUFFERED": "1"}
        with log.open("wb") as output:
            # In a session of its own: Ctrl-C in the terminal reaches the demo alone, which stops the parts in order.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "examples.earlybird.run_with_parent", command, *args],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={name: value for name, value in environment.items() if value is not None},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def check(self) -> None:
        """Check that the process runs.

        Raises:
            PartFailedError: It has ended. The message has the end of its log.
        """
        code = self._process.poll()
        if code is not None:
            lines = self.log.read_text(errors="replace").strip().splitlines()[-15:]
            raise PartFailedError("\n    ".join([f"{self.name} ended with exit code {code}:", *lines]))

    def wait_for(self, ready: Callable[[], T | None]) -> T:
        """Call `ready` until it returns something other than None, and return that.

        Raises:
            PartFailedError: The process has ended, or `START_SECONDS` have passed.
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self.check()
            if (answer := ready()) is not None:
                return answer
            time.sleep(0.05)
        raise PartFailedError(f"{self.name} was not ready after {START_SECONDS:.0f} s")

    def stop(self) -> None:
        try:
            self._process.terminate()
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._process.kill()
            self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()


@contextmanager
def running(part: Part) -> Iterator[Part]:
    try:
        yield part
    finally:
        part.stop()


def embedded_mongodb(directory: Path, port: int = 0) -> Part:
    """Start `nx-27017` with its data in `directory`, on `port` or a free one (0); `mongodb_uri` waits for it."""
    if importlib.util.find_spec("nx_27017") is None:
        raise PartFailedError("nx-27017 is not installed: pip install nx-27017, or set MONGODB_URI")
    (directory / "data").mkdir(exist_ok=True)
    args = ["--data-dir", str(directory / "data"), "--port", str(port), "--pid-file", str(directory / "mongodb.pid")]
    args += ["--log-file", str(directory / "nx-27017.log")]  # all servers of the machine share the default
    return Part("MongoDB", "nx_27017.nx_27017:main", args, directory / "mongodb.log", {})


def mongodb_uri(server: Part) -> str:
    """Wait until an embedded server answers a ping; returns its URI."""

    def listening() -> str | None:
        # The server chose its port itself, so that no other process can take it in between.
        found = re.search(r"Listening on (127\.0\.0\.1:\d+)", server.log.read_text(errors="replace"))
        return f"mongodb://{found[1]}" if found else None

    uri = server.wait_for(listening)
    server.wait_for(lambda: ping(uri))
    return uri


def ping(uri: str) -> bool | None:
    """True where a MongoDB answers at `uri`, else None."""
    client: MongoClient[dict[str, object]] = MongoClient(uri, serverSelectionTimeoutMS=1000)
    try:
        client.admin.command("ping")
    except PyMongoError:
        return None
    else:
        return True
    finally:
        client.close()


def api(port: int, directory: Path, env: Mapping[str, str | None]) -> Part:
    """Start the API on 127.0.0.1; `api_ready` waits for it."""
    return _served("The API", "examples.earlybird.app:app", port, directory / "api.log", env)


def delivery_service(port: int, directory: Path, env: Mapping[str, str | None]) -> Part:
    """Start the delivery service on 127.0.0.1; `api_ready` waits for it."""
    app = "examples.earlybird.delivery_service:app"
    return _served("The delivery service", app, port, directory / "delivery.log", env)


def _served(name: str, app: str, port: int, log: Path, env: Mapping[str, str | None]) -> Part:
    args = [app, "--host", "127.0.0.1", "--port", str(port)]
    args += ["--no-access-log", "--timeout-graceful-shutdown", "3"]
    return Part(name, "uvicorn:main", args, log, env)


def worker(module: str, directory: Path, env: Mapping[str, str | None]) -> Part:
    """Start the worker in `examples.earlybird.<module>`."""
    name = f"The {module.replace('_', ' ')}"
    return Part(name, f"examples.earlybird.{module}:main", [], directory / f"{module}.log", env)


def api_ready(server: Part, url: str) -> None:
    """Wait until the API answers at `url`."""

    def answers() -> bool | None:
        try:
            return httpx.get(url, timeout=2, trust_env=False).status_code == 200 or None
        except httpx.TransportError:
            return None

    server.wait_for(answers)
