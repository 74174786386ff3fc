"""Export counters for each signal, and a log filter that keeps an endpoint's failure from flooding the log."""

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

from otel_monitoring import seams
from otel_monitoring.config.otlp import SIGNALS, OtlpSettings, Protocol, Signal
from otel_monitoring.forks import renewed
from otel_monitoring.guard import logger
from otel_monitoring.redact import redact

REASON_LIMIT = 300
export_in_progress = threading.local()


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
        export_in_progress.state, export_in_progress.explained = self, False
        try:
            yield
        finally:
            export_in_progress.state = None

    def explain(self, reason: str) -> None:
        """Keep the first reason of the export in progress; later ones only say that it was given up."""
        if not getattr(export_in_progress, "explained", False):
            export_in_progress.explained = True
            self._last_error = redact(reason, limit=REASON_LIMIT)

    def cannot_begin(self, error: Exception) -> None:
        """The exporter, or its queue, could not be made: this signal is not exported."""
        self._last_error = redact(f"{type(error).__name__}: {error}", limit=REASON_LIMIT)
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


def announcement(settings: OtlpSettings, joined: Collection[Signal]) -> str:
    """One line: which signals go where, without credentials.

    Args:
        settings: Where they go.
        joined: Signals whose provider is the application's own: how these leave is not known here.
    """
    if settings.sdk_disabled:
        return "OTEL_SDK_DISABLED is set: nothing is measured or exported"
    ways: dict[str, list[str]] = {}
    for signal in SIGNALS:
        endpoint = settings.endpoint(signal)
        if signal in joined:
            ways.setdefault("the application's own provider", []).append(signal)
        elif endpoint is not None:
            shown = without_credentials(endpoint).removesuffix(f"/v1/{signal}")
            ways.setdefault(f"{shown} ({settings.protocol(signal)})", []).append(signal)
    if not ways:
        return "no OTLP endpoint: nothing is exported"
    return "exporting " + "; ".join(f"{', '.join(signals)} to {way}" for way, signals in ways.items())
