"""How far each way of being one service reaches: what one instance pays for the others, by their number.

`python -m tests.benchmarks.instances`; `docs/benchmarks.md` quotes its table.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

from opentelemetry.sdk.metrics import MeterProvider
from pymongo import MongoClient
from pymongo.monitoring import CommandListener, CommandStartedEvent

from otel_monitoring import semconv as c
from otel_monitoring.alerts.evaluation.worker_report import WorkerReport, part_of
from otel_monitoring.alerts.store import Store
from otel_monitoring.alerts.store.mongodb import MongoStore
from otel_monitoring.alerts.store.sqlite import SqliteStore
from otel_monitoring.metrics.reader import SnapshotReader
from otel_monitoring.metrics.serialization import SnapshotCodec
from otel_monitoring.metrics.service_history import ServiceHistory
from otel_monitoring.metrics.snapshot import Snapshot
from otel_monitoring.metrics.stream import Delta
from otel_monitoring.metrics.window import History, Window
from tests.integration.servers import nx27017

INSTANCES = (2, 8, 32, 100)
SERIES = ((40, 2), (300, 5))
"""Routes and statuses: of so many series each changes in an interval."""
_STATUSES = (200, 404, 409, 422, 503)
_INTERVAL = 10.0
_ROUNDS = 5
_HEAD = ("store", "series", "instances", "CPU ms", "ms", "operations", "all of them read, KiB/s")
_STATE = {
    "host": "web-1",
    "status": "healthy",
    "system": {"cpu_percent": 20.0, "memory_mb": 130.5},
    "counters": ["orders.placed"],
    "checks": {"printer": "healthy"},
    "reasons": [],
}


class _Operations(CommandListener):
    """Counts what the client sends."""

    count = 0

    def started(self, event: CommandStartedEvent) -> None:
        self.count += event.command_name in ("find", "insert", "update", "delete", "aggregate", "findAndModify")

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass


@contextmanager
def _sqlite() -> Iterator[tuple[Store, Callable[[], int]]]:
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder) / "alerts.db")
        try:
            yield store, lambda: 0
        finally:
            store.close()


@contextmanager
def _mongodb() -> Iterator[tuple[Store, Callable[[], int]]]:
    operations = _Operations()
    with nx27017() as server:
        client: MongoClient[dict[str, Any]] = MongoClient(server.uri, event_listeners=[operations])
        store = MongoStore(lambda: client["shop"], uuid4().hex)
        try:
            yield store, lambda: operations.count
        finally:
            store.close()
            client.close()


def _measured(routes: int, statuses: int) -> Snapshot:
    """What an instance measures in an interval."""
    reader = SnapshotReader(0.0)
    MeterProvider((reader,), shutdown_on_exit=False)
    durations = reader.direct(c.HTTP_SERVER_REQUEST_DURATION)
    for route in range(routes):
        for status in _STATUSES[:statuses]:
            attributes: dict[str, str | int] = {
                c.HTTP_ROUTE: f"/things/{route}/{{id}}",
                c.HTTP_RESPONSE_STATUS_CODE: status,
            }
            series = durations.bind({c.HTTP_REQUEST_METHOD: "GET", **attributes})
            for i in range(3):
                series.record(0.01 * (1 + i + route % 7))
    return reader.take(0.0)


def _one(
    store: Store, operations: Callable[[], int], instances: int, snapshot: Snapshot
) -> tuple[float, float, float, float]:
    """Milliseconds of CPU, milliseconds, operations and KiB read of one instance in an interval, `instances` in all."""
    codec, now = SnapshotCodec(), [0.0]
    content = codec.encode(snapshot, {"at": time.time()})
    report = WorkerReport(Window(Snapshot(0.0, 300.0)), state=_STATE).encode(())
    own = History(0.0, span=300.0, resolution=_INTERVAL)
    service = ServiceHistory(own, clock=lambda: now[0], wall_clock=time.time, span=300.0, resolution=_INTERVAL)
    stream, reports = store.measurements, store.reports
    cpu, wall, asked = [], [], []
    numbers = count(1)
    for _ in range(_ROUNDS + 1):
        now[0] += _INTERVAL
        number = next(numbers)
        for other in range(1, instances):
            stream.add(Delta(f"writer-{other}", number, content))
            reports.publish(f"writer-{other}", report, time.time(), urgent=False)
        news = Snapshot(now[0] - _INTERVAL, now[0], snapshot.histograms)
        own.add(news)
        service.note(news)
        before, began, wall_began = operations(), time.thread_time(), time.perf_counter()
        service.exchange(stream)
        for data in reports.published(time.time()).values():
            part_of(data.report, "state")
        reports.publish("writer-0", report, time.time(), urgent=False)
        cpu.append(1000 * (time.thread_time() - began))
        wall.append(1000 * (time.perf_counter() - wall_began))
        asked.append(operations() - before)
        service.compact(stream)
    read = (instances - 1) * (len(content) + len(report)) / 1024
    return median(cpu[1:]), median(wall[1:]), median(asked[1:]), read


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Print the table."""
    _say(f"An interval of {_INTERVAL:g} s, the median of {_ROUNDS}.")
    _say(f"| {' | '.join(_HEAD)} |\n|---|{'---:|' * (len(_HEAD) - 1)}")
    for name, made in (("sqlite", _sqlite), ("mongodb", _mongodb)):
        for routes, statuses in SERIES:
            snapshot = _measured(routes, statuses)
            for instances in INSTANCES:
                with made() as (store, operations):
                    cpu, wall, asked, read = _one(store, operations, instances, snapshot)
                all_of = instances * read / _INTERVAL
                row = (name, routes * statuses, instances, f"{cpu:.1f}", f"{wall:.0f}", f"{asked:g}", f"{all_of:.0f}")
                _say(f"| {' | '.join(map(str, row))} |")


if __name__ == "__main__":
    main()
