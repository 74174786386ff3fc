"""Collections in the background, of a provider that is not ours: nothing guards its callbacks."""

import asyncio
import threading
import time
from collections.abc import Iterable

import pytest
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider

from otel_monitoring.metrics import aggregator as module
from otel_monitoring.metrics.aggregator import Aggregator, BackgroundCollection
from otel_monitoring.runtime.worker import Worker


@pytest.mark.anyio
async def test_a_collection_that_hangs_keeps_nobody_and_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def hanging(_: CallbackOptions) -> Iterable[Observation]:
        released.wait(30)
        return [Observation(1)]

    aggregator = Aggregator(clock=time.monotonic, span=300, resolution=10, cost_clock=time.thread_time)
    provider = MeterProvider([aggregator.reader], shutdown_on_exit=False)
    provider.get_meter("application").create_observable_gauge("hanging", [hanging])
    collection = BackgroundCollection(aggregator, Worker.__new__(Worker))
    monkeypatch.setattr(module, "_COLLECTION_TIMEOUT", 0.01)
    for _ in range(2):
        with pytest.raises(TimeoutError, match="has not returned"):
            await collection.collect()
    began = collection._flight._began_at
    assert collection.stale(began + 1) is None
    assert collection.stale(began + 31) == "metrics: no collection has ended for 31 s"
    released.set()
    monkeypatch.setattr(module, "_COLLECTION_TIMEOUT", 30)
    await collection.collect()
    assert collection.stale(began + 31) is None
    provider.shutdown()


@pytest.mark.anyio
async def test_what_was_recorded_during_a_collection_is_in_the_next_which_all_who_waited_share() -> None:
    """On a busy machine an answer or a rule would otherwise miss what was recorded just before."""
    turns = [threading.Event(), threading.Event()]
    waiting = iter(turns)
    begun = threading.Event()

    class Slow(Aggregator):
        def collect(self) -> None:
            super().collect()
            begun.set()
            next(waiting).wait(30)

    aggregator = Slow(clock=time.monotonic, span=300, resolution=10, cost_clock=time.thread_time)
    provider = MeterProvider([aggregator.reader], shutdown_on_exit=False)
    orders = provider.get_meter("application").create_counter("orders")
    orders.add(1)
    collection = BackgroundCollection(aggregator, Worker.__new__(Worker))
    first = asyncio.ensure_future(collection.collect())
    await asyncio.to_thread(begun.wait, 30)
    orders.add(1)
    later = [asyncio.ensure_future(collection.collect()) for _ in range(3)]
    turns[0].set()
    await first
    turns[1].set()
    await asyncio.gather(*later)
    assert [value for _, value in aggregator.history.total.sums("orders")] == [2]
    provider.shutdown()
