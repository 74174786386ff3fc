"""The tables of what the workers of a service measured."""

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence

from otel_monitoring.alerts.store.sqlite.connection import SqliteConnection
from otel_monitoring.metrics.stream import Base, Delta

_ONE = "SELECT content FROM measurements WHERE writer = ? AND number = ?"
_REPLACE = "INSERT OR REPLACE INTO measurement_base (id, version, at, content) VALUES (0, ?, ?, ?)"


class SqliteMeasurements:
    """A `MeasurementStream` in a SQLite file.

    Args:
        connection: The connection to the file.
        clock: Returns Unix time in seconds.
    """

    problem = None

    def __init__(self, connection: SqliteConnection, clock: Callable[[], float] = time.time) -> None:
        self._read, self._write = connection.read, connection.write
        self._clock = clock

    def add(self, *deltas: Delta) -> None:
        self._write(lambda db: db.executemany("INSERT OR IGNORE INTO measurements VALUES (?, ?, ?)", deltas))

    def read(self, known: Mapping[str, int]) -> tuple[Sequence[Delta], str]:
        def work(db: sqlite3.Connection) -> tuple[Sequence[Delta], str]:
            keys = db.execute("SELECT writer, number FROM measurements ORDER BY writer, number").fetchall()
            news = [key for key in keys if key[1] > known.get(key[0], 0)]
            rows = [(key, db.execute(_ONE, key).fetchone()) for key in news]
            return [Delta(key[0], key[1], bytes(row[0])) for key, row in rows if row is not None], _version(db)

        return self._read(work)

    def base(self) -> Base | None:
        row = self._read(lambda db: db.execute("SELECT version, content, at FROM measurement_base").fetchone())
        return None if row is None else Base(row[0], bytes(row[1]), max(0.0, self._clock() - row[2]))

    def replace_base(self, before: str, version: str, content: bytes, deleted: Mapping[str, int]) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            if _version(db) != before:
                return False
            db.execute(_REPLACE, (version, self._clock(), content))
            db.executemany("DELETE FROM measurements WHERE writer = ? AND number <= ?", deleted.items())
            return True

        return self._write(work)

    def clear(self) -> None:
        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM measurements")
            db.execute("DELETE FROM measurement_base")

        self._write(work)


def _version(db: sqlite3.Connection) -> str:
    row = db.execute("SELECT version FROM measurement_base").fetchone()
    return "" if row is None else str(row[0])
