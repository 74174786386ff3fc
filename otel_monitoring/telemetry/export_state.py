"""Export counters for each signal, and a log filter that keeps an endpoint's failure from flooding the log."""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

from otel_monitoring import seams
from otel_monitoring.config.otlp import Protocol, Signal
from otel_monitoring.forks import renewed
from otel_monitoring.guard import logger
from otel_monitoring.redact import redact

_LOG_EVERY_SECONDS = 60.0
_REASON_LIMIT = 300
# What the SDK's exporters say around the reason when they try again.
_RETRY = re.compile(r"^Transient error |(?: encountered while exporting .{0,80})?,? retrying in [\d.]+s\.?")
_in_progress = threading.local()


class ExportState:
    """The numbers of one signal. Every method may be called from any thread.

    Args:
        signal: `traces`, `metrics` or `logs`.
        endpoint: Where it is sent, or None where we do not send it.
        protocol: How it is sent.
    """

    def __init__(self, signal: Signal, endpoint: str | None, protocol: Protocol) -> None:
        self.signal = signal
        self.endpoint = without_credentials(endpoint) if endpoint is not None else None
        self.queue: Callable[[], int | None] | None = None
        self._protocol = protocol
        self._lock = renewed(self, "_lock", threading.Lock)
        self._exported = self._failures = self._dropped = 0
        self._success_at: float | None = None
        self._last_success: str | None = None
        self._last_error: str | None = None

    @contextmanager
    def exporting(self) -> Iterator[None]:
        """While entered, what the exporter logs in this thread is this signal's reason to fail."""
        _in_progress.state, _in_progress.explained = self, False
        try:
            yield
        finally:
            _in_progress.state = None

    def explain(self, reason: str) -> None:
        """Keep the first reason of the export in progress; later ones only say that it was given up."""
        if not getattr(_in_progress, "explained", False):
            _in_progress.explained = True
            self._last_error = redact(reason, limit=_REASON_LIMIT)

    def cannot_begin(self, error: Exception) -> None:
        """The exporter, or its queue, could not be made: this signal is not exported."""
        self._last_error = redact(f"{type(error).__name__}: {error}", limit=_REASON_LIMIT)
        if not isinstance(error, seams.LostError):  # it has been said
            logger.warning("OTLP export of %s: %s; it is not exported", self.signal, self._last_error)

    def succeeded(self, items: int) -> None:
        """Count spans, log records or data points that the endpoint accepted."""
        with self._lock:
            self._exported += items
            self._success_at = time.monotonic()
            self._last_success = datetime.now(timezone.utc).isoformat(timespec="milliseconds")

    def failed(self, items: int) -> None:
        """Count the items of an export that failed after its retries; the SDK does not send them again."""
        with self._lock:
            self._failures += 1
            self._dropped += items

    def drop(self, items: int) -> None:
        """Count items that never reached the exporter: the queue was full, or time was up."""
        with self._lock:
            self._dropped += items

    def block(self, now: float) -> dict[str, Any]:
        """The signal's part of the `telemetry` block of the diagnostics.

        Args:
            now: Seconds of `time.monotonic`.

        Returns:
            `endpoint` and `protocol` (None where it is not sent), `last_success` (RFC 3339) and its age in seconds,
            `exported` and `dropped` in spans, log records or data points, `failures` in requests given up,
            `last_error`, and `queue`, how many spans or records wait (None: unknown, or no queue).
        """
        queue = self.queue
        with self._lock:
            return {
                "endpoint": self.endpoint,
                "protocol": self._protocol if self.endpoint is not None else None,
                "last_success": self._last_success,
                "last_success_age_seconds": None if self._success_at is None else max(0.0, now - self._success_at),
                "exported": self._exported,
                "failures": self._failures,
                "dropped": self._dropped,
                "last_error": self._last_error,
                "queue": queue() if queue is not None else None,
            }


def without_credentials(endpoint: str) -> str:
    """`endpoint` as it may be shown: user, password, query and anything else that looks secret removed."""
    parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
    shown = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    return redact(shown.removeprefix("//"))


def being_exported() -> bool:
    """Whether the calling thread is inside an export."""
    return getattr(_in_progress, "state", None) is not None


class QuietExports(logging.Filter):
    """Lets one warning a minute through, over all loggers of the SDK's exporters and queues, and without traceback.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._silent_until = float("-inf")
        self._lock = renewed(self, "_lock", threading.Lock)
        self._loggers: list[logging.Logger] = []

    def install(self) -> None:
        """Put the filter on the loggers that exist by now, and enable those that `logging.config` disabled."""
        self._loggers = [
            known for name, known in _loggers() if isinstance(known, logging.Logger) and _about_exporting(name)
        ]
        if not any("_shared_internal" in known.name for known in self._loggers):
            seams.EXPORT_LOGGERS.lost(LookupError("there is no such logger"))
        for known in self._loggers:
            known.disabled = False
            if self not in known.filters:
                known.filters.insert(0, self)  # before the SDK's own, which would hide reasons from us

    def uninstall(self) -> None:
        """Take the filter off again."""
        for known in self._loggers:
            known.removeFilter(self)
        self._loggers = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the reason; whether the record may be logged."""
        if record.levelno < logging.WARNING:
            return True
        message = _RETRY.sub("", record.getMessage())
        state: ExportState | None = getattr(_in_progress, "state", None)
        if state is not None:
            state.explain(message)
        with self._lock:
            now = self._clock()
            if now < self._silent_until:
                return False
            self._silent_until = now + _LOG_EVERY_SECONDS
        about = f"OTLP export of {state.signal}: " if state is not None else ""
        record.msg = f"{about}{redact(message, limit=_REASON_LIMIT)} (said at most once a minute)"
        record.args = ()
        record.exc_info = record.exc_text = record.stack_info = None
        return True


def _loggers() -> list[tuple[str, object]]:
    return seams.LOGGERS.get(lambda: list(logging.root.manager.loggerDict.items()), [])


def _about_exporting(name: str) -> bool:
    return name.startswith("opentelemetry.exporter.") or (
        name.startswith("opentelemetry.sdk.") and ("export" in name or "_shared_internal" in name)
    )
