"""Asking on another thread's loop: its result, its time limit, and a loop that never gets to it or stands still."""

import asyncio
import gc
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from otel_monitoring.health import time_limit
from otel_monitoring.health.time_limit import NoAnswer, on_loop
from otel_monitoring.runtime.threads import NotStarted
from otel_monitoring.testing import ManualClock

pytestmark = pytest.mark.anyio

PATIENCE = 30.0


@pytest.fixture
def other_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    if not loop.is_closed():
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()


async def turns(loop: asyncio.AbstractEventLoop) -> None:
    """Wait until whatever was queued before has had its turn, and what that queued too."""

    async def some() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    await on_loop(loop, some, PATIENCE)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """What the time limits are measured with."""
    clock = ManualClock()
    monkeypatch.setattr(time_limit, "time", SimpleNamespace(perf_counter=clock))
    return clock


async def test_results_and_errors_come_back(other_loop: asyncio.AbstractEventLoop) -> None:
    async def where() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def fail() -> None:
        raise KeyError("x")

    async def own_timeout() -> None:
        raise TimeoutError("the work's own")

    assert (await on_loop(other_loop, where, PATIENCE)).result is other_loop
    assert (await on_loop(asyncio.get_running_loop(), where, PATIENCE)).result is asyncio.get_running_loop()
    with pytest.raises(KeyError):
        await on_loop(other_loop, fail, PATIENCE)
    with pytest.raises(TimeoutError, match="the work's own"):
        await on_loop(other_loop, own_timeout, PATIENCE)


async def test_work_that_takes_too_long_is_cancelled(other_loop: asyncio.AbstractEventLoop) -> None:
    cancelled = threading.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(NoAnswer, match=r"no answer within 0\.05 s"):
        await on_loop(other_loop, hang, 0.05)
    assert cancelled.wait(PATIENCE)


async def test_a_blocked_loop_never_started_and_never_will(other_loop: asyncio.AbstractEventLoop) -> None:
    release, blocked, ran = threading.Event(), threading.Event(), threading.Event()

    def block() -> None:
        blocked.set()
        release.wait(PATIENCE)

    async def late() -> None:
        ran.set()

    other_loop.call_soon_threadsafe(block)
    assert blocked.wait(PATIENCE)
    with pytest.raises(NotStarted):
        await on_loop(other_loop, late, 0.05)
    release.set()

    await turns(other_loop)
    assert not ran.is_set()
    gc.collect()


async def test_a_loop_that_is_busy_is_waited_for_as_long_as_it_turns() -> None:
    loop = asyncio.get_running_loop()  # here each turn comes before the end of its period, on any machine
    answer = loop.create_future()
    waiting = asyncio.ensure_future(time_limit._while_turning(loop, [True], answer, 0.001))
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert not waiting.done()
    answer.set_result(None)
    await waiting


async def test_an_answer_that_never_came_is_none(
    other_loop: asyncio.AbstractEventLoop, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Delays do not count on the loop: whoever waits from another thread waits as long."""
    monkeypatch.setattr(time_limit, "GRACE", PATIENCE)
    asking = asyncio.ensure_future(on_loop(other_loop, lambda: asyncio.sleep(PATIENCE * 10), 0.05))
    while not asking.done():
        clock.advance(0.03)
        await asyncio.sleep(0.01)
    with pytest.raises(NoAnswer):
        await asking


async def test_a_closed_loop_is_not_started() -> None:
    loop = asyncio.new_event_loop()
    loop.close()

    async def nothing() -> None: ...

    with pytest.raises(NotStarted):
        await on_loop(loop, nothing, PATIENCE)


async def test_a_loop_that_stands_still_in_the_middle_is_no_answer_that_never_came(
    other_loop: asyncio.AbstractEventLoop,
) -> None:
    release = threading.Event()

    async def work() -> None:
        other_loop.call_soon(release.wait, PATIENCE)  # somebody else's
        await asyncio.Event().wait()

    with pytest.raises(NotStarted, match="the application's event loop is blocked"):
        await on_loop(other_loop, work, 0.05)
    release.set()
    await turns(other_loop)


async def test_time_that_the_loop_did_not_have_is_not_counted(clock: ManualClock) -> None:
    async def work() -> str:
        asyncio.get_running_loop().call_soon(clock.advance, 0.3)  # somebody else's
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return "done"

    answer = await on_loop(asyncio.get_running_loop(), work, 0.1)
    assert answer.result == "done"
    assert answer.seconds < 0.3


async def test_time_for_which_the_work_itself_blocks_the_loop_counts(clock: ManualClock) -> None:
    """As PyMongo 4.9 waits for a server."""

    async def blocking() -> None:
        while True:
            clock.advance(0.06)
            await asyncio.sleep(0)

    with pytest.raises(NoAnswer):
        await on_loop(asyncio.get_running_loop(), blocking, 0.3)
