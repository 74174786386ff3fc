"""What counts as repeated, how long the database is waited for, and which line is named."""

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from otel_monitoring.instrumentation.database_work.work import Kind, Use, Work, current_work
from otel_monitoring.metrics.database_work import Source

FIND: Kind = "find", "shop", "orders", ("127.0.0.1", 27017)


class Received:
    """Keeps what it is given."""

    slow_micros = 1000
    explain = False

    def __init__(self) -> None:
        self.added: list[tuple[Source, dict[Kind, Use]]] = []

    def wants(self, kind: Kind, source: Mapping[str, Any]) -> bool:
        return False

    def add(self, source: Source, uses: Mapping[Kind, Use]) -> None:
        self.added.append((source, dict(uses)))


def send(work: Work, query: dict[str, Any], micros: int = 10, kind: Kind = FIND) -> None:
    source = {"filter": query}
    use = work.begin(kind, source)
    if use is not None:
        use.ended(micros, source)


def test_nine_are_not_repeated_and_ten_are() -> None:
    work = Work(Received())
    for number in range(9):
        send(work, {"_id": number})
        send(work, {"name": f"{number}"})
    assert work.repeated() == []
    send(work, {"_id": 9})
    ((kind, shape, count, line),) = work.repeated()
    assert (kind, shape, count) == (FIND, "{_id: ?}", 10)
    assert line.startswith("tests/instrumentation/database_work/test_work.py:")
    for number in range(5):
        send(work, {"_id": number})
    assert work.repeated()[0][2] == 15


def test_a_loop_whose_commands_go_to_several_servers_is_one() -> None:
    """As with reads from secondaries, or several routers of a sharded cluster."""
    received = Received()
    work = Work(received)
    kinds: list[Kind] = [("find", "shop", "orders", (f"db{number}", 27017)) for number in range(3)]
    for number in range(12):
        send(work, {"_id": number}, kind=kinds[number % 3])
        send(work, {"_id": number}, kind=("find", "shop", f"of {number % 3}", None))
    ((kind, shape, count, _),) = work.repeated()
    assert (kind[:3], shape, count) == (FIND[:3], "{_id: ?}", 12)
    work.answered("request", "GET /orders")
    ((_, uses),) = received.added
    assert [uses[kind].commands for kind in kinds] == [4, 4, 4]
    ((repeated, _),) = [use.repeated["{_id: ?}"] for use in uses.values() if use.repeated is not None]
    assert repeated == 12


def test_what_follows_the_answer_is_background_work_until_the_end() -> None:
    received = Received()
    work = Work(received)
    send(work, {})
    work.answered("request", "GET /orders")
    send(work, {})
    send(work, {})
    work.close()
    send(work, {})
    assert work.begin(FIND, None) is None
    assert [(source, uses[FIND].commands) for source, uses in received.added] == [
        (("request", "GET /orders"), 1),
        (("background", "GET /orders"), 2),
    ]


def test_commands_at_once_are_waited_for_once() -> None:
    work = Work(Received())
    first, second = work.begin(FIND, None), work.begin(FIND, None)
    assert first is not None
    assert first is second
    first.ended(10_000_000, None)
    assert work.busy == 0.0 < work.seconds
    first.ended(10_000_000, None)
    assert 0.0 < work.busy < 10.0
    assert work.commands == 2
    assert first.micros == 20_000_000


def test_a_command_that_two_listeners_hear_counts_once() -> None:
    work = Work(Received())
    assert work.begin(FIND, None, 7) is not None
    assert work.begin(FIND, None, 7) is None
    assert work.begin(FIND, None, 8) is not None
    assert work.commands == 2


def test_slow_commands_are_noted_within_bounds() -> None:
    received = Received()
    work = Work(received)
    for number in range(100):
        send(work, {"a": number}, micros=1000 if number else 999)
    work.answered("request", "GET /orders")
    noted = received.added[0][1][FIND].noted
    assert noted is not None
    assert len(noted) == 20


def test_many_kinds_are_bounded() -> None:
    received = Received()
    work = Work(received)
    for number in range(1000):
        use = work.begin(("find", "shop", f"c{number}", None), None)
        assert use is not None
        use.ended(1, None)
    assert work.commands == 1000
    work.answered("request", "GET /orders")
    assert len(received.added[0][1]) <= 101


def test_commands_in_tasks_have_the_line_that_waits_for_them() -> None:
    async def command(work: Work, number: int) -> None:
        await asyncio.sleep(0)
        send(work, {"_id": number})

    async def request() -> Work:
        work = Work(Received())
        token = current_work.set(work)
        await asyncio.gather(*(command(work, number) for number in range(10)))
        current_work.reset(token)
        return work

    ((_, _, count, line),) = asyncio.run(request()).repeated()
    assert count == 10
    assert line.startswith("tests/instrumentation/database_work/test_work.py:")


def test_a_thread_without_the_application_names_nothing_outside_of_it() -> None:
    work = Work(Received())
    for number in range(9):
        send(work, {"_id": number})
    use = work.begin(FIND, None)
    assert use is not None
    thread = threading.Thread(target=use.repeats, args=("find", {"filter": {"_id": 9}}))
    thread.start()
    thread.join()
    ((_, _, _, line),) = work.repeated()
    assert line == ""


@pytest.mark.parametrize("closed", [False, True])
def test_a_work_that_is_closed_keeps_no_task(closed: bool) -> None:
    async def request() -> Work:
        work = Work(Received())
        if closed:
            work.close()
        return work

    assert (asyncio.run(request())._task is None) is closed


def test_batches_of_one_call_count_once_and_those_of_several_calls_each() -> None:
    work = Work(Received())
    for _ in range(30):
        work.begin(FIND, {"filter": {}}, batch=1)
    assert work.repeated() == []
    for operation in range(2, 11):
        work.begin(FIND, {"filter": {}}, batch=operation)
    assert [count for _, _, count, _ in work.repeated()] == [10]
