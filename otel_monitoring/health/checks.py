"""`Checks`: the application's own health checks, each run with a time limit, and their results."""

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
from otel_monitoring.instrumentation.mongodb.driver_errors import is_use_after_close
from otel_monitoring.redact import redact_error
from otel_monitoring.runtime.threads import NotStarted, in_thread
from otel_monitoring.timestamps import rfc3339
from otel_monitoring.value import Value

CheckFunction = Callable[[], object] | Callable[[], Awaitable[object]]
"""A check passes when it returns anything but False; it fails when it returns False, raises, or takes too long."""

_STOP_SECONDS = 60.0
"""Seconds for which a closed client may mean that the service is stopping; servers allow a stop mostly 30 s.

Not every server tells its workers that they stop: workers of hypercorn receive no signal. A client that is closed for
longer is an error of the application.
"""


class CheckResult(Value):
    """The result of one run of a check.

    Attributes:
        status: `healthy`, `unhealthy`, or `unknown`: the check could not run in time, or it used a client that the
            application has closed, as it does when it stops.
        time: When the run ended, in Unix seconds.
        duration: How long the run took, in seconds.
        error: Why the check failed or is unknown, redacted; None if it passed.
        at: When the run ended, in seconds of the monotonic clock; its age is computed from this.
    """

    status: str
    time: float
    duration: float
    error: str | None = None
    at: float = field(default_factory=monotonic)


@dataclass(eq=False, repr=False, slots=True)
class _Check:
    name: str
    function: CheckFunction
    critical: bool
    timeout: float
    is_async: bool
    result: CheckResult | None = None
    asked_at: float | None = None
    """When the last run began, in seconds of the monotonic clock."""
    outcome: CheckResult | None = None
    """The last result that is `healthy` or `unhealthy`."""
    closed_at: float | None = None
    """Since when the check has used a closed client, in seconds of the monotonic clock; None: it does not."""
    running: "asyncio.Future[Any] | None" = None


class Checks:
    """The registered checks and their latest results; results may be read in any thread.

    Args:
        default_timeout: Time limit, in seconds, of checks that are added without one.
        max_age: Seconds after the last run, plus twice the check's time limit, for which its gauge is observed.
    """

    def __init__(self, default_timeout: float, max_age: float = math.inf) -> None:
        self._default_timeout = default_timeout
        self._max_age = max_age
        self._checks: dict[str, _Check] = {}
        self._frozen = False

    def begin(self) -> None:
        """End a `freeze`."""
        self._frozen = False

    def freeze(self) -> None:
        """Keep the results unchanged until `begin`; runs in progress do not change them either."""
        self._frozen = True

    def add(self, name: str, check: CheckFunction, *, critical: bool = False, timeout: float | None = None) -> None:
        """Register `check` under `name`.

        Async checks run on the application's event loop, others in a thread.

        Args:
            name: A name that no other check has.
            check: See `CheckFunction`.
            critical: Whether the service is unhealthy while it fails; False: degraded.
            timeout: Seconds that a run may take; None: the default.

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
        """1 for a failed check, 0 for one that passed; nothing for a check without a recent result."""
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
        """Run all checks at the same time; returns when each has a result.

        Args:
            application_loop: Where asynchronous checks run; None: they are `unknown`.
        """
        await asyncio.gather(*(self._run(check, application_loop) for check in tuple(self._checks.values())))

    def failing(self) -> tuple[list[str], list[str]]:
        """Names of the failing checks: the critical ones, and the others."""
        failed = [e for e in tuple(self._checks.values()) if e.result is not None and e.result.status == UNHEALTHY]
        return [e.name for e in failed if e.critical], [e.name for e in failed if not e.critical]

    def errors(self) -> dict[str, str]:
        """The redacted error of each failing check, by name."""
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
        if check.running is not None and not check.running.done() and _is_on_this_loop(check.running):
            # A hanging thread cannot be ended, and a second one would hang as well.
            self._keep(check, _failed("still running since an earlier check", 0.0))
            return
        started = time.perf_counter()
        try:
            answer = await _ask(check, loop)
        except NotStarted as error:
            result = CheckResult(UNKNOWN, time.time(), time.perf_counter() - started, str(error))
        except NoAnswer as error:
            result = _failed(str(error), time.perf_counter() - started)
        except Exception as raised:  # noqa: BLE001 - an exception is a failed check
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


def _is_on_this_loop(task: "asyncio.Future[Any]") -> bool:
    """Whether the running loop has the task; it may be one of an earlier start, or of the parent process."""
    return task.get_loop() is asyncio.get_running_loop()


def _is_async(function: CheckFunction) -> bool:
    called = getattr(function, "__call__", None)  # noqa: B004 - an object may have an async __call__
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


async def _ask(check: _Check, loop: asyncio.AbstractEventLoop | None) -> object:
    """Run the check and return its result. The time limit counts only the seconds in which it could run.

    Raises:
        NotStarted: The check could not run in time.
        NoAnswer: The check took too long.
        Exception: The check raised it.
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
