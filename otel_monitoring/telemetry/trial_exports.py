"""`try_exports`: an empty export to each endpoint, which shows whether it accepts telemetry."""

import threading
import time
from collections.abc import Iterable
from typing import Any

from opentelemetry.sdk.metrics.export import MetricsData

from otel_monitoring.config.otlp import OtlpSettings, Signal
from otel_monitoring.environment import with_variables
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.redact import redact
from otel_monitoring.telemetry.export_state import ExportState
from otel_monitoring.telemetry.log_filter import QuietExports
from otel_monitoring.telemetry.otlp_exporters import CountedExporter, make_exporter

_CLOSE_SECONDS = 0.5


def try_exports(signals: Iterable[Signal], settings: OtlpSettings, *, timeout: float) -> dict[Signal, str | None]:
    """Send an empty request to the endpoint of each signal, all at the same time.

    Args:
        signals: The signals to try.
        settings: The OTLP settings.
        timeout: Seconds to wait for the answers.

    Returns:
        By signal, why the endpoint did not accept the request; None if it did.

    Raises:
        ConfigurationError: An exporter cannot be made from the settings.
    """
    trials = {signal: _Trial(signal, settings) for signal in signals}
    quiet = QuietExports()
    quiet.install()
    try:
        deadline = time.monotonic() + timeout
        for trial in trials.values():
            trial.start()
        return {signal: trial.result(deadline) for signal, trial in trials.items()}
    finally:
        quiet.uninstall()


class _Trial:
    """One empty export, in a daemon thread, because an endpoint may hang."""

    def __init__(self, signal: Signal, settings: OtlpSettings) -> None:
        self._state = ExportState(signal, settings.endpoint(signal), settings.protocol(signal))
        try:
            with with_variables(settings.variables()):
                self._exporter = CountedExporter(make_exporter(signal, settings), self._state)
        except (ValueError, RuntimeError, OSError, LookupError) as error:
            raise ConfigurationError(f"OTEL_EXPORTER_OTLP_*: {redact(str(error))}") from error
        self._nothing: Any = MetricsData(resource_metrics=()) if signal == "metrics" else ()
        self._accepted = False
        self._thread = threading.Thread(target=self._send, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def result(self, deadline: float) -> str | None:
        self._thread.join(max(0.0, deadline - time.monotonic()))
        # Closing ends the retries; over gRPC it waits for the attempt in progress.
        closing = threading.Thread(target=self._exporter.close, daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)
        if self._accepted:
            return None
        return str(self._state.block(0.0)["last_error"] or "no answer in time")

    def _send(self) -> None:
        self._accepted = self._exporter.send(self._nothing, 0)
