"""A job that may block, in a thread of its own."""

import ctypes
import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from otel_monitoring.runtime.blocking_thread import BlockingJob, BlockingThread
from tests.waiting import PATIENCE, eventually


class Counted:
    """Counts its runs; the first ones may raise."""

    def __init__(self, *failures: BaseException) -> None:
        self.failures = list(failures)
        self.runs = 0
        self.thread: int | None = None

    def __call__(self) -> None:
        self.runs += 1
        self.thread = threading.get_ident()
        if self.failures:
            raise self.failures.pop(0)

    def ran_more_than(self, times: int) -> bool:
        return self.runs > times


def test_it_runs_at_the_start_at_its_interval_and_when_it_is_asked_for() -> None:
    often, seldom = Counted(), Counted()
    threads = [BlockingThread(BlockingJob("often", 0.001, often)), BlockingThread(BlockingJob("seldom", 3600, seldom))]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: often.runs > 20 and seldom.runs == 1)
        assert threads[1].wake()
        eventually(lambda: seldom.runs == 2)
        assert seldom.thread != threading.get_ident()
    finally:
        assert {thread.stop(PATIENCE) for thread in threads} == {True}
    assert seldom.runs == 2
    assert not threads[1].wake()
    assert threads[1].troubles(time.monotonic()) == ["seldom: the thread has ended"]


class StoppedJustBefore(threading.Event):
    """The event of a thread that is told to stop just before it goes on."""

    stop: Callable[[], object] = bool

    def clear(self) -> None:
        self.stop()
        super().clear()


def test_a_stop_that_comes_just_before_a_run_is_not_overlooked(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Counted()
    monkeypatch.setattr(threading, "Event", StoppedJustBefore)
    thread = BlockingThread(BlockingJob("stopped", 3600, work))
    monkeypatch.setattr(StoppedJustBefore, "stop", lambda _: thread.tell_to_stop())
    thread.start()
    eventually(lambda: thread.troubles(time.monotonic()) == ["stopped: the thread has ended"])
    assert work.runs == 0


@pytest.mark.parametrize("failure", [ValueError("broken"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_it_raises_it_runs_again(failure: BaseException) -> None:
    work = Counted(failure)
    thread = BlockingThread(BlockingJob("fails", 0.001, work))
    thread.start()
    try:
        eventually(lambda: work.runs > 5)
    finally:
        assert thread.stop(PATIENCE)


def test_what_is_raised_into_the_thread_from_outside_does_not_end_it() -> None:
    work = Counted()
    thread = BlockingThread(BlockingJob("goes on", 0.001, work))
    thread.start()
    try:
        ident = eventually(lambda: work.thread)
        for _ in range(3):
            assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(SystemExit))
            before = work.runs
            eventually(partial(work.ran_more_than, before + 3))
        assert thread.troubles(time.monotonic()) == []
    finally:
        assert thread.stop(PATIENCE)


def test_a_run_without_end_is_a_trouble_and_holds_up_nobody_who_stops_it() -> None:
    going_on, begun = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        assert going_on.wait(PATIENCE)

    thread = BlockingThread(BlockingJob("hangs", 1, hang))
    thread.start()
    assert begun.wait(PATIENCE)
    assert thread.troubles(time.monotonic() + 100)[0].startswith("hangs: no run has ended for ")
    assert not thread.stop(0)
    going_on.set()
    assert thread.stop(PATIENCE)
