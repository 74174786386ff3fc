"""The slices of a service: the process that leads writes what all of its processes measured."""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from fastapi import FastAPI

from otel_monitoring import MonitoringService
from otel_monitoring.alerts import AlertManager
from otel_monitoring.alerts.store import MemoryStore
from otel_monitoring.alerts.store.memory.slices import MemorySlices
from otel_monitoring.alerts.store.sqlite import SqliteStore
from otel_monitoring.errors import StoreError
from otel_monitoring.metrics.outcome import OutcomeClassifier
from otel_monitoring.metrics.slices.codec import decoded_routes, decoded_service
from otel_monitoring.metrics.slices.model import FINEST
from otel_monitoring.metrics.slices.own_deltas import OwnDeltas
from otel_monitoring.metrics.slices.recorder import Readings, WrittenUpTo
from otel_monitoring.metrics.slices.table import Position, SliceRow
from otel_monitoring.monitoring import set_monitoring
from otel_monitoring.monitoring.slice_writer import SliceWriter
from otel_monitoring.testing import ManualClock
from tests.asgi import served
from tests.monitoring.test_service_exchange import Process, running
from tests.waiting import eventually_answered

pytestmark = pytest.mark.anyio
ALWAYS = 10**12


@pytest.fixture(autouse=True)
def _alone() -> None:
    set_monitoring(None)


@pytest.fixture
async def processes(tmp_path: Path) -> AsyncIterator[list[Process]]:
    async with running(2, tmp_path) as made:
        yield made


async def test_the_leader_writes_what_all_processes_measured(processes: list[Process], tmp_path: Path) -> None:
    one, two = processes
    await one.requests(1, 2, 3)
    await two.requests(4, 5)
    assert await one.count() >= 3
    assert await two.count() == 5
    store = SqliteStore(tmp_path / "state.db")

    async def written() -> bool:
        for process in processes:
            parts = process.monitoring._parts
            if parts.alerting.leads:
                parts.slices.write()
        rows = store.slices.read(FINEST.seconds, 0, ALWAYS, routes=True)
        routes = [decoded_routes(row.routes) for row in rows]
        requests = [found["/items/{number}"] for found in routes if "/items/{number}" in found]
        counts = (sum(each.durations.count for each in requests), sum(each.errors for each in requests))
        sold = sum(decoded_service(row.service).counters.get("sold", 0) for row in rows)
        gauges = decoded_service(rows[-1].service).gauges if rows else {}
        return counts == (5, 1) and sold == 5 and gauges["memory"].least > 0

    await eventually_answered(written, "everything is in the slices")
    position = WrittenUpTo.of(store.slices.position())
    assert position is not None
    assert [version for _, version in position.releases] == ["1.2"]
    store.close()


async def test_slices_are_written_without_being_asked(processes: list[Process], tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.db")

    async def written() -> bool:
        return len(store.slices.starts(FINEST.seconds, 0, ALWAYS)) > 0

    await eventually_answered(written, "the first slice")
    store.close()


class Away(MemorySlices):
    """Fails the first time, and finds another one faster the second time."""

    times = 0

    def advance(self, before: str, position: Position, rows: Sequence[SliceRow]) -> bool:
        self.times += 1
        if self.times == 1:
            raise StoreError("away")
        return self.times > 2 and super().advance(before, position, rows)


async def test_what_could_not_be_written_is_written_in_the_same_slot_and_then_once_in_each() -> None:
    table, clock = Away(), ManualClock(1_800_000_000.0)
    writer = SliceWriter(
        OutcomeClassifier(),
        table=lambda: table,
        deltas=lambda: OwnDeltas(lambda: ()),
        readings=lambda: Readings({"cpu": [50.0]}),
        leads=lambda: True,
        clock=clock,
    )
    for _ in range(9):
        await writer.tick()
        clock.advance(1.0)
    assert table.times == 3
    await writer.tick()
    clock.advance(1.0)
    await writer.tick()
    assert table.times == 4
    assert [list(decoded_service(row.service).gauges) for row in table.read(FINEST.seconds, 0, ALWAYS)] == [["cpu"]] * 2


async def test_a_service_of_one_process_has_its_past_and_its_errors_in_memory() -> None:
    app = FastAPI(version="1.2")
    manager = AlertManager(channels=[], store=MemoryStore())
    monitoring = MonitoringService(None, access="open", sample_interval=0.2, alert_manager=manager).instrument(app)

    @app.get("/fails")
    async def fails() -> None:
        raise RuntimeError("no paper")

    async with served(app) as http:
        for _ in range(3):
            with suppress(RuntimeError):
                await http.get("/fails")
        (group,) = (await http.get("/api/health/errors")).json()["errors"]
        assert (group["type"], group["count"]) == ("RuntimeError", 3)

        async def written() -> bool:
            monitoring._parts.slices.write()
            rows = manager.store.slices.read(FINEST.seconds, 0, ALWAYS, routes=True)
            requests = [found["/fails"] for row in rows if "/fails" in (found := decoded_routes(row.routes))]
            return (sum(one.durations.count for one in requests), sum(one.errors for one in requests)) == (3, 3)

        await eventually_answered(written, "the requests are in the slices, once")
        assert await written()
