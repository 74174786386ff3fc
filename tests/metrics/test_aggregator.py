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
    began = collection._began
    assert collection.stale(began + 1) is None
    assert collection.stale(began + 31) == "metrics: no collection has ended for 31 s"
    released.set()
    monkeypatch.setattr(module, "_COLLECTION_TIMEOUT", 30)
    await collection.collect()
    assert collection.stale(began + 31) is None
    provider.shutdown()


@pytest.mark.anyio
async def test_who_waits_for_a_collection_does_not_wait_for_the_next_one() -> None:
    """Two jobs wait for one collection; the first to go on begins another before the second has looked."""
    turns = [threading.Event(), threading.Event()]
    waiting = iter(turns)

    def slow(_: CallbackOptions) -> Iterable[Observation]:
        next(waiting).wait(30)
        return [Observation(1)]

    aggregator = Aggregator(clock=time.monotonic, span=300, resolution=10, cost_clock=time.thread_time)
    provider = MeterProvider([aggregator.reader], shutdown_on_exit=False)
    provider.get_meter("application").create_observable_gauge("slow", [slow])
    collection = BackgroundCollection(aggregator, Worker.__new__(Worker))

    async def collect_twice() -> None:
        await collection.collect()
        await collection.collect()

    first = asyncio.ensure_future(collect_twice())
    second = asyncio.ensure_future(collection.collect())
    turns[0].set()
    await second
    assert not first.done()
    turns[1].set()
    await first
    provider.shutdown()
