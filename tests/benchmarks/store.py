"""What the stores cost, side by side: `python -m tests.benchmarks.store`."""

import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, AlertType, ChannelResult, DeliveryState
from otel_monitoring.alerts.mute import Mute
from otel_monitoring.alerts.selection import Selection
from otel_monitoring.alerts.store import MemoryStore, Store
from otel_monitoring.alerts.store.fallback import FallbackStore
from otel_monitoring.alerts.store.history import HISTORY_LIMIT
from otel_monitoring.alerts.store.sqlite import SqliteStore

NOW = 1_700_000_000.0
CHANNELS = ("log", "email", "slack")
EVENT = AlertEvent(
    NOW,
    AlertType.API_TIMEOUT,
    AlertSeverity.WARNING,
    "API endpoint /api/orders/ is slow: p95 2413 ms over 300 s",
    {"p95_ms": 2413.0, "threshold_ms": 2000.0, "requests": 1812},
    labels={"endpoint": "/api/orders/", "method": "GET"},
    rule="API_TIMEOUT",
    incident="0f3c9a5b2e",
    since=NOW - 60,
)
DELIVERED = ChannelResult(DeliveryState.DELIVERED, at=NOW, attempts=1)
STATES: dict[str, str | None] = {
    f"RULE_{number}/{{}}": '{"phase": "firing", "since": 1700000000.0}' for number in range(50)
}
REPORT = os.urandom(300_000)


def raised(store: Store, number: int) -> None:
    """An alert: into the history and the outbox of three channels, in one transaction."""
    event = replace(EVENT, time=NOW + number / 1000)

    def work(tx: Store) -> None:
        tx.history.append(event.as_history_entry(CHANNELS))
        tx.outbox.enqueue([event], CHANNELS, NOW)

    store.run(work)


def settled(store: Store, _: int) -> None:
    for channel in CHANNELS:
        store.outbox.settle([queued.id for queued in store.outbox.pending(channel, 1)], DELIVERED)


def tick(store: Store, number: int) -> None:
    """A tick of a leader at rest: lease, report, everybody's reports, states, mutes, three empty outboxes."""
    now = NOW + number
    store.leases.lead("worker", now, now + 30)
    store.reports.publish("worker", REPORT, now)
    store.reports.published(now)
    store.incidents.saved()
    store.mutes.all(now)
    for channel in CHANNELS:
        store.outbox.pending(channel, 10)


OPERATIONS: dict[str, Callable[[Store, int], object]] = {
    "append + enqueue for 3 channels": raised,
    "pending, 10 of many": lambda store, _: store.outbox.pending("log", 10),
    "pending + settle, 3 channels": settled,
    "pending, none": lambda store, _: store.outbox.pending("none", 10),
    "lease renewed": lambda store, n: store.leases.lead("worker", NOW + n, NOW + n + 30),
    "lease held by another": lambda store, n: store.leases.lead("other", NOW, NOW + 30),
    "publish 300 kB": lambda store, n: store.reports.publish("worker", REPORT, NOW + n),
    "reports, one of 300 kB": lambda store, n: store.reports.published(NOW),
    "save 50 states": lambda store, _: store.incidents.save(STATES),
    "read 50 states": lambda store, _: store.incidents.saved(),
    "mutes, 3 of them": lambda store, _: store.mutes.all(NOW),
    "note what was notified": lambda store, n: store.notes.note(f"{n % 500}", NOW),
    "ask what was notified": lambda store, _: store.notes.noted_at("7"),
    "newest 100 of the history": lambda store, _: store.history.events(limit=100),
    "a whole tick at rest": tick,
}


def measured(store: Store, operation: Callable[[Store, int], object], rounds: int = 300) -> tuple[float, float, float]:
    """CPU and wall time of one call in µs, means, and the worst wall time."""
    walls = []
    cpu = time.process_time()
    for number in range(rounds):
        began = time.perf_counter()
        operation(store, number)
        walls.append(time.perf_counter() - began)
    cpu = time.process_time() - cpu
    return cpu / rounds * 1e6, statistics.median(walls) * 1e6, max(walls) * 1e6


def main() -> None:
    with TemporaryDirectory() as folder:
        stores: dict[str, Store] = {
            "memory": MemoryStore(),
            "sqlite": SqliteStore(Path(folder) / "sqlite.db"),
            "fallback": FallbackStore(SqliteStore(Path(folder) / "fallback.db")),
        }
        for store in stores.values():
            for number in range(3):
                store.mutes.add(Mute(Selection.of(AlertType.CUSTOM, labels={"n": str(number)}), NOW * 2))
            for _ in range(HISTORY_LIMIT):
                store.history.append(EVENT)
        sys.stdout.write(f"{'µs each: CPU, median wall, worst':34}" + "".join(f"{name:>28}" for name in stores) + "\n")
        for title, operation in OPERATIONS.items():
            figures = [measured(store, operation) for store in stores.values()]
            row = "".join(f"{cpu:10.0f}{median:8.0f}{worst:10.0f}" for cpu, median, worst in figures)
            sys.stdout.write(f"{title:34}{row}\n")
        for store in stores.values():
            store.close()


if __name__ == "__main__":
    main()
