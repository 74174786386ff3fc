"""The tables of values by a key: mutes, notes, incidents, acknowledgements and conditions."""

import sqlite3
from collections.abc import Mapping
from typing import Literal

from otel_monitoring.alerts.mute import Mute
from otel_monitoring.alerts.store.mutes import order
from otel_monitoring.alerts.store.notes import NOTES_LIMIT, NOTES_SECONDS
from otel_monitoring.alerts.store.rows import decodable
from otel_monitoring.alerts.store.serialization import decoded_mute, encoded_mute, storable
from otel_monitoring.alerts.store.sqlite.connection import SqliteConnection

_NOTES_PRUNED_EVERY = 256


class SqliteMutes:
    """`Mutes` in a SQLite file."""

    def __init__(self, connection: SqliteConnection) -> None:
        self._read, self._write = connection.read, connection.write

    def add(self, mute: Mute) -> None:
        row = encoded_mute(mute)
        self._write(lambda db: db.execute("INSERT OR REPLACE INTO mutes VALUES (?, ?, ?, ?, ?)", row))

    def remove(self, mute: Mute) -> bool:
        query = "DELETE FROM mutes WHERE selection = ? AND schedule = ?"
        return self._write(lambda db: db.execute(query, mute.key).rowcount) > 0

    def all(self, now: float) -> list[Mute]:
        query = "SELECT selection, schedule, until, author, reason FROM mutes"
        rows = self._read(lambda db: db.execute(query).fetchall())
        if any(row[2] <= now for row in rows):
            self._write(lambda db: db.execute("DELETE FROM mutes WHERE until <= ?", (now,)))
        return sorted(decodable([row for row in rows if row[2] > now], lambda row: decoded_mute(row)), key=order)


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


class SqliteTexts:
    """`Texts` in a SQLite file.

    Args:
        connection: The file.
        table: Their table.
    """

    def __init__(self, connection: SqliteConnection, table: Literal["states", "acknowledgements"]) -> None:
        self._read, self._write = connection.read, connection.write
        self._table = table

    def saved(self) -> dict[str, str]:
        query = f"SELECT key, state FROM {self._table}"  # noqa: S608 - one of our tables
        return dict(self._read(lambda db: db.execute(query).fetchall()))

    def save(self, states: Mapping[str, str | None]) -> None:
        saved = [(storable(key), storable(state)) for key, state in states.items() if state is not None]
        removed = [(storable(key),) for key, state in states.items() if state is None]

        def work(db: sqlite3.Connection) -> None:
            db.executemany(f"INSERT OR REPLACE INTO {self._table} VALUES (?, ?)", saved)  # noqa: S608 - one of our tables
            db.executemany(f"DELETE FROM {self._table} WHERE key = ?", removed)  # noqa: S608 - one of our tables

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
