"""The store that goes on in memory: outages made for real, by locks, newer versions and paths that cannot be."""

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from otel_monitoring.alerts.model import AlertEvent, AlertType, ChannelResult, DeliveryState
from otel_monitoring.alerts.mute import Mute
from otel_monitoring.alerts.schedule import Once, Weekly
from otel_monitoring.alerts.selection import Selection
from otel_monitoring.alerts.store import Store
from otel_monitoring.alerts.store.fallback import BUSY_RETRY_SECONDS, RETRY_SECONDS, FallbackStore
from otel_monitoring.alerts.store.outbox import OUTBOX_LIMIT
from otel_monitoring.alerts.store.sqlite import SqliteStore
from otel_monitoring.alerts.store.sqlite.state_file import StateFile
from otel_monitoring.errors import StoreError
from otel_monitoring.guard import fail_open
from otel_monitoring.testing import ManualClock
from tests.alerts.store.conftest import World
from tests.alerts.store.test_store import NOW, become, everything, messages, raise_alert, waiting
from tests.alerts.store.test_store import event as event_of

MAIL = ("channel:mail",)


_numbers = count()


def event(message: str = "CPU at 91%") -> AlertEvent:
    """An event of an incident of its own."""
    return event_of(message, incident=str(next(_numbers)))


def test_all_that_is_done_during_an_outage_is_in_the_store_afterwards(world: World) -> None:
    store = world.store
    store.history.append(event("before"))
    store.outbox.enqueue([event("before")], ["mail"], NOW)
    store.incidents.save({"gone": "1", "changed": "1", "kept": "1"})
    store.acknowledgements.save({"gone": "ana", "kept": "bo"})
    window = Mute(Selection(), float("inf"), schedule=Weekly(frozenset({6}), time(2), time(4), "Europe/Berlin"))
    store.mutes.add(window)
    for labels in ({}, {"a": "1"}, {"a": "2"}):
        store.mutes.add(Mute(Selection.of(AlertType.HIGH_CPU, labels=labels), NOW + 600))
    world.lock()
    store.history.append(event("1"))
    store.run(lambda tx: tx.history.append(event("2")))
    store.outbox.enqueue([event("1")], ["mail", "slack"], NOW + 1)
    store.outbox.enqueue([event("2")], ["mail"], NOW + 2)
    store.incidents.save({"gone": None, "changed": "2", "new": "2"})
    assert store.acknowledgements.saved() == {"gone": "ana", "kept": "bo"}, "what was acknowledged stays so"
    store.acknowledgements.save({"gone": None, "new": "cy"})
    once = Mute(Selection(), NOW + 99, schedule=Once(NOW + 9, NOW + 99))
    store.mutes.add(once)
    store.mutes.remove(Mute(Selection.of(AlertType.HIGH_CPU, labels={"a": "1"}), 0.0))
    store.mutes.add(Mute(Selection.of(AlertType.HIGH_CPU, labels={"a": "2"}), NOW + 900))
    store.mutes.add(Mute(Selection.of(AlertType.CUSTOM), NOW + 60))
    store.notes.note("key", NOW + 3)
    assert messages(store) == ["2", "1", "before"]
    assert store.history.counts() == {AlertType.HIGH_CPU: 3}
    seen = (store.incidents.saved(), store.mutes.all(NOW), store.notes.noted_at("key"))
    assert world.other.incidents.saved() == {"gone": "1", "changed": "1", "kept": "1"}

    world.unlock()
    assert messages(store, 1) == ["2"]
    assert store.problem is not None, "not yet: it is tried now and then"
    world.later()
    assert messages(store) == messages(world.other) == ["2", "1", "before"]
    assert store.problem is None
    assert world.other.history.counts() == {AlertType.HIGH_CPU: 3}
    assert world.other.acknowledgements.saved() == {"kept": "bo", "new": "cy"}
    assert {window.id, once.id} <= {mute.id for mute in world.other.mutes.all(NOW)}
    assert (world.other.incidents.saved(), world.other.mutes.all(NOW), world.other.notes.noted_at("key")) == seen
    rows = world.other.outbox.pending("mail", 9)
    assert [(row.event.message, row.queued_at) for row in rows] == [("before", NOW), ("1", NOW + 1), ("2", NOW + 2)]
    assert waiting(world.other, "slack") == ["1"]
    assert everything(store) == everything(world.other)


def test_what_others_did_meanwhile_stays(world: World) -> None:
    world.store.incidents.save({"ours": "1", "theirs": "1"})
    world.store.notes.note("late", NOW)
    world.upgrade()
    world.store.incidents.save({"ours": "2"})
    world.store.notes.note("key", NOW + 1)
    world.store.history.append(event("ours"))
    world.downgrade()
    world.other.incidents.save({"theirs": "2", "more": "1"})
    world.other.notes.note("key", NOW + 5)
    world.other.history.append(event("theirs"))
    world.other.mutes.add(Mute(Selection.of(AlertType.CUSTOM), NOW + 60))
    world.later()
    assert world.store.incidents.saved() == {"ours": "2", "theirs": "2", "more": "1"}
    assert world.store.notes.noted_at("key") == NOW + 5
    assert messages(world.store) == ["ours", "theirs"]
    assert len(world.store.mutes.all(NOW)) == 1


@contextmanager
def _being_opened(path: Path) -> Iterator[None]:
    with StateFile(path).locked(1.0):
        yield


@contextmanager
def _being_created(path: Path) -> Iterator[None]:
    """A file without a log is locked as a whole."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    yield
    other.execute("ROLLBACK")
    other.close()


@contextmanager
def _being_written(path: Path) -> Iterator[None]:
    SqliteStore(path).history.append(event("before"))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


@pytest.mark.parametrize("kept", [_being_opened, _being_created, _being_written])
def test_a_file_that_others_kept_for_a_moment_is_used_at_the_next_tick(
    kept: Callable[[Path], Any], tmp_path: Path
) -> None:
    clock = ManualClock(NOW)
    path = tmp_path / "alerts.db"
    store = FallbackStore(SqliteStore(path, busy_timeout=0.02), clock=clock)
    with kept(path):
        store.history.append(event("ours"))
        assert store.problem is not None
    clock.advance(BUSY_RETRY_SECONDS)
    assert messages(store)[0] == "ours"
    assert store.problem is None
    store.close()
    assert messages(SqliteStore(path))[0] == "ours"


def test_a_file_that_others_keep_for_long_is_waited_for_less_and_less_often(world: World) -> None:
    attempts = []

    def attempted() -> bool:
        before = fail_open.failures["alert store"]
        assert world.store.history.counts() is not None
        return fail_open.failures["alert store"] > before

    for outage in range(2):
        world.lock()
        world.store.history.append(event("ours"))
        since, found = world.now, []
        while world.now < since + 3 * RETRY_SECONDS:
            world.now += BUSY_RETRY_SECONDS
            if attempted():
                found.append((world.now - since) / BUSY_RETRY_SECONDS)
        attempts.append(found)
        world.unlock()
        world.later()
        assert world.store.history.counts() == {AlertType.HIGH_CPU: outage + 1}
        assert world.store.problem is None
    assert attempts[0][:6] == [1, 3, 7, 15, 31, 31 + RETRY_SECONDS / BUSY_RETRY_SECONDS]
    assert attempts[1] == attempts[0], "once it works, the next lock is a short one again"


def test_a_file_that_cannot_be_used_is_not_tried_at_each_tick(world: World) -> None:
    world.upgrade()
    world.store.history.append(event("ours"))
    world.downgrade()
    world.now += BUSY_RETRY_SECONDS
    world.store.history.counts()
    assert world.store.problem is not None
    world.later()
    assert messages(world.store) == messages(world.other) == ["ours"]


def test_last_known_states_mutes_and_notes_hold_where_nothing_can_be_read(world: World) -> None:
    world.other.incidents.save({"rule": "firing"})
    world.other.mutes.add(Mute(Selection.of(AlertType.CUSTOM), NOW + 60))
    assert world.store.run(lambda tx: (tx.incidents.saved(), len(tx.mutes.all(NOW)))) == ({"rule": "firing"}, 1)
    world.store.notes.note("key", NOW)
    world.upgrade()
    assert world.store.incidents.saved() == {"rule": "firing"}
    assert len(world.store.mutes.all(NOW)) == 1
    assert world.store.notes.noted_at("key") == NOW
    assert world.store.problem is not None
    assert "newer" in world.store.problem


def test_what_a_thread_learned_just_before_an_outage_does_not_undo_what_came_after(world: World) -> None:
    world.lock()
    world.store.incidents.save({"rule": "firing"})
    world.store._learn([lambda: world.store.learned.incidents.save({"rule": "old"})])
    assert world.store.incidents.saved() == {"rule": "firing"}
    world.unlock()


def test_clearing_during_an_outage_clears(world: World) -> None:
    world.store.history.append(event("before"))
    world.lock()
    world.store.history.append(event("1"))
    world.store.history.clear()
    world.store.history.append(event("2"))
    world.unlock()
    world.later()
    assert (messages(world.store), world.other.history.counts()) == (["2"], {AlertType.HIGH_CPU: 1})


def test_clearing_notes_during_an_outage_clears_them(world: World) -> None:
    world.store.notes.note("before", NOW)
    world.lock()
    world.store.notes.clear()
    world.store.notes.note("after", NOW)
    world.unlock()
    world.later()
    assert world.store.history.counts() == {}
    assert [world.other.notes.noted_at(key) for key in ("before", "after")] == [None, NOW]


# Transactions


def test_a_transaction_that_fails_in_the_middle_is_run_again_in_memory(world: World) -> None:
    runs: list[str] = []

    def work(tx: Store) -> str:
        runs.append("run")
        assert tx.notes.noted_at("key") is None, "what the first run noted did not happen"
        tx.notes.note("key", NOW)
        tx.outbox.enqueue([event("once")], ["mail"], NOW)
        if len(runs) == 1:
            raise StoreError("disk full")
        return "done"

    assert world.store.run(work) == "done"
    assert waiting(world.store, "mail") == ["once"]
    assert waiting(world.other, "mail") == []
    world.later()
    assert waiting(world.store, "mail") == waiting(world.other, "mail") == ["once"]
    assert (len(runs), world.store.problem) == (2, None)


def test_a_mistake_of_the_caller_is_no_outage(world: World) -> None:
    def work(tx: Store) -> None:
        tx.history.append(event())
        tx.incidents.save({"rule": "firing"})
        raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            world.store.run(work)
        assert (messages(world.store), world.store.incidents.saved()) == ([], {})
        if world.store.problem is None:
            world.lock()
            world.store.history.clear()
    world.unlock()
    world.later()
    assert (messages(world.store), world.store.incidents.saved(), world.store.problem) == ([], {}, None)


# The outbox across outages


def test_what_is_settled_during_an_outage_is_not_delivered_again(world: World) -> None:
    assert world.store.leases.lead("me", NOW, NOW + 60, MAIL)
    for name in ("sent", "tried"):
        world.store.outbox.enqueue([event(name)], ["mail"], NOW)
    in_flight = world.store.outbox.pending("mail", 2)
    world.lock()
    world.store.outbox.settle([in_flight[0].id])
    world.store.outbox.tried([in_flight[1].id])
    assert waiting(world.store, "mail") == ["tried"]
    world.unlock()
    world.later()
    (row,) = world.store.outbox.pending("mail", 9)
    assert (row.event.message, row.attempts) == ("tried", 1)
    assert waiting(world.other, "mail") == ["tried"]


def test_what_is_taken_during_an_outage_is_settled_after_it(world: World) -> None:
    world.lock()
    for name in ("sent", "tried", "left"):
        world.store.outbox.enqueue([event(name)], ["mail"], NOW)
    in_flight = world.store.outbox.pending("mail", 2)
    world.store.outbox.tried([row.id for row in in_flight])
    world.unlock()
    world.later()
    world.store.outbox.settle([in_flight[0].id])
    world.store.outbox.tried([in_flight[1].id])
    rows = world.other.outbox.pending("mail", 9)
    assert [(row.event.message, row.attempts) for row in rows] == [("tried", 2), ("left", 0)]


def test_what_became_of_channels_during_an_outage_is_in_the_history_afterwards(world: World) -> None:
    assert world.store.leases.lead("me", NOW, NOW + 60, MAIL)
    for message in ("delivered", "retried"):
        raise_alert(world.store, message)
    world.lock()
    raise_alert(world.store, "new")
    delivered, retried, new = world.store.outbox.pending("mail", 9)
    done = ChannelResult(DeliveryState.DELIVERED, at=NOW)
    world.store.outbox.settle([delivered.id], done)
    world.store.outbox.note([retried.id, new.id], ChannelResult(DeliveryState.RETRYING, error="down"))
    during = become(world.store)
    assert [during[name]["mail"]["state"] for name in ("delivered", "retried", "new")] == [
        "delivered",
        "retrying",
        "retrying",
    ]
    world.unlock()
    world.later()
    assert become(world.store) == become(world.other) == during
    world.store.outbox.settle([new.id], done)
    assert become(world.other)["new"]["mail"]["state"] == "delivered", "it is known by the number it had in memory"


def test_how_channels_fare_during_an_outage_is_known_to_all_afterwards(world: World) -> None:
    world.store.conditions.save("mail", "works")
    world.other.conditions.save("slack", "works")
    world.lock()
    assert world.store.conditions.saved() == {"mail": "works", "slack": "works"}
    world.store.conditions.save("mail", "fails")
    assert world.other.conditions.saved()["mail"] == "works"
    world.unlock()
    world.later()
    assert world.store.conditions.saved() == world.other.conditions.saved() == {"mail": "fails", "slack": "works"}


def test_the_events_that_waited_are_delivered_by_the_one_that_led(world: World) -> None:
    follower = FallbackStore(SqliteStore(world.path, busy_timeout=0.02), clock=lambda: world.now)
    assert world.store.leases.lead("leader", NOW, NOW + 60, MAIL)
    assert not follower.leases.lead("follower", NOW, NOW + 60, MAIL)
    world.store.outbox.enqueue([event("waited")], ["mail"], NOW)
    world.lock()
    assert world.store.leases.lead("leader", NOW + 1, NOW + 61, MAIL)
    world.store.outbox.enqueue([event("leader")], ["mail"], NOW + 1)
    assert not follower.leases.lead("follower", NOW + 59, NOW + 119, MAIL), "it can still read that another leads"
    assert follower.leases.lead("follower", NOW + 60, NOW + 120, MAIL), "each leads itself"
    follower.outbox.enqueue([event("follower")], ["mail"], NOW + 2)
    assert waiting(world.store, "mail") == ["waited", "leader"]
    assert waiting(follower, "mail") == ["follower"]
    world.unlock()
    world.later()
    assert waiting(world.store, "mail") == ["waited", "leader"]
    assert waiting(follower, "mail") == ["waited", "leader", "follower"]
    assert world.store.leases.lead("leader", NOW + 120, NOW + 180, MAIL)
    assert not follower.leases.lead("follower", NOW + 121, NOW + 181, MAIL)
    follower.close()


def test_a_full_outbox_comes_back_with_the_newest(world: World) -> None:
    world.store.outbox.enqueue([event(f"old {number}") for number in range(OUTBOX_LIMIT - 1)], ["mail"], NOW)
    world.lock()
    for number in range(3):
        world.store.outbox.enqueue([event(f"new {number}")], ["mail"], NOW + 1)
    world.unlock()
    world.later()
    names = waiting(world.store, "mail")
    told = [name for name in names if "left out" not in name]
    assert (told[0], told[-3:]) == ("old 3", ["new 0", "new 1", "new 2"])
    assert world.store.outbox.backlog() == {"mail": OUTBOX_LIMIT}


# Telling about it


def test_one_warning_tells_and_more_come_only_now_and_then(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    assert world.store.problem is None
    world.lock()
    for _ in range(30):
        world.store.history.append(event())
    assert world.store.problem == "alerts.db: database is locked"
    (line,) = caplog.messages
    assert "alerts.db: database is locked" in line
    for _ in range(3):
        world.unlock()
        world.later()
        assert world.store.history.counts()
        world.lock()
        world.store.history.append(event())
    assert len(caplog.messages) == 1
    world.unlock()
    world.now += 60
    assert world.store.history.counts() == {AlertType.HIGH_CPU: 33}
    world.lock()
    world.store.history.append(event())
    assert len(caplog.messages) == 2
    assert fail_open.failures["alert store"] == 5
    world.unlock()


def test_it_is_tried_again_at_once_when_the_clock_was_set_back(world: World) -> None:
    world.lock()
    world.store.history.append(event())
    world.unlock()
    world.now -= 7 * 86_400
    assert messages(world.store) == messages(world.other) == ["CPU at 91%"]


def test_a_path_that_cannot_be_is_memory_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    clock = ManualClock(NOW)
    store = FallbackStore(SqliteStore(tmp_path / "file" / "alerts.db"), clock=clock)
    for _ in range(20):
        store.run(lambda tx: tx.history.append(event()))
        assert store.leases.lead("worker", clock.now, clock.now + 30)
        clock.now += 30
    assert len(messages(store)) == 20
    assert len(caplog.messages) == 1
    store.close()
    assert caplog.messages[1].endswith("20 alerts of its history and 0 that were not delivered are lost")


def test_closing_takes_a_last_chance(world: World) -> None:
    world.lock()
    world.store.outbox.enqueue([event("late")], ["mail"], NOW)
    world.unlock()
    world.store.close()
    assert waiting(world.other, "mail") == ["late"]
    world.lock()
    world.store.outbox.enqueue([event("later")], ["mail"], NOW)
    world.store.close()
    assert waiting(world.store, "mail") == ["later"], "we did not lead"
    world.unlock()


def test_what_is_lost_when_it_closes_in_an_outage_is_said(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.lock()
    world.store.history.append(event("kept nowhere"))
    world.store.outbox.enqueue([event("late")], ["mail"], NOW)
    world.store.close()
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert said.endswith("1 alerts of its history and 1 that were not delivered are lost")
    world.unlock()


def test_nothing_is_lost_when_outages_come_and_go_under_threads(world: World) -> None:
    """Each thread moves the clock on: tries to return happen in the middle of everything."""
    stop = threading.Event()

    def add(name: str) -> None:
        for number in range(25):
            world.store.run(lambda tx, text=f"{name}{number}": tx.outbox.enqueue([event(text)], ["mail"], NOW))  # type: ignore[misc]
            world.store.history.append(event())
            world.now += RETRY_SECONDS / 3

    def flicker() -> None:
        while not stop.is_set():
            world.lock()
            stop.wait(0.03)
            world.unlock()
            stop.wait(0.02)

    outage = threading.Thread(target=flicker)
    threads = [threading.Thread(target=add, args=(name,)) for name in "abc"]
    for thread in (outage, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    outage.join()
    world.later()
    expected = sorted(f"{name}{number}" for name in "abc" for number in range(25))
    assert sorted(waiting(world.store, "mail")) == expected
    assert world.store.problem is None
    assert sorted(waiting(world.other, "mail")) == expected
    assert world.other.history.counts() == {AlertType.HIGH_CPU: 75}
