"""Delivery: at least once, each channel on its own, with pauses, limits and an end."""

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import pytest

from otel_monitoring.alerts import overview
from otel_monitoring.alerts.model import (
    AlertEvent,
    AlertSeverity,
    AlertType,
    ChannelResult,
    DeliveryState,
    Notification,
    Status,
)
from otel_monitoring.alerts.notify.channel_queue import GIVE_UP_SECONDS, Limits
from otel_monitoring.alerts.notify.delivery import Delivery
from otel_monitoring.alerts.notify.origin import Origin
from otel_monitoring.alerts.store import MemoryStore, Store
from otel_monitoring.alerts.store.memory.outbox import MemoryOutbox
from otel_monitoring.config import Settings
from otel_monitoring.errors import DeliveryError
from otel_monitoring.testing import ManualClock
from tests.waiting import PATIENCE, eventually_here

pytestmark = pytest.mark.anyio

T = TypeVar("T")
ORDERS = Origin("orders", "production")


class Channel:
    """Fails as it is told, then delivers."""

    latest_only = False

    def __init__(self, name: str, *failures: Exception) -> None:
        self.name = name
        self.failures = list(failures)
        self.attempts: list[Notification] = []
        self.delivered: list[Notification] = []

    async def send(self, notification: Notification) -> None:
        self.attempts.append(notification)
        if self.failures:
            raise self.failures.pop(0)
        self.delivered.append(notification)

    @property
    def messages(self) -> list[list[str]]:
        return [[event.message for event in notification.events] for notification in self.delivered]


class Hanging(Channel):
    async def send(self, notification: Notification) -> None:
        self.attempts.append(notification)
        await asyncio.Event().wait()


class Bench:
    """Channels, an outbox and a clock."""

    def __init__(self, *channels: Channel, limits: Limits | None = None) -> None:
        self.channels = channels
        self.clock, self.elapsed = ManualClock(), 100.0
        self.store = MemoryStore()
        self.counts: list[tuple[str, str, int]] = []
        self.leads = True
        self.delivery = Delivery(
            channels,
            ORDERS,
            clock=self.clock,
            limits=limits or Limits(),
            count=lambda *what: self.counts.append(what),
            elapsed=lambda: self.elapsed,
        )

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        self.elapsed += seconds

    def enqueue(self, *messages: str, severity: AlertSeverity = AlertSeverity.ERROR, **fields: Any) -> None:
        for message in messages:
            event = AlertEvent(self.clock.now, AlertType.CUSTOM, severity, message, **{"incident": message, **fields})
            names = [channel.name for channel in self.channels]
            self.store.history.append(event.as_history_entry(names))
            self.store.outbox.enqueue([event], names, self.clock.now)

    def begin(self, *, paced: bool = True) -> None:
        self.delivery.pump(self.store, self.store.outbox.waiting(), lambda _: self.leads, paced=paced)

    async def pump(self, *, after: float = 0, timeout: float = PATIENCE) -> bool:
        self.pass_time(after)
        self.begin()
        return await self.delivery.flush(timeout)

    def became(self, message: str, channel: str) -> tuple[str, str]:
        """State and error of an alert on a channel, as the history has it."""
        (event,) = [event.as_json() for event in self.store.history.events(limit=1000) if event.message == message]
        result = event["channels"][channel]
        return result["state"], result.get("error", "")

    def state(self, name: str) -> dict[str, Any]:
        return overview.channels(self.store, self.delivery.conditions(), self.clock.now)[name]


async def test_alerts_that_are_due_together_leave_as_one_message_per_channel() -> None:
    mail, slack = Channel("mail"), Channel("slack")
    bench = Bench(mail, slack)
    bench.enqueue("one", "two")
    await bench.pump()
    assert mail.messages == slack.messages == [["one", "two"]]
    assert mail.delivered[0].service == "orders"
    assert mail.delivered[0].environment == "production"
    assert bench.store.outbox.backlog() == {}
    assert sorted(bench.counts) == [("sent", "mail", 2), ("sent", "slack", 2)]
    await bench.pump()
    assert len(mail.attempts) == 1


async def test_a_failed_attempt_is_repeated_later_and_later_with_the_same_id() -> None:
    mail = Channel("mail", *[DeliveryError("down", retryable=True)] * 3)
    bench = Bench(mail)
    bench.enqueue("one")
    await bench.pump()
    await bench.pump(after=0.5)
    assert len(mail.attempts) == 1, "not before the pause is over"
    await bench.pump(after=1)
    await bench.pump(after=1)
    assert len(mail.attempts) == 2, "the second pause is longer"
    await bench.pump(after=2)
    assert bench.state("mail")["state"] == "open"
    assert bench.state("mail")["last_error"] == "down"
    await bench.pump(after=5)
    assert mail.messages == [["one"]]
    assert len({notification.id for notification in mail.attempts}) == 1
    assert bench.state("mail")["state"] == "ok"


async def test_what_was_raised_meanwhile_comes_after_what_waited_and_apart_from_it() -> None:
    mail = Channel("mail", DeliveryError("down", retryable=True))
    bench = Bench(mail)
    bench.enqueue("firing")
    await bench.pump()
    bench.enqueue("resolved")
    await bench.pump(after=2)
    assert mail.messages == [["firing"], ["resolved"]], "a repetition is recognised by its id: it is the same message"


async def test_retry_after_is_honoured() -> None:
    slack = Channel("slack", DeliveryError("slow down", retryable=True, retry_after=120))
    bench = Bench(slack)
    bench.enqueue("one")
    await bench.pump()
    await bench.pump(after=119)
    assert len(slack.attempts) == 1
    await bench.pump(after=2)
    assert slack.messages == [["one"]]


async def test_a_dead_channel_delays_no_other() -> None:
    dead, hanging, alive = Channel("dead", *[OSError("no route")] * 9), Hanging("hanging"), Channel("alive")
    bench = Bench(dead, hanging, alive)

    def is_delivered() -> bool:  # as with each beat of a service: a channel that is still at a message takes no other
        bench.begin()
        return "alive" not in bench.store.outbox.backlog()

    for message in ("one", "two", "three"):
        bench.enqueue(message)
        await eventually_here(is_delivered)
    assert not await bench.delivery.flush(0)
    assert alive.messages == [["one"], ["two"], ["three"]]
    assert bench.store.outbox.backlog() == {"dead": 3, "hanging": 3}


async def test_a_channel_that_hangs_is_cut_off_and_tried_again() -> None:
    hanging = Hanging("hanging")
    bench = Bench(hanging, limits=Limits(timeout=0.01))
    bench.enqueue("one")
    assert await bench.pump()
    assert bench.state("hanging")["last_error"] == "no answer within 0.01 s"
    await bench.pump(after=2)
    assert len(hanging.attempts) == 2


async def test_what_is_refused_for_good_is_given_up_alone(caplog: pytest.LogCaptureFixture) -> None:
    class Picky(Channel):
        async def send(self, notification: Notification) -> None:
            if any(event.message == "bad" for event in notification.events):
                self.attempts.append(notification)
                raise DeliveryError("invalid_payload", retryable=False)
            await super().send(notification)

    picky = Picky("picky")
    bench = Bench(picky)
    bench.enqueue("good", "bad", "better")
    for _ in range(6):
        await bench.pump(after=2)
    assert picky.messages == [["good"], ["better"]]
    assert bench.store.outbox.backlog() == {}
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert ("failed", "picky", 1) in bench.counts


async def test_what_fires_together_is_one_message_however_much_it_is() -> None:
    mail = Channel("mail")
    bench = Bench(mail)
    bench.enqueue(*[str(number) for number in range(300)])
    await bench.pump()
    assert [len(messages) for messages in mail.messages] == [300]


@pytest.mark.parametrize("limit", [1, 7, 40])
async def test_a_message_that_is_too_large_is_divided(limit: int) -> None:
    class Small(Channel):
        async def send(self, notification: Notification) -> None:
            if len(notification.events) > limit:
                self.attempts.append(notification)
                raise DeliveryError("answered 413", retryable=False)
            await super().send(notification)

    small = Small("small")
    bench = Bench(small, limits=Limits(per_minute=10_000))
    given = [str(number) for number in range(50)]
    bench.enqueue(*given)
    for _ in range(200):
        await bench.pump(after=2)
    assert [message for messages in small.messages for message in messages] == given
    assert bench.store.outbox.backlog() == {}
    assert len(small.messages) < 50 or limit == 1


async def test_a_storm_leaves_in_ever_larger_messages() -> None:
    """The first alert leaves at once; what comes after it, over a minute, leaves together."""
    mail = Channel("mail")
    bench = Bench(mail, limits=Limits(spacing=1))
    for number in range(600):
        bench.enqueue(str(number))
        await bench.pump(after=0.1)
    assert mail.messages[0] == ["0"]
    assert len(mail.messages) <= 7
    await bench.pump(after=60)
    assert sum(len(messages) for messages in mail.messages) == 600
    assert len(mail.messages) <= 8


async def test_what_is_raised_together_leaves_together() -> None:
    """Many requests, each of them telling of its own: the first does not leave before the others are there."""
    mail = Channel("mail")
    bench = Bench(mail, limits=Limits(gathering=0.001))
    bench.enqueue("0")
    bench.begin()
    await asyncio.sleep(0)
    for number in range(1, 120):
        bench.enqueue(str(number))
    await bench.delivery.flush(30)
    assert mail.messages == [[str(number) for number in range(120)]]


async def test_people_hear_of_each_incident_the_last_word_and_programs_all_of_them() -> None:
    """Their server was down while one came and went, and another flapped."""
    mail, hook = (Channel(name, DeliveryError("down", retryable=True)) for name in ("mail", "hook"))
    mail.latest_only = True
    bench = Bench(mail, hook)
    bench.enqueue("lost", incident="a")
    bench.enqueue("hot", "hot (flapping)", incident="b")
    bench.enqueue("an order", "another order")
    bench.enqueue("found", incident="a", status=Status.RESOLVED)
    await bench.pump()
    await bench.pump(after=60)
    assert mail.messages == [["hot (flapping)", "an order", "another order", "found"]]
    assert hook.messages == [["lost", "hot", "hot (flapping)", "an order", "another order", "found"]]
    assert bench.store.outbox.backlog() == {}


async def test_a_storm_without_end_holds_back_no_alert() -> None:
    class Endless(MemoryOutbox):
        def pending(self, channel: str, limit: int) -> Any:
            bench.enqueue("another")
            return super().pending(channel, limit)

    mail = Channel("mail")
    bench = Bench(mail, limits=Limits(gathering=0.001, per_minute=1))
    store = bench.store = MemoryStore()
    store.outbox = Endless(store)
    bench.enqueue("first")
    await bench.pump()
    assert mail.messages[0][0] == "first"


async def test_a_critical_alert_does_not_wait_for_a_storm_to_pass() -> None:
    mail = Channel("mail")
    bench = Bench(mail, limits=Limits(spacing=1))
    for number in range(200):
        bench.enqueue(str(number))
        await bench.pump(after=0.1)
    bench.enqueue("down", severity=AlertSeverity.CRITICAL)
    await bench.pump(after=1)
    assert mail.messages[-1][-1] == "down"
    bench.enqueue("up", severity=AlertSeverity.CRITICAL, status=Status.RESOLVED)
    await bench.pump(after=1)
    assert mail.messages[-1][-1] == "down", "good news can wait"


async def test_pauses_are_kept_neither_at_a_stop_nor_by_who_delivers_for_himself() -> None:
    mail = Channel("mail")
    bench = Bench(mail, limits=Limits(spacing=30))
    for message in ("one", "two", "three"):
        bench.enqueue(message)
        await bench.pump()
    assert mail.messages == [["one"]]
    bench.begin(paced=False)
    await bench.delivery.flush(5)
    assert mail.messages == [["one"], ["two", "three"]]


async def test_nobody_hears_of_the_end_of_what_he_was_never_told() -> None:
    """One channel was down for a day, the other was not."""
    mail, slack = Channel("mail", *[DeliveryError("down", retryable=True)]), Channel("slack")
    bench = Bench(mail, slack)
    bench.enqueue("lost", incident="1")
    await bench.pump()
    bench.pass_time(GIVE_UP_SECONDS - 5)
    bench.enqueue("lost is over", incident="1", status=Status.RESOLVED)
    bench.enqueue("kept", incident="2")
    await bench.pump(after=10)
    bench.enqueue("kept is over", incident="2", status=Status.RESOLVED)
    await bench.pump(after=10)
    assert mail.messages == [["kept"], ["kept is over"]]
    assert slack.messages == [["lost"], ["lost is over", "kept"], ["kept is over"]]
    assert bench.store.outbox.backlog() == {}


async def test_the_end_of_what_only_its_repetition_told_is_told() -> None:
    slack = Channel("slack", DeliveryError("invalid_payload", retryable=False))
    bench = Bench(slack)
    for message in ("firing", "firing still"):
        bench.enqueue(message, incident="1")
        await bench.pump(after=3600)
    bench.enqueue("over", incident="1", status=Status.RESOLVED)
    await bench.pump(after=3600)
    assert slack.messages == [["firing still"], ["over"]]


async def test_messages_are_limited_in_a_minute_and_then_leave_together() -> None:
    mail = Channel("mail")
    bench = Bench(mail, limits=Limits(per_minute=2))
    for message in ("one", "two", "three", "four"):
        bench.enqueue(message)
        await bench.pump(after=1)
    assert mail.messages == [["one"], ["two"]]
    await bench.pump(after=60)
    assert mail.messages == [["one"], ["two"], ["three", "four"]]


async def test_what_nobody_could_be_told_for_a_day_is_given_up() -> None:
    mail = Channel("mail", *[DeliveryError("down", retryable=True)] * 2)
    bench = Bench(mail)
    bench.enqueue("old")
    await bench.pump()
    bench.pass_time(GIVE_UP_SECONDS)
    bench.enqueue("new")
    await bench.pump(after=10)
    await bench.pump(after=10)
    assert mail.messages == [["new"]]
    assert ("failed", "mail", 1) in bench.counts


async def test_who_does_not_lead_any_more_sends_nothing_more() -> None:
    mail = Channel("mail")
    bench = Bench(mail, limits=Limits(batch=1))
    bench.enqueue("one", "two")
    bench.leads = False
    await bench.pump()
    assert mail.attempts == []


async def test_an_unknown_failure_is_redacted_and_retried() -> None:
    mail = Channel("mail", RuntimeError("password=hunter2"))
    bench = Bench(mail)
    bench.enqueue("one")
    await bench.pump()
    assert "hunter2" not in str(bench.state("mail"))
    await bench.pump(after=2)
    assert mail.messages == [["one"]]


async def test_a_flush_that_takes_too_long_leaves_the_rest_in_the_outbox() -> None:
    hanging = Hanging("hanging")
    bench = Bench(hanging)
    bench.enqueue("one")
    assert not await bench.pump(timeout=0.01)
    assert bench.store.outbox.backlog() == {"hanging": 1}


@pytest.mark.parametrize("step", [-7 * 86_400, -60, 60, 7 * 86_400])
async def test_a_clock_that_is_set_neither_stops_a_channel_nor_shortens_a_pause_nor_ends_the_day(step: float) -> None:
    mail = Channel("mail", DeliveryError("slow down", retryable=True, retry_after=3600))
    bench = Bench(mail)
    bench.enqueue("one")
    await bench.pump()
    bench.clock.now += step
    await bench.pump(after=3599)
    assert len(mail.attempts) == 1
    await bench.pump(after=2)
    assert mail.messages == [["one"]]


async def test_a_day_is_a_day_from_when_it_was_raised_though_the_service_was_stopped_meanwhile() -> None:
    mail = Channel("mail")
    bench = Bench(mail)
    bench.enqueue("old")
    bench.clock.now += GIVE_UP_SECONDS + 1  # before this process had a look
    bench.enqueue("new")
    await bench.pump()
    assert mail.messages == [["new"]]


async def test_those_who_did_not_get_it_get_it_later_and_nothing_else_waits() -> None:
    mail = Channel("mail", DeliveryError("1 of 2 recipients refused", retryable=True, partly=True))
    bench = Bench(mail)
    bench.enqueue("one", "two")
    await bench.pump()
    bench.enqueue("urgent")
    await bench.pump(after=1)
    assert mail.messages == [["urgent"]]
    assert bench.state("mail")["state"] == "ok"
    await bench.pump(after=50)
    assert len(mail.attempts) == 2
    await bench.pump(after=20)
    assert mail.messages == [["urgent"], ["one", "two"]]
    assert mail.attempts[0].id == mail.attempts[2].id
    assert bench.store.outbox.backlog() == {}


async def test_the_history_tells_what_became_of_each_channel() -> None:
    mail, slack = Channel("mail", *[DeliveryError("refused: password=hunter2", retryable=True)] * 2), Channel("slack")
    bench = Bench(mail, slack)
    bench.enqueue("one")
    (event,) = bench.store.history.events(limit=1)
    assert event.as_json()["channels"] == {"mail": {"state": "waiting"}, "slack": {"state": "waiting"}}
    await bench.pump()
    await bench.pump(after=2)
    (event,) = bench.store.history.events(limit=1)
    retrying, delivered = event.channels["mail"], event.channels["slack"]
    assert (retrying.state, retrying.attempts, retrying.error) == (
        DeliveryState.RETRYING,
        2,
        "refused: password=[REDACTED]",
    )
    assert retrying.next_attempt is not None
    assert 1 < retrying.next_attempt - bench.clock.now < 3
    assert delivered == ChannelResult(DeliveryState.DELIVERED, at=bench.clock.now - 2, attempts=1)
    await bench.pump(after=5)
    (event,) = bench.store.history.events(limit=1)
    assert event.channels["mail"] == ChannelResult(DeliveryState.DELIVERED, at=bench.clock.now, attempts=3)


async def test_the_history_tells_why_a_channel_was_given_up() -> None:
    picky = Channel("picky", DeliveryError("answered 422", retryable=False))
    down = Channel("down", *[DeliveryError("connection refused", retryable=True)] * 9)
    bench = Bench(picky, down)
    bench.enqueue("one")
    await bench.pump()
    assert bench.became("one", "picky") == ("given up", "answered 422")
    bench.enqueue("over", incident="one", status=Status.RESOLVED)
    await bench.pump(after=1)
    await bench.pump(after=GIVE_UP_SECONDS)
    assert bench.became("one", "down") == ("given up", "not delivered for a day, last: connection refused")
    assert bench.became("over", "picky") == ("given up", "its beginning was given up")


async def test_every_worker_sees_why_an_alert_was_refused() -> None:
    bench = Bench(Channel("slack", DeliveryError("invalid_payload", retryable=False)))
    bench.enqueue("one")
    await bench.pump()
    assert bench.state("slack")["last_error"] == "invalid_payload", "from the store, which all workers share"


async def test_the_history_tells_which_word_took_the_place_of_another() -> None:
    mail = Channel("mail")
    mail.latest_only = True
    bench = Bench(mail)
    bench.enqueue("firing", incident="1")
    bench.enqueue("over", incident="1", status=Status.RESOLVED)
    await bench.pump()
    assert mail.messages == [["over"]]
    assert bench.became("firing", "mail") == ("superseded", "")
    assert bench.became("over", "mail") == ("delivered", "")


async def test_the_history_tells_that_some_recipients_get_it_later() -> None:
    mail = Channel("mail", DeliveryError("1 of 2 recipients refused", retryable=True, partly=True))
    bench = Bench(mail)
    bench.enqueue("one", "two")
    await bench.pump()
    assert bench.became("two", "mail") == ("retrying", "1 of 2 recipients refused")
    await bench.pump(after=61)
    assert bench.became("two", "mail") == ("delivered", "")


async def test_attempts_are_not_part_of_the_applications_traces() -> None:
    seen: list[bool] = []

    class Looking(Channel):
        async def send(self, notification: Notification) -> None:
            from opentelemetry.instrumentation.utils import is_instrumentation_enabled

            seen.append(is_instrumentation_enabled())

    bench = Bench(Looking("looking"))
    bench.enqueue("one")
    await bench.pump()
    assert seen == [False]


# In which order


class Picky(Channel):
    """Delivers no message that holds one of these alerts: it fails, as a receiver that stumbles over it."""

    def __init__(self, name: str, *bad: str) -> None:
        super().__init__(name)
        self.bad = set(bad)

    async def send(self, notification: Notification) -> None:
        if self.bad & {event.message for event in notification.events}:
            self.attempts.append(notification)
            raise DeliveryError("answered 500", retryable=True)
        await super().send(notification)


def ids_of(channel: Channel, message: str) -> set[str]:
    return {one.id for one in channel.attempts if message in [event.message for event in one.events]}


async def test_a_critical_alert_overtakes_a_message_that_fails() -> None:
    mail = Picky("mail", "bad")
    bench = Bench(mail)
    bench.enqueue("bad", "with it")
    await bench.pump()
    bench.enqueue("down", severity=AlertSeverity.CRITICAL)
    await bench.pump(after=2)
    assert mail.messages == [["down"]]
    for _ in range(4):
        await bench.pump(after=60)
    assert len(ids_of(mail, "bad")) == 1, "its message stays the same"
    mail.bad.clear()
    await bench.pump(after=600)
    assert mail.messages == [["down"], ["bad", "with it"]]


async def test_a_critical_alert_overtakes_one_that_fails_itself() -> None:
    mail = Picky("mail", "first")
    bench = Bench(mail)
    for message in ("first", "second"):
        bench.enqueue(message, severity=AlertSeverity.CRITICAL)
        await bench.pump(after=2)
    assert mail.messages == [["second"]]


async def test_a_message_that_fails_by_itself_holds_up_the_others_for_a_while_only() -> None:
    mail = Picky("mail", "bad", "worse")
    bench = Bench(mail)
    bench.enqueue("bad")
    await bench.pump()
    bench.enqueue("good")
    for _ in range(3):
        await bench.pump(after=10)
    assert mail.messages == [["good"]]
    for message in ("better", "worse"):
        bench.enqueue(message)
        await bench.pump()
    bench.enqueue("best")
    for _ in range(12):
        await bench.pump(after=20)
    assert mail.messages == [["good"], ["better"], ["best"]]
    assert [len(ids_of(mail, message)) for message in ("bad", "worse")] == [1, 1]
    assert bench.state("mail")["pending"] == 2


async def test_the_end_of_an_incident_never_overtakes_its_beginning() -> None:
    mail = Picky("mail", "lost")
    bench = Bench(mail)
    bench.enqueue("lost", incident="1")
    await bench.pump()
    bench.enqueue("found", incident="1", status=Status.RESOLVED)
    bench.enqueue("down", severity=AlertSeverity.CRITICAL, incident="2")
    for _ in range(9):
        await bench.pump(after=300)
    assert mail.messages == [["down"]]
    mail.bad.clear()
    await bench.pump(after=600)
    assert mail.messages == [["down"], ["lost"], ["found"]]


async def test_a_day_without_its_server_makes_few_messages() -> None:
    """What waits while nothing can be delivered leaves together, however often it was tried."""
    mail = Channel("mail", *[DeliveryError("down", retryable=True)] * 200)
    bench = Bench(mail)
    for number in range(200):
        bench.enqueue(str(number))
        await bench.pump(after=360)
    for _ in range(9):
        await bench.pump(after=360)
    assert sorted(int(message) for messages in mail.messages for message in messages) == list(range(200))
    assert len(mail.messages) <= 8
    assert all(len(ids_of(mail, str(number))) == 1 for number in range(200))


async def test_who_delivers_after_a_restart_keeps_the_message_that_was_tried() -> None:
    mail = Picky("mail", "bad")
    bench = Bench(mail)
    bench.enqueue("bad", "with it")
    await bench.pump()
    after = Bench(mail)
    after.store = bench.store
    after.enqueue("new")
    for _ in range(4):
        await after.pump(after=60)
    assert len(ids_of(mail, "bad")) == 1
    assert mail.messages == [["new"]]


async def test_a_channel_whose_circuit_is_open_waits_for_critical_alerts_too() -> None:
    mail = Channel("mail", *[DeliveryError("down", retryable=True, retry_after=600)] * 3)
    bench = Bench(mail)
    bench.enqueue("one")
    await bench.pump()
    bench.enqueue("down", severity=AlertSeverity.CRITICAL)
    await bench.pump(after=599)
    assert len(mail.attempts) == 1


def test_a_sender_is_who_its_resource_says_it_is() -> None:
    resource = {
        "service.name": "orders\r\nBcc: x",
        "deployment.environment.name": "https://ana:hunter2@prod",
        "service.version": "a1b2c3d4e5f60718293a4b5c6d7e8f9012345678",
        "host.name": "ip-10-0-0-1\x1b[31m",
    }
    known = Origin.here(Settings.load(service_version="1", public_url="https://orders.example.com"), resource)
    assert known.service == "orders  Bcc: x"
    assert "hunter2" not in known.environment
    assert known.version == resource["service.version"]
    assert known.host == "ip-10-0-0-1 [31m"
    assert known.url == "https://orders.example.com"
    assert Origin.here(Settings.load(service_version="1"), {"service.name": "orders"}).version == "1"


async def test_what_failed_is_not_forgotten_while_ever_new_alerts_are_delivered() -> None:
    mail = Channel("mail", *[DeliveryError("answered 403", retryable=True)] * 4)
    bench = Bench(mail, limits=Limits(spacing=1.0))
    bench.enqueue("first")
    for _ in range(4):
        await bench.pump(after=60)
    for number in range(6):
        bench.enqueue(str(number))
        await bench.pump(after=60)
    assert mail.messages[1:3] in ([["first"], ["1"]], [["first"], ["1", "2"]])


async def test_those_who_get_the_end_first_do_not_get_the_beginning_after_it() -> None:
    refused = DeliveryError("1 of 2 recipients refused", retryable=True, partly=True)
    mail = Channel("mail", refused, refused)
    mail.latest_only = True
    bench = Bench(mail)
    bench.enqueue("firing", incident="1")
    bench.enqueue("other", incident="2")
    await bench.pump()
    bench.enqueue("alone", incident="3")
    bench.enqueue("over", incident="1", status=Status.RESOLVED)
    await bench.pump(after=1)
    for _ in range(9):
        await bench.pump(after=40)
    assert sorted(mail.messages) == [["alone", "over"], ["other"]]
    assert [len(ids_of(mail, message)) for message in ("other", "over")] == [1, 1], (
        "else those who have it get it again"
    )
    assert bench.became("firing", "mail") == ("superseded", "")
    assert bench.store.outbox.backlog() == {}


async def test_the_history_tells_no_other_alerts_error() -> None:
    mail = Picky("mail", "bad")
    bench = Bench(mail)
    for message in ("good", "bad"):
        bench.enqueue(message)
        await bench.pump(after=2)
    mail.failures = [DeliveryError("answered 413", retryable=False)]
    bench.enqueue("large", severity=AlertSeverity.CRITICAL)
    await bench.pump(after=2)
    assert bench.became("large", "mail") == ("given up", "answered 413")
    await bench.pump(after=GIVE_UP_SECONDS)
    assert bench.became("bad", "mail") == ("given up", "not delivered for a day, last: answered 500")


class Interrupted(MemoryStore):
    """Another worker raises alerts just before what is read is marked as tried."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = InterruptedOutbox(self)
        self.meanwhile: Callable[[], None] | None = None

    def interrupt(self) -> None:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()

    def run(self, work: Callable[[Store], T]) -> T:
        self.interrupt()
        return super().run(work)


class InterruptedOutbox(MemoryOutbox):
    def __init__(self, store: Interrupted) -> None:
        super().__init__(store)
        self.interrupt = store.interrupt

    def tried(self, ids: Collection[int], attempts: int = 1) -> None:
        self.interrupt()
        super().tried(ids, attempts)


async def test_every_alert_is_delivered_or_counted_as_left_out_whenever_it_is_raised() -> None:
    def raise_alerts(when: str, count: int) -> None:
        events = [
            AlertEvent(bench.clock.now, AlertType.CUSTOM, AlertSeverity.ERROR, "full", incident=f"{when} {number}")
            for number in range(count)
        ]
        store.outbox.enqueue(events, ["mail"], bench.clock.now)

    class Busy(Channel):
        async def send(self, notification: Notification) -> None:
            await super().send(notification)
            if len(self.delivered) == 1:
                raise_alerts("on its way", 1300)

    mail = Busy("mail")
    bench = Bench(mail)
    store = bench.store = Interrupted()
    raise_alerts("before", 1100)
    store.meanwhile = lambda: raise_alerts("meanwhile", 200)
    await bench.pump(timeout=60)
    events = [event for notification in mail.delivered for event in notification.events]
    counts = [event.details["count"] for event in events if event.is_overflow_notice]
    assert len({event.incident for event in events if not event.is_overflow_notice}) + sum(counts) == 2600
