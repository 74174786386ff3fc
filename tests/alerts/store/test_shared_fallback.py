"""A database away: each host goes on with its file, which its workers share, and what happened is merged."""

import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest

from otel_monitoring.alerts.model import AlertType, ChannelResult, DeliveryState
from otel_monitoring.alerts.mute import Mute
from otel_monitoring.alerts.schedule import Once
from otel_monitoring.alerts.selection import Selection
from otel_monitoring.alerts.store import MemoryStore, Store
from otel_monitoring.alerts.store.fallback import RETRY_SECONDS, FallbackStore, store_probe
from otel_monitoring.alerts.store.fallback.store_probe import StoreProbe
from otel_monitoring.alerts.store.leases import LEADER
from otel_monitoring.alerts.store.memory.state import MemoryState
from otel_monitoring.alerts.store.sqlite import SqliteStore, schema
from otel_monitoring.alerts.store.sqlite.connection import SqliteConnection
from otel_monitoring.alerts.store.texts import BESIDE
from otel_monitoring.errors import StoreError
from tests.alerts.evaluation.test_transitions import DOWN, ERRORS, Watcher
from tests.alerts.store.test_fallback import event
from tests.alerts.store.test_measurements import Process
from tests.alerts.store.test_store import NOW, become, messages, raise_alert, waiting
from tests.waiting import eventually

T = TypeVar("T")
MAIL = ("channel:mail",)
DONE = ChannelResult(DeliveryState.DELIVERED, at=NOW)


class Remembering(SqliteStore):
    """See `Hosts.remembering`."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._incidents: dict[str, str] = {}

    def run(self, work: Callable[[Store], T]) -> T:
        result, self._incidents = super().run(lambda store: (work(store), store.incidents.saved()))
        return result

    def state(self) -> MemoryState:
        return MemoryState(incidents=self._incidents)


def connection_of(store: Store) -> SqliteConnection:
    assert isinstance(store, FallbackStore)
    assert isinstance(store.primary, SqliteStore)
    return store.primary._connection


class Clocked(SqliteStore):
    """A database whose clock a process knows once it has used it, as with a `MongoStore`."""

    def __init__(self, path: Path, offset: float) -> None:
        super().__init__(path)
        self._offset = offset

    def run(self, work: Callable[[Store], T]) -> T:
        result, self.clock_offset = super().run(work), self._offset
        return result


def out_of_reach() -> NoReturn:
    raise StoreError("out of reach")


class Hosts:
    """A database of all, which can be away, and hosts with a file each. The database is a file here, too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = NOW
        self.database = SqliteStore(folder / "database.db")
        self.database.history.counts()
        self._outage = sqlite3.connect(self.database.path, isolation_level=None)
        self.opened: list[Store] = [self.database]

    def worker(self, host: str) -> FallbackStore:
        return self._opened(FallbackStore(SqliteStore(self.database.path), self._file(host), clock=self._clock))

    def remembering(self, host: str) -> FallbackStore:
        """A worker that knows the alerts as its last transaction had them, as with a `MongoStore`."""
        database = Remembering(self.database.path)
        return self._opened(FallbackStore(database, self._file(host), known=database.state, clock=self._clock))

    def clocked(self, host: str, offset: float) -> FallbackStore:
        """A worker of a host whose clock the database's is so many seconds ahead of."""
        database = Clocked(self.database.path, offset)
        return self._opened(FallbackStore(database, self._file(host), clock=self._clock))

    def _file(self, host: str) -> Store:
        return FallbackStore(SqliteStore(self.folder / f"{host}.db"), clock=self._clock)

    def _opened(self, store: FallbackStore) -> FallbackStore:
        self.opened.append(store)
        return store

    def _clock(self) -> float:
        return self.now

    def away(self) -> None:
        for store in self.opened:
            getattr(store, "primary", store).close()
        self._outage.execute("PRAGMA user_version = 99")

    def back(self) -> None:
        self._outage.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS)}")
        self.now += RETRY_SECONDS

    def cut(self, store: Store) -> None:
        """The database is out of reach of one worker."""
        vars(connection_of(store))["_current"] = out_of_reach

    def mend(self, store: Store) -> None:
        """It is within its reach again."""
        vars(connection_of(store)).pop("_current", None)

    def later(self) -> None:
        """Whoever was without the database may try it again."""
        self.now += RETRY_SECONDS

    def close(self) -> None:
        for store in self.opened:
            store.close()
        self._outage.close()


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    # A database that works has answered by then on a busy machine, too.
    monkeypatch.setattr(store_probe, "_MOMENT", 60.0)
    hosts = Hosts(tmp_path)
    yield hosts
    hosts.close()


def test_what_happened_on_all_hosts_is_in_the_database_once(hosts: Hosts) -> None:
    one, two = hosts.worker("one"), hosts.worker("two")
    raise_alert(one, "before", ["mail"])
    one.mutes.add(Mute(Selection.of(AlertType.CUSTOM), NOW + 60))
    for store in (one, two):
        assert len(store.mutes.all(NOW)) == 1
        store.incidents.save({"kept": "1"})
    hosts.away()
    for name, store, kind in (("one", one, AlertType.HIGH_CPU), ("two", two, AlertType.HIGH_MEMORY)):
        raise_alert(store, f"on {name}", ["mail"])
        store.mutes.add(Mute(Selection.of(kind), NOW + 60))
        store.incidents.save({f"of {name}": name})
        store.notes.note(name, NOW)
        store.conditions.save(name, "works")
        assert waiting(store, "mail") == [f"on {name}"], "what waited before is for who delivered then"
        assert store.incidents.saved() == {"kept": "1", f"of {name}": name}
    hosts.back()
    for store in (one, two, one, two):
        store.history.counts()
    for store in (one, two):
        assert store.problem is None
        assert sorted(messages(store)) == ["before", "on one", "on two"]
        assert sorted(waiting(store, "mail")) == ["before", "on one", "on two"]
        assert {mute.type for mute in store.mutes.all(NOW)} == {
            AlertType.CUSTOM,
            AlertType.HIGH_CPU,
            AlertType.HIGH_MEMORY,
        }
        assert store.incidents.saved() == {"kept": "1", "of one": "one", "of two": "two"}
        assert store.notes.all() == {"one": NOW, "two": NOW}
        assert store.conditions.saved() == {"one": "works", "two": "works"}
    assert hosts.database.conditions.saved() == {"one": "works", "two": "works"}
    hosts.away()
    assert waiting(one, "mail") == [], "it is merged: nothing is delivered from the file again"


def test_the_workers_of_a_host_share_what_happens_and_return_together(hosts: Hosts) -> None:
    first, second = hosts.worker("one"), hosts.worker("one")
    for store in (first, second):
        store.incidents.saved()
    hosts.away()
    assert first.leases.lead("first", NOW, NOW + 60) == {LEADER}
    assert second.leases.lead("second", NOW, NOW + 60) == frozenset(), "one of them leads"
    raise_alert(first, "1", ["mail"])
    second.mutes.add(Mute(Selection.of(AlertType.CUSTOM), NOW + 60))
    first.incidents.save({"rule": "firing"})
    assert (waiting(second, "mail"), second.incidents.saved()) == (["1"], {"rule": "firing"})
    assert len(first.mutes.all(NOW)) == 1
    hosts.now += RETRY_SECONDS / 2
    second.history.counts()
    hosts.back()
    hosts.now -= RETRY_SECONDS / 4
    second._tried_at = hosts.now  # it has just tried
    first._tried_at = float("-inf")
    first.history.counts()
    assert first.problem is None
    assert waiting(second, "mail") == ["1"]
    assert second.problem is None, "another one of its host is back: it does not wait"
    assert messages(hosts.database) == ["1"]


def test_a_report_of_one_side_is_never_evaluated_on_the_other(hosts: Hosts) -> None:
    """What was hot when the store failed, or when it returned, would fire again although it is over."""
    first, second = hosts.worker("one"), hosts.worker("one")
    elsewhere = hosts.worker("two")
    elsewhere.reports.publish("elsewhere", b"hot", NOW)
    for name, store in (("first", first), ("second", second)):
        store.reports.publish(name, b"before", NOW)
    hosts.away()
    for name, store in (("first", first), ("second", second)):
        store.reports.publish(name, b"meanwhile", NOW)
    hosts.back()
    assert {worker: one.report for worker, one in first.reports.published(NOW).items()} == {
        "elsewhere": b"hot",
        "first": b"meanwhile",
        "second": b"meanwhile",
    }, "the last ones"
    first.reports.publish("first", b"after", NOW)
    hosts.away()
    assert first.reports.published(NOW) == {}, "of the outage before"


def test_a_mute_outlives_an_outage_on_a_host_whose_clock_is_ahead(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = hosts.worker("one")
    hosts.now += 3600  # of this host
    monkeypatch.setattr(store.primary, "clock_offset", -3600.0)
    mute = Mute(Selection.of(AlertType.CUSTOM), NOW + 60 + RETRY_SECONDS)
    store.mutes.add(mute)
    hosts.away()
    assert store.mutes.all(NOW) == [mute]
    hosts.back()
    assert store.mutes.all(NOW) == [mute]
    assert hosts.database.mutes.all(NOW) == [mute]


@pytest.mark.parametrize("alone", [False, True])
def test_a_worker_that_starts_during_an_outage_goes_by_the_databases_clock(hosts: Hosts, alone: bool) -> None:
    """It went by the host's: of two workers of a host each led, and a mute of one was over for the other."""
    ahead = 420.0
    first = hosts.clocked("one", -ahead)
    mute = Mute(Selection.of(AlertType.CUSTOM), NOW + 60 + RETRY_SECONDS)
    first.mutes.add(mute)
    hosts.now += ahead  # of this host
    if alone:
        first.close()
    hosts.away()
    if not alone:
        assert first.leases.lead("first", NOW, NOW + 9) == {LEADER}
    second = hosts.clocked("one", -ahead)
    second.conditions.saved()
    now = hosts.now + second.clock_offset
    assert now == NOW
    assert second.leases.lead("second", now, now + 9) == (frozenset({LEADER}) if alone else frozenset())
    another = Mute(Selection.of(AlertType.HIGH_CPU), now + 60 + RETRY_SECONDS)
    second.mutes.add(another)
    assert [*second.mutes.all(now)] == ([another] if alone else [mute, another])
    hosts.back()
    assert second.mutes.all(NOW) == hosts.database.mutes.all(NOW) == [mute, another]
    assert second.clock_offset == -ahead
    assert second.conditions.saved() == hosts.database.conditions.saved() == {}


@pytest.mark.parametrize("offset", [-420.0, 240.0])
def test_what_a_host_does_before_it_knows_the_databases_clock_is_merged_by_that(hosts: Hosts, offset: float) -> None:
    """A mute was over for the others when it came to them, or held for minutes longer."""
    hosts.away()
    hosts.now -= offset  # of this host
    store = hosts.clocked("one", offset)
    store.mutes.add(Mute(Selection.of(AlertType.CUSTOM), hosts.now + 60))
    window = Mute(Selection(), NOW + 9000, schedule=Once(NOW + 8000, NOW + 9000))
    store.mutes.add(window)
    store.notes.note("key", hosts.now)
    hosts.back()
    assert store.mutes.all(NOW) == hosts.database.mutes.all(NOW)
    assert hosts.database.mutes.all(NOW) == [Mute(Selection.of(AlertType.CUSTOM), NOW + 60), window]
    assert store.notes.noted_at("key") == hosts.database.notes.noted_at("key") == NOW
    assert store.clock_offset == offset


def test_the_clock_that_counted_last_is_the_one_that_is_remembered(hosts: Hosts) -> None:
    offsets = []
    for offset in (-420.0, 0.0, 60.0):
        store = hosts.clocked("one", offset)
        store.history.counts()
        hosts.away()
        late = hosts.clocked("one", offset)
        late.history.counts()
        offsets.append(late.clock_offset)
        hosts.back()
        late.close()
        store.close()
    assert offsets == [-420.0, 0.0, 60.0]


def test_what_was_not_merged_when_a_process_ended_is_merged_by_the_next(hosts: Hosts) -> None:
    store = hosts.worker("one")
    store.incidents.save({"rule": "pending"})
    hosts.away()
    raise_alert(store, "1", ["mail"])
    store.incidents.save({"rule": "firing"})
    store.close()
    hosts.back()
    again = hosts.worker("one")
    assert waiting(again, "mail") == waiting(hosts.database, "mail") == ["1"]
    assert again.incidents.saved() == {"rule": "firing"}
    raise_alert(again, "2", ["mail"])
    assert messages(hosts.worker("one")) == ["2", "1"]


def test_what_waits_in_the_file_of_a_host_moves_once_the_database_is_the_store(hosts: Hosts) -> None:
    former = SqliteStore(hosts.folder / "one.db")
    raise_alert(former, "from before", ["mail"])
    former.mutes.add(Mute(Selection.of(AlertType.CUSTOM), NOW + 60))
    former.close()
    store = hosts.worker("one")
    assert waiting(store, "mail") == ["from before"]
    hosts.away()
    assert waiting(store, "mail") == []
    assert store.mutes.all(NOW) == [], "the rest is that of the database"


def test_an_alert_that_waited_is_delivered_once_by_who_delivered_then(hosts: Hosts) -> None:
    one, two = hosts.worker("one"), hosts.worker("two")
    colleague = hosts.worker("one")
    assert one.leases.lead("one", NOW, NOW + 60, MAIL)
    raise_alert(two, "delivered", ["mail"])
    raise_alert(two, "waits on", ["mail"])
    hosts.away()
    colleague.history.counts()
    assert [waiting(store, "mail") for store in (two, one)] == [[], []], "nobody knows of it before it is read"
    hosts.back()
    assert waiting(one, "mail") == ["delivered", "waits on"]
    known = MemoryStore()
    known.outbox.restore(one.outbox.pending("mail", 9))
    one._known_to_primary = lambda: known.state
    assert one.leases.lead("one", hosts.now, hosts.now + 60, MAIL)
    hosts.away()
    first, _ = one.outbox.pending("mail", 9)
    one.outbox.tried([first.id])
    one.outbox.arrived([first], DONE)
    assert waiting(colleague, "mail") == ["waits on"], "whoever delivers on this host"
    hosts.back()
    assert waiting(one, "mail") == waiting(hosts.database, "mail") == ["waits on"]
    assert set(messages(two)) == {"delivered", "waits on"}


def test_an_alert_that_was_on_its_way_when_the_database_failed_is_not_delivered_again(hosts: Hosts) -> None:
    one = hosts.worker("one")
    raise_alert(one, "1", ["mail"])
    on_its_way = one.outbox.pending("mail", 1)
    hosts.away()
    one.outbox.arrived(on_its_way, DONE)
    hosts.back()
    assert waiting(one, "mail") == waiting(hosts.database, "mail") == []


def test_an_unmute_holds_and_so_does_what_others_did_meanwhile(hosts: Hosts) -> None:
    one = hosts.worker("one")
    for kind in (AlertType.CUSTOM, AlertType.HIGH_CPU):
        one.mutes.add(Mute(Selection.of(kind), NOW + 600))
    one.incidents.save({"ours": "1", "theirs": "1", "both": "1"})
    hosts.away()
    one.mutes.remove(Mute(Selection.of(AlertType.CUSTOM), 0.0))
    one.mutes.add(Mute(Selection.of(AlertType.HIGH_CPU), NOW + 700))
    one.incidents.save({"ours": None, "both": "ours"})
    hosts.back()
    hosts.database.incidents.save({"theirs": None, "both": "theirs", "new": "1"})
    hosts.database.mutes.add(Mute(Selection.of(AlertType.HIGH_CPU), NOW + 900))
    saved = dict(one.incidents.saved())
    assert (saved.pop("both"), saved.pop("new")) == ("theirs", "1")
    assert [(key.partition(BESIDE)[0], text) for key, text in saved.items()] == [("both", "ours")]
    assert one.mutes.all(NOW) == [Mute(Selection.of(AlertType.HIGH_CPU), NOW + 900)], "the later end"


def test_what_each_host_has_told_while_the_database_was_away_each_ends_once(hosts: Hosts) -> None:
    """Where the alert of one host became that of both, nobody was told that the other one was over."""
    one, two = (Watcher(DOWN, store=hosts.worker(name)) for name in ("one", "two"))
    for host in (one, two):
        assert host.see(up=1) == []
    hosts.away()
    one.see(up=0)
    two.see(15, up=0)
    hosts.back()
    two.now = one.now = two.now + RETRY_SECONDS
    assert len({event.incident for event in (*one.sent, *two.sent)}) == 2
    assert one.see(up=0) == []
    assert len(one.firing) == 1
    assert two.see(20, up=1) == [("database_down resolved", "notified")] * 2
    told = [(event.incident, event.status.value) for event in two.sent]
    assert len(told) == len(set(told)) == 4, told
    assert two.see(up=1) == []
    assert not [key for key in two.store.incidents.saved() if BESIDE in key]


def test_an_incident_that_both_hosts_knew_ends_once(hosts: Hosts) -> None:
    one, two = (Watcher(ERRORS, store=hosts.worker(name)) for name in ("one", "two"))
    one.see(errors=10)
    two.now = one.now
    assert two.see(errors=10) == []
    hosts.away()
    one.see(errors=20)
    two.see(errors=30)
    hosts.back()
    one.store.incidents.saved()
    two.now += RETRY_SECONDS
    assert two.see(errors=1) == [("high_error_rate resolved", "notified")]
    assert [status for _, status in two.told] == ["firing", "resolved"]
    assert two.see(errors=1) == []
    assert not [key for key in two.store.incidents.saved() if BESIDE in key]


def test_clearing_the_history_meanwhile_clears_it(hosts: Hosts) -> None:
    one = hosts.worker("one")
    raise_alert(one, "before", ["mail"])
    hosts.away()
    one.history.clear()
    raise_alert(one, "after", ["mail"])
    hosts.back()
    assert messages(one) == messages(hosts.database) == ["after"]


class LostReply(MemoryStore):
    """A database whose connection breaks after a transaction took effect: nobody knows whether it did."""

    breaks = False

    def run(self, work: Callable[[Store], T]) -> T:
        result = super().run(work)
        if self.breaks:
            self.breaks = False
            raise StoreError("connection closed")
        return result


@pytest.mark.parametrize("delivered", ["here", "there", "nowhere"])
def test_a_transaction_that_took_effect_unnoticed_counts_once(hosts: Hosts, delivered: str) -> None:
    database = LostReply()
    store = FallbackStore(database, SqliteStore(hosts.folder / "one.db"), known=MemoryState, clock=lambda: hosts.now)
    hosts.opened.append(store)
    store.history.counts()
    database.breaks = True
    store.run(lambda tx: raise_alert(tx, "1", ["mail"]))
    assert store.problem is not None
    assert waiting(database, "mail") == waiting(store, "mail") == ["1"]
    if delivered == "here":
        store.outbox.arrived(store.outbox.pending("mail", 1), DONE)
    elif delivered == "there":
        database.outbox.arrived(database.outbox.pending("mail", 1), DONE)
    hosts.now += RETRY_SECONDS
    assert messages(store) == ["1"]
    assert store.history.counts() == {AlertType.HIGH_CPU: 1}
    assert waiting(store, "mail") == (["1"] if delivered == "nowhere" else [])
    if delivered != "nowhere":
        assert become(store)["1"]["mail"]["state"] == "delivered"


def test_a_database_that_fails_during_the_merge_loses_nothing(hosts: Hosts) -> None:
    database = LostReply()
    store = FallbackStore(database, SqliteStore(hosts.folder / "one.db"), known=MemoryState, clock=lambda: hosts.now)
    hosts.opened.append(store)
    store.history.counts()
    database.breaks = True
    lost = event("lost reply")
    store.run(lambda tx: tx.history.append(lost))
    raise_alert(store, "1", ["mail"])
    hosts.now += RETRY_SECONDS
    calls = iter([False, True])

    class Twice(LostReply):
        def run(self, work: Callable[[Store], T]) -> T:
            self.breaks = next(calls, False)
            return super().run(work)

    database.__class__ = Twice
    assert messages(store) == ["1", "lost reply"], "still in the file"
    assert store.problem is not None
    hosts.now += RETRY_SECONDS
    assert messages(store) == messages(database) == ["1", "lost reply"]
    assert waiting(store, "mail") == ["1"]
    assert store.problem is None


# What was measured


def test_the_workers_of_a_host_count_together_while_the_database_is_away(hosts: Hosts) -> None:
    first, second = (Process(hosts.worker("one")) for _ in range(2))
    elsewhere = Process(hosts.worker("two"))
    for process in (first, second, elsewhere):
        process.count(10)
        process.exchange()
    assert first.exchange() == 30
    second.count(5)
    elsewhere.count(7)
    assert [elsewhere.exchange(), second.exchange()] == [37, 42], "the first has not read that"
    hosts.away()
    first.count(1)
    assert first.exchange() == 31, "the second has not noticed the outage yet"
    second.count(2)
    assert [second.exchange(), first.exchange()] == [45, 45], "what each had read alone is known to both"
    assert first.service.problem is not None
    started = Process(hosts.worker("one"))
    started.count()
    assert [started.exchange(), first.exchange()] == [46, 46], "as is a process that starts meanwhile"
    elsewhere.count(4)
    assert elsewhere.exchange() == 41, "the hosts know nothing of each other"
    del second  # it is killed
    hosts.back()
    assert [process.exchange() for process in (elsewhere, first, started)][1:] == [50, 50]
    assert [process.exchange() for process in (elsewhere, Process(hosts.worker("two")))] == [50, 50]
    assert first.service.problem is None
    hosts.away()
    assert first.exchange() == 50, "nothing of the former outage is in the file"


def test_what_was_measured_when_all_workers_of_a_host_ended_counts_after_its_next_start(hosts: Hosts) -> None:
    one = Process(hosts.worker("one"))
    one.count()
    one.exchange()
    hosts.away()
    one.count(2)
    one.exchange()
    one.store.close()
    hosts.back()
    assert Process(hosts.worker("one")).exchange() == 3
    assert Process(hosts.worker("two")).exchange() == 3


@pytest.mark.parametrize("seed", range(8))
def test_no_count_goes_back_on_a_host_and_all_are_right_in_the_end(hosts: Hosts, seed: int) -> None:
    chance = random.Random(seed)
    processes = [(host, Process(hosts.worker(host))) for host in ("one", "one", "two", "two")]
    shown: dict[str, list[float]] = {"one": [], "two": []}
    counted, away = 0, False

    def publish(process: Process) -> float:
        with suppress(StoreError):
            process.service.exchange(process.store.measurements, publish=chance.random() < 0.7)
        return process.total

    for _ in range(120):
        index = chance.randrange(len(processes))
        host, process = processes[index]
        if chance.random() < 0.7:
            process.count()
            counted += 1
        if chance.random() < 0.2:
            with suppress(StoreError):
                process.service.exchange(process.store.measurements, read=False)
        if chance.random() < 0.04:
            # Both of its workers notice before anybody asks.
            hosts.back() if away else hosts.away()
            away = not away
            for _, each in processes:
                publish(each)
            continue
        shown[host].append(publish(process))
        if chance.random() < 0.1:
            with suppress(StoreError):
                process.service.compact(process.store.measurements)
        if chance.random() < 0.03:
            process.exchange()
            processes[index] = (host, Process(hosts.worker(host)))
            processes[index][1].exchange()
    if away:
        hosts.back()
    for _ in range(2):
        totals = [process.exchange() for _, process in processes]
    assert totals == [counted] * 4
    for totals in shown.values():
        assert totals == sorted(totals)


def test_a_worker_with_the_database_counts_what_a_sibling_without_it_has_in_the_file(hosts: Hosts) -> None:
    first, second = (Process(hosts.worker("one")) for _ in range(2))
    elsewhere = Process(hosts.worker("two"))
    for process in (first, second, elsewhere):
        process.count(10)
        process.exchange()
    hosts.cut(first.store)
    for total in (31, 32):
        first.count()
        first.exchange()
        assert first.service.problem is not None
        assert (second.exchange(), second.service.problem) == (total, None), "complete, and not less"
        assert elsewhere.exchange() == total
    second.service._beyond_base = 1000
    second.service.compact(second.store.measurements)
    hosts.mend(first.store)
    hosts.later()
    first.count()
    assert (first.exchange(), first.service.problem) == (33, None)
    late = Process(hosts.worker("two"))
    assert [process.exchange() for process in (second, elsewhere, late)] == [33] * 3


def test_a_worker_that_comes_to_the_file_later_leaves_the_others_no_gap(hosts: Hosts) -> None:
    first, elsewhere = Process(hosts.worker("one")), Process(hosts.worker("two"))
    for process in (first, elsewhere):
        process.count(10)
        process.exchange()
    hosts.cut(first.store)
    assert first.exchange() == 10, "it has read nothing of the other"
    for _ in range(2):  # the first one still leaves what the base before did not contain
        elsewhere.service._beyond_base = 1000
        elsewhere.service.compact(elsewhere.store.measurements)
    second = Process(hosts.worker("one"))
    assert second.exchange() == 20, "it begins with the base"
    for total in (25, 30):
        elsewhere.count(5)
        elsewhere.exchange()
        assert (first.exchange(), second.exchange()) == (10, total)
    hosts.cut(second.store)
    second.count()
    assert [second.exchange(), first.exchange()] == [31, 31]
    for store in (first.store, second.store):
        hosts.mend(store)
    hosts.later()
    assert [process.exchange() for process in (first, second, elsewhere)] == [31] * 3


def test_what_a_sibling_showed_before_it_returned_is_known_to_who_falls_back_next(hosts: Hosts) -> None:
    first, second, late = (Process(hosts.worker("one")) for _ in range(3))
    for process in (first, second, late):
        process.count()
        process.exchange()
    assert [process.exchange() for process in (first, second)] == [3, 3]
    for process in (first, late):
        hosts.cut(process.store)
        process.exchange()
    first.count()
    assert first.exchange() == 4
    hosts.mend(first.store)
    hosts.later()
    assert first.exchange() == 4
    assert first.service.problem is None
    hosts.cut(second.store)
    assert [second.exchange(), late.exchange()] == [4, 4], "it has not read this in the database"


@pytest.mark.parametrize("seed", range(12))
def test_no_answer_goes_back_whichever_worker_has_the_database(hosts: Hosts, seed: int) -> None:
    chance = random.Random(seed)
    processes = [(host, Process(hosts.worker(host))) for host in ("one", "one", "two", "two")]
    incomplete, complete, counted = {"one": 0.0, "two": 0.0}, 0.0, 0
    for _ in range(200):
        host, process = chance.choice(processes)
        if chance.random() < 0.15:
            chance.choice((hosts.cut, hosts.mend))(process.store)
        if chance.random() < 0.3:
            hosts.later()
        if chance.random() < 0.5:
            process.count()
            counted += 1
        if chance.random() < 0.2:
            process.service.exchange(process.store.measurements, read=False)
        process.service.exchange(process.store.measurements, publish=chance.random() < 0.8)
        assert process.total >= incomplete[host]
        if process.service.problem is not None:
            incomplete[host] = process.total
        else:
            assert process.total >= complete
            complete = process.total
            if chance.random() < 0.1:
                process.service._beyond_base = 1000
            process.service.compact(process.store.measurements)
    for _, process in processes:
        hosts.mend(process.store)
    hosts.later()
    for _ in range(2):
        totals = [process.exchange() for _, process in processes]
    assert totals == [counted] * 4


def test_a_worker_that_is_late_to_notice_the_return_begins_no_outage_anew(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = hosts.worker("one"), hosts.worker("one")
    hosts.away()
    for store in (first, second):
        store.incidents.save({"rule": "firing"})
    hosts.back()
    assert first.incidents.saved() == {"rule": "firing"}
    second._tried_at = hosts.now
    # It has asked whether others have returned just before they did.
    asked = iter([False])
    returned = second._returned_for_others
    monkeypatch.setattr(second, "_returned_for_others", lambda: next(asked, None) is not False and returned())
    raise_alert(second, "1", ["mail"])
    assert messages(hosts.database) == ["1"]
    assert second.problem is None


def test_a_database_that_hangs_is_asked_in_a_thread() -> None:
    released, asked = threading.Event(), threading.Event()

    def ask() -> None:
        asked.set()
        released.wait()
        if fails:
            raise StoreError("away")

    asking, fails = StoreProbe(ask), False
    assert not asking.works()
    assert asked.is_set()
    assert not asking.works(), "it is not asked twice at once"
    released.set()
    eventually(lambda: asking.answered, "it answers")
    assert asking.works()
    fails = True
    with pytest.raises(StoreError):
        asking.works(patient=True)


def test_a_worker_for_which_the_return_comes_too_early_goes_on_with_what_the_others_did(hosts: Hosts) -> None:
    """It had no answer yet, or the database went again: it knows no more than when the outage began."""
    first, second = hosts.worker("one"), hosts.worker("one")
    for store in (first, second):
        store.incidents.save({"before": "firing"})
        store.history.counts()
    hosts.away()
    for store in (first, second):
        store.incidents.saved()
    first.incidents.save({"before": None, "rule": "firing"})
    raise_alert(first, "rule", ["mail"])
    first.mutes.add(Mute(Selection.of(AlertType.CUSTOM), NOW + 60))
    hosts.back()
    first.history.counts()
    assert (first.problem, waiting(hosts.database, "mail")) == (None, ["rule"])
    hosts.away()
    assert second.incidents.saved() == {"rule": "firing"}, "it fires no second time"
    assert len(second.mutes.all(NOW)) == 1
    assert (messages(second), waiting(second, "mail")) == (["rule"], []), "who delivers in the database does"
    second.incidents.save({"rule": None})
    hosts.back()
    assert (second.incidents.saved(), second.problem) == ({}, None)
    assert (messages(hosts.database), waiting(hosts.database, "mail")) == (["rule"], ["rule"])


def test_a_worker_that_asked_before_another_one_merged_knows_what_that_one_did(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database answers both, one merges, and it is away again before the other one has read anything."""
    first, second = hosts.remembering("one"), hosts.remembering("one")
    hosts.away()
    for store in (first, second):
        store.incidents.saved()
    first.incidents.save({"rule": "firing"})
    hosts.back()
    works = second._probe.works

    def first_merges(*, patient: bool = False) -> bool:
        found = works(patient=patient)
        first.history.counts()
        return found

    monkeypatch.setattr(second._probe, "works", first_merges)
    second.leases.holders(NOW)
    assert (first.problem, second.problem) == (None, None)
    hosts.away()
    assert second.incidents.saved() == {"rule": "firing"}, "it fires no second time"
