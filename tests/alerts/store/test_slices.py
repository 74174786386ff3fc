"""The slices of the past in every store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_monitoring.alerts.store import Store
from otel_monitoring.alerts.store.sqlite import SqliteStore
from otel_monitoring.errors import StoreError
from otel_monitoring.metrics.slices.table import Position, SliceRow, SliceTable
from tests.alerts.store.conftest import World
from tests.alerts.store.test_store import EVERY_KIND, KINDS, mongo_store
from tests.integration.servers import nx27017

ONE = Position("one", b"1")
TWO = Position("two", b"2")


def row(start: int, content: str = "x", tier: int = 10) -> SliceRow:
    return SliceRow(tier, start, content.encode(), f"{content} routes".encode())


@pytest.fixture(params=EVERY_KIND)
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SliceTable]:
    store: Store = KINDS[request.param](tmp_path)
    yield store.slices
    store.close()


def test_rows_are_read_by_tier_and_time_in_order(table: SliceTable) -> None:
    assert table.position() is None
    assert table.advance("", ONE, [row(30), row(10), row(20), row(10, "hour", 3600)])
    assert table.position() == ONE
    assert table.read(10, 10, 30, routes=True) == [row(10), row(20)]
    assert table.read(10, 11, 31) == [row(20)._replace(routes=b""), row(30)._replace(routes=b"")]
    assert table.read(3600, 0, 100, routes=True) == [row(10, "hour", 3600)]
    assert list(table.starts(10, 0, 30)) == [10, 20]
    assert list(table.starts(60, 0, 30)) == []


def test_a_row_replaces_the_one_of_its_slot(table: SliceTable) -> None:
    table.advance("", ONE, [row(10, "first"), row(20)])
    table.advance("one", TWO, [row(10, "second")])
    assert table.read(10, 0, 100, routes=True) == [row(10, "second"), row(20)]


def test_only_who_knows_the_position_writes(table: SliceTable) -> None:
    assert not table.advance("one", TWO, [row(10)])
    assert table.position() is None
    table.advance("", ONE, [])
    assert not table.advance("", TWO, [row(10)])
    assert not table.advance("other", TWO, [row(10)])
    assert (table.position(), list(table.starts(10, 0, 100))) == (ONE, [])


def test_what_is_too_old_or_of_the_future_is_deleted(table: SliceTable) -> None:
    table.advance("", ONE, [*map(row, (10, 20, 30, 40)), row(10, "hour", 3600)])
    table.prune(10, 20, 40)
    assert list(table.starts(10, 0, 100)) == [20, 30]
    assert list(table.starts(3600, 0, 100)) == [10]


@pytest.mark.integration
def test_the_rows_of_a_writer_that_was_killed_are_there_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    killed, other = mongo_store(nx27017), mongo_store(nx27017)
    other._documents.service = killed._documents.service
    assert killed.slices.advance("", ONE, [row(10, "first"), row(20)])
    monkeypatch.setattr(killed.slices, "_insert", lambda *_: None)
    assert killed.slices.advance("one", TWO, [row(10, "second"), row(30)])
    assert other.slices.position() == TWO
    assert other.slices.read(10, 0, 100, routes=True) == [row(10, "second"), row(20), row(30)]
    monkeypatch.undo()
    assert other.slices.advance("two", Position("three", b"3"), [row(30, "third")])
    killed.slices._insert([row(30, "late")], 2)
    assert other.slices.read(10, 30, 40, routes=True) == [row(30, "third")]
    for store in (killed, other):
        store.close()


def test_a_file_keeps_its_slices(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = SqliteStore(path)
    store.slices.advance("", ONE, [row(10)])
    store.close()
    again = SqliteStore(path)
    assert (again.slices.position(), again.slices.read(10, 0, 20, routes=True)) == (ONE, [row(10)])
    again.close()


def test_slices_fail_with_the_store_and_return_with_it(world: World) -> None:
    slices = world.store.slices
    assert slices.advance("", ONE, [row(10)])
    world.lock()
    with pytest.raises(StoreError):
        slices.advance("one", TWO, [row(20)])
    for work in (slices.position, lambda: slices.read(10, 0, 100), lambda: slices.starts(10, 0, 100)):
        with pytest.raises(StoreError):
            work()
    world.unlock()
    world.later()
    assert slices.read(10, 0, 100, routes=True) == [row(10)]
    assert slices.advance("one", TWO, [row(20)])
