"""`Shared`: an answer is made once in an interval, longer where it costs more, for all who ask."""

import asyncio
import gzip
import json
import threading

import pytest

from otel_monitoring.status_page.shared import Body, Shared

pytestmark = pytest.mark.anyio


class World:
    """An answer that says how many were made, with clocks that are set by hand."""

    def __init__(self) -> None:
        self.now = self.cpu = 100.0
        self.cost = 0.001
        self.made = 0
        self.error: Exception | None = None
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.shared = Shared(self.make, 2.0, lambda: self.now, lambda: self.cpu)

    def make(self) -> int:
        self.may_go_on.wait()
        self.cpu += self.cost
        self.made += 1
        if self.error is not None:
            raise self.error
        return self.made


async def test_all_share_an_answer_until_its_interval_is_over() -> None:
    world = World()
    assert world.shared.latest() is None
    assert await world.shared.next() == await world.shared.next() == world.shared.latest() == 1
    world.now += 2.0
    assert world.shared.latest() is None
    assert await world.shared.next() == 2


async def test_those_who_ask_at_once_wait_for_one() -> None:
    world = World()
    world.may_go_on.clear()
    asking = [asyncio.ensure_future(world.shared.next()) for _ in range(5)]
    await asyncio.sleep(0)
    world.may_go_on.set()
    assert await asyncio.gather(*asking) == [1] * 5


async def test_who_leaves_takes_no_answer_from_the_others() -> None:
    world = World()
    world.may_go_on.clear()
    leaving, staying = asyncio.ensure_future(world.shared.next()), asyncio.ensure_future(world.shared.next())
    await asyncio.sleep(0)
    leaving.cancel()
    world.may_go_on.set()
    assert await staying == 1


async def test_an_answer_that_costs_more_is_made_less_often() -> None:
    world = World()
    world.cost = 0.02
    await world.shared.next()
    assert world.shared.interval == 2.0  # the first one may have filled caches
    world.now += 2.0
    await world.shared.next()
    assert world.shared.interval == pytest.approx(5.0)
    world.now += 4.9
    assert world.shared.latest() == 2
    world.now += 0.2
    assert world.shared.latest() is None


async def test_a_failure_is_no_answer_and_the_next_one_is() -> None:
    world = World()
    world.error = OSError("no disk")
    with pytest.raises(OSError, match="no disk"):
        await world.shared.next()
    world.error = None
    assert await world.shared.next() == 2


async def test_the_compressed_body_is_the_same() -> None:
    body = Body.of({"status": "healthy", "value": float("nan")})
    assert gzip.decompress(body.compressed) == body.plain
    assert json.loads(body.plain) == {"status": "healthy", "value": None}
