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

import os
import sys
from contextlib import suppress
from types import FrameType
from typing import Final

_PACKAGE: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")  # noqa: PTH100, PTH118, PTH120 - cheap
_START_FAILED: Final = 3


class MonitoringError(Exception):
    """Base class of every exception raised by this package."""


class ConfigurationError(MonitoringError, ValueError, SystemExit):
    """A setting has a value that cannot work.

    Where nobody catches it, it ends the process as `sys.exit` does: with the message, in one line on stderr, and no
    traceback around it. Interpreter, multiprocessing and servers treat a `SystemExit` so, also in their workers.
    """

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
