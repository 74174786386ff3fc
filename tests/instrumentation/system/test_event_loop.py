"""The lag of a real event loop in a real thread, blocked for real; only the clock is turned by hand."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from otel_monitoring.instrumentation.system.event_loop import LoopMonitor
from otel_monitoring.testing import ManualClock

TIMEOUT = 30.0


class Loop:
    """An event loop in its own thread, which can be blocked and released."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run)
        self._released = threading.Event()
        self._blocked = threading.Event()
        self.thread.start()
        self.settle()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.close()

    def settle(self) -> None:
        """Return when everything scheduled before has run."""
        done: Future[None] = Future()
        self.loop.call_soon_threadsafe(done.set_result, None)
        done.result(TIMEOUT)

    def block(self, depth: int = 0) -> None:
        """Return when the loop is blocked in `block_here`."""
        self._released.clear()
        self._blocked.clear()
        self.loop.call_soon_threadsafe(self.block_here, depth, "hunter2Canary")
        assert self._blocked.wait(TIMEOUT)

    def block_here(self, depth: int, password: str) -> None:
        if depth:
            self.block_here(depth - 1, password)
            return
        self._blocked.set()
        assert self._released.wait(TIMEOUT)

    def release(self) -> None:
        self._released.set()
        self.settle()

    def close(self) -> None:
        self._released.set()
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(TIMEOUT)
        assert not self.thread.is_alive()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(100.0)


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def monitor(loop: Loop, clock: ManualClock) -> LoopMonitor:
    return LoopMonitor(loop.loop, stall_after=0.5, window=60.0, clock=clock)


def answered(monitor: LoopMonitor, loop: Loop, clock: ManualClock) -> None:
    monitor.probe(clock.now)
    loop.settle()


def test_before_the_first_probe_nothing_is_known(monitor: LoopMonitor, clock: ManualClock) -> None:
    assert monitor.lag(clock.now) is None
    assert monitor.max_lag(clock.now) is None
    assert monitor.stall(clock.now) is None


def test_a_free_loop_has_no_lag(monitor: LoopMonitor, loop: Loop, clock: ManualClock) -> None:
    answered(monitor, loop, clock)
    assert monitor.lag(clock.now) == 0.0
    assert monitor.stall(clock.now) is None


def test_a_blocked_loops_lag_grows_until_it_answers(monitor: LoopMonitor, loop: Loop, clock: ManualClock) -> None:
    loop.block()
    monitor.probe(100.0)
    assert monitor.lag(100.25) == 0.25
    monitor.probe(101.0)
    assert monitor.lag(103.0) == 3.0
    assert monitor.max_lag(103.0) == 3.0
    clock.now = 104.0
    loop.release()
    assert monitor.lag(105.0) == 4.0
    answered(monitor, loop, clock)
    assert monitor.lag(105.0) == 0.0
    assert monitor.max_lag(105.0) == 4.0


def test_the_window_forgets(monitor: LoopMonitor, loop: Loop, clock: ManualClock) -> None:
    loop.block()
    monitor.probe(100.0)
    clock.now = 102.0
    loop.release()
    answered(monitor, loop, clock)
    assert monitor.max_lag(162.0) == 2.0
    assert monitor.max_lag(162.1) is None


def test_a_stall_shows_the_stack_that_blocks(monitor: LoopMonitor, loop: Loop, clock: ManualClock) -> None:
    answered(monitor, loop, clock)
    loop.block()
    monitor.probe(100.0)
    monitor.probe(100.4)
    assert monitor.stall(100.4) is None
    monitor.probe(101.0)
    stall = monitor.stall(102.0)
    assert stall is not None
    assert (stall.since, stall.seconds, stall.over) == (100.0, 2.0, False)
    assert any(__file__ in position and "block_here" in position for position in stall.stack)
    assert "wait" in stall.stack[-1]
    assert "hunter2Canary" not in str(stall)


def test_a_stall_ends_and_stays_readable(monitor: LoopMonitor, loop: Loop, clock: ManualClock) -> None:
    answered(monitor, loop, clock)
    loop.block()
    monitor.probe(100.0)
    monitor.probe(101.0)
    clock.now = 103.5
    loop.release()
    assert monitor.stall(104.0) is None
    last = monitor.last_stall
    assert last is not None
    assert (last.seconds, last.over) == (3.5, True)
    answer = monitor.as_json(104.0)
    assert (answer["stalled"], answer["max_lag_seconds"]) == (False, 3.5)
    assert (answer["last_stall"]["seconds"], answer["last_stall"]["seconds_ago"]) == (3.5, 4.0)


def test_each_stall_has_its_own_stack_taken_once(
    monitor: LoopMonitor, loop: Loop, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    answered(monitor, loop, clock)
    with caplog.at_level(logging.WARNING, logger="otel_monitoring"):
        loop.block()
        for now in (100.0, 101.0, 102.0):
            monitor.probe(now)
        first = monitor.last_stall
        clock.now = 103.0
        loop.release()
        loop.block()
        for now in (103.0, 104.0):
            monitor.probe(now)
        second = monitor.last_stall
        loop.release()
    assert first is not None
    assert first.seconds == 1.0
    assert second is not None
    assert second.since == 103.0
    assert len([r for r in caplog.records if "event loop has been blocked" in r.getMessage()]) == 1


def test_stacks_are_bounded_and_keep_the_innermost_frames(monitor: LoopMonitor, loop: Loop, clock: ManualClock) -> None:
    answered(monitor, loop, clock)
    loop.block(depth=200)
    monitor.probe(100.0)
    monitor.probe(101.0)
    stall = monitor.stall(101.0)
    assert stall is not None
    assert len(stall.stack) == 40
    assert "wait" in stall.stack[-1]


def test_made_in_the_loops_thread_it_knows_the_first_stall(loop: Loop, clock: ManualClock) -> None:
    made: Future[LoopMonitor] = Future()
    loop.loop.call_soon_threadsafe(lambda: made.set_result(LoopMonitor(loop.loop, clock=clock)))
    monitor = made.result(TIMEOUT)
    loop.block()
    monitor.probe(100.0)
    monitor.probe(101.0)
    stall = monitor.stall(101.0)
    assert stall is not None
    assert any("block_here" in position for position in stall.stack)


def test_a_closed_loop_is_unknown(monitor: LoopMonitor, loop: Loop, clock: ManualClock) -> None:
    loop.block()
    monitor.probe(100.0)
    loop.loop.call_soon_threadsafe(loop.loop.stop)
    loop.close()
    for now in (101.0, 102.0):
        monitor.probe(now)
        assert monitor.lag(now) is None
        assert monitor.stall(now) is None
    assert monitor.as_json(102.0)["lag_seconds"] is None


def test_an_answer_from_before_a_pause_is_no_lag(clock: ManualClock) -> None:
    loop = asyncio.new_event_loop()
    monitor = LoopMonitor(loop, clock=clock)

    def probe_and_pause() -> None:
        loop.stop()
        monitor.probe(clock.now)

    loop.call_soon(probe_and_pause)
    loop.run_forever()
    monitor.probe(500.0)  # sees that the loop does not run
    clock.now = 1000.0
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert monitor.max_lag(1000.0) is None
