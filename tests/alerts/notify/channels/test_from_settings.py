"""Which channels the settings make, and how a mistake is named."""

import builtins
import sys
from pathlib import Path
from typing import Any

import pytest

from otel_monitoring.alerts.notify.channels.from_settings import channels_from
from otel_monitoring.config import Settings
from otel_monitoring.errors import ConfigurationError

EMAIL = {
    "SMTP_SERVER": "smtp.example.com",
    "ALERT_EMAIL_FROM": "a@example.com",
    "ALERT_EMAIL_TO": "b@example.com, c@d.e",
}
SECRET = "whsec_Y2FuYXJ5LXNlY3JldC1vZi10aGlydHktdHdvLWJ5dGU="


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def names(monkeypatch: pytest.MonkeyPatch, **environment: str) -> list[str]:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return [channel.name for channel in channels_from(Settings.load())]


def test_without_variables_there_is_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    assert names(monkeypatch) == ["log"]


def test_each_channel_exists_with_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    found = names(
        monkeypatch,
        **EMAIL,
        SLACK_WEBHOOK_URL="https://hooks.slack.com/services/T/B/canary",
        ALERT_WEBHOOK_URL="https://hooks.example.com/canary",
        ALERT_WEBHOOK_SECRET=SECRET,
        ALERTMANAGER_URL="http://u:canary@am-0:9093/am,http://am-1:9093",
        ALERT_APPRISE_URLS="json://u:canary@a/?to=x,y, jsons://b ,json://c",
    )
    assert found == [
        "log",
        "email",
        "slack",
        "webhook",
        "alertmanager",
        "apprise-json",
        "apprise-jsons",
        "apprise-json-2",
    ]
    assert "canary" not in repr([vars(channel) for channel in channels_from(Settings.load())][:5])


@pytest.mark.parametrize("missing", ["SMTP_SERVER", "ALERT_EMAIL_TO"])
def test_no_server_or_no_recipient_is_no_email(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    assert names(monkeypatch, **{**EMAIL, missing: ""}) == ["log"]


@pytest.mark.parametrize(
    ("port", "security", "expected"),
    [("587", "", "starttls"), ("465", "", "tls"), ("25", "none", "none"), ("465", "STARTTLS", "starttls")],
)
def test_security_goes_by_the_port_unless_it_is_said(
    monkeypatch: pytest.MonkeyPatch, port: str, security: str, expected: str
) -> None:
    names(monkeypatch, **EMAIL, SMTP_PORT=port, SMTP_SECURITY=security)
    email: Any = channels_from(Settings.load())[1]
    assert (email._server.port, email._server.security) == (int(port), expected)


@pytest.mark.parametrize(
    ("variable", "environment"),
    [
        ("ALERT_EMAIL_FROM", {**EMAIL, "ALERT_EMAIL_FROM": ""}),
        ("SMTP_SECURITY", {**EMAIL, "SMTP_SECURITY": "none", "ALERT_EMAIL_PASSWORD": "canary"}),
        ("ALERT_WEBHOOK_URL", {"ALERT_WEBHOOK_URL": "http://127.0.0.1/canary"}),
        ("ALERT_WEBHOOK_URL", {"ALERT_WEBHOOK_URL": "http://[::1]:80/canary"}),
        ("ALERT_WEBHOOK_URL", {"ALERT_WEBHOOK_URL": "http://169.254.169.254/canary"}),
        ("ALERT_WEBHOOK_URL", {"ALERT_WEBHOOK_URL": "http://localhost:9/canary"}),
        ("ALERT_APPRISE_URLS", {"ALERT_APPRISE_URLS": "nosuchservice://canary"}),
    ],
)
def test_what_cannot_work_together_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: str, environment: dict[str, str]
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{variable}: ") as caught:
        names(monkeypatch, **environment)
    assert "canary" not in f"{caught.value} {caplog.text}"


def test_a_private_webhook_is_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    found = names(monkeypatch, ALERT_WEBHOOK_URL="http://127.0.0.1/x", ALERT_WEBHOOK_ALLOW_PRIVATE="true")
    assert found == ["log", "webhook"]


def test_apprise_that_is_not_installed_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_apprise(name: str, *rest: Any, **options: Any) -> Any:
        if name == "apprise":
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.delitem(sys.modules, "apprise", raising=False)
    monkeypatch.setattr(builtins, "__import__", without_apprise)
    with pytest.raises(ConfigurationError, match=r"^ALERT_APPRISE_URLS: .*pip install 'otel-monitoring\[apprise\]'"):
        names(monkeypatch, ALERT_APPRISE_URLS="json://canary")


@pytest.mark.parametrize("host", ["①②⑦.⓪.⓪.①", "\uff11\uff12\uff17.0.0.1", "256.256.256.256", "ⓛocalhost"])
@pytest.mark.parametrize("variable", ["ALERT_WEBHOOK_URL", "SLACK_WEBHOOK_URL", "ALERTMANAGER_URL"])
def test_a_host_that_nothing_can_be_sent_to_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, host: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{variable}: its host is neither a name nor an address$"):
        names(monkeypatch, **{variable: f"https://{host}/hook"})
