"""`SqliteStore`: the state of alerting in a SQLite file that the workers of a host share."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from otel_monitoring.alerts.model import (
    LEFT_OUT,
    AlertEvent,
    AlertSeverity,
    AlertType,
    ChannelResult,
    DeliveryState,
    Mute,
    Status,
    title,
)
from otel_monitoring.alerts.store import overflow
from otel_monitoring.alerts.store.connection import SqliteConnection
from otel_monitoring.alerts.store.protocol import (
    CLOCK_TOLERANCE,
    HISTORY_LIMIT,
    LEADER,
    NOTES_LIMIT,
    NOTES_SECONDS,
    OUTBOX_LIMIT,
    UNREADABLE,
    Queued,
    Store,
    mute_key,
)
from otel_monitoring.alerts.store.serialization import (
    decoded_event,
    decoded_mute,
    encoded_event,
    encoded_labels,
    encoded_result,
    encoded_results,
    storable,
)
from otel_monitoring.errors import StoreError
from otel_monitoring.guard import fail_open, logger

T = TypeVar("T")

BUSY_TIMEOUT = 1.0
"""The most seconds that a statement waits for other processes."""

_NOTES_PRUNED_EVERY = 256
_TYPE_AND_RULE = ", ".join(
    f"CASE WHEN json_valid(event) THEN json_extract(event, '$.{of}') END" for of in ("type", "rule")
)
_IS_NOTICE = f"(json_valid(event) AND json_extract(event, '$.rule') = '{LEFT_OUT}')"
_RANK = "CASE WHEN json_valid(event) THEN CASE json_extract(event, '$.severity') {} END END".format(
    " ".join(f"WHEN '{severity.value}' THEN {severity.rank}" for severity in AlertSeverity)
)
_ENQUEUE = "INSERT INTO outbox (channel, queued_at, attempts, event, key) VALUES (?, ?, 0, ?, ?)"
_LEAD = (
    "INSERT INTO leases VALUES (:name, :worker, :now, :until) ON CONFLICT (name) DO UPDATE"
    " SET worker = :worker, taken = :now, until = :until"
    " WHERE worker = :worker OR until <= :now OR taken > :now + :tolerance"
)
_SELECT_QUEUED = "SELECT id, channel, event, queued_at, attempts FROM outbox"


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
        self.path = path.absolute()
        self._connection = SqliteConnection(self.path, busy_timeout=busy_timeout)
        self._read, self._write = self._connection.read, self._connection.write

    def run(self, work: Callable[[Store], T]) -> T:
        with self.exclusive():
            return work(self)

    def exclusive(self) -> AbstractContextManager[None]:
        return self._connection.exclusive()

    def close(self) -> None:
        self._connection.close()

    # History

    def append(self, event: AlertEvent) -> None:
        key = event.identity if event.is_undelivered else None
        row = (event.type.value, event.severity.value, encoded_event(event), key, encoded_results(event.channels))

        def work(db: sqlite3.Connection) -> None:
            added = db.execute("INSERT INTO history (type, severity, event, key, channels) VALUES (?, ?, ?, ?, ?)", row)
            db.execute("DELETE FROM history WHERE id <= ?", ((added.lastrowid or 0) - HISTORY_LIMIT,))
            if event.status is not Status.RESOLVED:
                db.execute(
                    "INSERT INTO counts (type, seen) VALUES (?, 1) ON CONFLICT (type) DO UPDATE SET seen = seen + 1",
                    row[:1],
                )

        self._write(work)

    def events(
        self, *, limit: int, alert_type: AlertType | None = None, severity: AlertSeverity | None = None
    ) -> Sequence[AlertEvent]:
        wanted = {"type": alert_type and alert_type.value, "severity": severity and severity.value}
        return self._read(
            lambda db: self._first(
                limit,
                db.execute(
                    "SELECT event, channels FROM history WHERE (:type IS NULL OR type = :type)"
                    " AND (:severity IS NULL OR severity = :severity) ORDER BY id DESC",
                    wanted,
                ),
                lambda row: decoded_event(*row),
            )
        )

    def counts(self) -> dict[AlertType, int]:
        rows = self._read(lambda db: db.execute("SELECT type, seen FROM counts").fetchall())
        return dict(self._decodable(rows, lambda row: (AlertType(row[0]), int(row[1]))))

    def clear(self) -> None:
        def work(db: sqlite3.Connection) -> None:
            for table in ("history", "counts", "notified"):
                db.execute(f"DELETE FROM {table}")  # noqa: S608 - three fixed names

        self._write(work)

    # Mutes, and notes about notifications

    def mute(self, mute: Mute) -> None:
        row = (mute.type.value, encoded_labels(mute.labels), mute.until, storable(mute.author), storable(mute.reason))
        self._write(lambda db: db.execute("INSERT OR REPLACE INTO mutes VALUES (?, ?, ?, ?, ?)", row))

    def unmute(self, alert_type: AlertType, labels: Mapping[str, str] | None = None) -> int:
        wanted = {"type": alert_type.value, "labels": None if labels is None else encoded_labels(labels)}
        return self._write(
            lambda db: (
                db.execute(
                    "DELETE FROM mutes WHERE type = :type AND (:labels IS NULL OR labels = :labels)", wanted
                ).rowcount
            )
        )

    def mutes(self, now: float) -> list[Mute]:
        rows = self._read(lambda db: db.execute("SELECT type, labels, until, author, reason FROM mutes").fetchall())
        if any(row[2] <= now for row in rows):
            self._write(lambda db: db.execute("DELETE FROM mutes WHERE until <= ?", (now,)))
        in_force = [row for row in rows if row[2] > now]
        mutes = self._decodable(in_force, lambda row: decoded_mute(row))
        return sorted(mutes, key=lambda mute: (mute.until, mute_key(mute)))

    def notified_at(self, key: str) -> float | None:
        row = self._read(lambda db: db.execute("SELECT at FROM notified WHERE key = ?", (storable(key),)).fetchone())
        return float(row[0]) if row else None

    def note_notified(self, key: str, now: float) -> None:
        def work(db: sqlite3.Connection) -> None:
            added = db.execute("INSERT OR REPLACE INTO notified (key, at) VALUES (?, ?)", (storable(key), now))
            db.execute("DELETE FROM notified WHERE at < ?", (now - NOTES_SECONDS,))
            if (added.lastrowid or 0) % _NOTES_PRUNED_EVERY == 0:
                db.execute(
                    "DELETE FROM notified WHERE id IN (SELECT id FROM notified ORDER BY id DESC LIMIT -1 OFFSET ?)",
                    (NOTES_LIMIT,),
                )

        self._write(work)

    # The states of alerts

    def states(self) -> dict[str, str]:
        return dict(self._read(lambda db: db.execute("SELECT key, state FROM states").fetchall()))

    def save_states(self, states: Mapping[str, str | None]) -> None:
        saved = [(storable(key), storable(state)) for key, state in states.items() if state is not None]
        removed = [(storable(key),) for key, state in states.items() if state is None]

        def work(db: sqlite3.Connection) -> None:
            db.executemany("INSERT OR REPLACE INTO states VALUES (?, ?)", saved)
            db.executemany("DELETE FROM states WHERE key = ?", removed)

        if states:
            self._write(work)

    # The outbox

    def enqueue(self, event: AlertEvent, channels: Collection[str], now: float) -> None:
        self.enqueue_all([event], channels, now)

    def enqueue_all(self, events: Sequence[AlertEvent], channels: Collection[str], now: float) -> None:
        rows = [(now, encoded_event(event), event.identity) for event in events]

        def work(db: sqlite3.Connection) -> None:
            for channel in channels:
                db.executemany(_ENQUEUE, [(channel, *row) for row in rows])
                _leave_out_surplus(db, channel, now)

        if channels and rows:
            self._write(work)

    def pending(self, channel: str, limit: int) -> Sequence[Queued]:
        query = f"{_SELECT_QUEUED} WHERE channel = ? ORDER BY id"
        unreadable: list[int] = []

        def decode(row: tuple[Any, ...]) -> Queued:
            unreadable.append(row[0])
            queued = Queued(row[0], row[1], decoded_event(row[2]), row[3], row[4])
            unreadable.pop()
            return queued

        found = self._read(lambda db: self._first(limit, db.execute(query, (channel,)), decode))
        if unreadable:
            self._set_aside(channel, unreadable)
        return found

    def _set_aside(self, channel: str, ids: Collection[int]) -> None:
        """Move events that cannot be read to a channel of their own, where they block nothing and are kept."""
        logger.error("alert store: %d events for %s cannot be read: they are set aside", len(ids), channel)

        def work(db: sqlite3.Connection) -> None:
            _set_results(db, ids, ChannelResult(DeliveryState.GIVEN_UP, error="it cannot be read in the outbox"))
            db.executemany("UPDATE outbox SET channel = channel || ? WHERE id = ?", [(UNREADABLE, i) for i in ids])

        self._write(work)

    def backlog(self) -> dict[str, int]:
        return dict(
            self._read(lambda db: db.execute("SELECT channel, count(*) FROM outbox GROUP BY channel").fetchall())
        )

    def tried(self, ids: Collection[int]) -> None:
        rows = [(number,) for number in ids]
        if rows:
            self._write(lambda db: db.executemany("UPDATE outbox SET attempts = attempts + 1 WHERE id = ?", rows))

    def note(self, ids: Collection[int], result: ChannelResult) -> None:
        if ids:
            self._write(lambda db: _set_results(db, ids, result))

    def settle(self, ids: Collection[int], result: ChannelResult | None = None) -> None:
        def work(db: sqlite3.Connection) -> None:
            if result is not None:
                _set_results(db, ids, result)
            db.executemany("DELETE FROM outbox WHERE id = ?", [(number,) for number in ids])

        if ids:
            self._write(work)

    def arrived(self, rows: Sequence[Queued], result: ChannelResult) -> None:
        if not rows:
            return
        channel = rows[0].channel

        def work(db: sqlite3.Connection) -> None:
            waiting = {number for (number,) in db.execute("SELECT id FROM outbox WHERE channel = ?", (channel,))}
            left_out = [row for row in rows if row.id not in waiting]
            _set_results(db, [row.id for row in rows], result)
            db.executemany("DELETE FROM outbox WHERE id = ?", [(row.id,) for row in rows])
            if left_out:
                _undo_left_out(db, left_out, result)

        self._write(work)

    # Workers

    def lead(self, worker: str, now: float, until: float, leases: Collection[str] = (LEADER,)) -> frozenset[str]:
        # Reading first keeps the workers that hold no lease from writing.
        held = self.leaders(now)
        wanted = [name for name in leases if held.get(name, worker) == worker]

        def work(db: sqlite3.Connection) -> frozenset[str]:
            row = {"worker": worker, "now": now, "until": until, "tolerance": CLOCK_TOLERANCE}
            return frozenset(name for name in wanted if db.execute(_LEAD, {"name": name, **row}).rowcount == 1)

        return self._write(work) if wanted else frozenset()

    def leaders(self, now: float, within: float = 0.0) -> dict[str, str]:
        query = "SELECT name, worker FROM leases WHERE until > ? AND taken <= ?"
        return dict(self._read(lambda db: db.execute(query, (now - within, now + CLOCK_TOLERANCE)).fetchall()))

    def resign(self, worker: str) -> None:
        def work(db: sqlite3.Connection) -> None:
            db.execute("UPDATE leases SET until = taken WHERE worker = ?", (worker,))
            db.execute("DELETE FROM reports WHERE worker = ?", (worker,))

        self._write(work)

    def describe(self, channel: str, condition: str) -> None:
        self._write(lambda db: db.execute("INSERT OR REPLACE INTO channels VALUES (?, ?)", (channel, condition)))

    def descriptions(self) -> dict[str, str]:
        return dict(self._read(lambda db: db.execute("SELECT name, condition FROM channels").fetchall()))

    def publish(self, worker: str, report: bytes, now: float, *, urgent: bool = False) -> None:
        row = {"worker": worker, "at": now, "urgent_at": now if urgent else None, "report": report}
        self._write(
            lambda db: db.execute(
                "INSERT INTO reports (worker, at, urgent_at, report) VALUES (:worker, :at, :urgent_at, :report)"
                " ON CONFLICT (worker) DO UPDATE SET at = :at, report = :report,"
                " urgent_at = coalesce(:urgent_at, urgent_at)",
                row,
            )
        )

    def reports(self, since: float, now: float) -> dict[str, bytes]:
        span = (since, now + CLOCK_TOLERANCE)
        query = "SELECT worker, at BETWEEN ? AND ?, report FROM reports"
        rows = self._read(lambda db: db.execute(query, span).fetchall())
        if not all(recent for _, recent, _ in rows):
            self._write(lambda db: db.execute("DELETE FROM reports WHERE at NOT BETWEEN ? AND ?", span))
        return {worker: report for worker, recent, report in rows if recent}

    def urgent_since(self, since: float) -> bool:
        query = "SELECT EXISTS (SELECT 1 FROM reports WHERE urgent_at > ?)"
        return bool(self._read(lambda db: db.execute(query, (since,)).fetchone())[0])

    # Rows that cannot be decoded are skipped

    def _first(self, limit: int, rows: Iterable[tuple[object, ...]], decode: Callable[..., T]) -> list[T]:
        found: list[T] = []
        if limit > 0:
            for item in self._decodable(rows, decode):
                found.append(item)
                if len(found) == limit:
                    break
        return found

    def _decodable(self, rows: Iterable[tuple[object, ...]], decode: Callable[..., T]) -> Iterator[T]:
        for row in rows:
            try:
                yield decode(row)
            except (ValueError, TypeError, LookupError, RecursionError):
                fail_open.note("alert store", StoreError("a row cannot be read and is skipped"))


def _set_results(db: sqlite3.Connection, ids: Collection[int], result: ChannelResult) -> None:
    """Set the result of these events of the outbox in the history, each for its channel."""
    text = encoded_result(result)
    db.executemany(
        "UPDATE history SET channels ="
        " json_patch(channels, json_object((SELECT channel FROM outbox WHERE id = :id), json(:result)))"
        " WHERE key = (SELECT key FROM outbox WHERE id = :id)",
        [{"id": number, "result": text} for number in ids],
    )


def _undo_left_out(db: sqlite3.Connection, rows: Sequence[Queued], result: ChannelResult) -> None:
    """Set the result of events that were left out during their delivery, and count them no longer as left out."""
    channel, text = rows[0].channel, encoded_result(result)
    db.executemany(
        "UPDATE history SET channels = json_patch(channels, json_object(:channel, json(:result))) WHERE key = :key",
        [{"channel": channel, "result": text, "key": row.event.identity} for row in rows],
    )
    found = _overflow_notice(db, channel)
    if found is None:
        return
    number, before = found
    titles = [title(row.event.type.value, row.event.rule) for row in rows]
    notice = overflow.without(before, channel, titles, before.time)
    if notice is None:
        db.execute("DELETE FROM outbox WHERE id = ?", (number,))
    else:
        db.execute("UPDATE outbox SET event = ? WHERE id = ?", (encoded_event(notice), number))


def _overflow_notice(db: sqlite3.Connection, channel: str) -> tuple[int, AlertEvent] | None:
    """The id and the event of the notice about left-out events that waits for the channel and was not tried yet."""
    query = f"SELECT id, event FROM outbox WHERE channel = ? AND attempts = 0 AND {_IS_NOTICE}"  # noqa: S608 - our constants
    row = db.execute(query, (channel,)).fetchone()
    return (int(row[0]), decoded_event(row[1])) if row else None


def _leave_out_surplus(db: sqlite3.Connection, channel: str, now: float) -> None:
    (waiting,) = db.execute("SELECT count(*) FROM outbox WHERE channel = ?", (channel,)).fetchone()
    if waiting <= OUTBOX_LIMIT:
        return
    found = _overflow_notice(db, channel)
    surplus = waiting - OUTBOX_LIMIT + (found is None)
    least = db.execute(
        f"SELECT id, {_TYPE_AND_RULE} FROM outbox"  # noqa: S608 - our constants
        f" WHERE channel = ? AND NOT ({_IS_NOTICE}) ORDER BY {_RANK}, id LIMIT ?",
        (channel, surplus),
    ).fetchall()
    _set_results(db, [number for number, *_ in least], overflow.given_up(now))
    db.executemany("DELETE FROM outbox WHERE id = ?", [(number,) for number, *_ in least])
    left_out = Counter(title(kind, rule or "") if kind else "unreadable" for _, kind, rule in least)
    text = encoded_event(overflow.notice(found[1] if found else None, channel, left_out, now))
    if found:
        db.execute("UPDATE outbox SET event = ? WHERE id = ?", (text, found[0]))
    else:
        db.execute(_ENQUEUE, (channel, now, text, None))
