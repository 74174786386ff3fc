"""The settings in force are shown, and no secret is."""

import json

from otel_monitoring.config import Settings
from otel_monitoring.status_page.about import about

SECRET = "hunter2-hunter2"


def test_settings_are_shown_and_secrets_are_not() -> None:
    settings = Settings.load(
        admin_token=SECRET,
        check_interval=60,
        threshold_cpu_percent=70,
        database_uri=f"mongodb://ana:{SECRET}@localhost/shop",
        slack_webhook_url=f"https://hooks.slack.com/services/{SECRET}",
        alertmanager_url=f"http://ana:{SECRET}@localhost:9093",
        otlp_endpoint=f"http://ana:{SECRET}@localhost:4318",
        otlp_headers=f"api-key={SECRET}",
        environment="production",
    )
    answer = about(settings, {"version": "2.3.1"})
    assert SECRET not in json.dumps(answer)
    assert answer["versions"]["service"] == "2.3.1"
    assert {"Python", "fastapi", "opentelemetry-sdk"} <= answer["versions"].keys()
    shown = {name: (value, is_default) for name, value, is_default in answer["settings"]}
    assert shown["OTEL_MONITORING_ADMIN_TOKEN"] == ("set, not shown", False)
    assert shown["OTEL_MONITORING_CHECK_INTERVAL"] == ("60", False)
    assert shown["OTEL_MONITORING_SAMPLE_INTERVAL"] == ("10", True)
    assert shown["OTEL_MONITORING_THRESHOLD_CPU_PERCENT"] == ("70", False)
    assert shown["OTEL_MONITORING_PAGE"] == ("on", True)
    assert shown["OTEL_MONITORING_ENVIRONMENT"] == ("production", False)
    assert shown["ALERTMANAGER_URL"] == ("1 set, not shown", False)
    assert shown["SMTP_SERVER"] == ("not set", True)
