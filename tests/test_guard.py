"""Our failures stop at the guard; what is not ours passes."""

import asyncio
import gc
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from otel_monitoring.errors import StoreError
from otel_monitoring.guard import Escaped, fail_open, isolated, original


def test_failures_stay_inside_are_counted_and_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    guard = fail_open("a tick")
    for _ in range(5):
        with guard:
            raise ValueError("broken")
    assert fail_open.failures == {"a tick": 5}
    assert [r.getMessage() for r in caplog.records] == ["a tick failed: ValueError"]
    with fail_open("another"):
        raise KeyError("x")
    assert len(caplog.records) == 2
    assert all(r.levelno == logging.WARNING for r in caplog.records)


def test_the_log_tells_the_traceback_and_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    class Unprintable(Exception):  # noqa: N818 - it is about its text
        def __str__(self) -> str:
            raise SystemExit

    secret = "hunter" + "2"

    def connect() -> None:
        refused = ConnectionError(f"mongodb://app:{secret}@db\nWARNING forged line")
        raise ValueError(f"password={secret}\nERROR forged line") from refused

    for work in (connect, lambda: Unprintable().__str__()):
        with fail_open(f"a tick of {work.__name__}", theirs=True):
            work()
    with fail_open("an unprintable one"):
        raise Unprintable from KeyError(f"token={secret}")
    assert secret not in caplog.text
    assert not [line for line in caplog.text.splitlines() if line.startswith(("WARNING forged", "ERROR forged"))]
    assert "\nValueError: password=[REDACTED] ERROR forged line\n" in caplog.text
    assert "\nConnectionError: mongodb://[REDACTED]@db WARNING forged line\n" in caplog.text
    assert "in connect\n" in caplog.text
    assert "Unprintable: unprintable Unprintable\n" in caplog.text


def test_an_error_of_the_package_says_itself_what_is_wrong(caplog: pytest.LogCaptureFixture) -> None:
    with fail_open("an exchange"):
        raise StoreError("MongoDB: mongodb://root:hunter2@db is away\nfor now")
    (record,) = caplog.records
    assert record.getMessage().startswith("an exchange failed: MongoDB: ")
    assert "hunter2" not in record.getMessage()
    assert "\n" not in record.getMessage()
    assert record.exc_info is None


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
def test_cancellation_and_exit_pass_through(error: type[BaseException]) -> None:
    with pytest.raises(error), fail_open("a tick"):
        raise error
    assert not fail_open.failures


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, StopIteration, ValueError])
def test_around_the_applications_code_everything_is_its_failure(error: type[BaseException]) -> None:
    with fail_open("a callback", theirs=True):
        raise error
    assert fail_open.failures == {"a callback": 1}


@pytest.mark.parametrize("name", ["otel_monitoring", "otel_monitoring.alerts"])
@pytest.mark.parametrize("error", [RuntimeError, SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_a_log_filter_or_handler_that_raises_lets_nothing_out(error: type[BaseException], name: str) -> None:
    class BrokenFilter(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise error

    class BrokenHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise error

    own, broken_filter, broken_handler = logging.getLogger(name), BrokenFilter(), BrokenHandler()
    try:
        own.addFilter(broken_filter)
        own.warning("something")
        own.removeFilter(broken_filter)
        own.addHandler(broken_handler)
        own.warning("something")
        with fail_open("a tick"):
            raise ValueError("broken")
    finally:
        own.removeFilter(broken_filter)
        own.removeHandler(broken_handler)
    assert fail_open.failures == {"a tick": 1}


def test_a_record_factory_that_raises_lets_nothing_out() -> None:
    def refuse(*_: object, **__: object) -> logging.LogRecord:
        raise SystemExit

    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(refuse)
    try:
        with fail_open("a tick"):
            raise ValueError("broken")
    finally:
        logging.setLogRecordFactory(before)
    assert fail_open.failures == {"a tick": 1}


@pytest.mark.anyio
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()])
async def test_work_apart_fails_with_what_no_loop_survives(error: BaseException) -> None:
    async def work() -> None:
        raise error

    with pytest.raises(Escaped) as raised:
        await isolated(work)
    assert type(original(raised.value)) is type(error)


async def _leave() -> None:
    raise SystemExit(3)


async def _waits() -> None:
    await asyncio.wait_for(_leave(), 30)  # until Python 3.11 in a task of its own


async def _gathers() -> None:
    await asyncio.gather(asyncio.sleep(0), _leave())


async def _begins_a_task_late() -> None:
    await asyncio.sleep(0)
    await asyncio.create_task(_waits(), name="grandchild")


@pytest.mark.anyio
@pytest.mark.parametrize("work", [_waits, _gathers, _begins_a_task_late])
async def test_no_task_that_work_apart_begins_ends_the_loop(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with pytest.raises((Escaped, SystemExit)) as raised:
        await isolated(work)
    assert isinstance(original(raised.value), SystemExit)


@pytest.mark.anyio
async def test_only_tasks_that_work_apart_begins_are_sheltered() -> None:
    loop = asyncio.get_running_loop()
    made: list[object] = []

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> "asyncio.Task[Any]":
        made.append(coro.__name__)
        return asyncio.Task(coro, loop=loop, **options)

    async def work() -> str | None:
        await asyncio.sleep(0)
        task = asyncio.current_task()
        named = asyncio.create_task(_named(), name="child")
        assert task is not named
        return await named

    async def _named() -> str | None:
        task = asyncio.current_task()
        return task.get_name() if task is not None else None

    loop.set_task_factory(factory)
    try:
        running = asyncio.ensure_future(isolated(work))
        while not running.done():
            await asyncio.sleep(0)
            assert loop.get_task_factory() is factory, "nobody else sees ours"
        assert await running == "child"
    finally:
        loop.set_task_factory(None)
    assert len(made) == 3, "the application's factory makes the tasks of the work too"


@pytest.mark.anyio
async def test_work_apart_that_cancels_itself_fails_and_its_caller_goes_on() -> None:
    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    with pytest.raises(Escaped, match="CancelledError"):
        await isolated(work)


@pytest.mark.anyio
async def test_a_cancellation_of_the_caller_reaches_work_apart_and_leaves_as_one() -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    caller = asyncio.ensure_future(isolated(work))
    await begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await asyncio.wait_for(cancelled.wait(), 30)


@pytest.mark.anyio
async def test_a_task_that_is_cancelled_before_it_begins_leaves_no_coroutine_that_nobody_awaited(
    recwarn: pytest.WarningsRecorder,
) -> None:
    async def never() -> None:
        raise AssertionError("it begins")

    async def work() -> tuple[str, bool]:
        task = asyncio.create_task(never())
        shown = repr(task)
        task.cancel()
        await asyncio.wait({task})
        return shown, task.cancelled()

    shown, cancelled = await isolated(work)
    gc.collect()
    assert cancelled
    assert "never() running at" in shown, "a task is shown as it is without us"
    assert [str(warning.message) for warning in recwarn] == []


def test_what_a_try_has_caught_is_counted_as_well() -> None:
    guard = fail_open("an event")
    guard.caught(ValueError("x"))
    assert fail_open.failures == {"an event": 1}
