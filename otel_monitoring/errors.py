"""The exceptions this package raises.

```
MonitoringError
├── ConfigurationError    a setting is wrong; the message begins with its name
├── InstrumentationError  instrument() was called too late, twice, or on something it cannot instrument
├── TooManyMutesError     the maximum number of mutes is in force
├── DeliveryError         a notification channel could not deliver; says whether a retry can help
├── PrometheusError       Prometheus, or its Alertmanager, gave no usable answer
├── TimeLimitError        the background work did not answer in time
└── StoreError            the store of the alert state could not read or write
```
"""

import asyncio
import os
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import Final

_PACKAGE: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")  # noqa: PTH100, PTH118, PTH120 - cheap
_START_FAILED: Final = 3


class MonitoringError(Exception):
    """Base class of every exception raised by this package."""


class ConfigurationError(MonitoringError, ValueError):
    """A setting has a value that cannot work.

    While the process starts, it is also a `SystemExit`: uncaught, it ends the process with status 3 and one line on
    stderr, without a traceback. Interpreter, `multiprocessing` and servers treat a `SystemExit` so, also in workers.
    Raised later, it is an ordinary exception.
    """

    def __new__(cls, message: str = "") -> "ConfigurationError":
        """Make an error that also ends the process, if the process is starting."""
        starts = cls is ConfigurationError and _is_starting(sys._getframe(1))  # noqa: SLF001 - no frame is kept
        return super().__new__(_StartError if starts else cls, message)


class _StartError(ConfigurationError, SystemExit):
    _said = False

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self._origin = _origin(sys._getframe(1))  # noqa: SLF001 - the interpreter exits before it sets a traceback

    @property
    def code(self) -> int:  # type: ignore[override] # a plain attribute there
        """The exit status: 3, which tells uvicorn and gunicorn that a start has failed.

        Whoever reads it is about to end the process, so the first read prints the message.
        """
        if not self._said:
            self._said = True
            with suppress(Exception):  # no stderr, or one that is closed
                sys.stderr.write(f"otel_monitoring: {' '.join(str(self).split())}{self._origin}\n")
        return _START_FAILED


_StartError.__name__ = _StartError.__qualname__ = "ConfigurationError"


def _is_starting(frame: FrameType | None) -> bool:
    """Whether this is the main thread, outside of an event loop or while a task imports a module.

    Inside a running server a `SystemExit` of any task would end the loop, and so the server.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs
        return True
    outermost = getattr(task.get_coro(), "cr_frame", None) if task is not None else None
    while frame is not None and frame is not outermost:
        if frame.f_code.co_name == "<module>":
            return outermost is not None
        frame = frame.f_back
    return False


def _origin(frame: FrameType | None) -> str:
    """The application's code position that called this package, as ` (file:line)`; empty if there is none."""
    while frame is not None and frame.f_code.co_filename.startswith((_PACKAGE, "<")):
        frame = frame.f_back
    return f" ({frame.f_code.co_filename}:{frame.f_lineno})" if frame is not None else ""


class InstrumentationError(MonitoringError, RuntimeError):
    """The application cannot be instrumented: it has started, is instrumented already, or is no FastAPI application."""


class TooManyMutesError(MonitoringError, ValueError):
    """The maximum number of mutes is in force; one must end before another begins."""


class DeliveryError(MonitoringError):
    """A channel failed to deliver a notification.

    Attributes:
        retryable: Whether a retry of the same notification may succeed.
        retry_after: Seconds the receiver asked to wait before a retry; None if it did not say.
        partly: Whether some of the recipients have it. The retry for the others delays no other notification.
    """

    def __init__(
        self, message: str, *, retryable: bool, retry_after: float | None = None, partly: bool = False
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.retry_after = retry_after
        self.partly = partly


class PrometheusError(MonitoringError):
    """Prometheus, or its Alertmanager, gave no usable answer. The message quotes neither URL nor answer."""


class TimeLimitError(MonitoringError, TimeoutError):
    """The background work did not answer in time, as on a machine that has too much to do."""


class StoreError(MonitoringError):
    """The alert store could not read or write. The message says which store and why, and quotes no contents.

    Attributes:
        busy: Whether other processes only kept it for too long: it works, and may be free a moment later.
    """

    def __init__(self, message: str, *, busy: bool = False) -> None:
        super().__init__(message)
        self.busy = busy
