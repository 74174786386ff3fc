"""The exceptions this package raises.

```
MonitoringError
├── ConfigurationError    a setting is wrong; the message begins with its name
├── InstrumentationError  instrument() was called too late, twice, or on something it cannot instrument
├── TooManyMutesError     no further mute before one ends
├── DeliveryError         a notification channel could not deliver; says whether trying again can help
└── StoreError            a place that keeps alert state cannot do its work
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

    Raised while the process starts, it is a `SystemExit` as well: where nobody catches it, it ends the process with the
    message, in one line on stderr, and no traceback around it. Interpreter, multiprocessing and servers treat a
    `SystemExit` so, also in their workers. Raised later, it ends nothing but the work that it was raised in.
    """

    def __new__(cls, message: str = "") -> "ConfigurationError":
        """One that ends the process, where that is starting."""
        starts = cls is ConfigurationError and _is_starting(sys._getframe(1))  # noqa: SLF001 - no frame is kept
        return super().__new__(_StartError if starts else cls, message)


class _StartError(ConfigurationError, SystemExit):
    _said = False

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self._origin = _origin(sys._getframe(1))  # noqa: SLF001 - the interpreter exits before it sets a traceback

    @property
    def code(self) -> int:  # type: ignore[override] # a plain attribute there
        """The status of the process that it ends: 3, by which uvicorn and gunicorn know that a start has failed.

        Whoever asks is about to end the process; so the first to ask prints the message.
        """
        if not self._said:
            self._said = True
            with suppress(Exception):  # no stderr, or one that is closed
                sys.stderr.write(f"otel_monitoring: {' '.join(str(self).split())}{self._origin}\n")
        return _START_FAILED


_StartError.__name__ = _StartError.__qualname__ = "ConfigurationError"


def _is_starting(frame: FrameType | None) -> bool:
    """Whether this is the main thread outside of an event loop, or a module that is being imported inside of one.

    A `SystemExit` of any task ends its loop, and so the server.
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
    """Where the application called us, for the end of a line."""
    while frame is not None and frame.f_code.co_filename.startswith((_PACKAGE, "<")):
        frame = frame.f_back
    return f" ({frame.f_code.co_filename}:{frame.f_lineno})" if frame is not None else ""


class InstrumentationError(MonitoringError, RuntimeError):
    """The application cannot be instrumented the way it was asked for."""


class TooManyMutesError(MonitoringError, ValueError):
    """As many mutes are in force as there may be."""


class DeliveryError(MonitoringError):
    """A channel failed to deliver a notification.

    Attributes:
        retryable: Whether the same notification may succeed later.
        retry_after: Seconds the receiver asked us to wait, or None.
        partly: Whether some of those it is for have it: the others get it later, and nothing else waits for that.
    """

    def __init__(
        self, message: str, *, retryable: bool, retry_after: float | None = None, partly: bool = False
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.retry_after = retry_after
        self.partly = partly


class StoreError(MonitoringError):
    """A store could not read or write; the message says which one and why, without its contents."""
