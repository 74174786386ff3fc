"""The log channel: one line for each alert, at its severity."""

import logging

import pytest

from otel_monitoring.alerts.channels.log import LogChannel
from otel_monitoring.events import AlertSeverity, AlertType
from tests.notifications import event, notification, resolved

pytestmark = pytest.mark.anyio


async def test_each_alert_is_a_line_at_its_severity_and_its_end_is_news(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    slow = event("Slow", type=AlertType.API_TIMEOUT, severity=AlertSeverity.WARNING, details={})
    await LogChannel().send(notification(event(), slow, resolved()))
    assert [(record.name, record.levelno, record.getMessage()) for record in caplog.records] == [
        (
            "otel_monitoring.alerts",
            logging.CRITICAL,
            'DATABASE_DOWN: Database connection lost {"error": "connection refused"}',
        ),
        ("otel_monitoring.alerts", logging.WARNING, "API_TIMEOUT: Slow"),
        (
            "otel_monitoring.alerts",
            logging.INFO,
            'DATABASE_DOWN resolved: Database connection lost {"error": "connection refused"}',
        ),
    ]
