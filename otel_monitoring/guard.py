"""The guard at every border between this package and the application: our failures stop here."""

import logging
import threading
import time
from collections import Counter
from types import TracebackType
from typing import ClassVar

from otel_monitoring.forks import renewed

logger = logging.getLogger("otel_monitoring")

_LOG_EVERY_SECONDS = 60.0


class contained:  # noqa: N801 - reads as a statement: `with contained("tick"):`
    """Context manager that keeps any `Exception` raised inside it from leaving.

    The exception is counted in `contained.failures[what]` and logged, at most once a minute for each `what`.
    Cancellation, `KeyboardInterrupt` and `SystemExit` pass through. One instance may be kept and entered many times,
    from any thread.

    Args:
        what: The work that is guarded, as it should read in the log line. From a fixed set, never from input.
    """

    failures: ClassVar[Counter[str]] = Counter()
    _logged_at: ClassVar[dict[str, float]] = {}
    _lock: ClassVar[threading.Lock]

    __slots__ = ("what",)

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self.note(self.what, error)
        return True

    @classmethod
    def note(cls, what: str, error: BaseException) -> None:
        """Count `error` under `what` and log it if the last minute has not seen one."""
        now = time.monotonic()
        with cls._lock:
            cls.failures[what] += 1
            if now - cls._logged_at.get(what, float("-inf")) < _LOG_EVERY_SECONDS:
                return
            cls._logged_at[what] = now
        logger.warning("%s failed: %s", what, type(error).__name__, exc_info=error)


contained._lock = renewed(contained, "_lock", threading.Lock)  # noqa: SLF001 - its own, once the class is there
