"""The stores under real processes: shared, killed, forked, on a full disk, on damaged and read-only files."""

import ctypes
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from otel_monitoring.alerts.model import AlertType
from otel_monitoring.alerts.store import Store
from otel_monitoring.alerts.store.fallback import RETRY_SECONDS, FallbackStore
from otel_monitoring.alerts.store.sqlite import SqliteStore
from otel_monitoring.testing import ManualClock
from tests.alerts.store.test_store import NOW, event, messages, raise_alert, waiting
from tests.conftest import unavailable
from tests.waiting import PATIENCE, eventually

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, signals and mounts of Linux"),
    # The test process may have threads of its own; the children use nothing of theirs.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]
PATIENT = 20.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "alerts.db"


def forked(work: Callable[[], object], fork: Callable[[], int] = os.fork) -> int:
    """Run `work` in a child; its number."""
    pid = fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001 - whatever happened, this process is not to go on with the tests
        traceback.print_exc()
    finally:
        os._exit(status)


def ended(pid: int) -> int:
    def ask() -> tuple[int, int] | None:
        found = os.waitpid(pid, os.WNOHANG)
        return found if found[0] else None

    return os.waitstatus_to_exitcode(eventually(ask, f"process {pid} ends")[1])


def sound(path: Path) -> bool:
    connection = sqlite3.connect(path)
    try:
        return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))
    finally:
        connection.close()


class Workers:
    """Processes that each have a store on the same file and do what they are asked, all at once."""

    def __init__(self, path: Path, count: int) -> None:
        context = get_context("fork")
        self.pipes: dict[int, Connection] = {}
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=self._serve, args=(path, theirs), daemon=True)
            process.start()
            theirs.close()
            assert process.pid is not None
            self.pipes[process.pid] = ours

    @staticmethod
    def _serve(path: Path, pipe: Connection) -> None:
        store = SqliteStore(path, busy_timeout=PATIENT)
        while (asked := pipe.recv()) is not None:
            method, arguments = asked
            pipe.send(attrgetter(method)(store)(*arguments))
        store.close()

    def ask(self, method: str, argument: Callable[[int], tuple[Any, ...]]) -> dict[int, Any]:
        for pid, pipe in self.pipes.items():
            pipe.send((method, argument(pid)))
        return {pid: pipe.recv() for pid, pipe in self.pipes.items() if pipe.poll(PATIENCE)}

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        self.pipes.pop(pid).close()

    def stop(self) -> None:
        for pipe in self.pipes.values():
            pipe.send(None)
            pipe.close()


@pytest.fixture
def workers(path: Path) -> Iterator[Workers]:
    workers = Workers(path, 4)
    yield workers
    workers.stop()


# Shared


def test_four_processes_lose_nothing_of_each_other(path: Path) -> None:
    def work() -> None:
        store = SqliteStore(path, busy_timeout=PATIENT)

        def count(tx: Store) -> None:
            tx.incidents.save({"n": str(int(tx.incidents.saved().get("n", "0")) + 1)})
            tx.history.append(event(f"{os.getpid()}"))
            tx.outbox.enqueue([event(f"{os.getpid()}")], ["mail", "slack"], NOW)

        for _ in range(50):
            store.run(count)

    children = [forked(work) for _ in range(4)]
    assert [ended(pid) for pid in children] == [0] * 4
    store = SqliteStore(path)
    assert store.incidents.saved() == {"n": "200"}
    assert store.history.counts() == {AlertType.HIGH_CPU: 200}
    assert store.outbox.backlog() == {"mail": 200, "slack": 200}
    assert sorted(messages(store)) == sorted([str(pid) for pid in children] * 50)
    store.close()


def test_one_of_four_leads_and_another_takes_over(workers: Workers) -> None:
    leaders = []
    for tick in range(60):
        granted = workers.ask("leases.lead", lambda pid, now=NOW + tick: (str(pid), now, now + 5))  # type: ignore[misc]
        leading = [pid for pid, yes in granted.items() if yes]
        assert len(leading) <= 1
        leaders.append(leading[0] if leading else None)
        if tick in (20, 40):
            assert leading
            workers.kill(leading[0])
    first, second, third = leaders[0], leaders[25], leaders[45]
    assert leaders == [first] * 21 + [None] * 4 + [second] * 16 + [None] * 4 + [third] * 15
    assert len({first, second, third}) == 3


def test_four_workers_that_notice_damage_at_once_meet_in_one_new_file(path: Path, workers: Workers) -> None:
    for round_ in range(5):
        workers.ask("history.append", lambda pid: (event(str(pid)),))
        store = SqliteStore(path, busy_timeout=PATIENT)
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        with path.open("r+b") as file:
            file.write(random.Random(round_).randbytes(path.stat().st_size))
        workers.ask("history.append", lambda pid: (event(f"new {pid}"),))
        assert sorted(messages(store)) == sorted(f"new {pid}" for pid in workers.pipes)
        store.close()
        assert len(list(path.parent.glob("*.corrupt-*Z"))) == min(3, round_ + 1)
        assert sound(path)


# Killed


def test_whatever_is_killed_leaves_a_consistent_store(path: Path) -> None:
    chance = random.Random(7)
    written = 0
    told = os.pipe()

    def work() -> None:
        store = SqliteStore(path, busy_timeout=PATIENT)

        def transaction(tx: Store) -> None:
            number = int(tx.incidents.saved().get("n", "0")) + 1
            tx.history.append(event(str(number), details={"filling": "x" * 2000}))
            tx.outbox.enqueue([event(str(number))], ["mail", "slack"], NOW)
            tx.reports.publish("worker", str(number).encode() * 9000, NOW)
            tx.incidents.save({"n": str(number)})

        while True:
            store.run(transaction)
            os.write(told[1], b"1")
            if chance.random() < 0.2:
                store.close()

    for _ in range(30):
        child = forked(work)
        for _ in range(chance.randrange(6)):
            os.read(told[0], 1)
        time.sleep(chance.uniform(0, 0.004))
        os.kill(child, signal.SIGKILL)
        assert ended(child) == -signal.SIGKILL
        store = SqliteStore(path)
        number = int(store.incidents.saved().get("n", "0"))
        assert store.history.counts().get(AlertType.HIGH_CPU, 0) == number
        assert messages(store, 1) == ([str(number)] if number else [])
        assert [waiting(store, name) for name in ("mail", "slack")] == [
            [str(n) for n in range(written + 1, number + 1)]
        ] * 2
        assert store.reports.published(NOW) == ({"worker": (NOW, str(number).encode() * 9000)} if number else {})
        for name in ("mail", "slack"):
            store.outbox.settle([row.id for row in store.outbox.pending(name, 1000)])
        store.close()
        assert sound(path)
        written = number
    assert written > 30
    assert not list(path.parent.glob("*.corrupt-*"))
    for descriptor in told:
        os.close(descriptor)


# Forked


def test_a_child_writes_through_a_connection_of_its_own(path: Path) -> None:
    """Were the parent's still open at the fork, the child would get no locks, and its log deleted under it."""
    store = SqliteStore(path)
    store.history.append(event("parent"))
    go, gone = os.pipe(), os.pipe()

    def work() -> None:
        store.history.append(event("child 1"))
        os.write(gone[1], b"1")
        os.read(go[0], 1)
        store.history.append(event("child 2"))

    child = forked(work)
    os.read(gone[0], 1)
    store.history.append(event("parent 2"))
    store.close()
    os.write(go[1], b"1")
    assert ended(child) == 0
    assert messages(store) == ["child 2", "parent 2", "child 1", "parent"]
    store.close()
    for descriptor in (*go, *gone):
        os.close(descriptor)


def test_forks_while_threads_write(path: Path) -> None:
    store = FallbackStore(SqliteStore(path, busy_timeout=PATIENT))
    stop = threading.Event()
    added: list[int] = []

    def add() -> None:
        while not stop.is_set():
            store.run(lambda tx: tx.history.append(event("thread")))
            added.append(1)

    threads = [threading.Thread(target=add) for _ in range(2)]
    for thread in threads:
        thread.start()
    children = [forked(lambda: store.run(lambda tx: tx.history.append(event("child")))) for _ in range(12)]
    assert [ended(pid) for pid in children] == [0] * 12
    stop.set()
    for thread in threads:
        thread.join()
    assert store.problem is None
    assert store.history.counts() == {AlertType.HIGH_CPU: len(added) + 12}
    store.close()
    assert sound(path)


def test_a_connection_inherited_against_our_will_is_never_used(path: Path) -> None:
    """A fork made in C tells nobody. Such a child goes on in memory: it could not lock the file."""
    store = FallbackStore(SqliteStore(path))
    store.history.append(event("parent"))
    result = path.with_suffix(".txt")

    def work() -> None:
        store.history.append(event("child"))
        result.write_text(f"{store.problem} {messages(store)}")

    child = forked(work, fork=ctypes.PyDLL(None).fork)
    assert ended(child) == 0
    assert result.read_text() == "alerts.db: open in the parent process while this one was forked ['child']"
    store.history.append(event("parent 2"))
    assert messages(store) == ["parent 2", "parent"]
    store.close()
    assert sound(path)


# Locked


def test_a_process_that_holds_the_lock_too_long_is_not_waited_for(path: Path) -> None:
    clock = ManualClock(NOW)
    store = FallbackStore(SqliteStore(path, busy_timeout=0.1), clock=clock)
    store.history.append(event("before"))
    ready = os.pipe()

    def work() -> None:
        holder = SqliteStore(path)
        with holder.exclusive():
            os.write(ready[1], b"1")
            time.sleep(PATIENCE)

    holder = forked(work)
    os.read(ready[0], 1)
    store.outbox.enqueue([event("meanwhile")], ["mail"], NOW)
    assert store.problem == "alerts.db: database is locked"
    os.kill(holder, signal.SIGKILL)
    assert ended(holder) == -signal.SIGKILL
    clock.now += RETRY_SECONDS
    assert waiting(store, "mail") == ["meanwhile"]
    assert store.problem is None
    store.close()
    for descriptor in ready:
        os.close(descriptor)


# Full and read-only disks


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(folder)]
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk; the limit of a file's size is tried anyway")
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        unavailable("root may not mount a small disk here: in a container, docker run --privileged")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S607


def fill(folder: Path) -> Path:
    filling = folder / "filling"
    with filling.open("wb", buffering=0) as file:
        for size in (65_536, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return filling


def test_a_full_disk_is_memory_until_there_is_room(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock(NOW)
    with small_disk(tmp_path / "disk") as disk:
        store = FallbackStore(SqliteStore(disk / "alerts.db"), clock=clock)
        assert store.leases.lead("worker", NOW, NOW + 60, ["channel:mail"])
        store.outbox.enqueue([event("before")], ["mail"], NOW)
        store.incidents.save({"rule": "firing"})
        filling = fill(disk)
        for number in range(300):
            store.run(partial(raise_alert, message=f"{number}", channels=["mail"]))
        assert store.problem == "alerts.db: database or disk is full"
        assert len(caplog.messages) == 1
        assert store.incidents.saved() == {"rule": "firing"}
        expected = ["before", *(str(number) for number in range(300))]
        assert sorted(waiting(store, "mail")) == sorted(expected)
        filling.unlink()
        clock.now += RETRY_SECONDS
        assert waiting(store, "mail") == expected
        assert store.problem is None
        assert messages(store) == expected[:0:-1]
        store.close()
        again = SqliteStore(disk / "alerts.db")
        assert waiting(again, "mail") == expected
        again.close()
        assert sound(disk / "alerts.db")


def test_a_disk_full_from_the_start_or_read_only_is_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock(NOW)
    with small_disk(tmp_path / "disk") as disk:
        filling = fill(disk)
        store = FallbackStore(SqliteStore(disk / "alerts.db"), clock=clock)
        store.history.append(event("full"))
        assert store.problem is not None
        filling.unlink()
        clock.now += RETRY_SECONDS
        assert messages(store) == ["full"]
        assert store.problem is None
        store.close()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)  # noqa: S607
        store.history.append(event("read-only"))
        assert store.problem is not None
        assert "Read-only" in store.problem
        assert messages(store, 1) == ["read-only"]
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)  # noqa: S607
        clock.now += RETRY_SECONDS
        assert messages(store) == ["read-only", "full"]
        store.close()
    assert len(caplog.messages) == 1


def test_a_limit_of_the_size_of_files_is_memory(path: Path) -> None:
    store = SqliteStore(path)
    store.history.append(event("before"))
    store.close()

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
        limited = FallbackStore(SqliteStore(path))
        for number in range(300):
            limited.run(lambda tx, text=f"{number}": tx.history.append(event(text)))  # type: ignore[misc]
        assert limited.problem is not None
        assert len(messages(limited)) == 301

    assert ended(forked(work)) == 0
    kept = messages(store)
    assert kept[-1] == "before"
    assert kept[:-1] == [str(number) for number in reversed(range(len(kept) - 1))]
    store.close()
    assert sound(path)
