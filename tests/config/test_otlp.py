"""What is exported where, by OpenTelemetry's variables; the endpoints themselves are in `integration`."""

import os
from pathlib import Path

import pytest

from otel_monitoring.config import Settings
from otel_monitoring.config.otlp import SIGNALS
from otel_monitoring.environment import warned


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


def test_exporters_that_only_begin_as_otlp_does_are_others() -> None:
    settings = Settings.load(
        otlp_endpoint="http://c",
        traces_exporter="otlp/stdout",
        logs_exporter="otlp_proto_http",
        metrics_exporter="otlpx",
    )
    assert [settings.endpoint(signal) for signal in SIGNALS] == [None, None, "http://c/v1/logs"]
    assert [settings.other_exporters(signal) for signal in SIGNALS] == [("otlp/stdout",), ("otlpx",), ()]


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
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://ana:sesame@\u2100.example.com"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "ftp://c"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "udp"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "brotli"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization Bearer sesame"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", 'a=b,c="sesame"'),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "sesame"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/sesame"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "sesame" * 1000),
        ("OTEL_SERVICE_NAME", "sesame\udcff"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "inf"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "512.0"),
        ("OTEL_METRICS_EXEMPLAR_FILTER", "sesame"),
        # "Never", as other languages spell it, ends the thread that waits; requests and queues have no such number.
        ("OTEL_METRIC_EXPORT_INTERVAL", str(2**63 - 1)),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "1e300"),
        ("OTEL_BSP_SCHEDULE_DELAY", str(2**63 - 1)),
        ("OTEL_BLRP_SCHEDULE_DELAY", str(2**63 - 1)),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", str(2**63 - 1)),
        ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "1e300"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", str(2**63)),
        ("OTEL_BLRP_MAX_QUEUE_SIZE", str(2**63)),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", str(2**63)),
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


def test_the_sdk_finds_what_it_reads_wherever_that_was_set(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OTEL_BSP_SCHEDULE_DELAY=50\nOTEL_METRICS_EXEMPLAR_FILTER=Always_Off\n")
    certificate = tmp_path / "ca.pem"
    certificate.touch()
    found = Settings.load(otlp_logs_timeout=3, otlp_certificate=str(certificate)).variables()
    assert found == {
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_METRICS_EXEMPLAR_FILTER": "always_off",
        "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT": "3.0",
        "OTEL_EXPORTER_OTLP_CERTIFICATE": str(certificate),
    }


@pytest.mark.parametrize(
    ("queue", "batch", "found", "said"),
    [
        (10, None, {"OTEL_BLRP_MAX_QUEUE_SIZE": "10", "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "10"}, False),
        (10, 20, {"OTEL_BLRP_MAX_QUEUE_SIZE": "10", "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "10"}, True),
        (None, 5000, {"OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "2048"}, True),
        (10, 5, {"OTEL_BLRP_MAX_QUEUE_SIZE": "10", "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "5"}, False),
    ],
)
def test_a_batch_is_not_larger_than_its_queue(
    queue: int | None, batch: int | None, found: dict[str, str], said: bool
) -> None:
    settings = Settings.load(blrp_max_queue_size=queue, blrp_max_export_batch_size=batch)
    assert settings.variables() == settings.variables() == found
    assert [line.split(":")[0] for line in warned] == (["OTEL_BLRP_MAX_EXPORT_BATCH_SIZE"] if said else [])


def test_headers_are_secret_where_settings_are_shown() -> None:
    assert "sesame" not in repr(Settings.load(otlp_headers="authorization=sesame"))
