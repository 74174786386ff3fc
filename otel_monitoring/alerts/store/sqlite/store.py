"""`SqliteStore`: the state of alerting in a SQLite file that the workers of a host share."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from otel_monitoring.alerts.store.protocol import Store
from otel_monitoring.alerts.store.sqlite.connection import SqliteConnection
from otel_monitoring.alerts.store.sqlite.history import SqliteHistory
from otel_monitoring.alerts.store.sqlite.measurements import SqliteMeasurements
from otel_monitoring.alerts.store.sqlite.outbox import SqliteOutbox
from otel_monitoring.alerts.store.sqlite.slices import SqliteSlices
from otel_monitoring.alerts.store.sqlite.values import SqliteConditions, SqliteMutes, SqliteNotes, SqliteTexts
from otel_monitoring.alerts.store.sqlite.workers import SqliteLeases, SqliteReports

T = TypeVar("T")

BUSY_TIMEOUT = 2.5
"""The most seconds that a statement waits for other processes.

Less than what is left of a lease when it is renewed. Who waits asks ten times a second: on a busy disk a second was too
short now and then, and a process that gives the file up for a while tells what it knows by itself.
"""


class SqliteStore:
    """A `Store` in a SQLite file, which is opened at the first use.

    The file stays consistent when a process is killed, even by `kill -9`; after a power failure the last transactions
    may be missing.

    Args:
        path: The file, on a local disk: SQLite's write-ahead log does not work over a network. Its directory is created
            for this user only.
        busy_timeout: The most seconds to wait for other processes.
        problem: Why it is used in place of the configured store, if it is.
    """

    def __init__(self, path: Path, *, busy_timeout: float = BUSY_TIMEOUT, problem: str | None = None) -> None:
        self.problem = problem
        self.clock_offset = 0.0
        self.path = path.absolute()
        self._connection = connection = SqliteConnection(self.path, busy_timeout=busy_timeout)
        self.history = SqliteHistory(connection)
        self.outbox = SqliteOutbox(connection)
        self.mutes = SqliteMutes(connection)
        self.notes = SqliteNotes(connection)
        self.incidents = SqliteTexts(connection, "states")
        self.acknowledgements = SqliteTexts(connection, "acknowledgements")
        self.leases = SqliteLeases(connection)
        self.reports = SqliteReports(connection)
        self.conditions = SqliteConditions(connection)
        self.measurements = SqliteMeasurements(connection)
        self.slices = SqliteSlices(connection)

    def run(self, work: Callable[[Store], T]) -> T:
        with self.exclusive():
            return work(self)

    def exclusive(self) -> AbstractContextManager[None]:
        return self._connection.exclusive()

    def close(self) -> None:
        self._connection.close()
