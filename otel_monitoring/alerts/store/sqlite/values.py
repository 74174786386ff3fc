"""The tables of values by a key: mutes, notes, incidents and conditions."""

import sqlite3
from collections.abc import Mapping

from otel_monitoring.alerts.model import AlertType, Mute
from otel_monitoring.alerts.store.mutes import mute_key
from otel_monitoring.alerts.store.notes import NOTES_LIMIT, NOTES_SECONDS
from otel_monitoring.alerts.store.rows import decodable
from otel_monitoring.alerts.store.serialization import decoded_mute, encoded_labels, encoded_mute, storable
from otel_monitoring.alerts.store.sqlite.connection import SqliteConnection

_NOTES_PRUNED_EVERY = 256


class SqliteMutes:
    """`Mutes` in a SQLite file."""

    def __init__(self, connection: SqliteConnection) -> None:
        self._read, self._write = connection.read, connection.write

    def add(self, mute: Mute) -> None:
        row = encoded_mute(mute)
        self._write(lambda db: db.execute("INSERT OR REPLACE INTO mutes VALUES (?, ?, ?, ?, ?)", row))

    def remove(self, alert_type: AlertType, labels: Mapping[str, str] | None = None) -> int:
        wanted = {"type": alert_type.value, "labels": None if labels is None else encoded_labels(labels)}
        query = "DELETE FROM mutes WHERE type = :type AND (:labels IS NULL OR labels = :labels)"
        return self._write(lambda db: db.execute(query, wanted).rowcount)

    def in_force(self, now: float) -> list[Mute]:
        rows = self._read(lambda db: db.execute("SELECT type, labels, until, author, reason FROM mutes").fetchall())
        if any(row[2] <= now for row in rows):
            self._write(lambda db: db.execute("DELETE FROM mutes WHERE until <= ?", (now,)))
        mutes = decodable([row for row in rows if row[2] > now], lambda row: decoded_mute(row))
        return sorted(mutes, key=lambda mute: (mute.until, mute_key(mute)))


class SqliteNotes:
    """`Notes` in a SQLite file."""

    def __init__(self, connection: SqliteConnection) -> None:
        self._read, self._write = connection.read, connection.write

    def noted_at(self, key: str) -> float | None:
        row = self._read(lambda db: db.execute("SELECT at FROM notified WHERE key = ?", (storable(key),)).fetchone())
        return float(row[0]) if row else None

    def note(self, key: str, now: float) -> None:
        def work(db: sqlite3.Connection) -> None:
            added = db.execute("INSERT OR REPLACE INTO notified (key, at) VALUES (?, ?)", (storable(key), now))
            db.execute("DELETE FROM notified WHERE at < ?", (now - NOTES_SECONDS,))
            if (added.lastrowid or 0) % _NOTES_PRUNED_EVERY == 0:
                db.execute(
                    "DELETE FROM notified WHERE id IN (SELECT id FROM notified ORDER BY id DESC LIMIT -1 OFFSET ?)",
                    (NOTES_LIMIT,),
                )

        self._write(work)

    def all(self) -> dict[str, float]:
        return dict(self._read(lambda db: db.execute("SELECT key, at FROM notified").fetchall()))

    def clear(self) -> None:
        self._write(lambda db: db.execute("DELETE FROM notified"))


class SqliteIncidents:
    """`Incidents` in a SQLite file."""

    def __init__(self, connection: SqliteConnection) -> None:
        self._read, self._write = connection.read, connection.write

    def saved(self) -> dict[str, str]:
        return dict(self._read(lambda db: db.execute("SELECT key, state FROM states").fetchall()))

    def save(self, states: Mapping[str, str | None]) -> None:
        saved = [(storable(key), storable(state)) for key, state in states.items() if state is not None]
        removed = [(storable(key),) for key, state in states.items() if state is None]

        def work(db: sqlite3.Connection) -> None:
            db.executemany("INSERT OR REPLACE INTO states VALUES (?, ?)", saved)
            db.executemany("DELETE FROM states WHERE key = ?", removed)

        if states:
            self._write(work)


class SqliteConditions:
    """`Conditions` in a SQLite file."""

    def __init__(self, connection: SqliteConnection) -> None:
        self._read, self._write = connection.read, connection.write

    def save(self, channel: str, condition: str) -> None:
        self._write(lambda db: db.execute("INSERT OR REPLACE INTO channels VALUES (?, ?)", (channel, condition)))

    def saved(self) -> dict[str, str]:
        return dict(self._read(lambda db: db.execute("SELECT name, condition FROM channels").fetchall()))
