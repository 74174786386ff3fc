"""The store in a MongoDB database, on real servers: its client, its clock, its writers, its size."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import bson
import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient, monitoring
from pymongo.database import Database
from pymongo.errors import InvalidOperation
from pymongo.event_loggers import ConnectionPoolLogger

from otel_monitoring import MonitoringService
from otel_monitoring.alerts.manager import AlertManager
from otel_monitoring.alerts.model import AlertSeverity, AlertType, ChannelResult, DeliveryState
from otel_monitoring.alerts.mute import Mute
from otel_monitoring.alerts.selection import Selection
from otel_monitoring.alerts.store import Store, open_store
from otel_monitoring.alerts.store.application_database import ApplicationDatabase
from otel_monitoring.alerts.store.fallback import RETRY_SECONDS, FallbackStore
from otel_monitoring.alerts.store.history import HISTORY_LIMIT
from otel_monitoring.alerts.store.leases import LEADER, lease_of
from otel_monitoring.alerts.store.mongodb import MongoStore
from otel_monitoring.alerts.store.mongodb.client import CONCURRENT_CALLS, opener, options_of
from otel_monitoring.alerts.store.outbox import OUTBOX_LIMIT
from otel_monitoring.alerts.store.sqlite import SqliteStore
from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import ConfigurationError, StoreError
from otel_monitoring.metrics.stream import Delta
from otel_monitoring.monitoring.monitored_database import application_database
from otel_monitoring.testing import ManualClock
from tests.alerts.store.test_store import NOW, SERVERS, event, messages, raise_alert, server_of, waiting
from tests.integration.servers import Server
from tests.integration.test_store_processes import ended, forked
from tests.waiting import PATIENCE, eventually
from tests.wire import Document, wire_server

Made = Callable[..., MongoStore]


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Server:
    return server_of(request.param)


@pytest.fixture
def made(server: Server) -> Iterator[Made]:
    """Makes stores of one service, as several workers have them."""
    service, stores = uuid4().hex, []

    def make(**options: Any) -> MongoStore:
        stores.append(MongoStore(lambda: MongoClient(server.uri)["shop"], service, **options))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


# Its client


@pytest.mark.parametrize("kind", [MongoClient, AsyncMongoClient, AsyncIOMotorClient])
def test_its_client_has_the_hosts_tls_and_credentials_of_the_applications(kind: Any) -> None:
    uri = "mongodb://ada:secret@one.test:1,two.test:2/?authSource=users&replicaSet=rs"
    given = {"tls": True, "serverSelectionTimeoutMS": 60_000, "tz_aware": True, "maxPoolSize": 7, "connect": False}
    application = kind(uri, **given)
    found = application_database(application["shop"])
    assert found is not None
    database = opener(Settings(), lambda: found)()
    own = database.client
    try:
        assert (type(own), database.name, own is application) == (MongoClient, "shop", False)
        assert own.options.pool_options._ssl_context is not None
        credentials = own.options.pool_options._credentials
        assert credentials is not None
        assert (credentials.source, credentials.username) == ("users", "ada")
        assert (own.options.server_selection_timeout, own.options.pool_options.max_pool_size) == (1.0, CONCURRENT_CALLS)
        assert own.options.replica_set_name == "rs"
        assert not own.codec_options.tz_aware
    finally:
        own.close()
        if kind is not AsyncMongoClient:
            application.close()


@pytest.mark.parametrize("whose", ["the application's", "its own"])
def test_its_time_limits_are_short_whatever_the_connection_string_says(whose: str) -> None:
    limits = "timeoutMS=60000&serverSelectionTimeoutMS=60000&connectTimeoutMS=60000&socketTimeoutMS=60000"
    uri = f"mongodb://one.test/shop?{limits}&waitQueueTimeoutMS=60000&retryReads=true&retryWrites=true&minPoolSize=9"
    if whose == "its own":
        own = opener(Settings.load(store_uri=uri), lambda: None)().client
    else:
        with MongoClient[dict[str, Any]](uri, connect=False) as application:
            own = opener(Settings(), lambda: ApplicationDatabase(application, "shop"))().client
    with own:
        options, pool = own.options, own.options.pool_options
        assert options.timeout is None, "no limit takes the place of the others"
        assert (options.server_selection_timeout, pool.connect_timeout, pool.socket_timeout) == (1.0, 1.0, 1.5)
        assert (pool.wait_queue_timeout, pool.min_pool_size) == (1.0, 0)
        assert not options.retry_reads
        assert not options.retry_writes


def test_nobody_listens_to_its_client(server: Server, made: Made) -> None:
    heard: list[str] = []

    class Commands(monitoring.CommandListener):
        def started(self, event: monitoring.CommandStartedEvent) -> None:
            heard.append(event.command_name)

        def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
            heard.append(event.command_name)

        def failed(self, event: monitoring.CommandFailedEvent) -> None:
            heard.append(event.command_name)

    class Pools(ConnectionPoolLogger):
        def __getattribute__(self, name: str) -> Any:
            heard.append(name)
            return super().__getattribute__(name)

    registered = [Commands(), Pools()]
    for listener in registered:
        monitoring.register(listener)
    heard.clear()
    try:
        with MongoClient[dict[str, Any]](server.uri) as application:
            application.admin.command("ping")
            assert {"ping", "connection_created"} <= set(heard), "the application's own client is heard"
            heard.clear()
            found = ApplicationDatabase(application, "shop")
            store = MongoStore(opener(Settings(), lambda: found), uuid4().hex)
            store.history.append(event())
            assert heard == []
            store.close()
    finally:
        for listeners in monitoring._LISTENERS:
            listeners[:] = [one for one in listeners if one not in registered]


def test_without_a_database_the_problem_names_the_setting(tmp_path: Any) -> None:
    settings = Settings.load(store="mongodb", state_dir=tmp_path)
    store = open_store(settings, service_name="orders", environment=None)
    store.history.append(event())
    assert store.problem is not None
    assert "OTEL_MONITORING_STORE_URI" in store.problem
    assert messages(store) == ["CPU at 91%"], "meanwhile the file has it"
    store.close()


class OtherHandle:
    def command(self, name: str) -> None:
        """As a test's double of a database has it."""


@pytest.mark.parametrize(
    ("db", "settings", "said"),
    [
        (OtherHandle(), {}, "OTEL_MONITORING_STORE=mongodb: OtherHandle is no PyMongo or Motor handle: set OTEL_MO"),
        (None, {"store_uri": "mongodb://ada:hunter2@[::1"}, "OTEL_MONITORING_STORE_URI: it is no usable MongoDB con"),
        (None, {"store_uri": "redis://here"}, "OTEL_MONITORING_STORE_URI: it must begin with mongodb://"),
    ],
)
def test_what_cannot_work_is_said_at_the_start(db: Any, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        MonitoringService(db, store="mongodb", **settings)
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_options_of_an_unknown_client_are_an_error() -> None:
    with pytest.raises(LookupError, match="OTEL_MONITORING_STORE_URI"):
        options_of(object())


# Its clock


def test_the_servers_clock_counts_where_those_of_hosts_differ(made: Made) -> None:
    ahead = made(clock=lambda: time.time() + 300)
    behind = made(clock=lambda: time.time() - 300)
    hosts = [
        AlertManager(channels=[], store=store, settings=Settings(), clock=clock)
        for store, clock in ((ahead, lambda: time.time() + 300), (behind, lambda: time.time() - 300))
    ]
    for store in (ahead, behind):
        store.history.counts()
    assert ahead.clock_offset == pytest.approx(-300, abs=2)
    assert behind.clock_offset == pytest.approx(300, abs=2)
    first, second = (host.clock() for host in hosts)
    assert first == pytest.approx(second, abs=2)
    assert ahead.leases.lead("a", first, first + 5) == {LEADER}
    assert behind.leases.lead("b", second, second + 5) == frozenset()
    assert behind.leases.lead("b", second + 8, second + 13) == {LEADER}


def test_a_clock_that_is_set_while_the_service_runs_changes_nothing(made: Made) -> None:
    """Other hosts' mutes ended, their reports were deleted and their leases taken, for up to a minute."""
    ahead = 0.0
    store, other = made(clock=lambda: time.time() + ahead), made()
    manager = AlertManager(channels=[], store=store, settings=Settings(), clock=lambda: time.time() + ahead)
    mute = Mute(Selection.of(AlertType.CUSTOM), time.time() + 60)
    other.mutes.add(mute)
    other.reports.publish("other", b"report", time.time())
    other.leases.lead("other", time.time(), time.time() + 60)
    for ahead in (0.0, 300.0, -300.0, 0.0):  # noqa: B007 - the clock reads it
        for _ in range(2):  # before the server was asked for its time, and afterwards
            now = manager.clock()
            assert now == pytest.approx(time.time(), abs=2)
            assert store.leases.lead("this", now, now + 5) == frozenset()
            assert store.mutes.all(now) == [mute]
            assert list(store.reports.published(now)) == ["other"]
    assert other.mutes.all(time.time()) == [mute]


# Its writers


def test_of_many_writers_none_is_lost(made: Made) -> None:
    """A conditional update would tell several of them that they had won."""
    stores = [made() for _ in range(4)]

    def add(store: MongoStore) -> None:
        for _ in range(5):
            store.run(lambda tx: tx.incidents.save({"n": str(int(tx.incidents.saved().get("n", "0")) + 1)}))
            store.outbox.enqueue([event()], ["mail"], NOW)

    threads = [threading.Thread(target=add, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fresh = made()
    assert fresh.incidents.saved() == {"n": "20"}
    assert fresh.outbox.backlog() == {"mail": 20}
    assert len({row.id for row in fresh.outbox.pending("mail", 99)}) == 20


def test_of_many_workers_one_holds_a_lease(made: Made) -> None:
    stores = [made() for _ in range(4)]
    held: list[str] = []

    def take(store: MongoStore, name: str) -> None:
        held.extend(name for _ in store.leases.lead(name, NOW, NOW + 5))

    for _ in range(3):
        held.clear()
        threads = [threading.Thread(target=take, args=(store, str(n))) for n, store in enumerate(stores)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(held) == 1
        made().leases.resign(held[0])
        for store in stores:
            store.close()


def test_what_another_thread_reads_during_a_transaction_hides_no_change_of_another_worker(made: Made) -> None:
    one, two = made(), made()
    one.incidents.save({"a": "1"})
    interrupted: list[bool] = []

    def work(tx: Store) -> None:
        if not interrupted:
            interrupted.append(True)
            two.incidents.save({"b": "1"})
            one.measurements.read({})  # as another thread of the first worker does at any time
        tx.incidents.save({"c": "1"})

    one.run(work)
    assert made().incidents.saved() == {"a": "1", "b": "1", "c": "1"}


def test_threads_of_a_worker_wait_for_no_command_of_another(made: Made) -> None:
    store = made()
    store.history.append(event("1"))
    busy, go_on = threading.Event(), threading.Event()

    def slow(_: Database[dict[str, Any]]) -> bool:
        busy.set()
        return go_on.wait(PATIENCE)

    def transaction(_: Store) -> None:
        store._documents.do(slow)

    granted: list[Any] = []
    thread = threading.Thread(target=lambda: store.run(transaction))
    thread.start()
    try:
        assert busy.wait(PATIENCE)
        renewing = threading.Thread(
            target=lambda: granted.extend([store.leases.lead("a", NOW, NOW + 5), store.outbox.waiting()])
        )
        renewing.start()
        renewing.join(PATIENCE / 2)
        assert granted == [{LEADER}, frozenset()], "a transaction that waits for the database"
        store.close()  # whoever uses the client goes on
    finally:
        go_on.set()
        thread.join()
    assert messages(store) == ["1"]


def test_a_client_is_closed_when_nobody_uses_it_any_more(made: Made) -> None:
    documents = made()._documents
    clients: list[Any] = []

    def work(database: Database[dict[str, Any]]) -> None:
        clients.append(database.client)
        documents.close()
        assert database.command("ping")["ok"] == 1

    documents.do(work)
    with pytest.raises(InvalidOperation):
        clients[0].admin.command("ping")
    documents.do(lambda database: clients.append(database.client))
    assert clients[1] is not clients[0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_killed_writer_leaves_a_whole_transaction_or_none(made: Made) -> None:
    chance = random.Random(7)
    told = os.pipe()

    def transaction(tx: Store) -> None:
        number = int(tx.incidents.saved().get("n", "0")) + 1
        tx.history.append(event(str(number), incident=str(number)))
        tx.outbox.enqueue([event(str(number))], ["mail", "slack"], NOW)
        tx.incidents.save({"n": str(number)})

    def contents(tx: Store) -> tuple[int, list[str], list[str], list[str]]:
        return int(tx.incidents.saved()["n"]), messages(tx), waiting(tx, "mail"), waiting(tx, "slack")

    def work(store: MongoStore) -> None:
        while True:
            store.run(transaction)
            os.write(told[1], b"1")

    written = 0
    for _ in range(8):
        children = [forked(partial(work, made())) for _ in range(2)]
        for _ in range(chance.randrange(1, 4)):
            os.read(told[0], 1)
        time.sleep(chance.uniform(0, 0.01))
        for child in children:
            os.kill(child, signal.SIGKILL)
        assert [ended(child) for child in children] == [-signal.SIGKILL] * 2
        # The server may still be at the last command of a child: what is compared is read at once.
        written, history, mail, slack = made().run(contents)
        expected = [str(n) for n in range(1, written + 1)]
        assert history == expected[::-1]
        assert sorted(mail, key=int) == sorted(slack, key=int) == expected
    assert written > 8
    for descriptor in told:
        os.close(descriptor)


def test_a_writer_that_stood_still_takes_no_number_that_was_passed(made: Made) -> None:
    late, others = made(), made()
    late.history.append(event("1"))
    head = late._documents.head()
    for number in range(2, 6):
        others.history.append(event(str(number)))
    assert late._documents.add("state", b"{}", head) is False
    assert late._documents.add("state", b"{}", head._replace(read_at=head.read_at - 60)) is False
    assert messages(made()) == ["5", "4", "3", "2", "1"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", SERVERS)
def test_a_server_that_hangs_is_replaced_by_the_file_until_it_answers(kind: Any, tmp_path: Any) -> None:
    with kind() as server:
        clock = ManualClock(NOW)
        primary = MongoStore(opener(Settings.load(store_uri=f"{server.uri}/shop"), lambda: None), uuid4().hex)
        file = SqliteStore(tmp_path / "alerts.db")
        store = FallbackStore(primary, file, known=lambda: primary.known, clock=clock)
        raise_alert(store, "before", ["mail"])
        server.freeze()
        raise_alert(store, "meanwhile", ["mail"])
        assert store.problem is not None
        assert messages(store) == ["meanwhile", "before"]
        server.thaw()

        def merged() -> bool:
            clock.now += RETRY_SECONDS
            return messages(store) == ["meanwhile", "before"] and store.problem is None

        eventually(merged, "the database is used again")
        assert messages(primary) == ["meanwhile", "before"]
        assert sorted(waiting(primary, "mail")) == ["before", "meanwhile"]
        assert file.outbox.backlog() == {}
        store.close()


@pytest.mark.parametrize("credentials", ["", "ada:secret@"])
def test_whatever_the_driver_raises_is_a_failure_of_the_store(credentials: str) -> None:
    """An answer in a form that PyMongo does not expect is a `KeyError` there."""
    with wire_server(lambda command: {"ok": 1}) as uri:
        store = MongoStore(lambda: MongoClient(uri.replace("://", f"://{credentials}"))["shop"], "orders")
        uses: tuple[Callable[[], object], ...] = (store.history.counts, store.measurements.base, store.slices.position)
        for use in uses:
            with pytest.raises(StoreError, match="MongoDB: KeyError") as raised:
                use()
            assert "secret" not in str(raised.value)
        store.close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"n": 0, "writeErrors": [{"index": 0, "code": 14031, "errmsg": "No space left"}]}, "MongoDB: No space left"),
        ({"n": 1, "writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}}, "waiting for rep"),
    ],
)
def test_what_the_server_says_of_a_write_that_failed_is_said(answer: Document, said: str) -> None:
    with wire_server(lambda command: {"ok": 1, **(answer if "insert" in command else {})}) as uri:
        store = MongoStore(lambda: MongoClient(uri)["shop"], "orders")
        with pytest.raises(StoreError, match=said):
            store.measurements.add(Delta("worker", 1, b"delta"))
        store.close()


class Away:
    """A database that can be out of reach, and workers of one host that share a file meanwhile."""

    def __init__(self, server: Server, file: Path) -> None:
        self._file = file
        self._server = server
        self._service = uuid4().hex
        self._is_away = False
        self.workers: list[FallbackStore] = []

    def _open(self) -> Database[dict[str, Any]]:
        if self._is_away:
            raise StoreError("out of reach")
        return MongoClient[dict[str, Any]](self._server.uri)["shop"]

    def worker(self) -> FallbackStore:
        primary = MongoStore(self._open, self._service)
        self.workers.append(FallbackStore(primary, SqliteStore(self._file), known=lambda: primary.known, retry=0.0))
        return self.workers[-1]

    def fails(self) -> None:
        self._is_away = True
        for worker in self.workers:
            worker.primary.close()

    def works(self) -> None:
        self._is_away = False


@pytest.fixture
def away(server: Server, tmp_path: Path) -> Iterator[Away]:
    found = Away(server, tmp_path / "alerts.db")
    yield found
    for worker in found.workers:
        worker.close()


def test_a_host_goes_on_with_the_latest_that_one_of_its_workers_knows(away: Away) -> None:
    """Who notices first that the database is away knows less than who changed something there last."""
    first, second = away.worker(), away.worker()
    second.incidents.save({"over": "firing", "on": "firing"})
    second.mutes.add(Mute(Selection.of(AlertType.CUSTOM), time.time() + 60))
    assert first.incidents.saved() == {"over": "firing", "on": "firing"}
    assert len(first.mutes.all(time.time())) == 1
    ended, muted = event("over"), Mute(Selection.of(AlertType.SECURITY_ALERT), time.time() + 60)

    def change(store: Store) -> None:
        store.incidents.save({"over": None, "new": "firing"})
        store.acknowledgements.save({"on": "ada"})
        store.history.append(ended)
        store.mutes.add(muted)
        store.mutes.remove(Mute(Selection.of(AlertType.CUSTOM), 0))

    second.run(change)
    away.fails()
    first.incidents.save({"on": "firing longer"})
    assert second.incidents.saved() == {"on": "firing longer", "new": "firing"}
    for worker in (first, second):
        assert (worker.mutes.all(time.time()), messages(worker)) == ([muted], ["over"])
        assert worker.acknowledgements.saved() == {"on": "ada"}
        assert worker.incidents.saved() == {"on": "firing longer", "new": "firing"}
    third = away.worker()
    assert third.mutes.all(time.time()) == [muted], "one that has just started knows nothing of the database"
    away.works()
    for worker in away.workers:
        eventually(lambda worker=worker: worker.mutes.all(time.time()) == [muted] and not worker.problem, "it returns")  # type: ignore[misc]
        assert worker.incidents.saved() == {"on": "firing longer", "new": "firing"}
        assert messages(worker) == ["over"]


@pytest.mark.parametrize("lease", [LEADER, lease_of("mail")])
@pytest.mark.parametrize("first_knows", [True, False])
def test_who_leads_or_delivers_in_the_database_goes_on_when_it_is_away(
    away: Away, lease: str, first_knows: bool
) -> None:
    """Another worker of the host would tell an end that the leader has told, or send what its holder sends."""
    first, second = away.worker(), away.worker()
    now = time.time()
    assert second.leases.lead("second", now, now + 8, [lease]) == {lease}
    assert not first_knows or first.leases.holders(now) == {lease: "second"}
    away.fails()
    second.leases.holders(now)
    assert first.leases.lead("first", now + 1, now + 9, [lease]) == frozenset()
    assert second.leases.lead("second", now + 5, now + 13, [lease]) == {lease}
    assert first.leases.lead("first", now + 12, now + 20, [lease]) == frozenset()
    assert first.leases.lead("first", now + 14, now + 22, [lease]) == {lease}


# Its size


def test_what_changes_nothing_writes_nothing(made: Made) -> None:
    """Every worker reads the state each second: if each of them wrote it, they would wait for each other."""
    store = made()
    store.notes.note("told", NOW)
    number = store.known.number
    store.run(lambda tx: tx.notes.note("told", NOW))
    assert store.notes.all() == {"told": NOW}
    store.leases.resign("a worker without leases")
    assert (store.known.number, number) == (1, 1)


def test_it_stays_small_however_much_happens(server: Server, made: Made) -> None:
    store = made()
    details = {"path": "/api/orders", "errors": ["E" * 50] * 10, "value": 1.5}
    for number in range(12):
        raised = [event(f"{number} {n}", incident=f"{number} {n}", details=details) for n in range(100)]

        def work(tx: Store, raised: Any = raised) -> None:
            for one in raised:
                tx.history.append(one.as_history_entry(["mail", "slack", "webhook"]))
            tx.outbox.enqueue(raised, ["mail", "slack", "webhook"], NOW)

        store.run(work)
    for worker in range(16):
        store.reports.publish(str(worker), os.urandom(1000) * 100, NOW)
        store.leases.lead(str(worker), NOW + worker * 10, NOW + worker * 10 + 5)
    assert len(store.history.events(limit=9999)) == HISTORY_LIMIT
    assert store.outbox.backlog() == dict.fromkeys(("mail", "slack", "webhook"), OUTBOX_LIMIT)
    with MongoClient[dict[str, Any]](server.uri) as client:
        found = [
            document
            for name in client["shop"].list_collection_names()
            for document in client["shop"][name].find({"_id": {"$gt": store._documents.service}})
            if document["_id"].startswith(store._documents.service)
        ]
    assert sum(len(bson.encode(document)) for document in found) < 2_000_000
    assert sum("content" in document for document in found) == 2


def test_an_event_too_many_takes_the_oldest_away(made: Made) -> None:
    store = made()
    huge = [
        event(str(n), incident=str(n), details={str(k): os.urandom(400).hex() for k in range(10)}) for n in range(600)
    ]

    def work(tx: Store) -> None:
        for one in huge:
            tx.history.append(one)

    store.run(work)
    kept = messages(made())
    assert kept[0] == "599"
    assert 300 < len(kept) < 600


def test_a_damaged_or_newer_state_is_left_alone(server: Server, made: Made) -> None:
    store = made()
    store.history.append(event("1"))
    documents = store._documents
    documents.add("state", b'{"format": 99}', documents.head())
    with pytest.raises(StoreError, match="format 99 was written by another version"):
        made().history.append(event("2"))


def test_results_and_severities_come_back(made: Made) -> None:
    store = made()
    raise_alert(store, "1", ["mail"], severity=AlertSeverity.CRITICAL, type=AlertType.CUSTOM)
    (row,) = store.outbox.pending("mail", 1)
    store.outbox.settle([row.id], ChannelResult(DeliveryState.DELIVERED, at=NOW))
    (found,) = made().history.events(limit=1)
    assert (found.severity, found.channels["mail"].state) == (AlertSeverity.CRITICAL, DeliveryState.DELIVERED)
