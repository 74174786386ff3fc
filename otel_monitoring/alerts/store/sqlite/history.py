"""`SqliteHistory`: the tables of the history."""

import sqlite3
from collections.abc import Sequence

from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, AlertType, Status
from otel_monitoring.alerts.store.history import HISTORY_LIMIT
from otel_monitoring.alerts.store.rows import decodable, first
from otel_monitoring.alerts.store.serialization import decoded_event, encoded_event, encoded_results
from otel_monitoring.alerts.store.sqlite.connection import SqliteConnection


class SqliteHistory:
    """An `AlertHistory` in a SQLite file."""

    def __init__(self, connection: SqliteConnection) -> None:
        self._read, self._write = connection.read, connection.write

    def append(self, event: AlertEvent) -> None:
        key = event.identity if event.is_undelivered else None
        row = (event.type.value, event.severity.value, encoded_event(event), key, encoded_results(event.channels))

        def work(db: sqlite3.Connection) -> None:
            added = db.execute("INSERT INTO history (type, severity, event, key, channels) VALUES (?, ?, ?, ?, ?)", row)
            db.execute("DELETE FROM history WHERE id <= ?", ((added.lastrowid or 0) - HISTORY_LIMIT,))
            if event.status is Status.FIRING:
                db.execute(
                    "INSERT INTO counts (type, seen) VALUES (?, 1) ON CONFLICT (type) DO UPDATE SET seen = seen + 1",
                    row[:1],
                )

        self._write(work)

    def events(
        self, *, limit: int, alert_type: AlertType | None = None, severity: AlertSeverity | None = None
    ) -> Sequence[AlertEvent]:
        wanted = {"type": alert_type and alert_type.value, "severity": severity and severity.value}
        query = (
            "SELECT event, channels FROM history WHERE (:type IS NULL OR type = :type)"
            " AND (:severity IS NULL OR severity = :severity) ORDER BY id DESC"
        )
        return self._read(lambda db: first(limit, db.execute(query, wanted), lambda row: decoded_event(*row)))

    def counts(self) -> dict[AlertType, int]:
        rows = self._read(lambda db: db.execute("SELECT type, seen FROM counts").fetchall())
        return dict(decodable(rows, lambda row: (AlertType(row[0]), int(row[1]))))

    def clear(self) -> None:
        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM history")
            db.execute("DELETE FROM counts")

        self._write(work)
