"""Running blocking work in a thread of its own."""

import asyncio
import threading

import pytest

from otel_monitoring.runtime.threads import in_thread

pytestmark = pytest.mark.anyio

PATIENCE = 30.0


async def test_blocking_work_leaves_the_loop_free() -> None:
    release = threading.Event()
    waiting = asyncio.ensure_future(in_thread(lambda: release.wait(PATIENCE), name="test"))
    await asyncio.sleep(0)
    release.set()
    assert await waiting is True
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 / 0, name="test")
