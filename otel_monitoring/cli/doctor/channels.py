"""Check: the alert channels."""

import asyncio
from collections.abc import Iterator
from typing import Any

from otel_monitoring.alerts.manager import AlertManager
from otel_monitoring.alerts.notify.channels.from_settings import channels_from
from otel_monitoring.alerts.notify.origin import Origin
from otel_monitoring.alerts.otel_signals import AlertSignals
from otel_monitoring.alerts.store import MemoryStore
from otel_monitoring.cli.doctor.findings import Examination, Finding, Level
from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import ConfigurationError

_SETTINGS = {
    "email": "SMTP_SERVER, ALERT_EMAIL_FROM and ALERT_EMAIL_TO",
    "slack": "SLACK_WEBHOOK_URL, or SLACK_BOT_TOKEN and SLACK_CHANNEL,",
}


def channels(examination: Examination) -> Iterator[Finding]:
    """The configured channels; with `send_test`, whether each takes a test alert."""
    settings = examination.settings
    if settings is None:
        yield Finding("channels", Level.SKIPPED, "the settings are not valid")
        return
    try:
        configured = [channel.name for channel in channels_from(settings) if channel.name != "log"]
    except ConfigurationError as error:
        yield Finding("channels", Level.FAILED, str(error), "correct it: the service does not start with this")
        return
    for name, variables in _SETTINGS.items():
        if name not in configured:
            yield Finding(name, Level.SKIPPED, "not configured", f"set {variables} to be notified this way")
    if not configured:
        advice = "configure one, or let Prometheus or your backend raise the alerts"
        yield Finding("channels", Level.WARNING, "alerts go to the log only", advice)
    elif examination.send_test:
        yield from _tested(settings, configured)
    else:
        for name in configured:
            yield Finding(name, Level.OK, "configured, not tried", "--send-test sends a test alert")


def _tested(settings: Settings, configured: list[str]) -> Iterator[Finding]:
    manager = AlertManager(store=MemoryStore(), settings=settings)
    manager.connect(
        settings,
        Origin.here(settings, {"service.name": settings.service_name or "otel-monitoring doctor"}),
        AlertSignals(),
    )
    results: dict[str, dict[str, Any]] = asyncio.run(manager.test_channels())
    for name in configured:
        result = results[name]
        if result["delivered"]:
            yield Finding(name, Level.OK, "took a test alert: see that it arrived")
        else:
            yield Finding(name, Level.FAILED, result["error"], "correct its settings, or open the way to it")
