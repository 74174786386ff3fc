"""The stream of measurements in every store: what one worker appends all read, once and in order."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_monitoring.alerts.store import Store
from otel_monitoring.alerts.store.fallback import RETRY_SECONDS, FallbackStore
from otel_monitoring.alerts.store.memory.measurements import MemoryMeasurements
from otel_monitoring.alerts.store.sqlite import SqliteStore
from otel_monitoring.alerts.store.sqlite.connection import SqliteConnection
from otel_monitoring.alerts.store.sqlite.measurements import SqliteMeasurements
from otel_monitoring.errors import StoreError
from otel_monitoring.metrics.service_history import ServiceHistory
from otel_monitoring.metrics.snapshot import Series, Snapshot
from otel_monitoring.metrics.stream import Base, Delta, MeasurementStream
from otel_monitoring.metrics.window import History
from otel_monitoring.testing import ManualClock
from tests.alerts.store.conftest import World
from tests.alerts.store.test_store import EVERY_KIND, KINDS
from tests.measured import increase_in


@pytest.fixture(params=EVERY_KIND)
def stream(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MeasurementStream]:
    store: Store = KINDS[request.param](tmp_path)
    yield store.measurements
    store.close()


def test_every_delta_beyond_the_known_is_read_in_order(stream: MeasurementStream) -> None:
    for writer, number in (("b", 1), ("a", 1), ("a", 2), ("b", 2), ("a", 3)):
        stream.add(Delta(writer, number, f"{writer}{number}".encode()))
    deltas, version = stream.read({"a": 1, "c": 7})
    assert version == ""
    for writer, numbers in (("a", [2, 3]), ("b", [1, 2])):
        assert [delta.number for delta in deltas if delta.writer == writer] == numbers
    assert {delta.content for delta in deltas} == {b"a2", b"a3", b"b1", b"b2"}


def test_a_delta_that_is_there_stays_as_it_is(stream: MeasurementStream) -> None:
    stream.add(Delta("a", 1, b"first"))
    stream.add(Delta("a", 1, b"second"))
    assert stream.read({})[0] == [Delta("a", 1, b"first")]


def test_a_base_takes_the_place_of_what_it_contains(stream: MeasurementStream) -> None:
    for number in (1, 2, 3):
        stream.add(Delta("a", number, b"x"))
    stream.add(Delta("b", 1, b"y"))
    assert stream.base() is None
    assert stream.replace_base("", "one", b"sum", {"a": 2, "gone": 4})
    deltas, version = stream.read({})
    assert ({(delta.writer, delta.number) for delta in deltas}, version) == ({("a", 3), ("b", 1)}, "one")
    base = stream.base()
    assert base is not None
    assert (base.version, base.content) == ("one", b"sum")
    assert 0 <= base.age < 60


def test_a_base_is_replaced_by_whoever_knows_the_present_one(stream: MeasurementStream) -> None:
    stream.add(Delta("a", 1, b"x"))
    assert stream.replace_base("", "one", b"1", {})
    assert not stream.replace_base("", "two", b"2", {"a": 1})
    assert not stream.replace_base("another", "two", b"2", {"a": 1})
    assert stream.read({}) == ([Delta("a", 1, b"x")], "one")
    assert stream.replace_base("one", "two", b"2", {"a": 1})
    assert stream.read({}) == ([], "two")


def test_a_stream_is_cleared(stream: MeasurementStream) -> None:
    stream.add(Delta("a", 1, b"x"), Delta("a", 2, b"y"), Delta("b", 1, b"z"))
    assert len(stream.read({})[0]) == 3
    assert stream.replace_base("", "one", b"sum", {"a": 1})
    for _ in range(2):
        stream.clear()
        assert (stream.read({}), stream.base()) == (([], ""), None)
    assert stream.problem is None
    assert stream.replace_base("", "two", b"sum", {})
    assert stream.read({}) == ([], "two")


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_the_age_of_a_base_is_never_negative(kind: str, tmp_path: Path) -> None:
    clock = ManualClock()
    connection = SqliteConnection(tmp_path / "alerts.db", busy_timeout=1)
    stream: MeasurementStream = MemoryMeasurements(clock) if kind == "memory" else SqliteMeasurements(connection, clock)
    stream.replace_base("", "one", b"", {})
    clock.advance(90)
    assert stream.base() == Base("one", b"", 90)
    if kind == "sqlite":
        clock.advance(-3600)
        assert stream.base() == Base("one", b"", 0), "the clock was set back"
    connection.close()


class Process:
    """A process of the service, and what it counted."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = ManualClock()
        self.own = History(self.clock(), span=300, resolution=10)
        self.service = ServiceHistory(self.own, clock=self.clock, wall_clock=self.clock, span=300, resolution=10)
        self.counted = 0

    def count(self, amount: int = 1) -> None:
        self.counted += amount
        snapshot = Snapshot(self.own.total.end, self.clock(), sums={Series("orders"): amount})
        self.own.add(snapshot)
        self.service.note(snapshot)

    @property
    def total(self) -> float:
        return increase_in(self.service.history.total, "orders")

    def exchange(self) -> float:
        self.service.exchange(self.store.measurements)
        return self.total


@pytest.mark.parametrize("outage", [("lock", "unlock"), ("upgrade", "downgrade")])
def test_an_outage_of_the_store_loses_no_count_and_doubles_none(world: World, outage: tuple[str, str]) -> None:
    one, other = Process(world.store), Process(world.other)
    for process in (one, other):
        process.count(5)
        process.exchange()
    getattr(world, outage[0])()
    for _ in range(5):
        one.count()
        with pytest.raises(StoreError):
            one.exchange()
    assert one.total >= 10, "what it knows goes on"
    assert one.service.problem is not None
    getattr(world, outage[1])()
    other.count(2)
    assert other.exchange() == 12
    world.later()
    assert one.exchange() == 17
    assert one.service.problem is None
    assert other.exchange() == 17


def test_counts_of_many_processes_and_threads_add_up(tmp_path: Path) -> None:
    stores = [FallbackStore(SqliteStore(tmp_path / "alerts.db", busy_timeout=20)) for _ in range(4)]
    processes = [Process(store) for store in stores]
    shown: list[float] = []
    lock = threading.Lock()

    def work(process: Process) -> None:
        for step in range(60):
            process.count()
            with lock:  # one answer after another, as a client asks
                shown.append(process.exchange())
            if step % 10 == 0:
                process.service._beyond_base = 1000
            process.service.compact(process.store.measurements)

    threads = [threading.Thread(target=work, args=(process,)) for process in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shown == sorted(shown)
    assert [process.exchange() for process in processes] == [240] * 4
    assert Process(stores[0]).exchange() == 240
    for store in stores:
        store.close()


def test_the_deleted_file_of_a_running_service_gets_the_totals_again(tmp_path: Path) -> None:
    path = tmp_path / "alerts.db"
    store = FallbackStore(SqliteStore(path, busy_timeout=20))
    process = Process(store)
    process.count(3)
    assert process.exchange() == 3
    assert RETRY_SECONDS > 0
    for file in tmp_path.iterdir():
        file.unlink()
    process.count(1)
    assert process.exchange() == 4
    new = SqliteStore(path)
    assert Process(new).exchange() == 4
    for opened in (store, new):
        opened.close()
