"""Load that is counted, for tests of a service of several processes."""

import http.client
import itertools
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.waiting import PATIENCE

_LATELY_SECONDS = 60.0


class RefusedError(Exception):
    """Nobody listens: nothing was sent."""


class BrokenError(Exception):
    """The connection broke: the request may have been handled or not."""


def ask(port: int, path: str, method: str = "GET") -> tuple[int, Any]:
    """The status and the JSON of an answer, by a connection of its own, so that each worker has its turn."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        try:
            connection.connect()
        except ConnectionError as error:
            raise RefusedError from error
        try:
            connection.request(method, path, headers={"Connection": "close"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        except (OSError, http.client.HTTPException) as error:
            raise BrokenError from error
    finally:
        connection.close()


class Load:
    """Requests to `/orders/{number}` of each port, from threads, until it is left; it knows what it sent.

    Args:
        ports: Where the hosts listen.
        threads: How many threads send to each of them.
        pause: Seconds between two requests of a thread.

    Attributes:
        answered: The answers, by class of status, and by method.
        unclear: Requests whose connection broke: they may have counted.
    """

    def __init__(self, ports: Sequence[int], *, threads: int = 1, pause: float = 0.05) -> None:
        self.answered: Counter[str] = Counter()
        self.unclear = 0
        self._pause = pause
        self._numbers = itertools.count(1)
        self._lock = threading.Condition()
        self._lately: deque[tuple[float, int]] = deque()
        self._sending = 0
        self._paused = self._ended = False
        self._threads = [
            threading.Thread(target=self._run, args=(port,), daemon=True) for port in ports for _ in range(threads)
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._ended, self._paused = True, False
            self._lock.notify_all()
        for thread in self._threads:
            thread.join()

    @property
    def total(self) -> int:
        return self.answered["GET"] + self.answered["POST"]

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Send nothing, and have no request under way."""
        with self._lock:
            self._paused = True
            assert self._lock.wait_for(lambda: self._sending == 0, PATIENCE), "a request has no answer"
        try:
            yield
        finally:
            with self._lock:
                self._paused = False
                self._lock.notify_all()

    def grows(self, by: int) -> None:
        """Wait until so many more were answered."""
        wanted = self.total + by
        with self._lock:
            assert self._lock.wait_for(lambda: self.total >= wanted, PATIENCE), "the load is not answered"

    def lately(self, pids: Sequence[int], seconds: float) -> int:
        """How many answers these processes gave within so many seconds."""
        with self._lock:
            return sum(at > time.monotonic() - seconds and pid in pids for at, pid in self._lately)

    def _run(self, port: int) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: not self._paused)
                if self._ended:
                    return
                self._sending += 1
                number = next(self._numbers)
            try:
                self._send(port, number)
            finally:
                with self._lock:
                    self._sending -= 1
                    self._lock.notify_all()
            time.sleep(self._pause)

    def _send(self, port: int, number: int) -> None:
        try:
            method = "POST" if number % 5 == 0 else "GET"
            status, pid = ask(port, f"/orders/{number}", method)
        except RefusedError:
            return
        except BrokenError:
            with self._lock:
                self.unclear += 1
            return
        with self._lock:
            self.answered.update((f"{status // 100}xx", method))
            now = time.monotonic()
            self._lately.append((now, pid if isinstance(pid, int) else 0))
            while self._lately[0][0] < now - _LATELY_SECONDS:
                self._lately.popleft()
