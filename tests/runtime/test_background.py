"""The background thread repeats its jobs whatever one of them does, and ends when told."""

import asyncio
import ctypes
import threading
import time

import pytest

from otel_monitoring.guard import Escaped, fail_open
from otel_monitoring.runtime.background import BackgroundThread, Job, next_start
from tests.waiting import eventually

PATIENCE = 30.0


class Counted:
    """A job that says how often it ran and can wait for a number of runs."""

    def __init__(self) -> None:
        self.calls = 0
        self._changed = threading.Condition()

    async def __call__(self) -> None:
        with self._changed:
            self.calls += 1
            self._changed.notify_all()

    def wait(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.calls >= count, PATIENCE)


def test_a_job_that_fails_or_hangs_delays_no_other() -> None:
    good, hanging = Counted(), Counted()

    async def failing() -> None:
        raise ValueError("broken")

    async def hang() -> None:
        await hanging()
        await asyncio.Event().wait()

    background = BackgroundThread(
        (Job("good", 0.001, good), Job("failing", 0.001, failing), Job("hanging", 0.001, hang))
    )
    background.start()
    try:
        good.wait(20)
        hanging.wait(1)
    finally:
        assert background.stop(PATIENCE)
    assert hanging.calls == 1


def test_a_job_runs_only_where_it_is_due_and_its_question_may_fail() -> None:
    idle, busy = Counted(), Counted()
    answers = iter([False, True, False])

    def due() -> bool:
        return next(answers)  # raises at the end: the job is asked again all the same

    background = BackgroundThread((Job("idle", 0.001, idle, lambda: False), Job("asked", 0.001, busy, due)))
    background.start()
    try:
        busy.wait(1)
        eventually(lambda: fail_open.failures["asked"] >= 2)
        assert background.troubles(time.monotonic()) == []
    finally:
        assert background.stop(PATIENCE)
    assert (idle.calls, busy.calls) == (0, 1)


def test_work_can_be_submitted_until_it_stops() -> None:
    background = BackgroundThread(())
    background.start()

    async def thread_name() -> str:
        return threading.current_thread().name

    assert background.submit(thread_name()).result(PATIENCE) == "otel-monitoring-background"
    assert background.stop(PATIENCE)
    assert background.stop(PATIENCE), "stopping twice is harmless"
    with pytest.raises(RuntimeError, match="not running"):
        background.submit(thread_name())


@pytest.mark.parametrize(
    ("now", "start"), [(100.0, 110.0), (109.0, 110.0), (110.0, 120.0), (134.0, 140.0), (200.0, 210.0)]
)
def test_a_job_keeps_its_rhythm_and_skips_what_it_missed(now: float, start: float) -> None:
    assert next_start(100.0, now, 10.0) == start


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()])
@pytest.mark.parametrize("nested", [False, True])
def test_whatever_a_job_raises_it_runs_again_and_so_do_the_others(error: BaseException, nested: bool) -> None:
    other, seen = Counted(), Counted()

    async def fail() -> None:
        raise error

    async def job() -> None:
        await seen()
        await (asyncio.gather(fail(), asyncio.sleep(0)) if nested else fail())

    background = BackgroundThread((Job("failing", 0.001, job), Job("other", 0.001, other)))
    background.start()
    try:
        seen.wait(3)
        other.wait(other.calls + 3)
        assert background.troubles(time.monotonic()) == []
    finally:
        assert background.stop(PATIENCE)
    assert fail_open.failures["failing"] >= 2


def test_submitted_work_that_exits_ends_neither_thread_nor_jobs() -> None:
    job = Counted()
    background = BackgroundThread((Job("job", 0.001, job),))
    background.start()

    async def leave() -> None:
        raise SystemExit(1)

    try:
        with pytest.raises(Escaped, match="SystemExit"):
            background.submit(leave()).result(PATIENCE)
        job.wait(job.calls + 3)
    finally:
        assert background.stop(PATIENCE)


def test_a_job_that_somebody_cancels_is_started_again() -> None:
    job = Counted()
    background = BackgroundThread((Job("job", 0.001, job),))
    background.start()

    async def cancel_all() -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    try:
        job.wait(1)
        background.submit(cancel_all()).result(PATIENCE)
        job.wait(job.calls + 3)
    finally:
        assert background.stop(PATIENCE)


def test_a_dead_thread_and_a_job_without_end_are_troubles() -> None:
    started = Counted()

    async def hang() -> None:
        await started()
        await asyncio.Event().wait()

    background = BackgroundThread((Job("measuring", 10.0, hang),))
    background.start()
    started.wait(1)
    now = background._ran["measuring"]
    assert background.troubles(now + 50) == []
    assert background.troubles(now + 100) == ["measuring: no run has ended for 100 s"]
    assert background.stop(PATIENCE)
    assert background.troubles(now) == ["the background thread has ended: nothing is measured or checked any more"]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, MemoryError])
def test_what_is_raised_into_the_thread_from_outside_does_not_end_it(error: type[BaseException]) -> None:
    job = Counted()
    background = BackgroundThread((Job("job", 0.001, job),))
    background.start()
    thread = background._thread
    try:
        for _ in range(3):
            assert ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident or 0), ctypes.py_object(error)
            )
            job.wait(job.calls + 3)
        assert background.troubles(time.monotonic()) == []
    finally:
        assert background.stop(PATIENCE)
