"""Work that runs once at a time, for several callers."""

import asyncio
import threading
from types import SimpleNamespace

import pytest

from otel_monitoring.runtime import single_flight
from otel_monitoring.runtime.single_flight import SLOW_SECONDS, SingleFlight
from otel_monitoring.testing import ManualClock
from tests.waiting import eventually

PATIENCE = 30.0


class Work:
    """Counts its runs; each waits for its turn, and the first may fail."""

    def __init__(self, *, fails: bool = False) -> None:
        self.begun = 0
        self.turns = [threading.Event() for _ in range(3)]
        self._fails = fails

    def __call__(self) -> None:
        turn, self.begun = self.turns[self.begun], self.begun + 1
        assert turn.wait(PATIENCE)
        if self._fails and self.begun == 1:
            raise ValueError("the first one")


async def begun(work: Work, runs: int) -> None:
    await asyncio.to_thread(eventually, lambda: work.begun == runs)


@pytest.mark.anyio
async def test_who_comes_during_a_run_shares_the_next_one() -> None:
    work = Work()
    flight = SingleFlight(work, name="test")
    first = asyncio.ensure_future(flight.run(PATIENCE))
    await begun(work, 1)
    later = [asyncio.ensure_future(flight.run(PATIENCE)) for _ in range(3)]
    work.turns[0].set()
    assert await first
    await begun(work, 2)
    assert not any(one.done() for one in later)
    work.turns[1].set()
    assert await asyncio.gather(*later) == [True] * 3
    assert work.begun == 2
    assert flight.seconds(0.0) is None


@pytest.mark.anyio
async def test_a_failure_is_that_of_who_waited_for_its_run() -> None:
    work = Work(fails=True)
    flight = SingleFlight(work, name="test")
    first = asyncio.ensure_future(flight.run(PATIENCE))
    await begun(work, 1)
    later = asyncio.ensure_future(flight.run(PATIENCE))
    for turn in work.turns:
        turn.set()
    with pytest.raises(ValueError, match="the first one"):
        await first
    assert await later


@pytest.mark.anyio
async def test_a_run_that_is_late_goes_on_and_is_waited_for_later() -> None:
    work = Work()
    flight = SingleFlight(work, name="test")
    assert not await flight.run(0.01)
    assert not await flight.run(0.01)
    assert work.begun == 1
    seconds = flight.seconds(flight._began_at + 31)
    assert seconds == pytest.approx(31)
    for turn in work.turns:
        turn.set()
    assert await flight.run(PATIENCE)
    assert work.begun == 2


@pytest.mark.anyio
async def test_where_a_run_takes_long_the_next_ones_are_waited_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock(0.0)
    monkeypatch.setattr(single_flight, "time", SimpleNamespace(monotonic=clock))
    work = Work()
    flight = SingleFlight(work, name="test")
    assert flight.patience(2.0) == 2.0
    first = asyncio.ensure_future(flight.run(PATIENCE))
    await begun(work, 1)
    clock.advance(SLOW_SECONDS + 0.1)
    assert (flight.patience(2.0), flight.patience(0.1)) == (SLOW_SECONDS, 0.1), "it takes long already"
    work.turns[0].set()
    assert await first
    assert flight.patience(2.0) == SLOW_SECONDS, "the last one took long"
    work.turns[1].set()
    assert await flight.run(PATIENCE)
    assert flight.patience(2.0) == 2.0
