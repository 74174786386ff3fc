"""`Checks`: an application's own health checks, run with a timeout, one at a time each, their results kept."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from otel_monitoring.errors import ConfigurationError
from otel_monitoring.events import rfc3339
from otel_monitoring.health.execution import NotStarted, in_thread, on_loop
from otel_monitoring.redact import redact, redact_error

CheckFunction = Callable[[], object] | Callable[[], Awaitable[object]]
"""A check passes when it returns anything but False; it fails when it returns False, raises, or takes too long."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The outcome of the last run of a check.

    Attributes:
        status: `healthy`, `unhealthy`, or `unknown` when the application's loop did not get to it.
        time: When the run ended, in Unix seconds.
        duration: How long it took, in seconds.
        error: Why it failed, redacted; None when it passed.
    """

    status: str
    time: float
    duration: float
    error: str | None = None


@dataclass(slots=True)
class _Check:
    name: str
    function: CheckFunction
    critical: bool
    timeout: float
    is_async: bool
    result: CheckResult | None = None
    running: "asyncio.Task[object] | None" = None


class Checks:
    """The registered checks and their latest results. Results may be read from any thread.

    Args:
        default_timeout: Seconds a check may take unless it was added with its own limit.
    """

    def __init__(self, default_timeout: float) -> None:
        self._default_timeout = default_timeout
        self._checks: dict[str, _Check] = {}

    def add(self, name: str, check: CheckFunction, *, critical: bool = False, timeout: float | None = None) -> None:
        """Register `check` under `name`.

        Async checks run on the application's event loop, others in a thread.

        Raises:
            ConfigurationError: The name is empty or taken, the check is not callable, the timeout is not positive.
        """
        if not name or name in self._checks:
            raise ConfigurationError(f"name: {name!r} is {'taken by another check' if name else 'empty'}")
        if not callable(check):
            raise ConfigurationError(f"check: {name} must be callable, not {type(check).__name__}")
        if timeout is not None and not timeout > 0:
            raise ConfigurationError(f"timeout: must be greater than 0, not {timeout!r}")
        limit = timeout if timeout is not None else self._default_timeout
        self._checks[name] = _Check(name, check, critical, limit, _is_async(check))

    async def run(self, application_loop: asyncio.AbstractEventLoop | None) -> None:
        """Run all checks side by side; returns when each has a result."""
        await asyncio.gather(*(self._run(check, application_loop) for check in tuple(self._checks.values())))

    def failing(self) -> tuple[list[str], list[str]]:
        """Names of the failing checks: the critical ones, the others."""
        failed = [c for c in tuple(self._checks.values()) if c.result is not None and c.result.status == "unhealthy"]
        return [c.name for c in failed if c.critical], [c.name for c in failed if not c.critical]

    def as_json(self, now: float) -> dict[str, dict[str, Any]]:
        """Each check's `status`, `critical`, `duration_ms`, `timestamp`, `age_seconds` and `error`.

        Args:
            now: Unix time in seconds.
        """
        return {check.name: _json(check, now) for check in tuple(self._checks.values())}

    async def _run(self, check: _Check, loop: asyncio.AbstractEventLoop | None) -> None:
        if check.running is not None and not check.running.done() and _is_ours(check.running):
            # A thread that hangs cannot be ended; a second one beside it would only hang too.
            check.result = _failed("still running since an earlier check", 0.0)
            return
        started = time.perf_counter()
        check.running = asyncio.ensure_future(_call(check, loop))
        # On the application's loop the work has its own timeout, which also tells whether it ever began.
        done, _ = await asyncio.wait({check.running}, timeout=None if check.is_async else check.timeout)
        check.result = _result(check, done, time.perf_counter() - started)


def _is_ours(task: "asyncio.Task[object]") -> bool:
    """Whether this loop runs it, not that of an earlier start or of a process we were forked from."""
    return task.get_loop() is asyncio.get_running_loop()


def _is_async(function: CheckFunction) -> bool:
    called = getattr(function, "__call__", None)  # noqa: B004 - an object may have an async __call__
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


async def _call(check: _Check, loop: asyncio.AbstractEventLoop | None) -> object:
    if not check.is_async:
        return await in_thread(check.function, name=f"otel-monitoring-check-{check.name}")
    if loop is None:
        raise NotStarted("the application's event loop is not known yet")
    return await on_loop(loop, partial(_awaited, check.function), check.timeout)


async def _awaited(function: CheckFunction) -> object:
    result = function()
    return await result if inspect.isawaitable(result) else result


def _result(check: _Check, done: "set[asyncio.Task[object]]", duration: float) -> CheckResult:
    if not done:
        return _failed(f"no answer within {check.timeout:g} s", duration)
    error = check.running.exception() if check.running is not None else None
    if isinstance(error, NotStarted):
        return CheckResult("unknown", time.time(), duration, str(error))
    if error is not None:
        return _failed(redact_error(error), duration)
    if check.running is not None and check.running.result() is False:
        return _failed("the check returned False", duration)
    return CheckResult("healthy", time.time(), duration)


def _failed(reason: str, duration: float) -> CheckResult:
    return CheckResult("unhealthy", time.time(), duration, redact(reason))


def _json(check: _Check, now: float) -> dict[str, Any]:
    result = check.result
    if result is None:
        return {"status": "unknown", "critical": check.critical}
    answer: dict[str, Any] = {
        "status": result.status,
        "critical": check.critical,
        "duration_ms": round(result.duration * 1000, 2),
        "timestamp": rfc3339(result.time),
        "age_seconds": round(max(0.0, now - result.time), 1),
    }
    if result.error is not None:
        answer["error"] = result.error
    return answer
