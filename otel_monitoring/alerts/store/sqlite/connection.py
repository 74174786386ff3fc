"""`SqliteConnection`: one connection to a SQLite file that is safe with threads, several processes and forks."""

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

from otel_monitoring.alerts.store.sqlite import schema
from otel_monitoring.alerts.store.sqlite.fork_safety import register_fork_hooks
from otel_monitoring.alerts.store.sqlite.state_file import Identity, StateFile
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
    # KiB. SQLite's default of 2 MiB fills within days, mostly with pages that the system's file cache has, too.
    "PRAGMA cache_size = -512",
)
_inherited: dict[Identity | None, sqlite3.Connection] = {}
"""The connections that this process inherited in a fork, by the identity of their files."""


class SqliteConnection:
    """Runs work on a SQLite file, which is opened at the first use.

    Every failure is a `StoreError` whose message names the file. A damaged file is set aside, and a new one is created;
    a file that was moved or deleted is replaced by a new one. The connection is closed by `close`, when this object is
    collected, or when the process ends: never by its own finaliser, which warns from Python 3.13 on.

    Args:
        path: The absolute path of the file.
        busy_timeout: The most seconds to wait for another process.
    """

    def __init__(self, path: Path, *, busy_timeout: float) -> None:
        self._file = StateFile(path)
        self._busy_timeout = busy_timeout
        self._lock = renewed(self, "_lock", threading.RLock)
        self._connection: sqlite3.Connection | None = None
        self._finalizer: finalize[..., SqliteConnection] | None = None
        self._identity: Identity | None = None
        self._pid = os.getpid()
        self._exclusive = False
        self._failed = False
        self._locked_for_fork = False
        register_fork_hooks(self)

    def read(self, work: Work[T]) -> T:
        """Run `work`, a single statement that only reads, and return its result."""
        with self._lock, self._as_store_errors():
            return self._run(work)

    def write(self, work: Work[T]) -> T:
        """Run `work` in a transaction, and return its result."""
        with self._lock, self._as_store_errors():
            return self._run(work if self._exclusive else lambda connection: _transact(connection, work))

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """One transaction around every `read` and `write` inside; other threads and processes wait."""
        with self._lock:
            if self._exclusive:
                raise RuntimeError("a store's transactions are not nested")
            with self._as_store_errors():
                connection = self._run(_begin)
            self._exclusive, self._failed = True, False
            try:
                yield
                with self._as_store_errors():
                    self._commit(connection)
            except BaseException:
                with suppress(sqlite3.Error):
                    _roll_back(connection)
                raise
            finally:
                self._exclusive = False

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        with self._lock, self._as_store_errors():
            self._close()

    # Forks: a child that opens a file which it already has open by inheritance gets no locks, because SQLite believes
    # that the process holds them, and its writes are lost. The connection is therefore closed during a fork.

    def before_fork(self) -> None:
        """Close the connection, unless a transaction runs longer than the busy timeout."""
        self._locked_for_fork = self._lock.acquire(timeout=self._busy_timeout)
        if self._locked_for_fork and not self._exclusive:
            self._close()

    def after_fork_in_parent(self) -> None:
        """Release the lock."""
        if self._locked_for_fork:
            self._locked_for_fork = False
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Start without a connection."""
        self._locked_for_fork = False
        self._abandon_inherited()

    def _abandon_inherited(self) -> None:
        """Never use or close a connection of the parent, nor open its file in this process."""
        connection = self._detach()
        if connection is not None:
            _inherited[self._identity] = connection
            _leak(connection)
        self._pid, self._exclusive = os.getpid(), False

    # Opening

    def _current(self) -> sqlite3.Connection:
        """The open connection to the file that has the path now; opened if need be."""
        if self._pid != os.getpid():
            self._abandon_inherited()
        if self._connection is not None and (self._exclusive or self._file.identity() == self._identity):
            return self._connection
        if self._exclusive:
            raise StoreError("the process was forked, or the file was lost, during a transaction")
        self._close()
        with self._file.locked(self._busy_timeout):
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
            arguments = (connection, self._file, self._lock, self._busy_timeout, os.getpid())
            self._finalizer = finalize(self, _finalize, *arguments)
        return connection

    def _detach(self) -> sqlite3.Connection | None:
        """Give up the connection, if there is one; the caller closes it."""
        if self._finalizer is not None:
            self._finalizer.detach()
        connection, self._connection = self._connection, None
        return connection

    def _open(self) -> sqlite3.Connection:
        self._file.create()
        connection = sqlite3.connect(
            self._file.path, timeout=self._busy_timeout, isolation_level=None, check_same_thread=False
        )
        # A damaged file may contain a value that is no UTF-8.
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")
        try:
            # Before anything is written: a file of a newer version stays as it is.
            schema.current(connection)
            for pragma in _PRAGMAS:
                connection.execute(pragma)
            schema.prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _close(self) -> None:
        connection = self._detach()
        if connection is not None:
            _close_locked(connection, self._file, self._busy_timeout)

    # Working

    def _run(self, work: Work[T]) -> T:
        """Run `work`; if the file turns out to be damaged, run it again on a new file, unless inside `exclusive`."""
        try:
            return work(self._current())
        except sqlite3.DatabaseError as error:
            self._failed = True
            if not _is_damage(error):
                if "I/O" in str(error) and not self._exclusive:
                    # After an I/O error a connection may keep failing, although the file works again.
                    self._close()
                raise
            self._set_aside(redact(error))
            if self._exclusive:
                raise
            return work(self._current())

    def _set_aside(self, reason: str) -> None:
        connection = self._detach()
        if connection is None:
            return
        with self._file.locked(self._busy_timeout):
            connection.close()
            # With another identity, another worker has set the file aside already.
            if self._file.identity() == self._identity:
                self._file.set_aside(reason)

    def _commit(self, connection: sqlite3.Connection) -> None:
        # After some errors SQLite rolls back by itself: only the later statements would be committed.
        if self._failed or not connection.in_transaction:
            raise StoreError("a statement failed earlier in the transaction")
        connection.execute("COMMIT")

    @contextmanager
    def _as_store_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, StoreError) as error:
            self._failed = True
            raise StoreError(f"{self._file.path.name}: {redact(error)}", busy=_is_busy(error)) from error


def _close_locked(connection: sqlite3.Connection, file: StateFile, timeout: float) -> None:
    """Close `connection` while no other process can set the file aside.

    Closing deletes the write-ahead log by its path. SQLite first checks that its file still has its path; between check
    and deletion, the path of the log must not become that of a new file's log.
    """
    with ExitStack() as stack:
        with suppress(StoreError, OSError):
            stack.enter_context(file.locked(timeout))
        connection.close()


def _finalize(connection: sqlite3.Connection, file: StateFile, lock: threading.RLock, timeout: float, pid: int) -> None:
    """Close the connection of a collected `SqliteConnection`, unless it is the parent's or a thread still uses it."""
    if pid != os.getpid() or not lock.acquire(timeout=timeout):
        _leak(connection)
        return
    try:
        with suppress(sqlite3.Error):
            if file.identity() is None:
                connection.close()
            else:
                _close_locked(connection, file, timeout)
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
        # A newer version of this package may have migrated the file since it was opened.
        schema.current(connection)
    except BaseException:
        _roll_back(connection)
        raise
    return connection


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the file is damaged: only for SQLITE_CORRUPT and SQLITE_NOTADB `sqlite3` has no subclass."""
    return type(error) is sqlite3.DatabaseError


def _is_busy(error: Exception) -> bool:
    """Whether others held a lock for too long: the text is SQLite's own, and the code is known from Python 3.11 on."""
    if isinstance(error, StoreError):
        return error.busy
    return isinstance(error, sqlite3.OperationalError) and "is locked" in str(error)


def _leak(connection: sqlite3.Connection) -> None:
    """Keep the connection from being closed, even when the interpreter ends and clears every container."""
    with suppress(AttributeError):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
