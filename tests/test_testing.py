"""`otel_monitoring.testing`, as the tests of an application use it."""

from typing import Any

import pytest
from fastapi import FastAPI

from otel_monitoring import AlertManager, InstrumentationError, MonitoringService
from otel_monitoring.alerts import AlertType, Gauge, Rule, Slo
from otel_monitoring.alerts.model import Status
from otel_monitoring.errors import DeliveryError
from otel_monitoring.testing import AlertTester, ManualClock, MemoryChannel
from tests.asgi import served

pytestmark = pytest.mark.anyio

BACKLOG = Rule("backlog", Gauge("orders.waiting"), ">", 100, "{value:.0f} orders wait", hold=60, clear=80)


async def test_a_rule_fires_and_ends_as_the_clock_says() -> None:
    monitoring = MonitoringService(None)
    waiting = monitoring.meter.create_gauge("orders.waiting")
    monitoring.add_rule(BACKLOG)
    with AlertTester(monitoring) as tester:
        waiting.set(150)
        assert await tester.advance(60) == []
        (alert,) = await tester.advance(10)
        assert (alert.message, alert.since) == ("150 orders wait", tester.clock.now - 60)
        waiting.set(90)
        assert await tester.advance(60) == [], "between both thresholds it goes on"
        waiting.set(70)
        await tester.advance(10)
        assert [alert.status for alert in tester.channel.alerts] == [Status.FIRING, Status.RESOLVED]
        assert await tester.manager.firing() == []


async def test_what_an_application_answers_is_measured_and_nothing_runs_in_the_background() -> None:
    app = FastAPI()
    monitoring = MonitoringService(None).instrument(app)

    @app.get("/orders")
    def orders() -> None:
        raise ValueError("no such order")

    with AlertTester(monitoring) as tester:
        async with served(app) as client:
            for _ in range(30):
                with pytest.raises(ValueError, match="no such order"):
                    await client.get("/orders")
            (alert,) = await tester.advance(10)
            assert (alert.type, alert.details["last_error"].split(":")[0]) == (AlertType.HIGH_ERROR_RATE, "ValueError")
            assert not monitoring._worker.running
    async with served(app) as client:
        assert (await client.get("/api/health/ready")).status_code == 200, "afterwards it starts as ever"


async def test_checks_of_both_kinds_are_asked() -> None:
    async def payment() -> bool:
        return False

    def printer() -> None:
        raise OSError("out of paper")

    monitoring = MonitoringService(None)
    monitoring.add_check("payment", payment, critical=True)
    monitoring.add_check("printer", printer)
    with AlertTester(monitoring) as tester:
        await tester.advance(10)
        assert sorted(alert.labels["check"] for alert in tester.channel.alerts) == ["payment", "printer"]
        assert "OSError: out of paper" in str([alert.details for alert in tester.channel.alerts])


async def test_what_the_application_raises_arrives_at_once_and_obeys_mutes() -> None:
    monitoring = MonitoringService(None)
    with AlertTester(monitoring) as tester:
        for number in range(30):
            assert await monitoring.add_alert("billing_failure", f"card {number} declined", "critical")
        assert len(tester.channel.alerts) == 30
        assert not await monitoring.add_alert("billing_failure", "card 0 declined", "critical")
        tester.clock.advance(301)
        assert await monitoring.add_alert("billing_failure", "card 0 declined", "critical")
        tester.manager.mute_alert_type("billing_failure", 60)
        assert not await monitoring.add_alert("billing_failure", "another", "critical")


async def test_rules_are_those_of_the_service() -> None:
    monitoring = MonitoringService(None)
    monitoring.alert_manager.remove_rule("high_error_rate")
    monitoring.add_rule(BACKLOG)
    own = monitoring.alert_manager
    with AlertTester(monitoring) as tester:
        assert tester.manager.rules == own.rules
        assert monitoring.alert_manager is tester.manager
    assert monitoring.alert_manager is own


async def test_a_service_that_runs_is_left_alone() -> None:
    monitoring = MonitoringService(None)
    await monitoring.start()
    with pytest.raises(InstrumentationError, match="the service is running"), AlertTester(monitoring):
        pass
    await monitoring.stop()


async def test_a_service_may_be_tried_again_and_again_from_the_beginning() -> None:
    monitoring = MonitoringService(None)
    waiting = monitoring.meter.create_counter("billing.failures")
    for _ in range(2):
        with AlertTester(monitoring) as tester:
            assert await tester.advance(10) == []
            waiting.add(1)
            assert [alert.type.value for alert in await tester.advance(10)] == ["billing_failure"]


async def test_a_channel_is_waited_for_while_the_service_runs() -> None:
    channel = MemoryChannel()
    monitoring = MonitoringService(None, alert_manager=AlertManager(channels=[channel]))
    await monitoring.start()
    await monitoring.add_alert("billing_failure", "card declined", "critical")
    (alert,) = await channel.arrived()
    assert (alert.message, channel.wait(1)) == ("card declined", [alert])
    (notification,) = channel.notifications
    assert notification.events == (alert,)
    await monitoring.stop()
    channel.clear()
    assert channel.alerts == []
    with pytest.raises(TimeoutError, match="0 of 2 alerts within 0 s"):
        await channel.arrived(2, timeout=0)


async def test_a_channel_may_fail() -> None:
    channel, clock = MemoryChannel("mail"), ManualClock(100.0)
    manager = AlertManager(channels=[channel], clock=clock, elapsed=clock)
    channel.error = DeliveryError("the mailbox is full", retryable=True)
    await manager.send_alert("custom", "one")
    assert channel.alerts == []
    channel.error = None
    clock.advance(60)
    await manager.send_alert("custom", "two")
    assert [alert.message for alert in channel.wait(2)] == ["one", "two"]
    history: list[dict[str, Any]] = await manager.get_alert_history()
    assert {event["channels"]["mail"]["state"] for event in history} == {"delivered"}


async def test_the_budget_of_an_objective_burns() -> None:
    monitoring = MonitoringService(None)
    monitoring.add_slo(Slo("orders", objective=99, window="24h", min_requests=20))
    with AlertTester(monitoring) as tester:
        for _ in range(20):
            for number in range(10):
                await monitoring.performance_metrics.record_request("/orders", 0.1, 500 if number < 5 else 200)
            await tester.advance(10)
        (alert,) = [alert for alert in tester.channel.alerts if alert.type is AlertType.ERROR_BUDGET]
    assert (alert.rule, alert.labels) == ("orders_fast_burn", {"slo": "orders"})
    assert alert.message == "orders: the error budget burns 50.0 times too fast"
    assert "/orders spends 100 % of it" in alert.details["budget"]
