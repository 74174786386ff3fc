"""A thread that computes leaves the interpreter to others, and pauses no thread that did not ask for it."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from itertools import repeat

import pytest

from otel_monitoring.runtime.give_way import compute_in_turns, give_way, giving_way
from otel_monitoring.runtime.threads import in_thread, wait_for
from tests.clocks import set_time

pytestmark = pytest.mark.anyio


@pytest.fixture
def greedy() -> Iterator[None]:
    """Whoever has the interpreter keeps it until it gives way."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000.0)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@pytest.mark.usefixtures("greedy")
async def test_the_loop_runs_while_a_thread_computes() -> None:
    seen = threading.Event()

    def compute() -> bool:
        return any(seen.is_set() for _ in giving_way(repeat(None, 10_000_000)))

    async def meanwhile() -> None:
        seen.set()

    found, _ = await asyncio.gather(in_thread(compute, name="computing"), meanwhile())
    assert found


def test_a_thread_that_did_not_ask_is_not_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    set_time(monkeypatch, "otel_monitoring.runtime.give_way", sleep=pauses.append)
    give_way()
    assert list(giving_way(range(100))) == list(range(100))
    assert pauses == []

    def asked() -> None:
        compute_in_turns()
        give_way()

    assert wait_for(asked, 60.0, name="asked")
    assert len(pauses) == 1
