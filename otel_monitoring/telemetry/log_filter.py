"""`QuietExports`: a log filter that passes one warning of the exporters a minute and keeps the reason of a failure."""

import logging
import re
import sys
import threading
import time
from collections.abc import Callable

from otel_monitoring import seams
from otel_monitoring.forks import renewed
from otel_monitoring.redact import redact
from otel_monitoring.telemetry.export_state import REASON_LIMIT, ExportState, export_in_progress

_LOG_EVERY_SECONDS = 60.0

# The text that the SDK's exporters add to the reason when they retry.
_RETRY = re.compile(r"^Transient error |(?: encountered while exporting .{0,80})?,? retrying in [\d.]+s\.?")


def being_exported() -> bool:
    """Whether an export is in progress in the calling thread."""
    return getattr(export_in_progress, "state", None) is not None


class QuietExports(logging.Filter):
    """Passes one warning a minute, without a traceback, over all loggers of the SDK's exporters and queues.

    Args:
        clock: A monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._silent_until = float("-inf")
        self._lock = renewed(self, "_lock", threading.Lock)
        self._loggers: list[logging.Logger] = []

    def install(self) -> None:
        """Add the filter to the exporters' loggers that exist, and enable those that `logging.config` has disabled."""
        self._loggers = [
            known for name, known in _loggers() if isinstance(known, logging.Logger) and _about_exporting(name)
        ]
        # Metrics have no queue: where they alone are exported, its module is not loaded.
        queues = any(f"opentelemetry.sdk.{module}.export" in sys.modules for module in ("trace", "_logs"))
        if queues and not any("_shared_internal" in known.name for known in self._loggers):
            seams.EXPORT_LOGGERS.lost(LookupError("there is no such logger"))
        for known in self._loggers:
            known.disabled = False
            if self not in known.filters:
                known.filters.insert(0, self)  # before the SDK's filter, which would drop reasons

    def uninstall(self) -> None:
        """Remove the filter."""
        for known in self._loggers:
            known.removeFilter(self)
        self._loggers = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the reason of the export in progress; returns whether the record is logged."""
        if record.levelno < logging.WARNING:
            return True
        message = _RETRY.sub("", record.getMessage())
        state: ExportState | None = getattr(export_in_progress, "state", None)
        if state is not None:
            state.explain(message)
        with self._lock:
            now = self._clock()
            if now < self._silent_until:
                return False
            self._silent_until = now + _LOG_EVERY_SECONDS
        about = f"OTLP export of {state.signal}: " if state is not None else ""
        record.msg = f"{about}{redact(message, limit=REASON_LIMIT)} (said at most once a minute)"
        record.args = ()
        record.exc_info = record.exc_text = record.stack_info = None
        return True


def _loggers() -> list[tuple[str, object]]:
    return seams.LOGGERS.get(lambda: list(logging.root.manager.loggerDict.items()), [])


def _about_exporting(name: str) -> bool:
    return name.startswith("opentelemetry.exporter.") or (
        name.startswith("opentelemetry.sdk.") and ("export" in name or "_shared_internal" in name)
    )
