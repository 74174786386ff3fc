"""`Database`: one connection to a SQLite file that threads, processes and forks share safely."""

import ctypes
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar
from weakref import finalize

from otel_monitoring.alerts.store import schema
from otel_monitoring.alerts.store.fork_safety import around_fork
from otel_monitoring.alerts.store.state_file import Identity, StateFile
from otel_monitoring.errors import StoreError
from otel_monitoring.forks import renewed
from otel_monitoring.redact import redact

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA journal_size_limit = 4194304",
    "PRAGMA trusted_schema = OFF",
)
_inherited: dict[Identity | None, sqlite3.Connection] = {}
"""The connections this process has by inheritance, by their files."""


class Database:
    """Runs work on a SQLite file, opened when first used.

    Every failure is a `StoreError` whose message names the file. A damaged file is set aside and a new one begun; a
    file that was moved or deleted under us is let go. A connection is closed by `close`, or when its `Database` goes,
    at the latest when the process ends: never by the garbage collector, which complains from Python 3.13 on.

    Args:
        path: Where the file is, absolute.
        busy_timeout: Seconds to wait for another process at most.
    """

    def __init__(self, path: Path, *, busy_timeout: float) -> None:
        self._file = StateFile(path)
        self._busy_timeout = busy_timeout
        self._lock = renewed(self, "_lock", threading.RLock)
        self._connection: sqlite3.Connection | None = None
        self._end: finalize[..., Database] | None = None
        self._identity: Identity | None = None
        self._pid = os.getpid()
        self._exclusive = False
        self._failed = False
        self._held_for_fork = False
        around_fork(self)

    def read(self, work: Work[T]) -> T:
        """What `work` returns, which is one statement and reads only."""
        with self._lock, self._reporting():
            return self._attempt(work)

    def write(self, work: Work[T]) -> T:
        """What `work` returns, run in a transaction."""
        with self._lock, self._reporting():
            return self._attempt(work if self._exclusive else lambda connection: _transact(connection, work))

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """One transaction for every `read` and `write` of this thread inside; others wait."""
        with self._lock:
            if self._exclusive:
                raise RuntimeError("a store's transactions are not nested")
            with self._reporting():
                connection = self._attempt(_begin)
            self._exclusive, self._failed = True, False
            try:
                yield
                with self._reporting():
                    self._commit(connection)
            except BaseException:
                with suppress(sqlite3.Error):
                    _roll_back(connection)
                raise
            finally:
                self._exclusive = False

    def close(self) -> None:
        """Give the connection back. The next use opens another."""
        with self._lock, self._reporting():
            self._release()

    # Forks: a child that opens a file which it has open already, by inheritance, gets none of the locks it needs
    # (SQLite believes that this process holds them), and loses what it writes. So nothing is open during a fork.

    def before_fork(self) -> None:
        """Close the connection, unless a transaction keeps it longer than anybody should wait."""
        self._held_for_fork = self._lock.acquire(timeout=self._busy_timeout)
        if self._held_for_fork and not self._exclusive:
            self._release()

    def after_fork_in_parent(self) -> None:
        """Let the other threads go on."""
        if self._held_for_fork:
            self._held_for_fork = False
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Begin anew."""
        self._held_for_fork = False
        self._disinherit()

    def _disinherit(self) -> None:
        """Never touch a connection of the parent; nor, in this process, its file."""
        connection = self._let_go()
        if connection is not None:
            _inherited[self._identity] = connection
            _keep_for_ever(connection)
        self._pid, self._exclusive = os.getpid(), False

    # Opening

    def _current(self) -> sqlite3.Connection:
        if self._pid != os.getpid():
            self._disinherit()
        if self._connection is not None and (self._exclusive or self._file.identity() == self._identity):
            return self._connection
        if self._exclusive:
            raise StoreError("the process was forked, or the file lost, in the middle of a transaction")
        self._release()
        with self._file.alone(self._busy_timeout):
            if self._file.identity() in _inherited:
                raise StoreError("open in the parent process while this one was forked")
            try:
                connection = self._open()
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                self._file.set_aside(redact(error))
                connection = self._open()
            self._connection, self._identity = connection, self._file.identity()
            self._end = finalize(self, _end, connection, self._file, self._lock, self._busy_timeout, os.getpid())
        return connection

    def _let_go(self) -> sqlite3.Connection | None:
        """The connection, if there is one, for the caller to close."""
        if self._end is not None:
            self._end.detach()
        connection, self._connection = self._connection, None
        return connection

    def _open(self) -> sqlite3.Connection:
        self._file.create()
        connection = sqlite3.connect(
            self._file.path, timeout=self._busy_timeout, isolation_level=None, check_same_thread=False
        )
        # Damage may be such that only one value is no text any more.
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")
        try:
            # First of all: nothing in a file of a newer version is changed.
            schema.current(connection)
            for pragma in _PRAGMAS:
                connection.execute(pragma)
            schema.prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _release(self) -> None:
        connection = self._let_go()
        if connection is not None:
            _close(connection, self._file, self._busy_timeout)

    # Working

    def _attempt(self, work: Work[T]) -> T:
        """Run `work`; where that finds the file damaged, run it again on a new one, unless it is part of more."""
        try:
            return work(self._current())
        except sqlite3.DatabaseError as error:
            self._failed = True
            if not _is_damage(error):
                if "I/O" in str(error) and not self._exclusive:
                    # A connection that met one may never work again; the file may.
                    self._release()
                raise
            self._set_aside(redact(error))
            if self._exclusive:
                raise
            return work(self._current())

    def _set_aside(self, reason: str) -> None:
        connection = self._let_go()
        if connection is None:
            return
        with self._file.alone(self._busy_timeout):
            connection.close()
            # Otherwise another worker was faster.
            if self._file.identity() == self._identity:
                self._file.set_aside(reason)

    def _commit(self, connection: sqlite3.Connection) -> None:
        # After some errors SQLite has rolled back by itself: what came after would stand alone.
        if self._failed or not connection.in_transaction:
            raise StoreError("a statement failed earlier in the transaction")
        connection.execute("COMMIT")

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, StoreError) as error:
            self._failed = True
            raise StoreError(f"{self._file.path.name}: {redact(error)}") from error


def _close(connection: sqlite3.Connection, file: StateFile, timeout: float) -> None:
    """Close `connection`, while nobody sets the file aside.

    Closing deletes the write-ahead log by its name. SQLite looks before whether its file still has its own name: in
    between, the log must not become that of a new file.
    """
    with ExitStack() as stack:
        with suppress(StoreError, OSError):
            stack.enter_context(file.alone(timeout))
        connection.close()


def _end(connection: sqlite3.Connection, file: StateFile, lock: threading.RLock, timeout: float, pid: int) -> None:
    """Close `connection` for a `Database` that goes, unless it is a parent's or a thread is at work with it."""
    if pid != os.getpid() or not lock.acquire(timeout=timeout):
        _keep_for_ever(connection)
        return
    try:
        with suppress(sqlite3.Error):
            if file.identity() is None:
                connection.close()
            else:
                _close(connection, file, timeout)
    finally:
        lock.release()


def _transact(connection: sqlite3.Connection, work: Work[T]) -> T:
    _begin(connection)
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        _roll_back(connection)
        raise
    return result


def _begin(connection: sqlite3.Connection) -> sqlite3.Connection:
    connection.execute("BEGIN IMMEDIATE")
    try:
        # A newer version of this package may have migrated it since it was opened.
        schema.current(connection)
    except BaseException:
        _roll_back(connection)
        raise
    return connection


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """SQLITE_CORRUPT and SQLITE_NOTADB are the ones `sqlite3` has no class of its own for."""
    return type(error) is sqlite3.DatabaseError


def _keep_for_ever(connection: sqlite3.Connection) -> None:
    """Have it never closed, not even at the end of the interpreter, which clears every container."""
    with suppress(AttributeError):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
