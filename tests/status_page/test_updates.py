"""`Updates`: one for all pages within an interval, longer where it costs more."""

import asyncio
import gzip
import json
import threading
from collections.abc import Iterator
from itertools import count

import pytest

from otel_monitoring.status_page.updates import INTERVAL, Body, Content, Updates

pytestmark = pytest.mark.anyio


class World:
    """Updates whose clocks are set by hand; each says how many were made before."""

    def __init__(self) -> None:
        self.now = 100.0
        self.cpu: Iterator[float] = count()
        self.made = 0
        self.version = "a"
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.updates = Updates(self.make, lambda: self.now, lambda: next(self.cpu) * self.cost)
        self.cost = 0.001

    def make(self) -> Content:
        self.may_go_on.wait()
        self.made += 1
        return Content({"made": self.made}, [["/a", "GET"]], self.version)

    async def next(self, known: str = "") -> dict[str, object]:
        answer: dict[str, object] = json.loads((await self.updates.next(known)).plain)
        return answer


async def test_pages_share_an_update_until_its_interval_is_over() -> None:
    world = World()
    assert world.updates.latest("") is None
    assert (await world.next())["made"] == (await world.next())["made"] == 1
    latest = world.updates.latest("")
    assert latest is not None
    assert json.loads(latest.plain)["made"] == 1
    world.now += INTERVAL
    assert world.updates.latest("") is None
    assert (await world.next())["made"] == 2


async def test_pages_that_ask_at_once_wait_for_one() -> None:
    world = World()
    world.may_go_on.clear()
    asking = [asyncio.ensure_future(world.next()) for _ in range(5)]
    await asyncio.sleep(0)
    world.may_go_on.set()
    assert [answer["made"] for answer in await asyncio.gather(*asking)] == [1] * 5


async def test_who_leaves_takes_no_update_from_the_others() -> None:
    world = World()
    world.may_go_on.clear()
    leaving, staying = asyncio.ensure_future(world.next()), asyncio.ensure_future(world.next())
    await asyncio.sleep(0)
    leaving.cancel()
    world.may_go_on.set()
    assert (await staying)["made"] == 1


async def test_an_update_that_costs_more_is_made_less_often() -> None:
    world = World()
    world.cost = 0.02
    await world.next()
    world.now += INTERVAL + 1
    assert world.updates.latest("") is not None
    world.now += 2
    assert (await world.next())["interval"] == 5.0


async def test_names_of_routes_are_sent_where_they_are_not_known() -> None:
    world = World()
    assert (await world.next())["routes"] == [["/a", "GET"]]
    assert "routes" not in await world.next("a")
    assert (await world.next("of before"))["version"] == "a"
    world.version = "b"
    world.now += INTERVAL
    assert (await world.next("a"))["routes"] == [["/a", "GET"]]


async def test_a_failure_is_no_answer_and_the_next_one_is() -> None:
    world = World()

    def fail() -> Content:
        raise OSError("no disk")

    make, world.updates._make = world.updates._make, fail
    with pytest.raises(OSError, match="no disk"):
        await world.next()
    world.updates._make = make
    assert (await world.next())["made"] == 1


async def test_the_compressed_body_is_the_same() -> None:
    body = Body.of({"status": "healthy", "value": float("nan")})
    assert gzip.decompress(body.compressed) == body.plain
    assert json.loads(body.plain) == {"status": "healthy", "value": None}
