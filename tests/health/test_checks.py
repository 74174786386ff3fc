"""Custom checks: pass, fail, raise, hang; each with a timeout, one run at a time, results kept."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import cast

import httpx
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Gauge, InMemoryMetricReader

from otel_monitoring import semconv as c
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.health import checks as module
from otel_monitoring.health.checks import Checks
from tests.clocks import set_time
from tests.measured import metrics_of

pytestmark = pytest.mark.anyio

PATIENCE = 30.0


@pytest.fixture
def application_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs in another thread, as an application's does."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(PATIENCE)
    loop.close()


def one(checks: Checks) -> dict[str, object]:
    (result,) = checks.as_json(now=0.0).values()
    return result


@pytest.mark.parametrize("passing", [lambda: None, lambda: True, lambda: "fine", lambda: 0])
async def test_anything_but_false_passes(passing: object) -> None:
    checks = Checks(PATIENCE)
    checks.add("queue", passing)  # type: ignore[arg-type]
    await checks.run(None)
    assert one(checks)["status"] == "healthy"


def broken() -> None:
    raise ConnectionError("amqp://user:hunter2@queue refused")


@pytest.mark.parametrize(
    ("failing", "reason"),
    [(lambda: False, "the check returned False"), (broken, "ConnectionError: amqp://[REDACTED]@queue refused")],
)
async def test_false_and_exceptions_fail_with_a_redacted_reason(failing: object, reason: str) -> None:
    checks = Checks(PATIENCE)
    checks.add("queue", failing, critical=True)  # type: ignore[arg-type]
    await checks.run(None)
    assert (one(checks)["status"], one(checks)["error"]) == ("unhealthy", reason)
    assert checks.failing() == (["queue"], [])


async def test_a_hanging_check_fails_and_is_not_started_again_beside_itself() -> None:
    checks, release, started = Checks(PATIENCE), threading.Event(), []

    def hang() -> None:
        started.append(1)
        release.wait(PATIENCE)

    checks.add("disk", hang, timeout=0.05)
    checks.add("quick", lambda: None)
    await checks.run(None)
    assert checks.as_json(0.0)["disk"]["error"] == "no answer within 0.05 s"
    assert checks.as_json(0.0)["quick"]["status"] == "healthy"
    await checks.run(None)
    assert checks.as_json(0.0)["disk"]["error"] == "still running since an earlier check"
    assert started == [1]
    assert checks.failing() == ([], ["disk"])
    release.set()
    task = checks._checks["disk"].running
    assert task is not None
    await asyncio.wait({task}, timeout=PATIENCE)
    while checks.failing() != ([], []):  # it recovers by itself
        await checks.run(None)
    assert checks.as_json(0.0)["disk"]["status"] == "healthy"


async def test_async_checks_run_on_the_applications_loop(application_loop: asyncio.AbstractEventLoop) -> None:
    seen: list[asyncio.AbstractEventLoop] = []

    async def check() -> None:
        seen.append(asyncio.get_running_loop())

    checks = Checks(PATIENCE)
    checks.add("cache", check)
    await checks.run(application_loop)
    assert seen == [application_loop]
    assert one(checks)["status"] == "healthy"


async def test_a_blocked_application_loop_makes_async_checks_unknown(
    application_loop: asyncio.AbstractEventLoop,
) -> None:
    blocked, release = threading.Event(), threading.Event()

    def block() -> None:
        blocked.set()
        release.wait(PATIENCE)

    async def check() -> None:
        raise AssertionError("never reached")

    checks = Checks(0.05)
    checks.add("cache", check, critical=True)
    application_loop.call_soon_threadsafe(block)
    assert blocked.wait(PATIENCE)
    await checks.run(application_loop)
    release.set()
    assert one(checks)["status"] == "unknown"
    assert checks.failing() == ([], []), "what is not known changes nothing"


@pytest.mark.parametrize("wrapped", [False, True], ids=["async", "a function that returns a coroutine"])
async def test_a_loop_that_is_blocked_while_a_check_waits_makes_it_unknown(
    wrapped: bool, application_loop: asyncio.AbstractEventLoop
) -> None:
    waiting, release = threading.Event(), threading.Event()

    async def check() -> None:
        application_loop.call_soon(release.wait, PATIENCE)  # somebody else blocks the loop
        waiting.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0.01)

    checks = Checks(0.1)
    checks.add("cache", (lambda: check()) if wrapped else check, critical=True)
    while not waiting.is_set():  # on a busy machine the loop may have no turn in time
        await checks.run(application_loop)
    release.set()
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0.01), application_loop).result(PATIENCE)  # it ends there
    assert one(checks)["status"] == "unknown"
    assert one(checks)["error"] == "the application's event loop is blocked"
    assert checks.failing() == ([], []), "what is not known changes nothing"


async def test_bad_registrations_name_the_argument() -> None:
    checks = Checks(1.0)
    checks.add("queue", lambda: None)
    with pytest.raises(ConfigurationError, match="name: 'queue' is taken"):
        checks.add("queue", lambda: None)
    with pytest.raises(ConfigurationError, match="check: cache must be callable"):
        checks.add("cache", "no")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="timeout: must be greater than 0"):
        checks.add("cache", lambda: None, timeout=0)


async def test_before_the_first_run_nothing_is_known() -> None:
    checks = Checks(1.0)
    checks.add("queue", lambda: None)
    assert one(checks) == {"status": "unknown", "critical": False}


class Unprintable(Exception):  # noqa: N818 - what it is
    def __str__(self) -> str:
        raise SystemExit("not even this")


RAISED = [
    (SystemExit(3), "SystemExit: 3"),
    (KeyboardInterrupt(), "KeyboardInterrupt"),
    (asyncio.CancelledError("its own"), "CancelledError"),
    (GeneratorExit(), "GeneratorExit"),
    (Unprintable(), "unprintable Unprintable"),
]


@pytest.mark.parametrize(("error", "text"), [*RAISED, (StopIteration(1), "StopIteration: 1")])
async def test_whatever_a_check_raises_is_its_failure(error: BaseException, text: str) -> None:
    def fail() -> None:
        raise error

    checks = Checks(PATIENCE)
    checks.add("queue", fail, critical=True)
    checks.add("fine", lambda: True)
    await checks.run(None)
    assert checks.failing() == (["queue"], [])
    assert text in checks.errors()["queue"]
    assert checks.as_json(0.0)["fine"]["status"] == "healthy"


@pytest.mark.parametrize(("error", "text"), RAISED)
async def test_an_async_check_that_exits_leaves_the_applications_loop_running(
    error: BaseException, text: str, application_loop: asyncio.AbstractEventLoop
) -> None:
    async def fail() -> None:
        raise error

    checks = Checks(PATIENCE)
    checks.add("cache", fail)
    for _ in range(2):
        await checks.run(application_loop)
        assert text in checks.errors()["cache"]
    assert asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "runs"), application_loop).result(PATIENCE) == "runs"


async def test_a_run_that_ends_with_its_loop_says_nothing_and_a_new_loop_is_used() -> None:
    begun, ended = threading.Event(), threading.Event()

    async def check() -> None:
        begun.set()
        if not ended.is_set():
            await asyncio.Event().wait()

    async def serve() -> None:
        await asyncio.to_thread(begun.wait, PATIENCE)

    loops: list[asyncio.AbstractEventLoop] = []

    def application() -> None:
        async def main() -> None:
            loops.append(asyncio.get_running_loop())
            known.set()
            await serve()

        asyncio.run(main())
        ended.set()

    known = threading.Event()
    thread = threading.Thread(target=application)
    thread.start()
    await asyncio.to_thread(known.wait, PATIENCE)
    checks = Checks(PATIENCE)
    checks.add("cache", check, critical=True)
    await checks.run(loops[0])
    assert one(checks)["status"] == "unknown"
    thread.join(PATIENCE)
    await checks.run(loops[0])
    assert one(checks)["status"] == "unknown"
    await checks.run(asyncio.get_running_loop())
    assert one(checks)["status"] == "healthy"


async def test_a_check_that_answers_a_coroutine_is_awaited_where_the_application_lives(
    application_loop: asyncio.AbstractEventLoop,
) -> None:
    async def fail() -> bool:
        return False

    checks = Checks(PATIENCE)
    checks.add("cache", lambda: fail())
    await checks.run(application_loop)
    assert checks.failing() == ([], ["cache"])


def gauge(reader: InMemoryMetricReader) -> dict[object, object]:
    return {
        (point.attributes or {})[c.CHECK_NAME]: point.value
        for metric in metrics_of(reader)
        for point in cast("Gauge", metric.data).data_points
    }


async def test_the_gauge_keeps_what_a_check_said_last_until_nobody_runs_it_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader = InMemoryMetricReader()
    checks = Checks(PATIENCE, max_age=100)
    checks.observe_with(MeterProvider([reader]).get_meter("test"))

    async def fail() -> bool:
        return False

    checks.add("cache", fail)
    checks.add("disk", lambda: True)
    await checks.run(asyncio.get_running_loop())
    assert gauge(reader) == {"cache": 1, "disk": 0}
    await checks.run(None)
    assert checks.as_json(0.0)["cache"]["status"] == "unknown"
    assert gauge(reader) == {"cache": 1, "disk": 0}, "it is not known to be mended"
    now = time.monotonic()
    set_time(monkeypatch, "otel_monitoring.health.checks", monotonic=lambda: now + 100 + 3 * PATIENCE)
    assert gauge(reader) == {}


async def test_frozen_results_stay_whatever_runs_still_end() -> None:
    checks = Checks(PATIENCE)
    answers = [True, False]
    checks.add("queue", lambda: answers.pop(0), critical=True)
    await checks.run(None)
    checks.freeze()
    await checks.run(None)
    assert one(checks)["status"] == "healthy"
    checks.begin()
    answers.append(False)
    await checks.run(None)
    assert one(checks)["status"] == "unhealthy"


@pytest.mark.anyio
@pytest.mark.parametrize("step", [-7200.0, 7200.0])
async def test_the_age_of_a_result_does_not_follow_a_clock_that_is_set(
    monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    checks = Checks(default_timeout=1.0)
    checks.add("disk", lambda: True)
    await checks.run(None)
    wrong = time.time() + step
    monkeypatch.setattr(time, "time", lambda: wrong)
    assert checks.as_json(time.monotonic() + 30)["disk"]["age_seconds"] == pytest.approx(30, abs=20)


async def test_a_check_whose_client_the_application_has_closed_is_unknown_as_long_as_a_stop_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """hypercorn's workers get no signal: a mounted application sees its clients closed before anything else."""
    client = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200)))
    checks = Checks(PATIENCE)
    checks.add("payments", lambda: client.get("http://payments/").raise_for_status(), critical=True)
    await checks.run(None)
    assert one(checks)["status"] == "healthy"
    client.close()  # noqa: ASYNC212 - it has no connection
    for _ in range(2):
        await checks.run(None)
        assert (one(checks)["status"], checks.failing()) == ("unknown", ([], []))
        assert "closed" in str(one(checks)["error"]), "the diagnostics say why"
    monkeypatch.setattr(module, "_STOP_SECONDS", 0.0)
    await checks.run(None)
    assert checks.failing() == (["payments"], []), "nobody stops for so long: the application goes on without it"


async def test_a_check_that_failed_before_does_not_become_unknown() -> None:
    errors = [ConnectionError("refused"), RuntimeError("Session is closed")]

    def fail() -> None:
        raise errors.pop(0)

    checks = Checks(PATIENCE)
    checks.add("payments", fail)
    for _ in range(2):
        await checks.run(None)
        assert checks.failing() == ([], ["payments"])
