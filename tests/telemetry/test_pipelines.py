"""What is exported where, what becomes of it, and how quietly; the endpoints themselves are in `integration`."""

import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider

from otel_monitoring.config import Settings
from otel_monitoring.config.otlp import SIGNALS
from otel_monitoring.environment import opt_in_to_stable_conventions, warned
from otel_monitoring.guard import fail_open
from otel_monitoring.metrics.reader import SnapshotReader
from otel_monitoring.telemetry.export_state import ExportState, without_credentials
from otel_monitoring.telemetry.log_filter import QuietExports, being_exported
from otel_monitoring.telemetry.log_pipeline import OtlpHandler
from otel_monitoring.telemetry.shutdown import ReaderPipeline, close_all
from otel_monitoring.testing import ManualClock

EXPORTER = logging.getLogger("opentelemetry.exporter.test")
RETRYING = "Transient error %s encountered while exporting %s batch, retrying in %.2fs."


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def endpoints(**settings: object) -> list[str | None]:
    loaded = Settings.load(**settings)
    return [loaded.endpoint(signal) for signal in SIGNALS]


def test_the_common_http_endpoint_is_a_base_and_a_signals_own_is_not() -> None:
    assert endpoints() == [None, None, None]
    assert endpoints(otlp_endpoint="http://c:4318/base/", otlp_logs_endpoint="https://logs/in") == [
        "http://c:4318/base/v1/traces",
        "http://c:4318/base/v1/metrics",
        "https://logs/in",
    ]
    assert endpoints(otlp_endpoint="http://c:4317", otlp_protocol="grpc") == ["http://c:4317"] * 3
    assert endpoints(otlp_endpoint="c:4317", otlp_protocol="grpc") == ["c:4317"] * 3


def test_a_signal_can_be_switched_off_and_all_can() -> None:
    assert endpoints(otlp_endpoint="http://c", traces_exporter="none", logs_exporter="console") == [
        None,
        "http://c/v1/metrics",
        None,
    ]
    assert endpoints(otlp_endpoint="http://c", sdk_disabled=True) == [None, None, None]


def test_a_signals_own_variable_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "GRPC")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/protobuf")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "a=1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "b=2")
    settings = Settings.load()
    assert [settings.protocol(s) for s in SIGNALS] == ["grpc", "grpc", "http/protobuf"]
    assert [settings.compression(s) for s in SIGNALS] == ["none", "gzip", "gzip"]
    assert [settings.headers(s) for s in SIGNALS] == ["a=1", "a=1", "b=2"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:99999"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:port"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "ftp://c"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "udp"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "brotli"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization Bearer sesame"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", 'a=b,c="sesame"'),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "sesame"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/sesame"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
        ("OTEL_METRICS_EXEMPLAR_FILTER", "sesame"),
    ],
)
def test_what_cannot_work_is_ignored_and_said_by_its_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """The variables are OpenTelemetry's: whoever set one may have meant another library, and the service starts."""
    monkeypatch.setenv(variable, value)
    Settings.load()
    [said] = warned
    assert said.startswith(f"{variable}: ")
    assert said.endswith("; it is ignored")
    assert "\n" not in said
    assert "sesame" not in said
    assert variable not in os.environ, "the SDK would read it"


def test_headers_are_secret_where_settings_are_shown() -> None:
    assert "sesame" not in repr(Settings.load(otlp_headers="authorization=sesame"))


@pytest.mark.parametrize(
    ("given", "after"), [(None, "http,database"), ("", "http,database"), ("http/dup", "http/dup"), ("x", "x")]
)
def test_stable_conventions_unless_chosen_otherwise(
    monkeypatch: pytest.MonkeyPatch, given: str | None, after: str
) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", given or "")
    if given is None:
        monkeypatch.delenv("OTEL_SEMCONV_STABILITY_OPT_IN")
    opt_in_to_stable_conventions()
    assert os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] == after


def test_an_endpoint_is_shown_without_secrets() -> None:
    assert without_credentials("https://me:sesame@c:4318/v1/traces?key=sesame#x") == "https://c:4318/v1/traces"
    assert without_credentials("c:4317") == "c:4317"


def test_the_numbers_of_a_signal() -> None:
    state = ExportState("traces", "http://c/v1/traces", "http/protobuf")
    idle = state.block(0.0)
    assert idle["last_success"] is idle["last_success_age_seconds"] is idle["last_error"] is idle["queue"] is None
    with state.exporting():
        assert being_exported()
        state.explain("the reason, password=sesame")
        state.explain("given up")
    assert not being_exported()
    state.failed(7)
    state.drop(2)
    state.succeeded(5)
    state.queue = lambda: 3
    block = state.block(time.monotonic() + 60)
    assert (block["exported"], block["failures"], block["dropped"], block["queue"]) == (5, 1, 9, 3)
    assert block["last_error"] == "the reason, password=[REDACTED]"
    assert 60 <= block["last_success_age_seconds"] < 90


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
        assert threading.enumerate() == before
    finally:
        released.set()


class Hanging:
    """Something to close that does not close until it is let go."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.aborted = threading.Event()

    def flush(self) -> None:
        pass

    def detach(self) -> None:
        pass

    def close(self, timeout: float) -> None:
        self.released.wait(30)

    def abort(self) -> None:
        self.aborted.set()

    def settle(self) -> None:
        pass


def test_closing_is_parallel() -> None:
    meeting = threading.Barrier(2)

    class Meeting(Hanging):
        def close(self, timeout: float) -> None:
            meeting.wait(30)

    both = [Meeting(), Meeting()]
    close_all([("a", both[0]), ("b", both[1])], time.monotonic() + 30)
    assert not meeting.broken
    assert not any(one.aborted.is_set() for one in both)


def test_closing_is_bounded_and_tidies_up_after_the_last() -> None:
    hanging = [Hanging(), Hanging()]
    provider = MeterProvider(shutdown_on_exit=False)
    reader = SnapshotReader(0.0)
    provider.add_metric_reader(reader)
    tidied = threading.Event()
    close_all(
        [("a", hanging[0]), ("b", hanging[1]), ("reader", ReaderPipeline(provider, reader))],
        time.monotonic() + 0.2,
        afterwards=tidied.set,
    )
    assert all(one.aborted.is_set() for one in hanging)
    assert not tidied.is_set()
    hanging[0].released.set()
    hanging[1].released.set()
    assert tidied.wait(30)
    provider.add_metric_reader(reader)  # it had left: else this warns
    provider.shutdown()
