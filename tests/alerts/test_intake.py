"""One thread for all that is raised: together, in order, and no failure of one is another's."""

import asyncio
import os
import threading
from collections.abc import Sequence

import pytest

from otel_monitoring.alerts import AlertManager
from otel_monitoring.alerts.intake import Intake
from otel_monitoring.alerts.model import AlertSeverity
from otel_monitoring.alerts.store import MemoryStore
from otel_monitoring.testing import MemoryChannel
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "otel-monitoring-alerts"]


class Bench:
    """An intake whose thread waits at a gate."""

    def __init__(self) -> None:
        self._others = threads()
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.intake = Intake[int, int](self.handle)

    def threads(self) -> list[threading.Thread]:
        """Its own: one of an earlier test may not have ended yet."""
        return [thread for thread in threads() if thread not in self._others]

    def handle(self, things: Sequence[int]) -> Sequence[int]:
        self.gate.wait(30)
        self.batches.append(list(things))
        if -1 in things:
            raise ValueError("it was minus one")
        return [thing * 10 for thing in things]


async def test_what_comes_meanwhile_is_handled_together_by_one_thread() -> None:
    bench = Bench()
    taken = [asyncio.create_task(bench.intake.take(number)) for number in range(1000)]
    await asyncio.sleep(0)
    assert len(bench.threads()) == 1
    bench.gate.set()
    assert await asyncio.gather(*taken) == [number * 10 for number in range(1000)]
    assert [number for batch in bench.batches for number in batch] == list(range(1000))
    assert len(bench.batches) <= 7
    assert max(len(batch) for batch in bench.batches) <= 200


async def test_what_is_urgent_is_handled_before_all_that_waits() -> None:
    bench = Bench()
    taken = [asyncio.create_task(bench.intake.take(number)) for number in range(1000)]
    await asyncio.sleep(0)
    taken += [asyncio.create_task(bench.intake.take(number, urgent=True)) for number in (1001, 1002)]
    await asyncio.sleep(0)
    bench.gate.set()
    await asyncio.gather(*taken)
    first = next(place for place, batch in enumerate(bench.batches) if 1001 in batch)
    assert bench.batches[first] == [1001, 1002]
    assert first <= 1, "what was under way when it came is over first"


async def test_what_cannot_be_handled_fails_alone() -> None:
    bench = Bench()
    taken = [asyncio.create_task(bench.intake.take(number)) for number in (1, -1, 2)]
    await asyncio.sleep(0)
    bench.gate.set()
    first, wrong, last = await asyncio.gather(*taken, return_exceptions=True)
    assert (first, str(wrong), last) == (10, "it was minus one", 20)


async def test_who_does_not_wait_any_more_keeps_nobody_waiting() -> None:
    bench = Bench()
    gone, stays = (asyncio.create_task(bench.intake.take(number)) for number in (1, 2))
    await asyncio.sleep(0)
    gone.cancel()
    bench.gate.set()
    assert await stays == 20


def test_a_loop_that_is_closed_and_a_fork_leave_it_working() -> None:
    bench = Bench()

    async def leave() -> None:
        task = asyncio.create_task(bench.intake.take(1))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(leave())
    bench.gate.set()
    assert asyncio.run(bench.intake.take(2)) == 20
    child = os.fork()
    if not child:  # its own thread: the parent's is not there
        os._exit(asyncio.run(bench.intake.take(3)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 30


def test_the_thread_ends_when_nothing_comes_any_more() -> None:
    bench = Bench()
    bench.gate.set()
    assert asyncio.run(bench.intake.take(1)) == 10
    eventually(lambda: not bench.threads())
    assert asyncio.run(bench.intake.take(2)) == 20


async def test_a_storm_is_decided_in_few_transactions_and_one_thread() -> None:
    class Counting(MemoryStore):
        transactions = 0

        def run(self, work):  # type: ignore[no-untyped-def] # as the original
            self.transactions += 1
            return super().run(work)

    store = Counting()
    manager = AlertManager(channels=[MemoryChannel()], store=store)
    manager.hand_over = lambda: True  # a service delivers
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, threading.active_count())
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    before = threading.active_count()
    told = await asyncio.gather(*(manager.send_alert("custom", f"order {number}") for number in range(2000)))
    watching.cancel()
    assert all(told)
    assert most <= before + 1
    assert store.transactions < 200
    events = store.history.events(limit=1000)
    assert {event.severity for event in events} == {AlertSeverity.WARNING}
    assert len(events) == 1000
