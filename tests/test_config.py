"""Settings: documented names and defaults, precedence, and one clear line for every mistake."""

from pathlib import Path

import pytest

from otel_monitoring.config import THRESHOLDS, Settings
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
        ("OTEL_MONITORING_ERROR_STATUSES", "500,9"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "thrift"),
        ("OTEL_MONITORING_PUBLIC_URL", "orders.example.com"),
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
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        Settings.load()
    assert str(caught.value).startswith(f"{variable}: ")
    assert "\n" not in str(caught.value)


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
    with pytest.raises(ConfigurationError, match="chek_interval: no such setting"):
        Settings.load(chek_interval=3)


def test_thresholds_are_overridden_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_MONITORING_THRESHOLD_CPU_PERCENT", "70")
    monkeypatch.setenv("OTEL_MONITORING_THRESHOLD_MEMORY_PERCENT", "60")
    thresholds = Settings.load(thresholds={"memory_percent": 90}).thresholds
    assert (thresholds.cpu_percent, thresholds.memory_percent, thresholds.error_rate_percent) == (70, 90, 5)


def test_secrets_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_MONITORING_ADMIN_TOKEN", "canary-token")
    monkeypatch.setenv("OTEL_MONITORING_DATABASE_URI", "mongodb://u:canary-password@db")
    monkeypatch.setenv("ALERT_EMAIL_PASSWORD", "canary-password")
    monkeypatch.setenv("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/T/B/canary")
    monkeypatch.setenv("ALERTMANAGER_URL", "http://u:canary@am:9093")
    monkeypatch.setenv("ALERT_APPRISE_URLS", "json://u:canary@host")
    assert "canary" not in repr(Settings.load())
