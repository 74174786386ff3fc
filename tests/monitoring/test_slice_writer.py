"""The slices of a service: the process that leads writes what all of its processes measured."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from otel_monitoring.alerts.store.sqlite import SqliteStore
from otel_monitoring.metrics.slices.codec import decoded_routes, decoded_service
from otel_monitoring.metrics.slices.model import FINEST
from otel_monitoring.metrics.slices.recorder import WrittenUpTo
from otel_monitoring.monitoring import set_monitoring
from tests.asgi import served
from tests.monitoring.test_service_exchange import Process
from tests.waiting import eventually_answered

pytestmark = pytest.mark.anyio
ALWAYS = 10**12


@pytest.fixture(autouse=True)
def _alone() -> None:
    set_monitoring(None)


@pytest.fixture
async def processes(tmp_path: Path) -> AsyncIterator[list[Process]]:
    async with AsyncExitStack() as stack:
        made = [Process(tmp_path / "state.db") for _ in range(2)]
        for process in made:
            process.http = await stack.enter_async_context(served(process.app))
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
