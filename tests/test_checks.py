"""Custom checks: pass, fail, raise, hang; each with a timeout, one run at a time, results kept."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from otel_monitoring.errors import ConfigurationError
from otel_monitoring.health.checks import Checks

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
    checks, release, started = Checks(0.05), threading.Event(), []

    def hang() -> None:
        started.append(1)
        release.wait(PATIENCE)

    checks.add("disk", hang)
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
    release.set()
    await checks.run(None)
    assert checks.as_json(0.0)["disk"]["status"] == "healthy", "it recovers by itself"


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
