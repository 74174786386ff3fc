"""`ExportState`: counters of the OTLP export of each signal, and the line that says at the start what is exported."""

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from otel_monitoring import seams
from otel_monitoring.config.otlp import SIGNALS, OtlpSettings, Protocol, Signal
from otel_monitoring.forks import renewed
from otel_monitoring.guard import logger
from otel_monitoring.redact import redact
from otel_monitoring.timestamps import rfc3339

_CALM_SECONDS = 150.0
"""Nothing is being lost once this time has passed without a loss and after a success; metrics leave every minute."""
_SILENT_SECONDS = 900.0
"""The same where no export has succeeded since: nothing is exported any more."""
REASON_LIMIT = 300
"""Maximum length of `last_error`, in characters."""
export_in_progress = threading.local()
"""For the calling thread: the `state` of the signal that it exports, whether a failure was `explained`, and how many
items the server has `rejected`."""


class ExportState:
    """Export counters of one signal; every method may be called in any thread.

    Args:
        signal: `traces`, `metrics` or `logs`.
        endpoint: The OTLP endpoint; None if this package does not export the signal.
        protocol: The OTLP protocol.
        clock: A monotonic clock, in seconds.

    Attributes:
        queue: Reads how many spans or records wait in the queue; None: there is no queue.
        queue_fill: Reads how much of the queue is full, from 0 to 1; a half, where that is not known.
    """

    def __init__(
        self,
        signal: Signal,
        endpoint: str | None,
        protocol: Protocol,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.signal = signal
        self._clock = clock
        self.sends_to(endpoint, protocol)
        self.queue: Callable[[], int | None] | None = None
        self.queue_fill: Callable[[], float] = _unknown_fill
        self._lock = renewed(self, "_lock", threading.Lock)
        self._exported = self._failures = self._dropped = 0
        self._success_at: float | None = None
        self._losing_since: float | None = None
        self._lost_at = 0.0
        self._last_success: str | None = None
        self._last_error: str | None = None

    def sends_to(self, endpoint: str | None, protocol: Protocol) -> None:
        """From now on the signal is exported to another endpoint."""
        self.endpoint = without_credentials(endpoint) if endpoint is not None else None
        self._protocol: Protocol = protocol

    @contextmanager
    def exporting(self) -> Iterator[None]:
        """Inside the `with` block, an export of this signal is in progress in the calling thread."""
        export_in_progress.state, export_in_progress.explained = self, False
        export_in_progress.rejected = 0
        try:
            yield
        finally:
            export_in_progress.state = None

    def explain(self, reason: str) -> None:
        """Keep `reason` as `last_error` if it is the first of the export in progress: later ones report the retries."""
        if not getattr(export_in_progress, "explained", False):
            export_in_progress.explained = True
            self._last_error = redact(reason, limit=REASON_LIMIT)

    def cannot_begin(self, error: Exception) -> None:
        """The exporter or its queue could not be made, so the signal is not exported: log and keep the error."""
        self._last_error = redact(f"{type(error).__name__}: {error}", limit=REASON_LIMIT)
        if not isinstance(error, seams.LostError):  # its seam has logged a warning
            logger.warning("OTLP export of %s: %s; it is not exported", self.signal, self._last_error)

    def succeeded(self, items: int) -> None:
        """Count the export of `items` (spans, log records or data points), of which the endpoint may reject some."""
        rejected, export_in_progress.rejected = min(items, getattr(export_in_progress, "rejected", 0)), 0
        if rejected == items > 0:
            self.failed(items)
            return
        with self._lock:
            self._lose(rejected)
            self._exported += items - rejected
            self._success_at = self._clock()
            self._last_success = rfc3339(time.time())

    def failed(self, items: int) -> None:
        """Count a failed export and its `items`; the SDK has given up its retries."""
        with self._lock:
            self._failures += 1
            self._lose(items)

    def drop(self, items: int) -> None:
        """Count `items` that never reached the exporter: the queue was full, or the deadline passed."""
        with self._lock:
            self._lose(items)

    def _lose(self, items: int) -> None:
        if items == 0:
            return
        now = self._clock()
        if self._losing_since is None or not self._is_losing(now):
            self._losing_since = now
        self._lost_at = now
        self._dropped += items

    def losing_for(self, now: float) -> float:
        """Seconds for which items have been lost, again and again; 0 if they are not.

        A loss ends when exports succeed and nothing was lost for two and a half minutes.

        Args:
            now: Seconds of `time.monotonic`.
        """
        with self._lock:
            since = self._losing_since
            return max(0.0, now - since) if since is not None and self._is_losing(now) else 0.0

    def _is_losing(self, now: float) -> bool:
        quiet = now - self._lost_at
        recovered = self._success_at is not None and self._success_at >= self._lost_at
        return quiet < (_CALM_SECONDS if recovered else _SILENT_SECONDS)

    def block(self, now: float) -> dict[str, Any]:
        """The signal's part of the `telemetry` block of the diagnostics.

        Args:
            now: Seconds of `time.monotonic`.

        Returns:
            `endpoint` and `protocol` (None if not exported), `last_success` (RFC 3339) and
            `last_success_age_seconds`, `exported` and `dropped` (spans, log records or data points), `failures`
            (exports given up), `last_error`, and `queue` (waiting spans or records; None: unknown, or no queue).
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


def _unknown_fill() -> float:
    return 0.5


def without_credentials(endpoint: str) -> str:
    """`endpoint` without user, password, query and fragment, and with anything else that looks secret redacted."""
    parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
    shown = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    return redact(shown.removeprefix("//"))


def export_summary(settings: OtlpSettings, joined: Collection[Signal], *, from_file: bool = False) -> str:
    """One line that says which signals are exported where, without credentials.

    Args:
        settings: The OTLP settings.
        joined: Signals with a provider of the application's own, which decides about their export.
        from_file: Whether these providers are those of the configuration file.
    """
    if settings.sdk_disabled:
        cause = "OTEL_CONFIG_FILE says disabled" if settings.config_file else "OTEL_SDK_DISABLED is set"
        return f"{cause}: nothing is measured or exported"
    theirs = "where OTEL_CONFIG_FILE says" if from_file else "the application's own provider"
    ways: dict[str, list[str]] = {}
    for signal in SIGNALS:
        endpoint = settings.endpoint(signal)
        if signal in joined:
            ways.setdefault(theirs, []).append(signal)
        elif endpoint is not None:
            shown = without_credentials(endpoint).removesuffix(f"/v1/{signal}")
            ways.setdefault(f"{shown} ({settings.protocol(signal)})", []).append(signal)
        for name in settings.other_exporters(signal) if signal not in joined else ():
            ways.setdefault(redact(name), []).append(signal)
    if not ways:
        return "no OTLP endpoint: nothing is exported"
    return "exporting " + "; ".join(f"{', '.join(signals)} to {way}" for way, signals in ways.items())
