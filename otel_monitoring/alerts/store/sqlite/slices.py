"""The tables of the slices of the past."""

import sqlite3
from collections.abc import Sequence

from otel_monitoring.alerts.store.sqlite.connection import SqliteConnection
from otel_monitoring.metrics.slices.model import ROUTES_LIMIT
from otel_monitoring.metrics.slices.table import Position, SliceRow

_WHERE = "WHERE tier = ? AND start >= ? AND start < ? ORDER BY start"
_REPLACE = "INSERT OR REPLACE INTO slice_position (id, version, content) VALUES (0, ?, ?)"


class SqliteSlices:
    """A `SliceTable` in a SQLite file."""

    routes_limit = ROUTES_LIMIT

    def __init__(self, connection: SqliteConnection) -> None:
        self._read, self._write = connection.read, connection.write

    def position(self) -> Position | None:
        row = self._read(lambda db: db.execute("SELECT version, content FROM slice_position").fetchone())
        return None if row is None else Position(str(row[0]), bytes(row[1]))

    def advance(self, before: str, position: Position, rows: Sequence[SliceRow]) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            row = db.execute("SELECT version FROM slice_position").fetchone()
            if ("" if row is None else row[0]) != before:
                return False
            db.execute(_REPLACE, position)
            db.executemany("INSERT OR REPLACE INTO slices VALUES (?, ?, ?, ?)", rows)
            return True

        return self._write(work)

    def read(self, tier: int, start: int, end: int, *, routes: bool = False) -> Sequence[SliceRow]:
        columns = "service, routes" if routes else "service, x''"
        query = f"SELECT start, {columns} FROM slices {_WHERE}"  # noqa: S608 - no value is in it
        rows = self._read(lambda db: db.execute(query, (tier, start, end)).fetchall())
        return [SliceRow(tier, int(at), bytes(service), bytes(few)) for at, service, few in rows]

    def starts(self, tier: int, start: int, end: int) -> Sequence[int]:
        query = f"SELECT start FROM slices {_WHERE}"  # noqa: S608 - no value is in it
        return [int(row[0]) for row in self._read(lambda db: db.execute(query, (tier, start, end)).fetchall())]

    def prune(self, tier: int, start: int, end: int) -> None:
        query = "DELETE FROM slices WHERE tier = ? AND (start < ? OR start >= ?)"
        self._write(lambda db: db.execute(query, (tier, start, end)))
