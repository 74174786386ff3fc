"""`Checks`: an application's own health checks, run with a timeout, one at a time each, their results kept."""

import asyncio
import inspect
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from otel_monitoring import semconv
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.guard import original
from otel_monitoring.health.status import HEALTHY, UNHEALTHY, UNKNOWN
from otel_monitoring.health.time_limit import NoAnswer, answered, on_loop, until
from otel_monitoring.instrumentation.mongodb.evidence import is_use_after_close
from otel_monitoring.redact import redact_error
from otel_monitoring.runtime.threads import NotStarted, in_thread
from otel_monitoring.timestamps import rfc3339

CheckFunction = Callable[[], object] | Callable[[], Awaitable[object]]
"""A check passes when it returns anything but False; it fails when it returns False, raises, or takes too long."""

_STOP_SECONDS = 60.0
"""Longer than servers let a stop take (mostly 30 s).

Not every one tells its workers that they stop: those of hypercorn get no signal, and the lifespan may be another's. A
client that is closed for longer is the application's fault.
"""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The outcome of the last run of a check.

    Attributes:
        status: `healthy`, `unhealthy`, or `unknown` when the application's loop, or this process, did not get to it, or
            when it used what the application has closed, as in a stop.
        time: When the run ended, in Unix seconds.
        duration: How long it took, in seconds.
        error: Why it failed, or is unknown, redacted; None when it passed.
        at: When the run ended, in seconds of the monotonic clock: what its age is told by.
    """

    status: str
    time: float
    duration: float
    error: str | None = None
    at: float = field(default_factory=monotonic)


@dataclass(slots=True)
class _Check:
    name: str
    function: CheckFunction
    critical: bool
    timeout: float
    is_async: bool
    result: CheckResult | None = None
    asked_at: float | None = None
    """When it was run last, in seconds of the monotonic clock, whatever came of it."""
    outcome: CheckResult | None = None
    """The last result that says something: it passed, or it failed."""
    closed_at: float | None = None
    """Since when it uses what is closed, in seconds of the monotonic clock; None: it does not."""
    running: "asyncio.Future[Any] | None" = None


class Checks:
    """The registered checks and their latest results. Results may be read from any thread.

    Args:
        default_timeout: Seconds a check may take unless it was added with its own limit.
        max_age: Seconds after its last run, beside its time limit, from which a check says nothing any more.
    """

    def __init__(self, default_timeout: float, max_age: float = math.inf) -> None:
        self._default_timeout = default_timeout
        self._max_age = max_age
        self._checks: dict[str, _Check] = {}
        self._frozen = False

    def begin(self) -> None:
        """Run from now on, after a `freeze` too."""
        self._frozen = False

    def freeze(self) -> None:
        """Keep the results as they are until `begin`; runs that are under way change nothing."""
        self._frozen = True

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

    def observe_with(self, meter: Meter) -> None:
        """Make the gauge `otel_monitoring.check.failing`."""
        meter.create_observable_gauge(semconv.CHECK_FAILING, callbacks=[self._observe], unit="1")

    def _observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        """1 for a check that failed last, 0 for one that passed; nothing for a check that has not been run lately."""
        now = time.monotonic()
        return [
            Observation(
                int(check.outcome.status == UNHEALTHY),
                {semconv.CHECK_NAME: check.name, semconv.CHECK_CRITICAL: check.critical},
            )
            for check in tuple(self._checks.values())
            if check.outcome is not None
            and check.asked_at is not None
            and (self._frozen or now - check.asked_at <= self._max_age + 2 * check.timeout)
        ]

    async def run(self, application_loop: asyncio.AbstractEventLoop | None) -> None:
        """Run all checks side by side; returns when each has a result."""
        await asyncio.gather(*(self._run(check, application_loop) for check in tuple(self._checks.values())))

    def failing(self) -> tuple[list[str], list[str]]:
        """Names of the failing checks: the critical ones, the others."""
        failed = [e for e in tuple(self._checks.values()) if e.result is not None and e.result.status == UNHEALTHY]
        return [e.name for e in failed if e.critical], [e.name for e in failed if not e.critical]

    def errors(self) -> dict[str, str]:
        """Why checks fail, redacted, by the names of those that do."""
        results = [(check.name, check.result) for check in tuple(self._checks.values())]
        return {
            name: result.error
            for name, result in results
            if result is not None and result.error and result.status == UNHEALTHY
        }

    def as_json(self, now: float) -> dict[str, dict[str, Any]]:
        """Each check's `status`, `critical`, `duration_ms`, `timestamp`, `age_seconds` and `error`.

        Args:
            now: Seconds of the monotonic clock.
        """
        return {check.name: _json(check, now) for check in tuple(self._checks.values())}

    async def _run(self, check: _Check, loop: asyncio.AbstractEventLoop | None) -> None:
        check.asked_at = time.monotonic()
        if check.running is not None and not check.running.done() and _is_ours(check.running):
            # A thread that hangs cannot be ended; a second one beside it would only hang too.
            self._keep(check, _failed("still running since an earlier check", 0.0))
            return
        started = time.perf_counter()
        try:
            answer = await _ask(check, loop)
        except NotStarted as error:
            result = CheckResult(UNKNOWN, time.time(), time.perf_counter() - started, str(error))
        except NoAnswer as error:
            result = _failed(str(error), time.perf_counter() - started)
        except Exception as raised:  # noqa: BLE001 - whatever a check raises is its failure
            result = _raised(check, original(raised), time.perf_counter() - started)
        else:
            result = _result(answer, time.perf_counter() - started)
        self._keep(check, result)

    def _keep(self, check: _Check, result: CheckResult) -> None:
        if self._frozen:
            return
        check.result = result
        if result.status != UNKNOWN:
            check.outcome = result
        if result.status == HEALTHY:
            check.closed_at = None


def _is_ours(task: "asyncio.Future[Any]") -> bool:
    """Whether this loop runs it: it may be one of an earlier start, or of the parent process."""
    return task.get_loop() is asyncio.get_running_loop()


def _is_async(function: CheckFunction) -> bool:
    called = getattr(function, "__call__", None)  # noqa: B004 - an object may have an async __call__
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


async def _ask(check: _Check, loop: asyncio.AbstractEventLoop | None) -> object:
    """What the check returns. Its time limit counts only the seconds in which it could run.

    Raises:
        NotStarted: It could not be run.
        NoAnswer: It took too long. Also whatever it raises.
    """
    if check.is_async:
        return await _on(check, loop, check.function)
    check.running = asyncio.ensure_future(in_thread(check.function, name=f"otel-monitoring-check-{check.name}"))
    delayed = await until(check.running, check.timeout)
    result = answered(check.running, delayed, check.timeout)
    return await _on(check, loop, lambda: result) if inspect.isawaitable(result) else result  # `lambda: coroutine()`


async def _on(check: _Check, loop: asyncio.AbstractEventLoop | None, function: CheckFunction) -> object:
    if loop is None:
        raise NotStarted("the application's event loop is not known yet")
    asking = asyncio.ensure_future(on_loop(loop, partial(_awaited, function), check.timeout))
    check.running = asking
    await asyncio.wait({asking})
    return answered(asking, 0.0, check.timeout).result


async def _awaited(function: CheckFunction) -> object:
    result = function()
    return await result if inspect.isawaitable(result) else result


def _result(answer: object, duration: float) -> CheckResult:
    if answer is False:
        return _failed("the check returned False", duration)
    return CheckResult(HEALTHY, time.time(), duration)


def _failed(reason: str, duration: float) -> CheckResult:
    return CheckResult(UNHEALTHY, time.time(), duration, reason)


def _raised(check: _Check, error: BaseException, duration: float) -> CheckResult:
    """The result of a check that raised. Use of a closed client is `unknown` at first: the service may be stopping."""
    if not is_use_after_close(error):
        return _failed(redact_error(error), duration)
    now = time.monotonic()
    if check.closed_at is None:
        check.closed_at = now
    failed_before = check.outcome is not None and check.outcome.status == UNHEALTHY
    if failed_before or now - check.closed_at >= _STOP_SECONDS:
        return _failed(redact_error(error), duration)
    return CheckResult(UNKNOWN, time.time(), duration, redact_error(error))


def _json(check: _Check, now: float) -> dict[str, Any]:
    result = check.result
    if result is None:
        return {"status": UNKNOWN, "critical": check.critical}
    answer: dict[str, Any] = {
        "status": result.status,
        "critical": check.critical,
        "duration_ms": round(result.duration * 1000, 2),
        "timestamp": rfc3339(result.time),
        "age_seconds": round(max(0.0, now - result.at), 1),
    }
    if result.error is not None:
        answer["error"] = result.error
    return answer
