"""Blocks that are left in another context than they were entered in: generators, dependencies, streaming bodies."""

import asyncio
import contextlib
import contextvars
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from opentelemetry import baggage
from opentelemetry import context as contexts
from opentelemetry.trace import StatusCode, get_current_span

from otel_monitoring.alerts import AlertManager, set_alert_manager
from otel_monitoring.guard import fail_open
from otel_monitoring.tracing import continued, tagged, traced
from otel_monitoring.tracing.scope import ContextScope
from tests.recorded_spans import Recorded, recording
from tests.threaded_server import ThreadedServer

WAIT = 30.0


@contextmanager
def _nested() -> Iterator[None]:
    with traced("work", alert="custom"), tagged({"order.id": "o-1"}), traced("inner"), continued({}, "innermost"):
        yield


BLOCKS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "traced": lambda: traced("work", alert="custom"),
    "nested": _nested,
    "continued": lambda: continued({}, "work", alert="custom"),
    "tagged": lambda: tagged({"order.id": "o-1"}),
}
SPANS = {"traced": 1, "nested": 3, "continued": 1, "tagged": 0}


@pytest.fixture
def recorded(caplog: pytest.LogCaptureFixture) -> Iterator[Recorded]:
    before = contexts.get_current()
    with recording("order.id") as kept:
        yield kept
    gc.collect()
    assert [record.getMessage() for record in (*caplog.get_records("call"), *caplog.records)] == []
    assert not fail_open.failures
    assert contexts.get_current() is before


@pytest.fixture(params=BLOCKS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def block(kind: str) -> AbstractContextManager[Any]:
    return BLOCKS[kind]()


def elsewhere(function: Callable[..., Any], *args: Any) -> Any:
    """Call `function` in a thread with a copy of the context, as `run_in_threadpool` does."""
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(context.run, function, *args).result(WAIT)


def numbers(block: AbstractContextManager[Any]) -> Iterator[int]:
    with block:
        yield 1
        yield 2


async def numbers_soon(block: AbstractContextManager[Any]) -> AsyncIterator[int]:
    with block:
        yield 1
        await asyncio.sleep(0)
        yield 2


def ended(recorded: Recorded, kind: str, *, error: str | None = None) -> None:
    """The spans of the block ended, each with a measurement, and with `error` or without."""
    spans = recorded.spans
    assert len(spans) == SPANS[kind]
    measured = recorded.durations()
    assert {str(attributes["otel_monitoring.operation.name"]) for attributes, _ in measured} == {s.name for s in spans}
    assert sum(count for _, count in measured) == len(spans)
    assert {attributes.get("error.type") for attributes, _ in measured} <= {error}
    assert {span.status.status_code for span in spans} <= {StatusCode.ERROR if error else StatusCode.UNSET}
    assert len(recorded.submitted) == 0


def test_a_generator_resumed_in_other_threads(
    recorded: Recorded, kind: str, block: AbstractContextManager[Any]
) -> None:
    body = numbers(block)
    assert [elsewhere(next, body, None) for _ in range(3)] == [1, 2, None]
    ended(recorded, kind)


@pytest.mark.parametrize("there", [False, True])
def test_a_generator_that_is_abandoned(
    recorded: Recorded, kind: str, block: AbstractContextManager[Any], there: bool
) -> None:
    body = numbers(block)
    assert elsewhere(next, body) == 1
    if there:
        elsewhere(body.close)  # type: ignore[attr-defined]
    del body
    ended(recorded, kind)


def test_a_generator_that_the_garbage_collector_finds(
    recorded: Recorded, kind: str, block: AbstractContextManager[Any]
) -> None:
    held: dict[str, Any] = {"body": numbers(block)}
    held["itself"] = held
    assert next(held["body"]) == 1
    del held, block
    gc.collect()
    ended(recorded, kind)


def test_what_is_thrown_into_a_generator_from_another_thread_is_a_failure(
    recorded: Recorded, kind: str, block: AbstractContextManager[Any]
) -> None:
    body: Any = numbers(block)
    elsewhere(next, body)
    with pytest.raises(LookupError, match="gone"):
        elsewhere(body.throw, LookupError("gone"))
    ended(recorded, kind, error="LookupError")


def test_a_failure_elsewhere_raises_its_alert_and_being_closed_raises_none(
    recorded: Recorded, kind: str, block: AbstractContextManager[Any]
) -> None:
    set_alert_manager(AlertManager())
    failing, closed, ignored = (numbers(BLOCKS[kind]()) for _ in range(3))
    for body in (failing, closed, ignored):
        elsewhere(next, body)
    elsewhere(closed.close)  # type: ignore[attr-defined]
    del body, ignored
    with pytest.raises(LookupError):
        elsewhere(failing.throw, LookupError("gone"))  # type: ignore[attr-defined]
    assert len(recorded.submitted) == (kind != "tagged")


@pytest.mark.parametrize("ending", ["exhausted", "aclose", "another task", "abandoned", "cancelled"])
def test_an_asynchronous_generator(
    recorded: Recorded, kind: str, block: AbstractContextManager[Any], ending: str
) -> None:
    async def use() -> None:
        body: Any = numbers_soon(block)
        if ending == "exhausted":
            assert [number async for number in body] == [1, 2]
        elif ending == "cancelled":
            reached, never = asyncio.Event(), asyncio.Event()

            async def consume(source: AsyncIterator[int]) -> None:
                async for _ in source:
                    reached.set()
                    await never.wait()

            task = asyncio.create_task(consume(body))
            await reached.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await body.aclose()
        else:
            await asyncio.create_task(anext(body))
        if ending == "aclose":
            await body.aclose()
        elif ending == "another task":
            await asyncio.create_task(body.aclose())
        del body
        gc.collect()
        for _ in range(20):  # the loop closes it in a task of its own
            await asyncio.sleep(0)

    asyncio.run(use())
    ended(recorded, kind)


def test_entered_in_one_thread_and_left_in_another(
    recorded: Recorded, kind: str, block: AbstractContextManager[Any]
) -> None:
    elsewhere(block.__enter__)
    elsewhere(block.__exit__, None, None, None)
    ended(recorded, kind)


def test_a_stack_of_blocks_left_in_another_task(
    recorded: Recorded, kind: str, block: AbstractContextManager[Any]
) -> None:
    async def use() -> None:
        stack = contextlib.AsyncExitStack()
        await asyncio.create_task(_entered(stack, block))
        await asyncio.create_task(stack.aclose())

    asyncio.run(use())
    ended(recorded, kind)


async def _entered(stack: contextlib.AsyncExitStack, block: AbstractContextManager[Any]) -> None:
    stack.enter_context(block)


def test_one_object_in_many_generators_at_once_ends_each_with_its_own(recorded: Recorded) -> None:
    shared = traced("import", alert="custom")

    def work(number: int) -> Iterator[int]:
        with shared as span:
            span.set_attribute("number", number)
            yield number
            if number % 2:
                raise LookupError(str(number))

    bodies = [work(number) for number in range(8)]
    for body in bodies:
        elsewhere(next, body)
    for body in (*bodies[4:], *bodies[:4]):
        with contextlib.suppress(LookupError):
            elsewhere(next, body, None)
    assert [(span.attributes or {})["number"] for span in recorded.spans] == [4, 5, 6, 7, 0, 1, 2, 3]
    for span in recorded.spans:
        number = int((span.attributes or {})["number"])  # type: ignore[arg-type]
        assert span.status.is_ok is (number % 2 == 0), number
        assert span.status.description == (str(number) if number % 2 else None)
    assert sorted(count for _, count in recorded.durations()) == [4, 4]
    assert shared._begun == {}


def test_generators_that_take_turns_leave_what_was_current_before(recorded: Recorded) -> None:
    with traced("outer") as outer, tagged({"order.id": "outer"}):
        bodies = [numbers(BLOCKS["nested"]()) for _ in range(3)]
        for body in bodies:
            next(body)
        for body in bodies:  # first in, first out
            assert list(body) == [2]
        assert get_current_span() is outer
        assert baggage.get_all() == {"order.id": "outer"}
    assert len(recorded.spans) == 1 + 3 * SPANS["nested"]


def test_a_block_ends_in_a_task_that_outlives_it_and_keeps_its_parent(recorded: Recorded) -> None:
    async def later(go: asyncio.Event) -> None:
        parent = get_current_span()
        await go.wait()
        with traced("later"):
            pass
        assert get_current_span() is parent

    async def use() -> None:
        go = asyncio.Event()
        with traced("request"):
            task = asyncio.create_task(later(go))
            await asyncio.sleep(0)
        go.set()
        await task

    asyncio.run(use())
    request, work = recorded.spans
    assert work.parent is not None
    assert work.parent.span_id == request.context.span_id


def test_a_job_that_plans_the_next_one_keeps_none_of_those_before(recorded: Recorded) -> None:
    async def use() -> None:
        done, tasks = asyncio.Event(), set()

        async def job(left: int) -> None:
            with traced("job"):
                if left:
                    task = asyncio.create_task(job(left - 1))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
            if not left:
                done.set()

        await job(100)
        await done.wait()
        gc.collect()
        assert sum(type(one) is ContextScope for one in gc.get_objects()) < 10  # no isinstance: dead proxies

    asyncio.run(use())
    assert len(recorded.spans) == 101


# The real thing: a server, its thread pool, and clients that leave


@asynccontextmanager
async def _resource() -> AsyncIterator[int]:
    with traced("resource"):
        yield 1


def dependency(fail: bool = False) -> Iterator[int]:
    with traced("dependency"), tagged({"order.id": "o-1"}):
        yield 1


async def dependency_soon() -> AsyncIterator[int]:
    with traced("dependency.async"):
        yield 1


def application(left: threading.Event) -> FastAPI:
    app = FastAPI()
    dependent = Annotated[int, Depends(dependency)], Annotated[int, Depends(dependency_soon)]

    @app.get("/plain")
    def plain(one: dependent[0], two: dependent[1]) -> int:  # type: ignore[valid-type]
        return 1

    @app.get("/failing")
    async def failing(one: dependent[0], two: dependent[1]) -> int:  # type: ignore[valid-type]
        raise HTTPException(404)

    def chunks(endless: bool) -> Iterator[bytes]:
        try:
            with traced("body"), continued({}, "document"):
                yield b"a" * 1000
                while endless:
                    yield b"a" * 65536
        finally:
            left.set()

    async def chunks_soon(endless: bool) -> AsyncIterator[bytes]:
        async with _resource():
            for chunk in chunks(endless):
                yield chunk
                await asyncio.sleep(0)

    @app.get("/stream")
    def stream(endless: bool = False) -> StreamingResponse:
        return StreamingResponse(chunks(endless))

    @app.get("/stream/async")
    async def stream_soon(endless: bool = False) -> StreamingResponse:
        return StreamingResponse(chunks_soon(endless))

    return app


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    server = ThreadedServer(app, lifespan="off")
    yield server.url
    server.stop()


def test_dependencies_and_streaming_bodies_of_a_server(recorded: Recorded) -> None:
    left = threading.Event()
    with served(application(left)) as url, httpx.Client(base_url=url, timeout=WAIT, trust_env=False) as client:
        assert client.get("/plain").status_code == 200
        assert client.get("/failing").status_code == 404
        assert len(client.get("/stream").content) == len(client.get("/stream/async").content) == 1000
        for path in ("/stream", "/stream/async"):
            left.clear()
            with client.stream("GET", path, params={"endless": True}) as response:
                next(response.iter_bytes())
            for _ in range(int(WAIT / 0.1)):
                gc.collect()  # nobody closes the body of a client that left
                if left.wait(0.1):
                    break
            assert left.is_set(), path
    measured: dict[str, int] = {}
    for attributes, count in recorded.durations():
        name = str(attributes["otel_monitoring.operation.name"])
        measured[name] = measured.get(name, 0) + count
    assert measured == {"dependency": 2, "dependency.async": 2, "body": 4, "document": 4, "resource": 2}
    assert len(recorded.spans) == sum(measured.values())
