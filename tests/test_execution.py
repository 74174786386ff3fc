"""Running work on another thread's loop: its result, its time limit, and a loop that never gets to it."""

import asyncio
import gc
import threading
from collections.abc import Iterator

import pytest

from otel_monitoring.health.execution import NotStarted, in_thread, on_loop

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


async def test_results_and_errors_come_back(other_loop: asyncio.AbstractEventLoop) -> None:
    async def where() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def fail() -> None:
        raise KeyError("x")

    async def own_timeout() -> None:
        raise TimeoutError("the work's own")

    assert await on_loop(other_loop, where, PATIENCE) is other_loop
    assert await on_loop(asyncio.get_running_loop(), where, PATIENCE) is asyncio.get_running_loop()
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

    with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s"):
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

    async def nothing() -> None: ...

    await on_loop(other_loop, nothing, PATIENCE)  # whatever was queued before has had its turn
    assert not ran.is_set()
    gc.collect()


async def test_a_closed_loop_is_not_started() -> None:
    loop = asyncio.new_event_loop()
    loop.close()

    async def nothing() -> None: ...

    with pytest.raises(NotStarted):
        await on_loop(loop, nothing, PATIENCE)


async def test_blocking_work_leaves_the_loop_free() -> None:
    release = threading.Event()
    waiting = asyncio.ensure_future(in_thread(lambda: release.wait(PATIENCE), name="test"))
    await asyncio.sleep(0)
    release.set()
    assert await waiting is True
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 / 0, name="test")
