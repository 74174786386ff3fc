"""`SqliteOutbox`: the table of the outbox."""

import sqlite3
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from otel_monitoring.alerts.model import LEFT_OUT, AlertEvent, AlertSeverity, ChannelResult, DeliveryState, title
from otel_monitoring.alerts.store.outbox import (
    OUTBOX_LIMIT,
    UNREADABLE,
    Queued,
    given_up,
    new_ids,
    notice_without,
    overflow_notice,
)
from otel_monitoring.alerts.store.rows import first
from otel_monitoring.alerts.store.serialization import decoded_event, encoded_event, encoded_result
from otel_monitoring.alerts.store.sqlite.connection import SqliteConnection
from otel_monitoring.guard import logger

_TYPE_AND_RULE = ", ".join(
    f"CASE WHEN json_valid(event) THEN json_extract(event, '$.{of}') END" for of in ("type", "rule")
)
_IS_NOTICE = f"(json_valid(event) AND json_extract(event, '$.rule') = '{LEFT_OUT}')"
_RANK = "CASE WHEN json_valid(event) THEN CASE json_extract(event, '$.severity') {} END END".format(
    " ".join(f"WHEN '{severity.value}' THEN {severity.rank}" for severity in AlertSeverity)
)
_INSERT = (
    "INSERT INTO outbox (id, channel, queued_at, attempts, event, key) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (id) DO NOTHING"
)
_SELECT = "SELECT id, channel, event, queued_at, attempts FROM outbox"


class SqliteOutbox:
    """An `Outbox` in a SQLite file."""

    def __init__(self, connection: SqliteConnection) -> None:
        self._read, self._write = connection.read, connection.write

    def enqueue(self, events: Sequence[AlertEvent], channels: Collection[str], now: float) -> None:
        rows = [(now, 0, encoded_event(event), event.identity) for event in events]

        def work(db: sqlite3.Connection) -> None:
            for channel in channels:
                ids = new_ids(len(rows), now, _largest_id(db))
                db.executemany(_INSERT, [(number, channel, *row) for number, row in zip(ids, rows, strict=True)])
                _leave_out_surplus(db, channel, now)

        if channels and rows:
            self._write(work)

    def restore(self, rows: Collection[Queued]) -> None:
        def work(db: sqlite3.Connection) -> None:
            for row in rows:
                values = (row.id, row.channel, row.queued_at, row.attempts, encoded_event(row.event))
                db.execute(_INSERT, (*values, row.event.identity))
            for channel in {row.channel for row in rows}:
                _leave_out_surplus(db, channel, max(row.queued_at for row in rows))

        if rows:
            self._write(work)

    def pending(self, channel: str, limit: int) -> Sequence[Queued]:
        query = f"{_SELECT} WHERE channel = ? ORDER BY id"
        unreadable: list[int] = []

        def decode(row: tuple[Any, ...]) -> Queued:
            unreadable.append(row[0])
            queued = Queued(row[0], row[1], decoded_event(row[2]), row[3], row[4])
            unreadable.pop()
            return queued

        found = self._read(lambda db: first(limit, db.execute(query, (channel,)), decode))
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

    def waiting(self) -> frozenset[str]:
        rows = self._read(lambda db: db.execute("SELECT DISTINCT channel FROM outbox").fetchall())
        return frozenset(channel for (channel,) in rows)

    def backlog(self) -> dict[str, int]:
        query = "SELECT channel, count(*) FROM outbox GROUP BY channel"
        return dict(self._read(lambda db: db.execute(query).fetchall()))

    def tried(self, ids: Collection[int], attempts: int = 1) -> None:
        rows = [(attempts, number) for number in ids]
        if rows:
            self._write(lambda db: db.executemany("UPDATE outbox SET attempts = attempts + ? WHERE id = ?", rows))

    def note(self, ids: Collection[int], result: ChannelResult) -> None:
        if ids:
            self._write(lambda db: _set_results(db, ids, result))

    def settle(self, ids: Collection[int], result: ChannelResult | None = None) -> None:
        def work(db: sqlite3.Connection) -> None:
            if result is not None:
                _set_results(db, ids, result)
            _delete(db, ids)

        if ids:
            self._write(work)

    def arrived(self, rows: Sequence[Queued], result: ChannelResult) -> None:
        if not rows:
            return
        channel, ids = rows[0].channel, [row.id for row in rows]

        def work(db: sqlite3.Connection) -> None:
            waiting = {number for (number,) in db.execute("SELECT id FROM outbox WHERE channel = ?", (channel,))}
            left_out = [row for row in rows if row.id not in waiting]
            _set_results(db, ids, result)
            _delete(db, ids)
            if left_out:
                _undo_left_out(db, left_out, result)

        self._write(work)


def _largest_id(db: sqlite3.Connection) -> int:
    """The largest id ever given."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'").fetchone()
    return int(row[0]) if row else 0


def _delete(db: sqlite3.Connection, ids: Collection[int]) -> None:
    db.executemany("DELETE FROM outbox WHERE id = ?", [(number,) for number in ids])


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
    found = _notice(db, channel)
    if found is None:
        return
    number, before = found
    titles = [title(row.event.type.value, row.event.rule) for row in rows]
    notice = notice_without(before, channel, titles)
    if notice is None:
        _delete(db, [number])
    else:
        db.execute("UPDATE outbox SET event = ? WHERE id = ?", (encoded_event(notice), number))


def _notice(db: sqlite3.Connection, channel: str) -> tuple[int, AlertEvent] | None:
    """The id and the event of the notice about left-out events that waits for the channel and was not tried yet."""
    query = f"SELECT id, event FROM outbox WHERE channel = ? AND attempts = 0 AND {_IS_NOTICE}"  # noqa: S608 - our constants
    row = db.execute(query, (channel,)).fetchone()
    return (int(row[0]), decoded_event(row[1])) if row else None


def _leave_out_surplus(db: sqlite3.Connection, channel: str, now: float) -> None:
    (waiting,) = db.execute("SELECT count(*) FROM outbox WHERE channel = ?", (channel,)).fetchone()
    if waiting <= OUTBOX_LIMIT:
        return
    found = _notice(db, channel)
    surplus = waiting - OUTBOX_LIMIT + (found is None)
    least = db.execute(
        f"SELECT id, {_TYPE_AND_RULE} FROM outbox"  # noqa: S608 - our constants
        f" WHERE channel = ? AND NOT ({_IS_NOTICE}) ORDER BY {_RANK}, id LIMIT ?",
        (channel, surplus),
    ).fetchall()
    _set_results(db, [number for number, *_ in least], given_up(now))
    _delete(db, [number for number, *_ in least])
    left_out = Counter(title(kind, rule or "") if kind else "unreadable" for _, kind, rule in least)
    text = encoded_event(overflow_notice(found[1] if found else None, channel, left_out, now))
    if found:
        db.execute("UPDATE outbox SET event = ? WHERE id = ?", (text, found[0]))
    else:
        (number,) = new_ids(1, now, _largest_id(db))
        db.execute(_INSERT, (number, channel, now, 0, text, None))
