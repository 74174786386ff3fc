"""Work that begins soon after it is asked for, once at a time."""

import asyncio

import pytest

from otel_monitoring.runtime.run_soon import RunSoon
from otel_monitoring.testing import ManualClock
from tests.waiting import PATIENCE

pytestmark = pytest.mark.anyio


class Work:
    """Counts its runs; each ends when it is told to."""

    def __init__(self, *failures: BaseException) -> None:
        self.failures = list(failures)
        self.begun: asyncio.Queue[int] = asyncio.Queue()
        self.may_end = asyncio.Semaphore(0)
        self.runs = 0

    async def __call__(self) -> None:
        self.runs += 1
        self.begun.put_nowait(self.runs)
        await self.may_end.acquire()
        if self.failures:
            raise self.failures.pop(0)


async def test_requests_during_a_run_have_one_more_run() -> None:
    work, clock = Work(), ManualClock(0.0)
    soon = RunSoon(work, name="test", elapsed=clock)
    assert (soon.seconds(clock()), soon.took, await soon.wait(0)) == (None, None, True)
    soon.request()
    assert await asyncio.wait_for(work.begun.get(), PATIENCE) == 1
    clock.advance(7)
    assert soon.seconds(clock()) == 7
    for _ in range(5):
        soon.request()
    assert not await soon.wait(0)
    assert (work.runs, soon.skipped) == (1, 4)
    work.may_end.release()
    assert await asyncio.wait_for(work.begun.get(), PATIENCE) == 2
    work.may_end.release()
    assert await soon.wait(PATIENCE)
    assert (work.runs, soon.took, soon.seconds(clock())) == (2, 0.0, None)


@pytest.mark.parametrize(
    "failure", [ValueError("broken"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()]
)
async def test_a_run_that_fails_ends_none_of_the_next(failure: BaseException) -> None:
    work = Work(failure)
    soon = RunSoon(work, name="test")
    for run in (1, 2):
        soon.request()
        assert await asyncio.wait_for(work.begun.get(), PATIENCE) == run
        work.may_end.release()
        assert await soon.wait(PATIENCE)
