"""The tables of the SQLite store, and the migration of files of older versions."""

import sqlite3
from collections.abc import Sequence

from otel_monitoring.errors import StoreError

_FIRST = (
    "CREATE TABLE history (id INTEGER PRIMARY KEY, type TEXT NOT NULL, severity TEXT NOT NULL, event TEXT NOT NULL)",
    "CREATE TABLE counts (type TEXT PRIMARY KEY, seen INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE mutes (type TEXT NOT NULL, labels TEXT NOT NULL, until REAL NOT NULL, author TEXT NOT NULL,"
    " reason TEXT NOT NULL, PRIMARY KEY (type, labels)) WITHOUT ROWID",
    "CREATE TABLE notified (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, at REAL NOT NULL)",
    "CREATE INDEX notified_at ON notified (at)",
    "CREATE TABLE states (key TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, channel TEXT NOT NULL, queued_at REAL NOT NULL,"
    " attempts INTEGER NOT NULL, event TEXT NOT NULL)",
    "CREATE INDEX outbox_order ON outbox (channel, id)",
    # Ids start at the time in microseconds, so that a new file never repeats the ids of a lost one.
    "INSERT INTO sqlite_sequence (name, seq)"
    " VALUES ('outbox', CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER))",
    "CREATE TABLE lease (id INTEGER PRIMARY KEY CHECK (id = 0), worker TEXT NOT NULL, taken REAL NOT NULL,"
    " until REAL NOT NULL)",
    "CREATE TABLE reports (worker TEXT PRIMARY KEY, at REAL NOT NULL, urgent_at REAL, report BLOB NOT NULL)",
)

_RESULTS = (
    # The delivery of an event on each channel; `key` is its identity until all deliveries are final.
    "ALTER TABLE history ADD COLUMN key TEXT",
    "ALTER TABLE history ADD COLUMN channels TEXT NOT NULL DEFAULT '{}'",
    "CREATE INDEX history_key ON history (key) WHERE key IS NOT NULL",
    "ALTER TABLE outbox ADD COLUMN key TEXT",
)

_CHANNELS = (
    # A lease and a condition for each channel.
    "CREATE TABLE leases (name TEXT PRIMARY KEY, worker TEXT NOT NULL, taken REAL NOT NULL, until REAL NOT NULL)"
    " WITHOUT ROWID",
    "INSERT INTO leases SELECT 'leader', worker, taken, until FROM lease",
    "DROP TABLE lease",
    "CREATE TABLE channels (name TEXT PRIMARY KEY, condition TEXT NOT NULL) WITHOUT ROWID",
)

_MEASUREMENTS = (
    # What each process measured since its last row, and the sum of the rows that were deleted.
    "CREATE TABLE measurements (writer TEXT NOT NULL, number INTEGER NOT NULL, content BLOB NOT NULL,"
    " UNIQUE (writer, number))",
    "CREATE TABLE measurement_base (id INTEGER PRIMARY KEY CHECK (id = 0), version TEXT NOT NULL, at REAL NOT NULL,"
    " content BLOB NOT NULL)",
)

_SLICES = (
    # What the service measured in each slot of time, and which measurements that contains.
    "CREATE TABLE slices (tier INTEGER NOT NULL, start INTEGER NOT NULL, service BLOB NOT NULL, routes BLOB NOT NULL,"
    " UNIQUE (tier, start))",
    "CREATE TABLE slice_position (id INTEGER PRIMARY KEY CHECK (id = 0), version TEXT NOT NULL, content BLOB NOT NULL)",
)

_RESPONSES = (
    # What people do about alerts. Mutes by more than a type and labels, and planned ones: the texts are those of
    # `Selection` and of a schedule.
    # A copy, because to rename a table SQLite takes 0.6 MiB, and keeps 0.2.
    "CREATE TABLE former_mutes AS SELECT * FROM mutes",
    "DROP TABLE mutes",
    "CREATE TABLE mutes (selection TEXT NOT NULL, schedule TEXT NOT NULL, until REAL NOT NULL, author TEXT NOT NULL,"
    " reason TEXT NOT NULL, PRIMARY KEY (selection, schedule)) WITHOUT ROWID",
    "INSERT INTO mutes SELECT '{' || CASE WHEN labels = '{}' THEN '' ELSE '\"labels\":' || json(labels) || ',' END"
    " || '\"types\":[\"' || type || '\"]}', '', until, author, reason FROM former_mutes WHERE json_valid(labels)",
    "DROP TABLE former_mutes",
    "CREATE TABLE acknowledgements (key TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST, _RESULTS, _CHANNELS, _MEASUREMENTS, _SLICES, _RESPONSES)
"""The statements that migrate a file from version n (its `user_version`) to n + 1."""


def prepare(connection: sqlite3.Connection, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Migrate the file to the newest version, in one transaction.

    Raises:
        StoreError: A newer version of this package wrote the file; it stays as it is.
        sqlite3.Error: The file could not be read or written.
    """
    if current(connection, migrations):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statements in migrations[version(connection) :]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def current(connection: sqlite3.Connection, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> bool:
    """Whether the file has the newest version; False: it has an older one.

    Raises:
        StoreError: A newer version of this package wrote the file.
    """
    found = version(connection)
    if found > len(migrations):
        raise StoreError(f"version {found} of the store was written by a newer otel-monitoring than this one")
    return found == len(migrations)


def version(connection: sqlite3.Connection) -> int:
    """The version of the file; 0: a new file."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
