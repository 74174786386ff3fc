"""The alert manager as documented: delivery, suppression, mutes, history, summary."""

import json
import logging
import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from otel_monitoring import alerts
from otel_monitoring.alerts import AlertManager, AlertSeverity, AlertType, Gauge, Rule, model
from otel_monitoring.alerts.model import AlertEvent, Notification
from otel_monitoring.alerts.notify.channels.log import LogChannel
from otel_monitoring.alerts.notify.origin import Origin
from otel_monitoring.alerts.otel_signals import AlertSignals
from otel_monitoring.alerts.store import MemoryStore, Store
from otel_monitoring.alerts.store.memory.history import MemoryHistory
from otel_monitoring.alerts.store.mutes import MUTES_LIMIT
from otel_monitoring.config import Settings
from otel_monitoring.errors import ConfigurationError, DeliveryError, TooManyMutesError
from otel_monitoring.metrics.reader import SnapshotReader
from otel_monitoring.redact.json_value import LENGTH
from otel_monitoring.testing import ManualClock, MemoryChannel
from tests.waiting import PATIENCE, eventually_here

pytestmark = pytest.mark.anyio


class Broken:
    name = "broken"

    async def send(self, notification: Notification) -> None:
        raise DeliveryError("password=hunter2 refused", retryable=True)


async def test_an_alert_is_logged_at_its_severity(caplog: pytest.LogCaptureFixture) -> None:
    sent = await AlertManager().send_alert(
        AlertType.DATABASE_DOWN, "Database connection lost", AlertSeverity.CRITICAL, details={"error": "timeout"}
    )
    assert sent
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [
        (logging.CRITICAL, 'DATABASE_DOWN: Database connection lost {"error": "timeout"}')
    ]


async def test_the_same_alert_is_notified_once_in_five_minutes() -> None:
    channel, clock = MemoryChannel("recorder"), ManualClock()
    manager = AlertManager(channels=[channel], clock=clock)
    assert await manager.send_alert(AlertType.HIGH_CPU, "CPU at 91%")
    clock.now += 299
    assert not await manager.send_alert(AlertType.HIGH_CPU, "CPU at 91%")
    assert await manager.send_alert(AlertType.HIGH_CPU, "CPU at 99%"), "another message is another alert"
    clock.now += 2
    assert await manager.send_alert(AlertType.HIGH_CPU, "CPU at 91%")
    assert len(channel.alerts) == 3
    assert [e["outcome"] for e in await manager.get_alert_history()] == [
        "notified",
        "notified",
        "suppressed",
        "notified",
    ]


async def test_the_history_says_what_became_of_an_alert_on_each_channel() -> None:
    manager = AlertManager(channels=[MemoryChannel("recorder"), LogChannel()], clock=(clock := ManualClock()))
    for _ in range(2):
        await manager.send_alert("high_cpu", "CPU at 91%")
        clock.now += 1
    manager.mute_alert_type("high_cpu")
    await manager.send_alert("high_cpu", "CPU at 99%")
    history = await manager.get_alert_history()
    assert [{name: result["state"] for name, result in event["channels"].items()} for event in history] == [
        {"recorder": "muted", "log": "muted"},
        {"recorder": "suppressed", "log": "suppressed"},
        {"recorder": "delivered", "log": "delivered"},
    ]
    assert history[-1]["channels"]["recorder"]["at"] == history[-1]["timestamp"]
    assert (await manager.get_alert_summary())["recent_alerts"] == history


async def test_figures_in_a_message_make_no_other_alert_of_it_where_a_key_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for kept in ("_process_wide", "_first_of_service"):
        monkeypatch.setattr(alerts, kept, None)
    recorder = MemoryChannel("recorder")
    manager = AlertManager(channels=[recorder])
    alerts.set_alert_manager(manager)
    for number in range(5):
        await manager.send_alert("custom", f"The queue is {number} long", dedup_key="queue")
        await manager.send_alert("custom", f"Order {number} is lost")
        await alerts.alert_high_error_rate(10 + number)
        await alerts.alert_performance_issue("/a", 2000 + number)
        await alerts.alert_performance_issue("/b", 2000 + number)
    told = [event.message for event in recorder.alerts if not event.message.startswith("Order")]
    assert told == [
        "The queue is 0 long",
        "High error rate: 10.00%",
        "Slow API response: /a (2000.00ms)",
        "Slow API response: /b (2000.00ms)",
    ]
    assert len(recorder.alerts) == len(told) + 5, "five orders are five alerts"


async def test_what_has_become_more_urgent_is_told_again() -> None:
    clock, recorder = ManualClock(), MemoryChannel("recorder")
    manager = AlertManager(channels=[recorder], clock=clock)
    for severity in ("warning", "critical", "error", "warning", "critical"):
        await manager.send_alert("custom", "The disk is filling", severity)
    assert [event.severity.value for event in recorder.alerts] == ["warning", "critical"]
    clock.now += 300
    assert await manager.send_alert("custom", "The disk is filling", "warning"), "five minutes later"


async def test_a_muted_type_is_kept_but_not_sent_until_the_mute_ends() -> None:
    channel, clock = MemoryChannel("recorder"), ManualClock()
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
    assert [e.message for e in channel.alerts] == ["6%"]


async def test_a_mute_may_name_labels_and_keeps_who_and_why() -> None:
    channel, clock = MemoryChannel("recorder"), ManualClock()
    manager = AlertManager(channels=[channel], clock=clock)
    manager.mute_alert_type("api_timeout", 60, labels={"endpoint": "/slow"}, author="ana", reason="known, #12")
    assert not await manager.send_alert("api_timeout", "slow", labels={"endpoint": "/slow"})
    assert await manager.send_alert("api_timeout", "slow too", labels={"endpoint": "/other"})
    summary = await manager.get_alert_summary()
    assert summary["muted_alerts"] == {}, "the type as a whole is not muted"
    assert summary["mutes"] == [
        {
            "id": summary["mutes"][0]["id"],
            "type": "api_timeout",
            "rule": None,
            "labels": {"endpoint": "/slow"},
            "until": "2023-11-14T22:14:20.000+00:00",
            "author": "ana",
            "reason": "known, #12",
        }
    ]
    assert [e["outcome"] for e in await manager.get_alert_history()] == ["notified", "muted"]
    assert not manager.unmute_alert_type("api_timeout", labels={"endpoint": "/other"})
    assert manager.unmute_alert_type("api_timeout")


async def test_a_mute_may_be_for_a_rule_or_for_labels_of_any_type_and_is_ended_by_its_id() -> None:
    channel, clock = MemoryChannel("recorder"), ManualClock()
    manager = AlertManager(channels=[channel], clock=clock)
    of_rule = manager.mute(rule="high_cpu", author="ana", reason="import")
    of_label = manager.mute(labels={"queue": "mail"}, duration_seconds=60)
    assert await manager.get_mutes() == [of_label, of_rule]
    assert (of_rule["type"], of_rule["rule"], of_rule["until"]) == (None, "high_cpu", "2023-11-14T23:13:20.000+00:00")
    assert await manager.send_alert("high_cpu", "of no rule"), "the rule is muted, not its type"
    assert not await manager.send_alert("custom", "stuck", labels={"queue": "mail", "shard": "1"})
    assert not await manager.send_alert("order_stuck", "stuck", labels={"queue": "mail"})
    assert (await manager.get_alert_summary())["muted_alerts"] == {}
    assert manager.mute(rule="high_cpu", duration_seconds=10)["id"] == of_rule["id"], "it replaces the former"
    assert manager.unmute(of_label["id"])
    assert not manager.unmute(of_label["id"])
    assert manager.unmute("high_cpu")
    assert await manager.get_mutes() == []


async def test_every_mute_lasts_an_hour_where_nobody_says_how_long() -> None:
    manager = AlertManager(channels=[], clock=lambda: 0.0)
    manager.mute_alert_type("custom")
    manager.mute("high_cpu")
    assert {mute["until"] for mute in await manager.get_mutes()} == {"1970-01-01T01:00:00.000+00:00"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "type: name a type, a rule or labels"),
        ({"labels": {}}, "type: name"),
        ({"alert_type": "databse_down"}, "type: no such type; did you mean database_down?"),
        ({"alert_type": "Order stuck"}, "type: no such type; types are lower case"),
        ({"rule": "critical_check_faild"}, "rule: no such rule; did you mean critical_check_failed?"),
        ({"rule": "no rule"}, "rule: no such rule; names are lower case"),
    ],
)
async def test_a_mute_that_would_mute_nothing_or_everything_is_refused(given: Any, message: str) -> None:
    manager = AlertManager(channels=[])
    with pytest.raises(ValueError, match=f"^{message.replace('?', '.')}"):
        manager.mute(**given)
    assert await manager.get_mutes() == []


async def test_an_application_has_types_of_its_own_by_name() -> None:
    channel = MemoryChannel("recorder")
    manager = AlertManager(channels=[channel])
    assert await manager.send_alert("order_stuck", "7 orders wait", "error")
    assert [(event.type, event.type.value) for event in channel.alerts] == [(AlertType("order_stuck"), "order_stuck")]
    assert AlertType("order_stuck") is AlertType("order_stuck")
    assert (await manager.get_alert_summary())["alerts_by_type"] == {"order_stuck": 1}
    (event,) = await manager.get_alert_history(alert_type="order_stuck")
    assert (event["type"], event["severity"]) == ("order_stuck", "error")
    with pytest.raises(ValueError, match=r"^alert_type: must be one of api_timeout, .*order_stuck"):
        await manager.get_alert_history(alert_type="order_stuk")
    with pytest.raises(ValueError, match="Order stuck"):
        await manager.send_alert("Order stuck", "no name")
    rule = Rule("orders", Gauge("orders"), ">", 1, type="orders_late", inhibits=frozenset(("order_stuck",)))  # type: ignore[arg-type]
    assert (rule.type.value, rule.urgency) == ("orders_late", AlertSeverity.WARNING)


async def test_types_beyond_the_limit_are_custom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each type is a value of an attribute of metrics: a name with an order's number must not make one for each."""
    monkeypatch.setattr(model, "_own_types", {})
    kinds = [AlertType(f"order_{number}") for number in range(model.OWN_TYPES_LIMIT + 5)]
    assert kinds[-5:] == [AlertType.CUSTOM] * 5
    assert len({*kinds}) == model.OWN_TYPES_LIMIT + 1
    with pytest.raises(ValueError, match=r"^type: "):
        AlertManager(channels=[]).mute("one_more")


async def test_the_alert_names_the_trace_it_was_raised_in() -> None:
    channel = MemoryChannel("recorder")
    with TracerProvider(shutdown_on_exit=False).get_tracer("test").start_as_current_span("request") as span:
        await AlertManager(channels=[channel]).send_alert("custom", "in a request")
    assert channel.alerts[0].trace_id == f"{span.get_span_context().trace_id:032x}"


async def test_the_log_line_needs_no_outbox_and_is_part_of_its_request(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    class Requests(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            seen.append(request.get())
            return True

    request = ContextVar("request", default="none")
    watching = Requests()
    caplog.handler.addFilter(watching)
    store = MemoryStore()
    manager = AlertManager(channels=[LogChannel(), MemoryChannel("recorder")], store=store)
    manager.hand_over = lambda: True  # a service that delivers nothing
    request.set("one")
    for number in range(3):
        assert await manager.send_alert("custom", f"order {number}")
    assert [record.getMessage() for record in caplog.records] == [f"CUSTOM: order {number}" for number in range(3)]
    assert set(seen) == {"one"}
    assert not await manager.send_alert("custom", "order 0")
    assert len(caplog.records) == 3, "suppressed"
    assert store.outbox.backlog() == {"recorder": 3}


async def test_an_alert_is_logged_though_the_store_takes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Full(MemoryHistory):
        def append(self, event: AlertEvent) -> None:
            raise OSError("full")

    store = MemoryStore()
    store.history = Full(store)
    manager = AlertManager(channels=[LogChannel()], store=store)
    assert not await manager.send_alert("custom", "order 1")
    assert "CUSTOM: order 1" in [record.getMessage() for record in caplog.records]


async def test_each_alert_is_a_log_event_and_counts() -> None:
    metrics, exporter = SnapshotReader(0.0), InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    loggers = LoggerProvider(shutdown_on_exit=False)
    loggers.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    manager = AlertManager(channels=[MemoryChannel("recorder")])
    signals = AlertSignals(MeterProvider([metrics], shutdown_on_exit=False), loggers)
    manager.connect(manager.settings, Origin("orders"), signals)
    with TracerProvider(shutdown_on_exit=False).get_tracer("test").start_as_current_span("request") as span:
        await manager.send_alert("billing_failure", "no money", "critical")
    await manager.send_alert("billing_failure", "no money", "critical")
    records = [entry.log_record for entry in exporter.get_finished_logs()]
    assert [(r.event_name, r.body, r.severity_text) for r in records] == [
        ("otel_monitoring.alert", "no money", "FATAL")
    ] * 2
    assert records[0].trace_id == span.get_span_context().trace_id
    points = {
        (series.name, series.get("otel_monitoring.alert.outcome") or series.get("otel_monitoring.channel")): value
        for series, value in metrics.take(1.0).sums.items()
    }
    assert points == {
        ("otel_monitoring.alerts", "notified"): 1,
        ("otel_monitoring.alerts", "suppressed"): 1,
        ("otel_monitoring.notifications.sent", "recorder"): 1,
    }


async def test_details_are_bounded_and_always_json() -> None:
    manager = AlertManager(channels=[])
    await manager.send_alert("custom", "odd", details={"when": object, "path": ("a", 1)})
    await manager.send_alert("custom", "long", details={"body": ["x" * 100] * 1000})
    long, odd = await manager.get_alert_history()
    assert odd["details"] == {"when": "<class 'object'>", "path": ["a", 1]}
    assert len(json.dumps(long["details"])) <= LENGTH
    assert long["details"]["body"][:2] == ["x" * 100] * 2
    assert long["details"]["body"][-1].endswith(" more")


async def test_whatever_the_application_hands_over_the_alert_leaves() -> None:
    class Hostile(dict[str, object]):
        def __bool__(self) -> bool:
            raise ValueError

        def __str__(self) -> str:
            raise SystemExit

        def items(self) -> Any:
            raise KeyboardInterrupt

        __iter__ = keys = items

    circle: dict[object, object] = {("a", 1): 1}
    circle["again"] = circle
    channel = MemoryChannel("recorder")
    manager = AlertManager(channels=[channel])
    given: list[Any] = [circle, [1, 2], "text", 7, Hostile(a=1), {"x": Hostile()}, ValueError("no"), {None: 10**5000}]
    for number, details in enumerate(given):
        labels: Any = Hostile(a=1) if number % 2 else details
        assert await manager.send_alert("custom", f"number {number}", details=details, labels=labels)
    assert [event.message for event in channel.alerts] == [f"number {number}" for number in range(len(given))]
    assert channel.alerts[1].details == {"details": [1, 2]}
    assert channel.alerts[6].details == {"details": "ValueError: no"}
    json.dumps(await manager.get_alert_history(), allow_nan=False)


async def test_an_alert_leaves_without_details_where_reading_them_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("otel_monitoring.redact.json_value.jsonable", fail)
    manager = AlertManager(channels=[])
    assert await manager.send_alert("custom", "password=hunter2", details={"a": 1}, labels={"b": "c"})
    event = (await manager.get_alert_history())[0]
    assert (event["message"], event["details"], event["labels"]) == ("password=[REDACTED]", {}, {"b": "c"})


async def test_labels_and_message_are_printable_lines_without_secrets_and_mutes_know_them() -> None:
    channel = MemoryChannel("recorder")
    manager = AlertManager(channels=[channel])
    labels: Any = {"endpoint": "/a\n\x1b[31m", "token": "hunter2", 3: b"x", "instance": "0123456789abcdef" * 2}
    manager.mute_alert_type("api_timeout", labels={"endpoint": "/b\n"}, author="ana\n", reason="password=hunter2\n")
    assert await manager.send_alert("api_timeout", "slow\r\n\x1b[2J\u202e", labels=labels)
    assert not await manager.send_alert("api_timeout", "slow, too", labels={"endpoint": "/b\n"})
    assert channel.alerts[0].message == "slow   [2J "
    assert channel.alerts[0].labels == {
        "endpoint": "/a  [31m",
        "token": "[REDACTED]",
        "3": "x",
        "instance": "0123456789abcdef" * 2,
    }
    mute = (await manager.get_alert_summary())["mutes"][0]
    assert (mute["labels"], mute["author"], mute["reason"]) == ({"endpoint": "/b "}, "ana ", "password=[REDACTED] ")
    assert manager.unmute_alert_type("api_timeout", labels={"endpoint": "/b\n"})


@pytest.mark.parametrize(
    "seconds",
    [
        float("inf"),
        float("nan"),
        0,
        -1,
        1e12,
        253_402_300_799.0,
        10**5000,
        True,
        "60",
        None,
        Decimal("NaN"),
        timedelta(1),
    ],
    ids=lambda given: str(type(given).__name__),
)
async def test_a_mute_without_an_end_that_can_be_told_is_refused(seconds: Any) -> None:
    manager = AlertManager(channels=[])
    with pytest.raises(ValueError, match=r"^duration_seconds: "):
        manager.mute_alert_type("high_cpu", seconds)
    assert (await manager.get_alert_summary())["mutes"] == []


async def test_a_mute_may_last_as_long_as_the_calendar() -> None:
    manager = AlertManager(channels=[], clock=lambda: 0.0)
    manager.mute_alert_type("high_cpu", 253_402_300_798.0)
    assert (await manager.get_alert_summary())["muted_alerts"] == {"high_cpu": "9999-12-31T23:59:58.000+00:00"}


@pytest.mark.slow
async def test_no_more_than_a_thousand_mutes_are_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MUTES_LIMIT == 1000
    monkeypatch.setattr("otel_monitoring.alerts.actions.MUTES_LIMIT", 20)  # a thousand would take the test seconds
    clock = ManualClock(1000.0)
    manager = AlertManager(channels=[], clock=clock)
    for number in range(20):
        manager.mute_alert_type("api_timeout", 60 + number % 2, labels={"endpoint": f"/{number}"})
    with pytest.raises(TooManyMutesError, match="20 are in force"):
        manager.mute_alert_type("api_timeout", labels={"endpoint": "/new"})
    manager.mute_alert_type("api_timeout", 90, labels={"endpoint": "/7"})  # takes the place of one
    clock.advance(60)
    manager.mute_alert_type("api_timeout", labels={"endpoint": "/new"})
    assert len((await manager.get_alert_summary())["mutes"]) == 11


async def test_what_was_muted_before_a_service_connects_stays_muted(tmp_path: Path) -> None:
    manager = AlertManager(settings=Settings.load(store="sqlite", state_dir=tmp_path), channels=[])
    manager.mute_alert_type("high_cpu", 300)
    manager.connect(manager.settings, Origin("orders", "production"), AlertSignals())
    assert not await manager.send_alert("high_cpu", "91%")
    other = AlertManager(settings=manager.settings, channels=[])
    other.connect(manager.settings, Origin("orders", "production"), AlertSignals())
    assert [e["message"] for e in await other.get_alert_history()] == ["91%"], "the service's store outlives a manager"
    other.connect(manager.settings, Origin("orders", "staging"), AlertSignals())
    assert await other.get_alert_history() == [], "another environment, another store"
    for one in (manager, other):
        one.store.close()


async def test_a_service_connects_although_its_store_hangs_which_gets_the_mutes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = threading.Event()

    class Late(MemoryStore):
        def run(self, work: Callable[[Store], Any]) -> Any:
            assert opened.wait(PATIENCE)
            return super().run(work)

    manager = AlertManager(settings=Settings.load(store="sqlite", state_dir=tmp_path), channels=[])
    manager.mute_alert_type("high_cpu", 300)
    monkeypatch.setattr("otel_monitoring.alerts.manager.open_store", lambda *_, **__: Late())
    monkeypatch.setattr("otel_monitoring.alerts.manager._MOVE_SECONDS", 0.01)
    manager.connect(manager.settings, Origin("orders", "production"), AlertSignals())
    assert manager.mutes() == []
    opened.set()
    await eventually_here(lambda: [mute.type for mute in manager.mutes()] == ["high_cpu"])


async def test_a_rule_of_ones_own_replaces_a_default_one_and_is_added_once() -> None:
    manager = AlertManager(channels=[])
    mine = Rule("high_cpu", Gauge("my.load"), ">", 4)
    manager.add_rule(mine)
    assert [rule for rule in manager.rules if rule.name == "high_cpu"] == [mine]
    with pytest.raises(ConfigurationError, match="name: a rule 'high_cpu' was added before"):
        manager.add_rule(mine)
    assert manager.remove_rule("high_cpu")
    assert not manager.remove_rule("high_cpu")


async def test_a_rule_that_was_removed_does_not_come_back_when_a_service_connects() -> None:
    manager = AlertManager(channels=[])
    manager.add_rule(Rule("own", Gauge("heat"), ">", 1))
    assert manager.remove_rule("high_cpu")
    assert manager.remove_rule("own")
    assert not manager.remove_rule("own")
    manager.connect(Settings.load(store="memory"), Origin("orders"), AlertSignals())
    assert not {"high_cpu", "own"} & {rule.name for rule in manager.rules}
    manager.add_rule(Rule("own", Gauge("heat"), ">", 2))
    assert manager.rules[-1].threshold == 2


async def test_history_filters_limits_and_keeps_a_thousand() -> None:
    manager = AlertManager(channels=[])
    await manager.send_alert(AlertType.HIGH_CPU, "number 0", "error")
    (event,) = manager.store.history.events(limit=1)
    for i in range(1, 1004):  # as if it had sent each of them, which would take the test a second
        kind = AlertType.CUSTOM if i % 2 else AlertType.HIGH_CPU
        manager.store.history.append(replace(event, type=kind, message=f"number {i}"))
    await manager.send_alert(AlertType.HIGH_CPU, "number 1004", "error")
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
    with pytest.raises(ValueError, match="No such"):
        await manager.send_alert("No such", "x")
    with pytest.raises(ValueError, match="duration_seconds"):
        manager.mute_alert_type(AlertType.HIGH_CPU, 0)
    assert await manager.get_alert_history() == []


async def test_a_broken_channel_stops_neither_the_others_nor_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    channel = MemoryChannel("recorder")
    manager = AlertManager(channels=[Broken(), channel])
    assert await manager.send_alert(AlertType.CUSTOM, "still here")
    assert [e.message for e in channel.alerts] == ["still here"]
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
    for kept in ("_process_wide", "_first_of_service"):
        monkeypatch.setattr(alerts, kept, None)
    assert alerts.get_alert_manager() is None
    channel = MemoryChannel("recorder")
    alerts.set_alert_manager(AlertManager(channels=[channel]))
    assert alerts.initialize_alerts() is alerts.get_alert_manager()
    await alerts.alert_database_down({"error": "timeout"})
    await alerts.alert_high_error_rate(7.5, {"endpoints": {}})
    await alerts.alert_performance_issue("/api/orders/", 2345.67)
    assert [(e.type.value, e.severity.value, e.message) for e in channel.alerts] == [
        ("database_down", "critical", "Database connection lost"),
        ("high_error_rate", "warning", "High error rate: 7.50%"),
        ("api_timeout", "warning", "Slow API response: /api/orders/ (2345.67ms)"),
    ]
