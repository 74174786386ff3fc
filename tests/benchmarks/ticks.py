"""A service driven through a week by a clock that is set by hand: prints its resident memory as JSON.

Started as `python -m tests.benchmarks.ticks COUNT`. A tick is what the background thread of the process that leads does
every ten seconds, with the default store, a SQLite file: measure, exchange with the store and replace old rows by their
sum, write the slices of the past, evaluate the rules, deliver. `TRACE=1` says on standard error where memory has grown.

A store in memory, which nobody else has, keeps the past there: it grows until it has 30 days.
"""

import asyncio
import gc
import json
import os
import sys
import tempfile
import tracemalloc
from pathlib import Path

from fastapi import FastAPI

from otel_monitoring import AlertManager, MonitoringService
from otel_monitoring.alerts.store.sqlite import SqliteStore
from otel_monitoring.metrics.aggregator import Aggregator
from otel_monitoring.metrics.service_history import ServiceHistory
from otel_monitoring.testing import AlertTester, ManualClock

_SECONDS = 10.0
_ROUTES = 40
_DAY = 8_640
_WARM = 0.1
_MIB = 2**20


async def _ticks(count: int, folder: Path) -> dict[str, float]:
    service = MonitoringService(store="memory", access="open", service_name="ticks").instrument(FastAPI())
    found: dict[str, float] = {}
    tester, store = AlertTester(service), SqliteStore(folder / "state.db")
    tester.manager = AlertManager(
        channels=[tester.channel], store=store, settings=service.settings, clock=tester.clock, elapsed=tester.clock
    )
    with tester:
        history = _history(tester._measured, tester.clock)
        tester._measured.listeners.append(history.note)
        warm = int(count * _WARM)
        for tick in range(count + 1):
            if tick in (0, warm, count):
                gc.collect()
                found[f"{tick:,}"] = _resident() / _MIB
            if tick == warm and os.environ.get("TRACE"):
                tracemalloc.start(8)
                first = tracemalloc.take_snapshot()
            await _requests(service, tick)
            await tester.advance(_SECONDS)
            history.exchange(store.measurements)
            history.compact(store.measurements)
            tester.channel.clear()
        store.close()
    if os.environ.get("TRACE"):
        for line in tracemalloc.take_snapshot().compare_to(first, "lineno")[:15]:
            sys.stderr.write(f"{line}\n")
    return found


async def _requests(service: MonitoringService, tick: int) -> None:
    """Some requests in every sixth tick, and many that fail for ten minutes a day."""
    failing = tick % _DAY < 60
    if tick % 6 == 0 or failing:
        for number in range(5):
            route = f"GET /v1/route-{(tick + number) % _ROUTES}"
            await service.performance_metrics.record_request(route, 0.001 * (number + 1), 503 if failing else 200)


def _history(measured: Aggregator, clock: ManualClock) -> ServiceHistory:
    return ServiceHistory(measured.history, clock=clock, wall_clock=clock, span=300.0, resolution=_SECONDS)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Run, and print."""
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(_ticks(int(sys.argv[1]), Path(folder)))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
