"""Which log records are exported, and that nothing waits for them."""

import logging
import threading
from typing import Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider

from otel_monitoring.guard import fail_open
from otel_monitoring.telemetry.exception_signal import ExceptionSignal, LogEvent
from otel_monitoring.telemetry.export_state import ExportState
from otel_monitoring.telemetry.log_pipeline import OtlpHandler


def test_records_that_an_export_makes_are_not_exported() -> None:
    exporter: Any = InMemoryLogRecordExporter  # untyped
    exporter = exporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    handler = OtlpHandler(provider)
    state = ExportState("logs", "http://c", "grpc")

    def log(name: str, message: str = "text", *args: object) -> None:
        handler.handle(logging.LogRecord(name, logging.ERROR, __file__, 1, message, args, None))

    for name in ("opentelemetry.exporter.otlp", "urllib3.connectionpool", "requests", "grpc._cython"):
        log(name)
    with state.exporting():
        log("anything.a.session.logs")
    log("app", "%d pieces", "not a number")  # must not raise into the code that logs
    log("app", "kept")
    assert [r.log_record.body for r in exporter.get_finished_logs()] == ["kept"]
    assert fail_open.failures["log export"] == 1


@pytest.mark.parametrize("opt_in", ["", "logs", "logs/dup"])
def test_a_server_does_not_repeat_an_exception_that_has_left(opt_in: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", opt_in)
    exporter: Any = InMemoryLogRecordExporter  # untyped
    exporter = exporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    handler = OtlpHandler(provider)
    told, untold = ValueError("told"), ValueError("untold")
    span = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("work")
    ExceptionSignal(provider.get_logger("test")).record(told, span, LogEvent("work.exception", "work failed"))

    shown = []
    for name, error in (("uvicorn.error", told), ("uvicorn.error", untold), ("app", told)):
        record = logging.LogRecord(name, logging.ERROR, __file__, 1, "it failed", (), (type(error), error, None))
        handler.handle(record)
        shown.append(record.exc_info)

    logged = [r.log_record for r in exporter.get_finished_logs() if r.log_record.body != "work failed"]
    assert [r.body for r in logged] == ["it failed"] * 3
    messages = [(r.attributes or {}).get("exception.message") for r in logged]
    assert messages == [None, "untold", "told"]  # what the application logs is its own
    assert all(shown)  # for the other handlers


def test_the_handlers_flush_at_exit_waits_for_nobody() -> None:
    released = threading.Event()

    class Stuck(SimpleLogRecordProcessor):
        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return released.wait(30)

    provider = LoggerProvider(shutdown_on_exit=False)
    exporter: Any = InMemoryLogRecordExporter
    provider.add_log_record_processor(Stuck(exporter()))
    before = threading.enumerate()
    OtlpHandler(provider).flush()
    try:
        assert not set(threading.enumerate()) - set(before)  # one of an earlier test may end
    finally:
        released.set()
