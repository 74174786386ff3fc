"""The tables about workers: leases and reports."""

import sqlite3
from collections.abc import Collection

from otel_monitoring.alerts.store.leases import LEADER
from otel_monitoring.alerts.store.protocol import CLOCK_TOLERANCE
from otel_monitoring.alerts.store.reports import Published
from otel_monitoring.alerts.store.sqlite.connection import SqliteConnection

_LEAD = (
    "INSERT INTO leases VALUES (:name, :worker, :now, :until) ON CONFLICT (name) DO UPDATE"
    " SET worker = :worker, taken = :now, until = :until"
    " WHERE worker = :worker OR until <= :now OR taken > :now + :tolerance"
)
_PUBLISH = (
    "INSERT INTO reports (worker, at, urgent_at, report) VALUES (:worker, :at, :urgent_at, :report)"
    " ON CONFLICT (worker) DO UPDATE SET at = :at, report = :report, urgent_at = coalesce(:urgent_at, urgent_at)"
)


class SqliteLeases:
    """`Leases` in a SQLite file."""

    def __init__(self, connection: SqliteConnection) -> None:
        self._read, self._write = connection.read, connection.write

    def lead(self, worker: str, now: float, until: float, leases: Collection[str] = (LEADER,)) -> frozenset[str]:
        # Reading first keeps the workers that hold no lease from writing.
        held = self.holders(now)
        wanted = [name for name in leases if held.get(name, worker) == worker]

        def work(db: sqlite3.Connection) -> frozenset[str]:
            row = {"worker": worker, "now": now, "until": until, "tolerance": CLOCK_TOLERANCE}
            return frozenset(name for name in wanted if db.execute(_LEAD, {"name": name, **row}).rowcount == 1)

        return self._write(work) if wanted else frozenset()

    def holders(self, now: float, within: float = 0.0) -> dict[str, str]:
        query = "SELECT name, worker FROM leases WHERE until > ? AND taken <= ?"
        return dict(self._read(lambda db: db.execute(query, (now - within, now + CLOCK_TOLERANCE)).fetchall()))

    def resign(self, worker: str) -> None:
        self._write(lambda db: db.execute("UPDATE leases SET until = taken WHERE worker = ?", (worker,)))


class SqliteReports:
    """`Reports` in a SQLite file."""

    def __init__(self, connection: SqliteConnection) -> None:
        self._read, self._write = connection.read, connection.write

    def publish(self, worker: str, report: bytes, now: float, *, urgent: bool = False) -> None:
        row = {"worker": worker, "at": now, "urgent_at": now if urgent else None, "report": report}
        self._write(lambda db: db.execute(_PUBLISH, row))

    def published(self, now: float) -> dict[str, Published]:
        latest = now + CLOCK_TOLERANCE
        rows = self._read(lambda db: db.execute("SELECT worker, at, report FROM reports").fetchall())
        if any(at > latest for _, at, _ in rows):
            self._write(lambda db: db.execute("DELETE FROM reports WHERE at > ?", (latest,)))
        return {worker: Published(at, report) for worker, at, report in rows if at <= latest}

    def urgent_since(self, since: float) -> bool:
        query = "SELECT EXISTS (SELECT 1 FROM reports WHERE urgent_at > ?)"
        return bool(self._read(lambda db: db.execute(query, (since,)).fetchone())[0])

    def delete(self, worker: str) -> None:
        self._write(lambda db: db.execute("DELETE FROM reports WHERE worker = ?", (worker,)))
