"""The alert manager as documented: delivery, suppression, mutes, history, summary."""

import logging

import pytest

from otel_monitoring import alerts
from otel_monitoring.alerts import AlertManager, AlertSeverity, AlertType
from otel_monitoring.errors import DeliveryError
from otel_monitoring.events import AlertEvent

pytestmark = pytest.mark.anyio


class Recorder:
    name = "recorder"

    def __init__(self) -> None:
        self.events: list[AlertEvent] = []

    async def send(self, event: AlertEvent) -> None:
        self.events.append(event)


class Broken:
    name = "broken"

    async def send(self, event: AlertEvent) -> None:
        raise DeliveryError("password=hunter2 refused", retryable=True)


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


async def test_an_alert_is_logged_at_its_severity(caplog: pytest.LogCaptureFixture) -> None:
    sent = await AlertManager().send_alert(
        AlertType.DATABASE_DOWN, "Database connection lost", AlertSeverity.CRITICAL, details={"error": "timeout"}
    )
    assert sent
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [
        (logging.CRITICAL, 'DATABASE_DOWN: Database connection lost {"error": "timeout"}')
    ]


async def test_the_same_alert_is_notified_once_in_five_minutes() -> None:
    channel, clock = Recorder(), Clock()
    manager = AlertManager(channels=[channel], clock=clock)
    assert await manager.send_alert(AlertType.HIGH_CPU, "CPU at 91%")
    clock.now += 299
    assert not await manager.send_alert(AlertType.HIGH_CPU, "CPU at 91%")
    assert await manager.send_alert(AlertType.HIGH_CPU, "CPU at 99%"), "another message is another alert"
    clock.now += 2
    assert await manager.send_alert(AlertType.HIGH_CPU, "CPU at 91%")
    assert len(channel.events) == 3
    assert [e["outcome"] for e in await manager.get_alert_history()] == [
        "notified",
        "notified",
        "suppressed",
        "notified",
    ]


async def test_a_muted_type_is_kept_but_not_sent_until_the_mute_ends() -> None:
    channel, clock = Recorder(), Clock()
    manager = AlertManager(channels=[channel], clock=clock)
    manager.mute_alert_type(AlertType.HIGH_ERROR_RATE, 300)
    assert not await manager.send_alert("high_error_rate", "6%")
    summary = await manager.get_alert_summary()
    assert summary["muted_alerts"] == {"high_error_rate": "2023-11-14T22:18:20.000+00:00"}
    assert (summary["total_alerts"], summary["alerts_by_type"]) == (1, {"high_error_rate": 1})
    clock.now += 301
    assert await manager.send_alert("high_error_rate", "6%")
    assert (await manager.get_alert_summary())["muted_alerts"] == {}
    manager.mute_alert_type(AlertType.HIGH_ERROR_RATE)
    assert manager.unmute_alert_type(AlertType.HIGH_ERROR_RATE)
    assert not manager.unmute_alert_type(AlertType.HIGH_ERROR_RATE)
    assert [e.message for e in channel.events] == ["6%"]


async def test_history_filters_limits_and_keeps_a_thousand() -> None:
    manager = AlertManager(channels=[])
    for i in range(1005):
        await manager.send_alert(AlertType.CUSTOM if i % 2 else AlertType.HIGH_CPU, f"number {i}", "error")
    assert len(await manager.get_alert_history(limit=1000)) == 1000
    newest = await manager.get_alert_history(limit=2, alert_type="custom", severity="error")
    assert [e["message"] for e in newest] == ["number 1003", "number 1001"]
    assert await manager.get_alert_history(severity=AlertSeverity.INFO) == []
    summary = await manager.get_alert_summary()
    assert (summary["total_alerts"], len(summary["recent_alerts"])) == (1005, 10)
    manager.reset_stats()
    assert (await manager.get_alert_summary())["total_alerts"] == 0


@pytest.mark.parametrize("limit", [0, 1001])
async def test_limits_outside_the_range_are_refused(limit: int) -> None:
    with pytest.raises(ValueError, match=f"limit: must be from 1 to 1000, not {limit}"):
        await AlertManager(channels=[]).get_alert_history(limit=limit)


async def test_unknown_names_and_durations_are_refused() -> None:
    manager = AlertManager(channels=[])
    with pytest.raises(ValueError, match="no_such"):
        await manager.send_alert("no_such", "x")
    with pytest.raises(ValueError, match="duration_seconds"):
        manager.mute_alert_type(AlertType.HIGH_CPU, 0)
    assert await manager.get_alert_history() == []


async def test_a_broken_channel_stops_neither_the_others_nor_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    channel = Recorder()
    manager = AlertManager(channels=[Broken(), channel])
    assert await manager.send_alert(AlertType.CUSTOM, "still here")
    assert [e.message for e in channel.events] == ["still here"]
    results = await manager.test_channels()
    assert results["recorder"] == {"delivered": True}
    assert results["broken"]["delivered"] is False
    assert "hunter2" not in str(results)


async def test_secrets_do_not_enter_the_history() -> None:
    manager = AlertManager(channels=[])
    await manager.send_alert(
        AlertType.DATABASE_DOWN, "mongodb://app:hunter2@db failed", details={"error": "password=hunter2"}
    )
    assert "hunter2" not in str(await manager.get_alert_history())


async def test_the_documented_helpers_use_the_processs_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "_manager", None)
    assert alerts.get_alert_manager() is None
    channel = Recorder()
    alerts.set_alert_manager(AlertManager(channels=[channel]))
    assert alerts.initialize_alerts() is alerts.get_alert_manager()
    await alerts.alert_database_down({"error": "timeout"})
    await alerts.alert_high_error_rate(7.5, {"endpoints": {}})
    await alerts.alert_performance_issue("/api/orders/", 2345.67)
    assert [(e.type.value, e.severity.value, e.message) for e in channel.events] == [
        ("database_down", "critical", "Database connection lost"),
        ("high_error_rate", "warning", "High error rate: 7.50%"),
        ("api_timeout", "warning", "Slow API response: /api/orders/ (2345.67ms)"),
    ]
