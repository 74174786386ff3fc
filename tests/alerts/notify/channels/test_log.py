"""The log channel: one line for each alert, at its severity."""

import logging

import pytest

from otel_monitoring.alerts.model import AlertSeverity, AlertType
from otel_monitoring.alerts.notify.channels.log import LogChannel
from tests.notifications import event, notification, resolved

pytestmark = pytest.mark.anyio

FACTS = (
    '{"endpoint": "/api/orders/", "error": "connection refused", '
    '"runbook": "https://runbooks.example.com/database-down", "trace_id": "0af7651916cd43dd8448eb211c80319c"}'
)


async def test_each_alert_is_a_line_at_its_severity_and_its_end_is_news(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    slow = event(
        "Slow",
        type=AlertType.API_TIMEOUT,
        severity=AlertSeverity.WARNING,
        details={},
        labels={},
        runbook="",
        trace_id="",
    )
    await LogChannel().send(notification(event(), slow, resolved()))
    assert [(record.name, record.levelno, record.getMessage()) for record in caplog.records] == [
        (
            "otel_monitoring.alerts",
            logging.CRITICAL,
            f"DATABASE_DOWN: Database connection lost {FACTS}",
        ),
        ("otel_monitoring.alerts", logging.WARNING, "API_TIMEOUT: Slow"),
        (
            "otel_monitoring.alerts",
            logging.INFO,
            f"DATABASE_DOWN resolved: Database connection lost {FACTS}",
        ),
    ]
