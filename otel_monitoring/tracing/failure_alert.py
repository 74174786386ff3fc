"""`raise_alert`: the alert of a failed operation, sent without making the operation wait."""

import asyncio
import contextvars
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple

from otel_monitoring.alerts import AlertType, get_alert_manager
from otel_monitoring.alerts.model import severity_of
from otel_monitoring.forks import renewed
from otel_monitoring.guard import fail_open
from otel_monitoring.redact import redact
from otel_monitoring.runtime.suppression import suppress_instrumentation
from otel_monitoring.tracing.destination import Submit

_GUARD: Final = fail_open("alert of a failed operation")
_SEND_SECONDS: Final = 10.0
_MAX_THREADS: Final = 4
_threads = renewed(sys.modules[__name__], "_threads", lambda: threading.BoundedSemaphore(_MAX_THREADS))


class FailedOperation(NamedTuple):
    """An operation that has failed.

    Attributes:
        operation: The operation's name.
        error_type: The exception's `error.type`.
        error: The exception.
    """

    operation: str
    error_type: str
    error: Exception


def raise_alert(kind: AlertType, failure: FailedOperation, submit: Submit) -> None:
    """Send an alert of the type `kind` with the type's documented severity; returns at once and never raises.

    The message is the operation's name and the error type, so that repetitions have the same message; the redacted text
    of the error is in the details. Without an alert manager nothing is sent.

    Args:
        kind: The alert's type.
        failure: The failed operation.
        submit: Has the background thread send it; if that does not run, a new thread sends it, for which the process
            waits at its end.
    """
    manager = get_alert_manager()
    if manager is None:
        return
    message = f"{failure.operation} failed: {failure.error_type}"
    details = {
        "operation": failure.operation,
        "error_type": failure.error_type,
        "error": redact(failure.error),
    }

    async def send() -> None:
        with _GUARD, suppress_instrumentation():
            await manager.send_alert(kind, message, severity_of(kind), details)

    with _GUARD:
        if not submit(send):
            _send_in_thread(send)


def _send_in_thread(send: Callable[[], Coroutine[Any, Any, None]]) -> None:
    if not _threads.acquire(blocking=False):
        raise RuntimeError("too many alerts are being sent already")
    context = contextvars.copy_context()

    def run() -> None:
        try:
            with _GUARD:
                context.run(asyncio.run, asyncio.wait_for(send(), _SEND_SECONDS))
        finally:
            _threads.release()

    try:
        threading.Thread(target=run, name="otel-monitoring-alert").start()
    except BaseException:
        _threads.release()
        raise
