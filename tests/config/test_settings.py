"""Settings: documented names and defaults, precedence, and one clear line for every mistake."""

import os
import threading
from pathlib import Path

import pytest

from otel_monitoring.config import THRESHOLDS, Settings, dotenv_file
from otel_monitoring.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_documented_defaults() -> None:
    settings = Settings.load()
    assert (settings.check_interval, settings.sample_interval, settings.window) == (30, 10, 300)
    assert (settings.prefix, settings.access, settings.admin_token) == ("/api", "admin", None)
    assert THRESHOLDS == {
        "database_response_time_ms": 1000.0,
        "error_rate_percent": 5.0,
        "cpu_percent": 80.0,
        "memory_percent": 80.0,
        "api_response_time_ms": 2000.0,
        "event_loop_lag_ms": 1000.0,
        "rejected_requests": 50.0,
        "telemetry_loss_seconds": 300.0,
    }


def test_keywords_win_over_the_environment_which_wins_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("OTEL_MONITORING_WINDOW=60\nOTEL_MONITORING_PREFIX=/file\n")
    monkeypatch.setenv("OTEL_MONITORING_PREFIX", "/env")
    monkeypatch.setenv("OTEL_MONITORING_CHECK_INTERVAL", "7")
    settings = Settings.load(check_interval=3)
    assert (settings.check_interval, settings.prefix, settings.window) == (3, "/env", 60)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_MONITORING_CHECK_INTERVAL", "0"),
        ("OTEL_MONITORING_CHECK_INTERVAL", "soon"),
        ("OTEL_MONITORING_ACCESS", "public"),
        ("OTEL_MONITORING_PREFIX", "api"),
        ("OTEL_MONITORING_PREFIX", "/{tenant}"),
        ("OTEL_MONITORING_ADMIN_TOKEN", "short"),
        ("OTEL_MONITORING_THRESHOLD_CPU_PERCENT", "180"),
        ("OTEL_MONITORING_THRESHOLD_NO_SUCH", "1"),
        ("OTEL_MONITORING_ENVIRONMENT", "not UTF-8: \udcff"),
        ("OTEL_MONITORING_BAGGAGE_KEYS", ",".join(f"key{number}" for number in range(17))),
        ("OTEL_MONITORING_PROMETHEUS_CERTIFICATE", "x" * 5000),
        ("OTEL_MONITORING_ERROR_STATUSES", "500,9"),
        ("OTEL_MONITORING_DATABASE_URI", "localhost:27017/shop"),
        ("OTEL_MONITORING_PUBLIC_URL", "orders.example.com"),
        ("OTEL_MONITORING_TRACE_URL", "https://tempo.example.com/trace/{traceid}"),
        ("OTEL_MONITORING_TRACE_URL", "https://tempo.example.com/trace/"),
        ("OTEL_MONITORING_TRACE_URL", "tempo.example.com/{trace_id}"),
        ("SMTP_SERVER", "smtp.example.com:25"),
        ("SMTP_SERVER", "smtp://smtp.example.com"),
        ("SMTP_PORT", "0"),
        ("SMTP_SECURITY", "ssl"),
        ("ALERT_EMAIL_FROM", "alerts"),
        ("ALERT_EMAIL_FROM", "alerts@example.com\nBcc: x@y.z"),
        ("ALERT_EMAIL_TO", "ops@example.com,boss"),
        ("SLACK_WEBHOOK_URL", "hooks.slack.com/services/T/B/X"),
        ("ALERT_WEBHOOK_URL", "ftp://example.com"),
        ("ALERT_WEBHOOK_URL", "https://"),
        ("ALERT_WEBHOOK_URL", "https://example.com:99999/"),
        ("ALERT_WEBHOOK_SECRET", "hunter2"),
        ("ALERT_WEBHOOK_ALLOW_PRIVATE", "perhaps"),
        ("ALERTMANAGER_URL", "http://am-0:9093,am-1:9093"),
        ("ALERTMANAGER_URL", "http://am-0:9093, ftp://am-1"),
        ("ALERT_APPRISE_URLS", "discord"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv("SMTP_SERVER", "smtp.example.com")
    monkeypatch.setenv("ALERT_EMAIL_TO", "ops@example.com")
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        Settings.load()
    assert str(caught.value).startswith(f"{variable}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "meant"),
    [
        ("OTEL_MONITORING_WINDOW", "5m", "it must be a number, in seconds; did you mean 300?"),
        ("OTEL_MONITORING_CHECK_INTERVAL", "1.5 min", "did you mean 90?"),
        ("OTEL_MONITORING_CHECK_TIMEOUT", "500ms", "did you mean 0.5?"),
        ("OTEL_MONITORING_REPEAT_INTERVAL", "4 hours", "did you mean 14400?"),
        ("OTEL_MONITORING_SAMPLE_INTERVAL", "0,5", "did you mean 0.5?"),
        ("OTEL_MONITORING_THRESHOLD_API_RESPONSE_TIME_MS", "2s", "in milliseconds; did you mean 2000?"),
        ("OTEL_MONITORING_THRESHOLD_CPU_PERCENT", "80%", "did you mean 80?"),
        ("OTEL_MONITORING_THRESHOLD_REJECTED_REQUESTS", "5m", "it must be a number"),
        ("OTEL_MONITORING_THRESHOLD_REJECTED_REQUESTS", "0,5", "it must be a number; did you mean 0.5?"),
        ("OTEL_MONITORING_THRESHOLD_ERROR_RATE", "5", "did you mean OTEL_MONITORING_THRESHOLD_ERROR_RATE_PERCENT?"),
        ("OTEL_MONITORING_WINDOW", "5", "less than OTEL_MONITORING_SAMPLE_INTERVAL, which is 10 s"),
        ("OTEL_MONITORING_DATABASE_URI", "localhost:27017/shop", "it must begin with mongodb://"),
        ("OTEL_MONITORING_THRESHOLDS", "five", "OTEL_MONITORING_THRESHOLDS: it must be a JSON object"),
        *(
            (
                "OTEL_MONITORING_SLO_AVAILABILITY",
                wrong,
                "AVAILABILITY: it must be a number of percent above 0 and below 100",
            )
            for wrong in ("100", "0", "99.9%", "99,9", "nan", "never", "-1")
        ),
    ],
)
def test_a_wrong_value_says_what_was_meant(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, meant: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        Settings.load()
    assert meant in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "kept"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", {"otlp_endpoint": None}),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", {"otlp_protocol": "http/protobuf"}),
        ("OTEL_EXPORTER_OTLP_HEADERS", "canary", {"otlp_headers": None}),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nonexistent", {"otlp_certificate": None}),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", {"otlp_timeout": None}),
        ("OTEL_METRIC_EXPORT_INTERVAL", "60s", {"metric_export_interval": 60_000}),
        ("OTEL_SDK_DISABLED", "perhaps", {"sdk_disabled": False}),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many", {"bsp_max_queue_size": None}),
        ("SMTP_PORT", "smtp", {"smtp_port": 587}),
        ("SMTP_SECURITY", "STARTTLS?", {"smtp_security": None}),
        ("SMTP_SERVER", "smtp://mail", {"smtp_server": None}),
    ],
)
@pytest.mark.parametrize("place", ["environment", "file"])
def test_what_is_not_ours_alone_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    variable: str,
    value: str,
    kept: dict[str, object],
    place: str,
) -> None:
    if place == "file":
        (tmp_path / ".env").write_text(f"{variable}={value}\n")
    else:
        monkeypatch.setenv(variable, value)
    settings = Settings.load()
    assert {name: getattr(settings, name) for name in kept} == kept
    [said] = [line for line in caplog.messages if "is ignored" in line]
    assert said.startswith(f"{variable}: ")
    assert "canary" not in said
    if variable.startswith("OTEL_"):
        assert variable not in os.environ, "the SDK reads it by itself, and would raise"


def test_a_wrong_keyword_is_ours_whatever_its_name() -> None:
    with pytest.raises(ConfigurationError, match="OTEL_EXPORTER_OTLP_ENDPOINT: "):
        Settings.load(otlp_endpoint="collector:4318")


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("OTEL_MONITORING_ADMIN_TOKN", "no setting has this name; did you mean OTEL_MONITORING_ADMIN_TOKEN?"),
        ("OTEL_MONITOR_ADMIN_TOKEN", "no setting has this name; did you mean OTEL_MONITORING_ADMIN_TOKEN?"),
        ("OTEL_MONITORING_COLOUR", "no setting has this name; it is ignored"),
        ("ALERT_EMAILS_TO", "no setting has this name; did you mean ALERT_EMAIL_TO?"),
        ("SMTP_SERVER", "without ALERT_EMAIL_TO no alert is mailed"),
        ("ALERT_EMAIL_TO", "without SMTP_SERVER no alert is mailed"),
        ("ALERT_WEBHOOK_SECRET", "without ALERT_WEBHOOK_URL nothing is posted"),
        ("OTEL_MONITORING_STORE_URI", "without OTEL_MONITORING_STORE the state is kept in a file: set it to mongodb"),
        ("OTEL_MONITORING_PROMETHEUS_HEADERS", "without OTEL_MONITORING_PROMETHEUS_URL no Prometheus is asked"),
    ],
)
@pytest.mark.parametrize("place", ["environment", "file"])
def test_what_has_no_effect_is_said_once(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    variable: str,
    said: str,
    place: str,
) -> None:
    values = {"SECRET": "whsec_" + "A" * 32, "TO": "ops@example.com", "URI": "mongodb://db/shop", "HEADERS": "a=b"}
    value = values.get(variable.rpartition("_")[2], "mail")
    monkeypatch.delenv("OTEL_MONITORING_STORE", raising=False)
    if place == "file":
        (tmp_path / ".env").write_text(f"{variable}={value}\n")
    else:
        monkeypatch.setenv(variable, value)
    Settings.load()
    Settings.load()
    assert caplog.messages == [f"{variable}: {said}"]


_LATIN = ".env: it is not UTF-8; it is read as Latin-1"
_NO_STATEMENT = ".env: what begins at line {} is no NAME=value; it is ignored"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"# caf\xe9\nOTEL_MONITORING_PREFIX=/file\n", [_LATIN]),
        ("\ufeffOTEL_MONITORING_PREFIX=/file\n".encode(), []),
        (b"\x00\xff garbage '\nOTEL_MONITORING_PREFIX=/file\n", [_LATIN, _NO_STATEMENT.format("1")]),
        (b"A=1\nnot a statement\nOTEL_MONITORING_PREFIX=/file\n", [_NO_STATEMENT.format("2")]),
        (b"=\n" * 7 + b"OTEL_MONITORING_PREFIX=/file\n", [_NO_STATEMENT.format("1, 2, 3, 4, 5 and 2 more")]),
    ],
)
def test_what_cannot_be_read_as_it_should_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes, said: list[str]
) -> None:
    (tmp_path / ".env").write_bytes(content)
    for _ in range(2):
        assert Settings.load().prefix == "/file"
    assert caplog.messages == said


def test_the_file_is_read_once_for_all_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A pipe is written once for each time that it is read."""
    monkeypatch.setattr(dotenv_file, "_PIPE_SECONDS", 60.0)
    os.mkfifo(tmp_path / ".env")
    settings: list[Settings] = []
    reader = threading.Thread(target=lambda: settings.append(Settings.load()))
    reader.start()
    (tmp_path / ".env").write_text(
        "SMTP_PORT=smtp\nOTEL_MONITORING_PREFIX=/file\nOTEL_MONITORING_THRESHOLD_CPU_PERCENT=7\n"
    )
    reader.join()
    assert (settings[0].prefix, settings[0].thresholds.cpu_percent) == ("/file", 7)
    assert caplog.messages == ["SMTP_PORT: it must be a whole number; it is ignored"]


def test_a_file_that_cannot_be_read_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ".env").symlink_to(".env")
    assert Settings.load().prefix == "/api"
    assert caplog.messages == [".env: it cannot be read (OSError); it is ignored"]


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16"])
def test_a_file_says_by_its_first_bytes_how_it_is_encoded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mark: str
) -> None:
    (tmp_path / ".env").write_text("OTEL_MONITORING_PREFIX=/file\nOTEL_MONITORING_ENVIRONMENT=Zürich", encoding=mark)
    assert (Settings.load().prefix, Settings.load().environment) == ("/file", "Zürich")
    assert not caplog.messages


def test_a_file_that_is_far_too_large_is_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (tmp_path / ".env").open("w") as file:
        file.write("OTEL_MONITORING_PREFIX=/file\n")
        file.truncate(1 << 40)
    assert Settings.load().prefix == "/api"
    assert caplog.messages == [".env: it is larger than 1 MiB; it is ignored"]


def test_a_pipe_is_read_as_managers_of_secrets_write_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dotenv_file, "_PIPE_SECONDS", 60.0)
    os.mkfifo(tmp_path / ".env")
    settings: dict[str, dict[str, str]] = {}
    reader = threading.Thread(target=lambda: settings.update(prefix=dotenv_file.variables()))
    reader.start()
    with (tmp_path / ".env").open("w") as pipe:
        pipe.write("OTEL_MONITORING_PREFIX=")
        pipe.flush()
        pipe.write("/file\n")
    reader.join()
    assert settings == {"prefix": {"OTEL_MONITORING_PREFIX": "/file"}}
    assert not caplog.messages


def test_a_pipe_that_nobody_writes_to_is_not_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(tmp_path / ".env")
    assert Settings.load().prefix == "/api"
    assert caplog.messages == [".env: it is a pipe that nobody writes to; it is ignored"]


def test_a_directory_of_that_name_and_no_directory_at_all_are_no_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    (gone / ".env").mkdir()
    monkeypatch.chdir(gone)
    assert Settings.load().prefix == "/api"
    (gone / ".env").rmdir()
    gone.rmdir()
    assert Settings.load().prefix == "/api"


def test_every_mistake_is_reported_and_no_value_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_MONITORING_ADMIN_TOKEN", "s3cr3t")
    monkeypatch.setenv("OTEL_MONITORING_WINDOW", "-5")
    with pytest.raises(ConfigurationError) as caught:
        Settings.load()
    assert "OTEL_MONITORING_WINDOW" in str(caught.value)
    assert "OTEL_MONITORING_ADMIN_TOKEN" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_channels_are_read_by_their_documented_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTP_SERVER", "smtp.gmail.com")
    monkeypatch.setenv("ALERT_EMAIL_TO", "ops@earlybird.com, Boss <boss@earlybird.com>")
    monkeypatch.setenv("ALERTMANAGER_URL", "http://am-0:9093, http://am-1:9093")
    monkeypatch.setenv("ALERT_APPRISE_URLS", "mailtos://u:p@example.com?to=a@b.c,d@e.f ntfy://topic")
    settings = Settings.load(alert_webhook_allow_private=True)
    assert (settings.smtp_server, settings.smtp_port, settings.alert_email_password) == ("smtp.gmail.com", 587, None)
    assert settings.alert_email_to == ("ops@earlybird.com", "Boss <boss@earlybird.com>")
    assert [url.get_secret_value() for url in settings.alertmanager_url] == ["http://am-0:9093", "http://am-1:9093"]
    assert [url.get_secret_value() for url in settings.alert_apprise_urls] == [
        "mailtos://u:p@example.com?to=a@b.c,d@e.f",
        "ntfy://topic",
    ]
    assert settings.alert_webhook_allow_private


def test_an_address_may_be_the_mail_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTP_SERVER", "[::1]")
    assert Settings.load().smtp_server == "::1"


def test_unknown_keywords_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"chek_interval: no such setting; did you mean check_interval\?"):
        Settings.load(chek_interval=3)


def test_thresholds_are_overridden_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_MONITORING_THRESHOLD_CPU_PERCENT", "70")
    monkeypatch.setenv("OTEL_MONITORING_THRESHOLD_MEMORY_PERCENT", "60")
    thresholds = Settings.load(thresholds={"memory_percent": 90}).thresholds
    assert (thresholds.cpu_percent, thresholds.memory_percent, thresholds.error_rate_percent) == (70, 90, 5)


def test_a_threshold_is_a_keyword_as_every_setting_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_MONITORING_THRESHOLD_CPU_PERCENT", "70")
    settings = Settings.load(threshold_cpu_percent=90, thresholds={"memory_percent": 60, "cpu_percent": 1})
    assert (settings.thresholds.cpu_percent, settings.thresholds.memory_percent) == (90, 60)
    assert Settings.load(threshold_cpu_percent=None).thresholds.cpu_percent == 70
    meant = r"THRESHOLD_ERROR_RATE: no such setting; did you mean OTEL_MONITORING_THRESHOLD_ERROR_RATE_PERCENT\?"
    with pytest.raises(ConfigurationError, match=meant):
        Settings.load(threshold_error_rate=5)


@pytest.mark.parametrize("given", [5, "cpu_percent", [5]])
def test_thresholds_are_a_mapping(given: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^OTEL_MONITORING_THRESHOLDS: it must be a mapping, as"):
        Settings.load(thresholds=given)


def test_thresholds_are_read_from_the_file_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OTEL_MONITORING_THRESHOLD_CPU_PERCENT=70\n")
    assert Settings.load().thresholds.cpu_percent == 70


def test_secrets_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_MONITORING_ADMIN_TOKEN", "canary-token")
    monkeypatch.setenv("OTEL_MONITORING_DATABASE_URI", "mongodb://u:canary-password@db")
    monkeypatch.setenv("ALERT_EMAIL_PASSWORD", "canary-password")
    monkeypatch.setenv("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/T/B/canary")
    monkeypatch.setenv("ALERTMANAGER_URL", "http://u:canary@am:9093")
    monkeypatch.setenv("ALERT_APPRISE_URLS", "json://u:canary@host")
    assert "canary" not in repr(Settings.load())


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("STORE", " SQLite ", "sqlite"),
        ("ACCESS", "Open", "open"),
        ("CAPTURE_QUERY", "true ", True),
        ("CHECK_INTERVAL", " 7\n", 7.0),
        ("STATE_DIR", "  ", None),
        ("ADMIN_TOKEN", " abcdefgh\n", "abcdefgh"),
    ],
)
def test_blanks_around_a_value_and_capitals_do_not_matter(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, read: object
) -> None:
    monkeypatch.setenv(f"OTEL_MONITORING_{name}", value)
    found = getattr(Settings.load(), name.lower())
    assert (found.get_secret_value() if name == "ADMIN_TOKEN" else found) == read


def test_a_password_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALERT_EMAIL_PASSWORD", " abc ")
    password = Settings.load().alert_email_password
    assert password is not None
    assert password.get_secret_value() == " abc "


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("CAPTURE_QUERY", "ja", "it must be true or false"),
        ("MAX_ENDPOINTS", "1,000", "it must be a whole number"),
        ("CHECK_INTERVAL", "inf", "it must be a finite number"),
        ("CHECK_INTERVAL", "1e300", "it must be less than or equal to 31622400"),
        ("CHECK_INTERVAL", '"30"', "it must be a number, in seconds; did you mean 30?"),
        ("CHECK_INTERVAL", "0,5", "it must be a number, in seconds; did you mean 0.5?"),
        ("THRESHOLD_API_RESPONSE_TIME_MS", "inf", "it must be a finite number"),
        ("STORE", "redis", "it must be 'memory', 'sqlite' or 'mongodb'"),
    ],
)
def test_what_cannot_work_is_said_in_plain_words(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, why: str
) -> None:
    monkeypatch.setenv(f"OTEL_MONITORING_{name}", value)
    with pytest.raises(ConfigurationError) as caught:
        Settings.load()
    assert str(caught.value) == f"OTEL_MONITORING_{name}: {why}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/no/ca.pem"),
        ("OTEL_EXPORTER_OTLP_LOGS_CLIENT_KEY", "/no/key.pem"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "30s"),
        ("OTEL_BLRP_EXPORT_TIMEOUT", "-1"),
    ],
)
def test_what_the_sdk_would_stumble_over_is_ignored(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    Settings.load()
    assert name not in os.environ
    assert caplog.text.count(f"{name}: ") == 1
