"""The store in a file: what is on disk, damaged and foreign files, versions, forks, errors."""

import json
import os
import random
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from otel_monitoring.alerts.model import (
    AlertEvent,
    AlertSeverity,
    AlertType,
    ChannelResult,
    DeliveryState,
    Outcome,
    Status,
)
from otel_monitoring.alerts.mute import Mute
from otel_monitoring.alerts.selection import Selection
from otel_monitoring.alerts.store import Store
from otel_monitoring.alerts.store.leases import LEADER
from otel_monitoring.alerts.store.serialization import decoded_event, encoded_event
from otel_monitoring.alerts.store.sqlite import SqliteStore, schema
from otel_monitoring.alerts.store.sqlite.state_file import DAMAGED_KEPT, StateFile
from otel_monitoring.errors import StoreError
from otel_monitoring.guard import fail_open
from tests.alerts.store.test_store import NOW, become, event, messages, raise_alert, waiting

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="POSIX files and forks")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "alerts.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path)
    yield store
    store.close()


def damaged(path: Path) -> list[Path]:
    return sorted(path.parent.glob("*.corrupt-*Z"))


# On disk


@linux
def test_directory_and_files_are_the_users_alone(store: SqliteStore, path: Path) -> None:
    before = os.umask(0)
    try:
        store.history.append(event())
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (path.parent, *path.parent.iterdir())}
    assert modes == {"state": 0o700, **{f"alerts.db{suffix}": 0o600 for suffix in ("", "-wal", "-shm", ".lock")}}


def test_it_is_a_write_ahead_log_that_close_leaves_merged(store: SqliteStore, path: Path) -> None:
    store.history.append(event())
    other = sqlite3.connect(path)
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()
    store.close()
    assert sorted(file.name for file in path.parent.iterdir()) == ["alerts.db", "alerts.db.lock"]


ENDING = """
import atexit, sqlite3, sys
opened = []
sys.addaudithook(lambda event, given: opened.append(given[0]) if event == "sqlite3.connect/handle" else None)

@atexit.register
def after_all_others():
    try:
        opened[0].total_changes
    except sqlite3.ProgrammingError as error:
        print(error)

from pathlib import Path
from otel_monitoring.alerts.store.sqlite import SqliteStore
store = SqliteStore(Path(sys.argv[1]))
store.incidents.save({"rule": "firing"})
assert opened[0].total_changes
if sys.argv[2] == "gone":
    del store
    after_all_others()
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["gone", "exit"])
def test_a_connection_is_closed_by_its_owner_and_not_left_to_the_garbage_collector(path: Path, when: str) -> None:
    command = [sys.executable, "-X", "dev", "-c", ENDING, str(path), when]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.startswith("Cannot operate on a closed database."), done.stderr
    assert "ResourceWarning" not in done.stderr
    assert sorted(file.name for file in path.parent.iterdir()) == ["alerts.db", "alerts.db.lock"]


@linux
def test_in_a_directory_of_everybody_only_own_files_are_used(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    mine = SqliteStore(tmp_path / "alerts.db")
    mine.history.append(event())
    mine.close()
    (tmp_path / "theirs.db").symlink_to(tmp_path / "alerts.db")
    planted = SqliteStore(tmp_path / "planted.db")
    (tmp_path / "planted.db-wal").symlink_to(tmp_path / "elsewhere")
    for store, name in ((SqliteStore(tmp_path / "theirs.db"), "theirs.db"), (planted, "planted.db-wal")):
        with pytest.raises(StoreError, match=f"{name}: not a file of this user"):
            store.history.append(event())
    assert not (tmp_path / "elsewhere").exists()


@linux
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_used_where_only_we_may_write(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "alerts.db")
    store.history.append(event())
    store.close()
    os.chown(tmp_path / "alerts.db", 12345, 12345)
    store.history.append(event())
    store.close()
    tmp_path.chmod(0o777)
    with pytest.raises(StoreError, match="not a file of this user"):
        store.history.append(event())


# Versions


def test_a_newer_file_is_left_as_it_is(store: SqliteStore, path: Path) -> None:
    store.history.append(event())
    store.close()
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    before = path.read_bytes()
    for ask in (lambda: store.history.append(event()), lambda: store.history.events(limit=1)):
        with pytest.raises(StoreError, match=r"alerts\.db: version 99 .* newer otel-monitoring"):
            ask()
    assert (path.read_bytes(), damaged(path)) == (before, [])


def test_a_file_migrated_while_it_is_open_is_not_written_to(store: SqliteStore, path: Path) -> None:
    store.history.append(event())
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="newer"):
        store.history.append(event())
    newer.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS)}")
    newer.close()
    store.history.append(event())
    assert len(messages(store)) == 2


def test_an_older_file_is_migrated_and_keeps_its_content(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.history.append(event("old"))
    store.close()
    step = ("ALTER TABLE states ADD COLUMN rule TEXT", "UPDATE counts SET seen = seen + 10")
    monkeypatch.setattr(schema.prepare, "__defaults__", ((*schema.MIGRATIONS, step),))
    monkeypatch.setattr(schema.current, "__defaults__", ((*schema.MIGRATIONS, step),))
    store.history.append(event("new"))
    assert (messages(store), store.history.counts()) == (["new", "old"], {AlertType.HIGH_CPU: 12})
    other = sqlite3.connect(path)
    assert schema.version(other) == len(schema.MIGRATIONS) + 1
    other.close()


LABELS: tuple[dict[str, str], ...] = ({}, {"a": "\u00e9", "b": "2"})


def test_a_file_of_the_released_version_goes_on(store: SqliteStore, path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    path.touch(0o600)
    released = sqlite3.connect(path)
    schema.prepare(released, schema.MIGRATIONS[:1])
    row = ("high_cpu", "warning", encoded_event(event("old", incident="i")))
    released.execute("INSERT INTO history (type, severity, event) VALUES (?, ?, ?)", row)
    released.execute("INSERT INTO outbox (channel, queued_at, attempts, event) VALUES ('mail', ?, 2, ?)", (NOW, row[2]))
    for labels in ("{}", '{"a": "\\u00e9", "b": "2"}'):
        released.execute("INSERT INTO mutes VALUES ('high_cpu', ?, ?, 'ana', 'known')", (labels, NOW + 60))
    released.execute("INSERT INTO lease VALUES (0, 'former', ?, ?)", (NOW, NOW + 5))
    released.commit()
    released.close()
    assert [one.as_json().get("channels") for one in store.history.events(limit=9)] == [None], "it did not note that"
    whole, one = (Mute(Selection.of("high_cpu", labels=labels), NOW + 60, "ana", "known") for labels in LABELS)
    assert store.mutes.all(NOW) == [one, whole]
    assert store.mutes.remove(one)
    store.mutes.add(replace(whole, until=NOW + 90))
    assert [mute.until for mute in store.mutes.all(NOW)] == [NOW + 90], "it replaces the one of the former version"
    (queued,) = store.outbox.pending("mail", 9)
    store.outbox.settle([queued.id], ChannelResult(DeliveryState.DELIVERED))
    raise_alert(store, "new", ["mail"])
    assert messages(store) == ["new", "old"]
    assert waiting(store, "mail") == ["new"]
    assert store.leases.holders(NOW)[LEADER] == "former"


def test_a_migration_that_fails_changes_nothing(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.history.append(event("old"))
    store.close()
    step = ("UPDATE counts SET seen = 0", "DROP TABLE no_such_table")
    with monkeypatch.context() as patch:
        patch.setattr(schema.prepare, "__defaults__", ((*schema.MIGRATIONS, step),))
        patch.setattr(schema.current, "__defaults__", ((*schema.MIGRATIONS, step),))
        with pytest.raises(StoreError, match="no_such_table"):
            store.history.append(event("new"))
    assert (messages(store), store.history.counts()) == (["old"], {AlertType.HIGH_CPU: 1})


# Damage

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "random bytes": lambda content: random.Random(7).randbytes(len(content)),
    "text": lambda _: b"not a database at all, but long enough to be looked at" * 20,
    "truncated": lambda content: content[: len(content) // 2],
    "zero pages": lambda content: content[:4096] + bytes(len(content) - 4096),
    "header kept, rest random": lambda content: content[:100] + random.Random(7).randbytes(len(content) - 100),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_set_aside_and_a_new_one_begun(
    damage: str, store: SqliteStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(200):
        store.history.append(event(str(number)))
    store.close()
    content = DAMAGE[damage](path.read_bytes())
    path.write_bytes(content)
    store.history.append(event("new"))
    assert messages(store) == ["new"]
    (aside,) = damaged(path)
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600
    (line,) = caplog.messages
    assert str(path) in line
    assert aside.name in line
    if damage != "truncated":
        assert aside.read_bytes() == content


def test_an_empty_file_is_a_new_one(store: SqliteStore, path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    store.history.append(event())
    assert (len(messages(store)), damaged(path)) == (1, [])


def test_damage_found_in_the_middle_of_a_transaction_leaves_none_of_it(store: SqliteStore, path: Path) -> None:
    for number in range(400):
        store.history.append(event(str(number) * 50))
    store.incidents.save({"rule": "firing"})
    store.close()
    content = path.read_bytes()
    # Only the pages of the history: its beginning can be added to, its end is what the next statement sees.
    connection = sqlite3.connect(path)
    (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'history'").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    path.write_bytes(content[: (root - 1) * size] + random.Random(7).randbytes(size) + content[root * size :])

    def work(tx: Store) -> None:
        assert tx.incidents.saved() == {"rule": "firing"}
        tx.incidents.save({"rule": None})
        tx.history.append(event())

    with pytest.raises(StoreError, match=r"alerts\.db: .*malformed"):
        store.run(work)
    assert len(damaged(path)) == 1
    assert (store.incidents.saved(), messages(store)) == ({}, [])


def test_few_damaged_files_are_kept(store: SqliteStore, path: Path) -> None:
    for number in range(DAMAGED_KEPT + 2):
        store.history.append(event(str(number)))
        store.close()
        path.write_bytes(b"damaged " * 500 + str(number).encode())
        path.with_name("alerts.db-wal").write_bytes(b"with its log")
    store.history.append(event())
    assert [file.read_bytes()[-1:] for file in damaged(path)] == [b"2", b"3", b"4"]
    assert len(list(path.parent.iterdir())) <= 2 * DAMAGED_KEPT + 4


def test_workers_that_hold_a_damaged_file_meet_in_the_new_one(
    store: SqliteStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    others = [SqliteStore(path) for _ in range(3)]
    for number in range(300):
        store.history.append(event(str(number)))
    for other in others:
        assert len(messages(other)) == 300
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with path.open("r+b") as file:
        file.seek(100)
        file.write(random.Random(7).randbytes(path.stat().st_size - 100))
    threads = [threading.Thread(target=other.history.append, args=(event(name),)) for name, other in zip("abc", others)]  # noqa: B905
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.history.append(event("d"))
    assert sorted(messages(store)) == ["a", "b", "c", "d"]
    assert (len(damaged(path)), len(caplog.messages)) == (1, 1)
    # Closing a connection to the old file must not take the log of the new one away.
    for other in others:
        other.close()
    fresh = SqliteStore(path)
    assert sorted(messages(fresh)) == ["a", "b", "c", "d"]
    fresh.close()


def test_a_file_deleted_meanwhile_is_begun_anew(store: SqliteStore, path: Path) -> None:
    store.history.append(event("lost"))
    for file in path.parent.iterdir():
        file.unlink()
    path.parent.rmdir()
    other = SqliteStore(path)
    other.history.append(event("1"))
    store.history.append(event("2"))
    assert messages(store) == messages(other) == ["2", "1"]
    other.close()
    store.history.append(event("3"))
    store.close()
    assert messages(store) == ["3", "2", "1"]


# Rows of other versions


def test_rows_that_cannot_be_read_are_skipped_counted_and_told(
    store: SqliteStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.history.append(event("1"))
    store.outbox.enqueue([event("1")], ["mail"], NOW)
    store.mutes.add(Mute(Selection.of(AlertType.CUSTOM), NOW + 60))
    other = sqlite3.connect(path)
    record = asdict(event())
    texts: list[object] = ["{", "[]", '{"type": "from_the_future"}', "[" * 100_000, b"\xff\xfe", 7]
    texts += [json.dumps({**record, name: None}) for name in ("time", "message", "details", "labels", "type")]
    for text in texts:
        other.execute("INSERT INTO history (type, severity, event) VALUES ('high_cpu', 'warning', ?)", (text,))
        other.execute("INSERT INTO outbox (channel, queued_at, attempts, event) VALUES ('mail', 1, 0, ?)", (text,))
    other.execute("INSERT INTO counts VALUES ('of the future', 4)")
    other.execute("INSERT INTO mutes VALUES ('{\"types\":[\"of the future\"]}', '', ?, '', '')", (NOW + 60,))
    other.execute("UPDATE history SET event = CAST(x'ff7b' AS TEXT) WHERE event = '[]'")
    other.commit()
    other.close()
    store.history.append(event("2"))
    store.outbox.enqueue([event("2")], ["mail"], NOW)
    assert messages(store, 2) == ["2", "1"]
    assert waiting(store, "mail", 2) == ["1", "2"]
    assert store.history.counts() == {AlertType.HIGH_CPU: 2}
    assert [mute.type for mute in store.mutes.all(NOW)] == [AlertType.CUSTOM]
    assert fail_open.failures["alert store"] == 2 * len(texts) + 2, "the diagnostics show it"
    assert store.outbox.backlog() == {"mail": 2, "mail (unreadable)": len(texts)}, "they are set aside, and kept"
    said = f"alert store: {len(texts)} events for mail cannot be read: they are set aside"
    assert [line for line in caplog.messages if "set aside" in line] == [said]
    store.outbox.pending("mail", 9)
    assert fail_open.failures["alert store"] == 2 * len(texts) + 2


def test_an_event_that_cannot_be_read_in_the_outbox_is_given_up(store: SqliteStore, path: Path) -> None:
    raise_alert(store, "1", ["mail"])
    with sqlite3.connect(path) as other:
        other.execute("UPDATE outbox SET event = '{'")
    other.close()
    assert waiting(store, "mail") == []
    assert become(store) == {"1": {"mail": {"state": "given up", "error": "it cannot be read in the outbox"}}}


# Errors


def test_a_transaction_goes_no_further_after_an_error(store: SqliteStore, path: Path) -> None:
    """SQLite may have rolled back by itself: what follows would stand alone."""
    store.history.append(event("before"))

    def stubborn() -> None:
        with store.exclusive():
            store.history.append(event("1"))
            with pytest.raises(StoreError):
                store.reports.publish("worker", None, NOW)  # type: ignore[arg-type]
            store.history.append(event("2"))

    with pytest.raises(StoreError, match="failed earlier"):
        stubborn()
    assert messages(store) == ["before"]
    store.history.append(event("after"))
    assert messages(store) == ["after", "before"]


def test_errors_name_the_file_and_no_secret(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = SqliteStore(tmp_path / "file" / "password=hunter2" / "alerts.db")
    with pytest.raises(StoreError, match=r"^alerts\.db: ") as caught:
        store.history.append(event())
    assert "hunter2" not in str(caught.value)


def test_waiting_for_another_process_ends(store: SqliteStore, path: Path) -> None:
    store.history.append(event("1"))
    quick = SqliteStore(path, busy_timeout=0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        quick.history.append(event("2"))
    assert messages(quick) == ["1"], "reading does not wait"
    other.execute("ROLLBACK")
    quick.history.append(event("2"))
    with StateFile(path).locked(1.0):
        late = SqliteStore(path, busy_timeout=0.05)
        with pytest.raises(StoreError, match="another process is opening"):
            late.history.append(event("3"))
    late.history.append(event("3"))
    for opened in (quick, late, other):
        opened.close()
    assert messages(store) == ["3", "2", "1"]


RELEASED = """{"time": 1700000000, "type": "high_error_rate", "severity": "warning", "message": "Error rate 7.2 %",
"details": {"value": 7.2, "routes": ["/a"], "text": "\\ud800"}, "outcome": "muted", "status": "resolved",
"labels": {"endpoint": "/a"}, "rule": "high_error_rate", "incident": "abc", "since": 1600000000.5,
"runbook": "https://x/y", "trace_id": "ab", "later": 1, "readable": true}"""


def test_a_row_of_the_first_version_is_read() -> None:
    assert decoded_event(RELEASED) == AlertEvent(
        1.7e9,
        AlertType.HIGH_ERROR_RATE,
        AlertSeverity.WARNING,
        "Error rate 7.2 %",
        details={"value": 7.2, "routes": ["/a"], "text": "\ud800"},
        outcome=Outcome.MUTED,
        status=Status.RESOLVED,
        labels={"endpoint": "/a"},
        rule="high_error_rate",
        incident="abc",
        since=1600000000.5,
        runbook="https://x/y",
        trace_id="ab",
    )
    assert decoded_event(encoded_event(decoded_event(RELEASED))) == decoded_event(RELEASED)


def test_rows_of_an_earlier_version_are_made_readable(store: SqliteStore, path: Path) -> None:
    """It kept NaN, which JSON does not have, secrets in nested details, and texts of several lines."""
    store.history.append(event("now"))
    old = {
        **asdict(event("x")),
        "message": "line\x1b[31m\nline",
        "details": {"rate": float("nan"), "request": {"password": "hunter2"}},
        "labels": {"endpoint": "/a\n"},
        "time": 1e300,
    }
    with sqlite3.connect(path) as connection:
        connection.execute(
            "INSERT INTO history (type, severity, event) VALUES ('custom', 'info', ?)", (json.dumps(old),)
        )
    connection.close()
    read = store.history.events(limit=1)[0]
    assert (read.message, read.labels) == ("line [31m line", {"endpoint": "/a "})
    assert read.details == {"rate": "NaN", "request": {"password": "[REDACTED]"}}
    assert read.as_json()["timestamp"] == "9999-12-31T23:59:59.000+00:00"
