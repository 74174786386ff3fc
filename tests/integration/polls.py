"""Polls of `/api/health/metrics`, in a process of their own, that must never see a count go back."""

import asyncio
import json
import subprocess
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from tests.integration.builds import ROOT
from tests.waiting import PATIENCE

LATE = "not exchanged within"
COUNTS = ("requests_recorded", "success_count", "error_count", "client_error_count")

_AT_ONCE = 32
"""Polls of a host that may be under way: those that wait for the database, two seconds each, hold up no others."""
_BEHIND_SECONDS = 1.0
"""How much of the time that a busy machine took is made up for."""
_REUSED = 10
"""Polls of a connection: the next one may lead to another worker."""
_IDLE_SECONDS = 2.0
"""How long a connection is kept without a poll; uvicorn closes it after five."""
_FAULTS_LIMIT = 20


class Polls:
    """Polls of `/api/health/metrics`, twenty a second, that must never see a count go back.

    What a host says is never less than what any host had said when it was asked. Where it says that it is incomplete,
    because the database is out of its reach, it is never less than what this host has said so; and what it says later
    is not. Where the store is a file, that holds for each process alone: what one says without it, no other one knows.

    Args:
        ports: Where the hosts listen.
        a_second: How many polls a second, of all hosts together.
        in_file: Whether the store is a file.

    Attributes:
        count: How many there were.
        seconds: For how long.
        incomplete: How many were incomplete.
        late: Of these, how many were older ones, because the processes had no time to exchange what they measured.
        unanswered: How many had no answer, because a host or a worker was killed.
        faults: What was wrong with answers.
    """

    def __init__(self, ports: Sequence[int], *, a_second: float = 20.0, in_file: bool = False) -> None:
        self.count = self.incomplete = self.late = self.unanswered = 0
        self.seconds = 0.0
        self.faults: list[str] = []
        self._command = [sys.executable, "-m", __name__, str(a_second), str(int(in_file)), *map(str, ports)]
        self._process: subprocess.Popen[str]

    def __enter__(self) -> "Polls":
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self.check()
        finally:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(PATIENCE)
            assert self._process.stdout is not None
            self._process.stdout.close()

    def check(self) -> None:
        """Bring the attributes up to date; fails where there is a fault."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        vars(self).update(json.loads(self._process.stdout.readline()))
        assert self.faults == [], self.faults

    def __str__(self) -> str:
        rate = (self.count + self.unanswered) / self.seconds if self.seconds else 0.0
        return (
            f"{self.count} polls ({rate:.1f} a second), {self.incomplete} incomplete, {self.late} late, "
            f"{self.unanswered} lost"
        )


class _Poller:
    """Polls hosts, in one event loop.

    Args:
        ports: Where the hosts listen.
        a_second: How many polls a second, of all hosts together.
        in_file: Whether the store is a file.
    """

    def __init__(self, ports: Sequence[int], a_second: float, *, in_file: bool) -> None:
        self._in_file = in_file
        self.found: dict[str, int] = dict.fromkeys(("count", "incomplete", "late", "unanswered"), 0)
        self.faults: list[str] = []
        self._of_all: dict[str, int] = {}
        self._of_port: dict[int, dict[str, int]] = {port: {} for port in ports}
        self._interval = len(ports) / a_second
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._polling = [asyncio.create_task(self._poll_host(port)) for port in ports]

    def report(self) -> str:
        return json.dumps({**self.found, "faults": self.faults, "seconds": self._loop.time() - self._began})

    async def _poll_host(self, port: int) -> None:
        """Begin a poll each interval."""
        # The one that was used last is taken first.
        idle: asyncio.LifoQueue[_Connection] = asyncio.LifoQueue()
        for _ in range(_AT_ONCE):
            idle.put_nowait(_Connection(port))
        polls: set[asyncio.Task[None]] = set()
        due = self._loop.time()
        while True:
            connection = await idle.get()
            due = max(due, self._loop.time() - _BEHIND_SECONDS)
            await asyncio.sleep(due - self._loop.time())
            due += self._interval
            poll = asyncio.create_task(self._poll(connection))
            polls.add(poll)
            poll.add_done_callback(polls.discard)
            poll.add_done_callback(lambda _, connection=connection: idle.put_nowait(connection))  # type: ignore[misc]

    async def _poll(self, connection: "_Connection") -> None:
        of_port = self._of_port[connection.port]
        of_all_before, of_port_before = dict(self._of_all), dict(of_port)
        try:
            status, body = await asyncio.wait_for(connection.ask("/api/health/metrics"), PATIENCE)
        except (OSError, EOFError, asyncio.TimeoutError):
            self.found["unanswered"] += 1
            return
        if status != 200:
            self._fault(f"{status}: {body!r}")
            return
        answer = json.loads(body)
        counts = {name: answer[name] for name in COUNTS}
        reason = answer.get("incomplete", "")
        self.found["count"] += 1
        self.found["incomplete"] += bool(reason)
        self.found["late"] += LATE in reason
        if LATE in reason or (reason and self._in_file):
            return
        self._compare(of_port_before, counts, f"port {connection.port}, {reason or 'complete'}")
        if reason:
            _raise(of_port, counts)
        else:
            self._compare(of_all_before, counts, "all hosts")
            _raise(self._of_all, counts)

    def _compare(self, before: dict[str, int], counts: dict[str, int], whose: str) -> None:
        for name, value in counts.items():
            if value < before.get(name, 0):
                self._fault(f"{whose}: {name} went back from {before[name]} to {value}")

    def _fault(self, text: str) -> None:
        if len(self.faults) < _FAULTS_LIMIT:
            self.faults.append(text)


def _raise(before: dict[str, int], counts: dict[str, int]) -> None:
    before.update({name: max(value, before.get(name, 0)) for name, value in counts.items()})


class _Connection:
    """A connection to a host that is kept for a few polls."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._streams: tuple[StreamReader, StreamWriter] | None = None
        self._asked = 0
        self._idle_since = 0.0

    async def ask(self, path: str) -> tuple[int, bytes]:
        """The status and the body.

        Raises:
            OSError, EOFError: Nobody listens, or the connection broke.
        """
        now = asyncio.get_running_loop().time
        if self._streams is not None and now() - self._idle_since > _IDLE_SECONDS:
            self._streams[1].close()
            self._streams = None
        if self._streams is None:
            self._streams, self._asked = await asyncio.open_connection("127.0.0.1", self.port), 0
        reader, writer = self._streams
        self._asked += 1
        last, answered = self._asked == _REUSED, False
        try:
            ends = "close" if last else "keep-alive"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: {ends}\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            found = int(head.split(" ", 2)[1]), await reader.readexactly(int(_header(head, "content-length")))
            answered = not last and _header(head, "connection") != "close"
            self._idle_since = now()
            return found
        finally:
            if not answered:
                self._streams = None
                with suppress(OSError):
                    writer.close()


def _header(head: str, name: str) -> str:
    return next((line.partition(":")[2].strip() for line in head.split("\r\n") if line.startswith(f"{name}:")), "")


async def _main(a_second: float, in_file: int, *ports: int) -> None:
    """Poll until standard input ends; for each line there, print what was found."""
    poller: Any = _Poller(ports, a_second, in_file=bool(in_file))
    while await asyncio.to_thread(sys.stdin.readline):
        print(poller.report(), flush=True)  # noqa: T201 - the answer to who asks


if __name__ == "__main__":
    asyncio.run(_main(float(sys.argv[1]), *map(int, sys.argv[2:])))
