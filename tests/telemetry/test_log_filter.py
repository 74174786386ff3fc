"""How quietly an export fails, and that its reason is known."""

import logging

import pytest

from otel_monitoring.config.otlp import SIGNALS
from otel_monitoring.telemetry.export_state import ExportState
from otel_monitoring.telemetry.log_filter import QuietExports
from otel_monitoring.testing import ManualClock

EXPORTER = logging.getLogger("opentelemetry.exporter.test")
RETRYING = "Transient error %s encountered while exporting %s batch, retrying in %.2fs."


def test_one_line_a_minute_over_all_exporters_without_traceback(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock(0.0)
    other = logging.getLogger("opentelemetry.sdk._shared_internal")
    unrelated = logging.getLogger("opentelemetry.sdk.trace")
    quiet = QuietExports(clock)
    quiet.install()
    try:
        for second in range(180):
            clock.now = float(second)
            EXPORTER.error(RETRYING, "X", "spans", 1.0, exc_info=ConnectionError("no"))
            other.warning("Queue full, dropping %s.", "Span")
        unrelated.warning("about something else")
    finally:
        quiet.uninstall()
    said = [r for r in caplog.records if r.name != "opentelemetry.sdk.trace"]
    assert [r.getMessage() for r in said] == ["X (said at most once a minute)"] * 3
    assert all(r.exc_info is None for r in said)
    assert len(caplog.records) == 4
    EXPORTER.warning("again as it was")
    assert caplog.records[-1].getMessage() == "again as it was"


def test_the_reason_is_known_also_when_the_line_is_not_said() -> None:
    quiet = QuietExports(lambda: 0.0)
    quiet.install()
    state = ExportState("logs", "http://c", "grpc")
    try:
        EXPORTER.warning("said")
        with state.exporting():
            EXPORTER.warning(RETRYING, "refused", "logs", 0.91)
            EXPORTER.error("Failed to export logs batch due to timeout, max retries or shutdown.")
    finally:
        quiet.uninstall()
    assert state.block(0.0)["last_error"] == "refused"


def test_each_signal_learns_its_own_reason_where_the_sdk_hides_repeated_lines() -> None:
    shared = logging.getLogger("opentelemetry.sdk._shared_internal")  # carries the SDK's filter of duplicates
    states = [ExportState(signal, "http://c", "grpc") for signal in SIGNALS]
    quiet = QuietExports(lambda: 0.0)
    quiet.install()
    try:
        for state in states:
            with state.exporting():
                shared.warning("no way to send %s", state.signal)
    finally:
        quiet.uninstall()
    assert [state.block(0.0)["last_error"] for state in states] == [f"no way to send {signal}" for signal in SIGNALS]
