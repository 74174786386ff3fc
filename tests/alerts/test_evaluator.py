"""Several workers on one store: one evaluates and delivers, another takes over, nothing is told twice or lost."""

import asyncio
import threading
from collections.abc import Callable, Collection
from functools import partial
from os import getpid
from socket import gethostname
from typing import Any

import pytest

from otel_monitoring.alerts import AlertManager, Count, Gauge, Route, Rule, manager
from otel_monitoring.alerts.evaluation.worker_report import WorkerReport
from otel_monitoring.alerts.evaluator import BEAT_SECONDS, LEASE_SECONDS, STUCK_SECONDS, Evaluator
from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, AlertType, DeliveryState, Notification, Status
from otel_monitoring.alerts.store import MemoryStore, Store
from otel_monitoring.alerts.store.memory.outbox import MemoryOutbox
from otel_monitoring.alerts.store.mongodb.client import CALL_SECONDS
from otel_monitoring.errors import DeliveryError
from otel_monitoring.metrics.snapshot import Series, Snapshot
from otel_monitoring.metrics.window import Window
from otel_monitoring.testing import ManualClock, MemoryChannel
from tests.waiting import PATIENCE

pytestmark = pytest.mark.anyio

INTERVAL = 10.0


@pytest.fixture(autouse=True)
def _messages_gather_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager, "_LIMITS", manager._LIMITS._replace(gathering=0.001))


class Mailbox(MemoryChannel):
    def __init__(self, name: str = "mailbox") -> None:
        super().__init__(name)
        self.hangs = False

    async def send(self, notification: Notification) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        await super().send(notification)


class Forgetful(Mailbox):
    """A receiver that has to be told again and again, as Alertmanager."""

    interval = 30.0

    def __init__(self, name: str = "forgetful") -> None:
        super().__init__(name)
        self.repeated: list[list[str]] = []

    async def repeat(self, notification: Notification) -> None:
        self.repeated.append([event.rule for event in notification.events])


class Host:
    """Workers of one host: one store, one clock, one mailbox."""

    def __init__(self, *rules: Rule) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore()
        self.mailbox = Mailbox()
        self.forgetful = Forgetful()
        self.rules = rules

    def worker(self, name: str, *further: Mailbox) -> "Worker":
        return Worker(self, name, *further)


class Worker:
    def __init__(self, host: Host, name: str, *further: Mailbox) -> None:
        self.host = host
        self.gauges: dict[str, float] = {}
        self.manager = AlertManager(
            channels=[host.mailbox, host.forgetful, *further], store=host.store, clock=host.clock, elapsed=host.clock
        )
        for rule in self.manager.rules:
            self.manager.remove_rule(rule.name)
        for rule in host.rules:
            self.manager.add_rule(rule)
        self.loop, self.thread = asyncio.get_running_loop(), threading.current_thread()
        self.elsewhere = False
        self.state: dict[str, object] = {}
        self.reading: Callable[[], object] = lambda: None
        self.watch = Evaluator(
            self.manager,
            name,
            self._report,
            INTERVAL,
            elsewhere=lambda: self.elsewhere,
            in_loop=self._in_loop,
            elapsed=host.clock,
        )

    def _in_loop(self, work: Callable[[], object]) -> None:
        if threading.current_thread() is self.thread:
            work()
        else:
            self.loop.call_soon_threadsafe(work)

    def _report(self) -> WorkerReport:
        self.reading()
        return WorkerReport(
            Window(Snapshot(0, 300, gauges={Series(name): value for name, value in self.gauges.items()})),
            {"custom": {"from": id(self)}},
            self.state,
        )

    async def beat(self, *, after: float = 0) -> None:
        self.host.clock.now += after
        self.watch.beat()
        await self.manager.delivery.flush(5)
        await asyncio.sleep(0)

    async def tick(self, *, after: float = 0, urgent: bool = False, **gauges: float) -> None:
        self.host.clock.now += after
        self.gauges = gauges
        self.watch.tick(urgent=urgent)
        await self.manager.delivery.flush(5)


HOT = Rule("hot", Gauge("heat"), ">", 10)
EACH_HOT = Rule("each_hot", Gauge("heat"), ">", 10, scope="instance")


async def test_what_another_engine_evaluates_ends_here_and_the_rest_goes_on() -> None:
    host = Host(HOT, EACH_HOT)
    one = host.worker("one")
    await one.tick(heat=11)
    assert {event.rule for event in host.mailbox.alerts} == {"hot", "each_hot"}
    host.mailbox.alerts.clear()
    one.elsewhere = True
    for _ in range(3):
        await one.tick(after=INTERVAL, heat=12)
    await one.beat(after=60)
    (ended,) = (event for event in host.mailbox.alerts if event.status is Status.RESOLVED)
    assert ended.rule == "hot"
    assert ended.message.endswith("(Prometheus evaluates its rule from now on)")
    (each,) = await one.manager.firing()
    assert (each["rule"], each["value"]) == ("each_hot", 12)
    values = {rule["name"]: rule["values"] for rule in await one.manager.rule_states()}
    assert (values["hot"], len(values["each_hot"])) == ([], 1)
    one.elsewhere = False
    await one.tick(after=INTERVAL, heat=13)
    assert {alert["rule"] for alert in await one.manager.firing()} == {"hot", "each_hot"}


async def test_every_worker_says_the_same_of_how_channels_fare() -> None:
    host = Host(HOT)
    one, two = host.worker("one"), host.worker("two")
    assert two.manager.state()["channels"]["mailbox"] == {"state": "ok", "failures": 0, "pending": 0}
    await one.beat()
    await two.beat()
    host.mailbox.error = DeliveryError("connection refused", retryable=True)
    await one.tick(heat=11)
    state = one.manager.state()
    assert two.manager.state() == state
    assert state["leader"] == "one"
    failing = state["channels"]["mailbox"]
    assert (failing["state"], failing["failures"], failing["pending"]) == ("retrying", 1, 1)
    assert (failing["worker"], failing["last_error"]) == ("one", "connection refused")
    assert state["channels"]["forgetful"]["state"] == "ok"

    await two.beat(after=LEASE_SECONDS + 1)
    assert two.manager.state()["channels"]["mailbox"]["failures"] == 1, "its own first attempt fails as well"
    host.mailbox.error = None
    await two.beat(after=5)
    assert one.manager.state() == two.manager.state()
    assert (one.manager.state()["channels"]["mailbox"]["state"], len(host.mailbox.alerts)) == ("ok", 1)


async def test_who_takes_over_believes_the_former_while_something_waits() -> None:
    host = Host(HOT)
    one, two = host.worker("one"), host.worker("two")
    host.mailbox.error = DeliveryError("connection refused", retryable=True)
    await one.beat()
    await one.tick(heat=11)
    await one.beat(after=2)
    host.mailbox.hangs = True
    host.clock.now += LEASE_SECONDS + 1
    two.watch.beat()
    assert two.manager.state()["channels"]["mailbox"]["failures"] == 2, "it does not know better yet"
    assert two.manager.state()["channels"]["mailbox"]["worker"] == "two"
    await two.manager.delivery.flush(0)


async def test_a_start_without_anything_that_waits_is_a_new_beginning() -> None:
    host = Host(HOT)
    host.store.conditions.save("mailbox", '{"state": "open", "failures": 9}')
    host.store.conditions.save("forgetful", "no JSON")
    assert host.worker("two").manager.state()["channels"]["forgetful"]["state"] == "ok"
    one = host.worker("one")
    await one.beat()
    assert one.manager.state()["channels"]["mailbox"] == {
        "state": "ok",
        "failures": 0,
        "pending": 0,
        "worker": "one",
    }


async def test_who_has_a_channel_that_the_leader_has_not_sends_by_it() -> None:
    host = Host(HOT)
    slack = Mailbox("slack")
    leader, follower = host.worker("leader"), host.worker("follower", slack)
    await leader.beat()
    await follower.beat()
    assert (leader.watch.leads, follower.watch.leads) == (True, False)
    follower.manager.hand_over = leader.manager.hand_over = lambda: True
    await leader.manager.send_alert("custom", "raised by the leader")
    await follower.manager.send_alert("custom", "raised by the follower")
    await leader.tick(heat=11)
    await follower.tick(heat=11)
    said = ["raised by the leader", "raised by the follower", "hot: 11 (threshold 10)"]
    assert sorted(event.message for event in slack.alerts) == sorted(said), "a rule's alerts too"
    assert sorted(event.message for event in host.mailbox.alerts) == sorted(said), "once"
    assert leader.manager.state() == follower.manager.state()
    channels = leader.manager.state()["channels"]
    assert {name: channel["worker"] for name, channel in channels.items()} == {
        "mailbox": "leader",
        "forgetful": "leader",
        "slack": "follower",
    }
    assert {
        result.state.value for event in host.store.history.events(limit=9) for result in event.channels.values()
    } == {"delivered"}
    await leader.beat(after=4)
    await follower.tick(heat=1)
    await leader.tick(heat=1)
    await follower.beat(after=4)
    assert slack.alerts[-1].status is Status.RESOLVED

    await leader.watch.stop(1)
    await follower.beat()
    assert follower.manager.state()["channels"]["mailbox"]["worker"] == "follower", "it takes all that it can have"


async def test_a_receiver_that_only_the_follower_has_hears_the_end_of_what_was_muted_meanwhile() -> None:
    host, forgetful, slack = Host(HOT), Forgetful("alertmanager"), Mailbox("slack")
    leader, follower = host.worker("leader"), host.worker("follower", forgetful, slack)
    await leader.beat()
    await follower.beat()
    await leader.tick(heat=11)
    await follower.beat()
    follower.manager.mute_alert_type("custom", 60)
    await leader.tick(after=1, heat=1)
    await follower.beat(after=1)
    assert [event.status for event in forgetful.alerts] == [Status.FIRING, Status.RESOLVED], "else it runs out there"
    assert [event.status for event in slack.alerts] == [Status.FIRING]


async def test_a_receiver_that_only_the_follower_has_is_told_again_by_it() -> None:
    host = Host(HOT)
    forgetful = Forgetful("alertmanager")
    leader, follower = host.worker("leader"), host.worker("follower", forgetful)
    await leader.beat()
    await follower.beat()
    await leader.tick(heat=11)
    for _ in range(9):
        await follower.beat()
        await leader.beat(after=4)
    assert (leader.watch.leads, len(forgetful.alerts), len(host.forgetful.alerts)) == (True, 1, 1)
    assert forgetful.repeated == host.forgetful.repeated == [["hot"]]


async def test_what_waits_for_a_channel_that_nobody_has_is_told_and_given_up_after_a_day(
    caplog: pytest.LogCaptureFixture,
) -> None:
    host = Host(HOT)
    slack = Mailbox("slack")
    former, leader = host.worker("former", slack), host.worker("leader")
    await former.beat()
    former.manager.hand_over = lambda: True
    slack.error = DeliveryError("connection refused", retryable=True)
    await former.manager.send_alert("custom", "for slack")
    await former.watch.stop(1)
    await leader.beat()
    await leader.tick()
    assert leader.manager.state()["channels"]["slack"]["state"] == "retrying", "its worker may be starting again"
    await leader.tick(after=61)
    await leader.tick()
    channel = leader.manager.state()["channels"]["slack"]
    assert (channel["state"], channel["pending"]) == ("missing", 1)
    who = f"no running worker has this channel; the one that leads (host {gethostname()}, pid {getpid()})"
    assert channel["last_error"].startswith(who)
    assert [line for line in caplog.messages if line.startswith(f"slack: attempt 2 failed: {who}")]
    (event,) = host.store.history.events(limit=1)
    assert event.channels["slack"].state is DeliveryState.RETRYING
    assert event.channels["slack"].error.startswith(who)
    await leader.tick(after=86_400)
    (event,) = host.store.history.events(limit=1)
    assert event.channels["slack"].state is DeliveryState.GIVEN_UP
    assert event.channels["slack"].error.startswith(f"not delivered for a day, last: {who}")
    assert "slack" not in leader.manager.state()["channels"]


async def test_what_waited_for_a_channel_is_sent_when_somebody_has_it() -> None:
    host = Host(HOT)
    leader = host.worker("leader")
    await leader.beat()
    host.store.outbox.enqueue(
        [AlertEvent(host.clock.now, AlertType.CUSTOM, AlertSeverity.ERROR, "1")], ["slack"], host.clock.now
    )
    await leader.tick()
    await leader.tick()
    slack = Mailbox("slack")
    follower = host.worker("follower", slack)
    await follower.beat()
    assert [event.message for event in slack.alerts] == ["1"]
    await leader.tick()
    await follower.beat()
    assert leader.manager.state()["channels"]["slack"]["state"] == "ok"


async def test_what_an_earlier_version_left_for_a_channel_that_has_alerts_at_once_is_sent_by_the_leader() -> None:
    class Log(Mailbox):
        def __init__(self, name: str) -> None:
            super().__init__(name)
            self.written: list[AlertEvent] = []

        def write(self, event: AlertEvent) -> None:
            self.written.append(event)

    host, log = Host(HOT), Log("log")
    leader, follower = host.worker("leader", log), host.worker("follower", Log("log"))
    host.store.outbox.enqueue(
        [AlertEvent(host.clock.now, AlertType.CUSTOM, AlertSeverity.ERROR, "1")], ["log"], host.clock.now
    )
    await leader.beat()
    await follower.beat()
    await leader.tick(heat=11)
    await leader.tick(heat=11)
    assert [event.message for event in log.alerts] == ["1"]
    assert [event.message for event in log.written] == ["hot: 11 (threshold 10)"]
    assert host.store.outbox.backlog() == {}


async def test_a_script_that_raises_an_alert_is_told_on_the_channels_of_the_service_too() -> None:
    host = Host(HOT)
    worker = host.worker("worker")
    await worker.beat()
    own = Mailbox("own")
    script = AlertManager(channels=[own], store=host.store, clock=host.clock)
    await asyncio.wait_for(script.send_alert("custom", "from a script"), PATIENCE)
    assert [event.message for event in own.alerts] == ["from a script"]
    await worker.beat()
    assert [event.message for event in host.mailbox.alerts] == ["from a script"]
    await worker.tick(heat=11)
    await worker.tick(heat=11)
    assert "own" not in worker.manager.state()["channels"], "it is no worker"


async def test_one_worker_leads_and_tells_what_another_one_sees_at_its_next_tick() -> None:
    host = Host(HOT)
    one, two = host.worker("one"), host.worker("two")
    await one.beat()
    await two.beat()
    assert (one.watch.leads, two.watch.leads) == (True, False)
    await two.tick(heat=11)
    assert host.mailbox.alerts == []
    await one.tick(heat=1)
    assert [event.details["value"] for event in host.mailbox.alerts] == [11], "the largest of all workers"
    await two.tick(heat=12)
    await one.tick(heat=12)
    assert len(host.mailbox.alerts) == 1


async def test_what_is_urgent_is_evaluated_with_the_leaders_next_beat() -> None:
    host = Host(HOT)
    one, two = host.worker("one"), host.worker("two")
    await one.beat()
    await two.tick(after=1, urgent=True, heat=11)
    await one.beat(after=1)
    assert [event.rule for event in host.mailbox.alerts] == ["hot"]


async def test_another_worker_takes_over_within_the_lease_and_tells_nothing_twice() -> None:
    host = Host(HOT)
    one, two = host.worker("one"), host.worker("two")
    await one.beat()
    await one.tick(heat=11)
    assert len(host.mailbox.alerts) == 1
    # Killed: it never gives its lease back.
    await two.tick(after=LEASE_SECONDS - 0.1, heat=11)
    assert not two.watch.leads
    await two.beat(after=0.2)
    assert two.watch.leads
    assert len(host.mailbox.alerts) == 1
    await two.tick(after=INTERVAL, heat=1)
    assert [event.status.value for event in host.mailbox.alerts] == ["firing", "resolved"]


async def test_what_a_dead_leader_had_not_sent_is_sent_by_the_next() -> None:
    host = Host(HOT)
    one, two = host.worker("one"), host.worker("two")
    await one.beat()
    one.gauges = {"heat": 11}
    one.watch.tick()  # committed; the process dies before its delivery runs
    for task in one.manager.delivery._running.values():
        task.cancel()
    assert host.mailbox.alerts == []
    two.gauges = {"heat": 11}
    await two.beat(after=LEASE_SECONDS + 0.1)
    assert [event.rule for event in host.mailbox.alerts] == ["hot"]


async def test_who_stops_lets_another_one_lead_at_once() -> None:
    host = Host(HOT)
    one, two = host.worker("one"), host.worker("two")
    await one.tick(heat=1)
    await one.watch.stop(1)
    await two.beat()
    assert two.watch.leads


async def test_a_stop_delivers_what_waits() -> None:
    host = Host(HOT)
    one = host.worker("one")
    one.gauges = {"heat": 11}
    one.watch.tick()
    await one.watch.stop(5)
    assert [event.rule for event in host.mailbox.alerts] == ["hot"]


async def test_the_alert_of_a_worker_that_reports_no_more_is_over() -> None:
    host = Host(EACH_HOT)
    one, two = host.worker("one"), host.worker("two")
    await one.tick(heat=1)
    await two.tick(heat=11)
    await one.tick(after=1, heat=1)
    assert [event.labels for event in host.mailbox.alerts] == [{"instance": "two"}]
    await one.tick(after=3 * INTERVAL, heat=1)
    assert [event.status.value for event in host.mailbox.alerts] == ["firing", "resolved"]


async def test_a_leader_that_slept_through_its_lease_evaluates_nothing_before_it_has_it_again() -> None:
    host = Host(HOT)
    one, two = host.worker("one"), host.worker("two")
    await one.beat()
    await two.beat(after=LEASE_SECONDS + 1)
    await one.tick(heat=11)
    assert (one.watch.leads, two.watch.leads) == (False, True)
    assert host.mailbox.alerts == []


async def test_receivers_that_forget_are_told_again_what_fires() -> None:
    host = Host(HOT)
    one = host.worker("one")
    await one.tick(heat=11)
    await one.beat(after=1)
    await one.beat(after=1)
    assert host.forgetful.repeated == [["hot"]]
    await one.beat(after=30)
    assert host.forgetful.repeated == [["hot"]] * 2
    await one.tick(after=1, heat=1)
    await one.beat(after=31)
    assert host.forgetful.repeated == [["hot"]] * 2


async def test_what_a_receiver_holds_is_repeated_while_it_fires_whoever_must_not_hear_of_it() -> None:
    """Were it not, the receiver would say that it is over. Its end is told, which it would say by itself anyway."""
    host = Host(HOT)
    one = host.worker("one")
    await one.tick(heat=11)
    one.manager.mute_alert_type(AlertType.CUSTOM, 1000)
    for _ in range(3):
        await one.tick(after=31, heat=11)
        await one.beat()
    assert host.forgetful.repeated == [["hot"]] * 3
    assert [event.status.value for event in host.forgetful.alerts] == ["firing"]
    await one.tick(after=31, heat=1)
    assert [event.status.value for event in host.forgetful.alerts] == ["firing", "resolved"]
    assert [event.status.value for event in host.mailbox.alerts] == ["firing"], "people are spared"


async def test_what_no_route_sends_to_a_receiver_is_not_repeated_there() -> None:
    host = Host(HOT, Rule("late", Gauge("late"), ">", 1))
    one = host.worker("one")
    one.manager.add_route(Route("forgetful", rules="late"))
    await one.tick(heat=11, late=5)
    for _ in range(2):
        await one.tick(after=31, heat=11, late=5)
        await one.beat()
    assert host.forgetful.repeated == [["late"]] * 2
    assert [event.rule for event in host.forgetful.alerts] == ["late"]
    assert [event.rule for event in host.mailbox.alerts] == ["hot", "late"]


async def test_what_was_muted_from_its_beginning_is_not_brought_to_a_receiver() -> None:
    host = Host(HOT)
    one = host.worker("one")
    one.manager.mute_alert_type(AlertType.CUSTOM, 1000)
    await one.tick(heat=11)
    await one.beat(after=31)
    await one.tick(after=31, heat=1)
    assert (host.forgetful.repeated, host.forgetful.alerts) == ([], [])


async def test_an_alert_that_is_inhibited_while_a_receiver_holds_it_goes_on_there() -> None:
    cause = Rule("cause", Gauge("fire"), ">", 10, type=AlertType.DATABASE_DOWN, inhibits=frozenset({AlertType.CUSTOM}))
    host = Host(HOT, cause)
    one = host.worker("one")
    await one.tick(heat=11, fire=0)
    await one.beat()
    await one.tick(after=31, heat=11, fire=11)
    await one.beat()
    first, second = host.forgetful.repeated
    assert (first, sorted(second)) == (["hot"], ["cause", "hot"])


@pytest.mark.parametrize("killed", [True, False])
async def test_who_takes_over_repeats_at_once_what_a_receiver_holds(killed: bool) -> None:
    """After a restart as after a takeover, muted or not: nothing ends because somebody else tells it."""
    host = Host(HOT)
    one = host.worker("one")
    await one.tick(heat=11)
    await one.beat()
    one.manager.mute_alert_type(AlertType.CUSTOM, 1000)
    if not killed:
        await one.watch.stop(1)
    two = host.worker("two")
    two.gauges = {"heat": 11}
    await two.beat(after=LEASE_SECONDS + 0.1)
    assert two.watch.leads
    assert host.forgetful.repeated == [["hot"]] * 2
    assert [event.status.value for event in host.forgetful.alerts] == ["firing"]


async def test_the_end_of_an_alert_never_comes_before_its_repetition() -> None:
    """A repetition that is slow to arrive would bring back what is over."""
    host, begun, slow = Host(HOT), asyncio.Event(), asyncio.Event()
    order: list[str] = []

    class Slow(Forgetful):
        async def send(self, notification: Notification) -> None:
            order.extend(event.status.value for event in notification.events)

        async def repeat(self, notification: Notification) -> None:
            begun.set()
            await slow.wait()
            order.append("repeated")

    host.forgetful = Slow()
    one = host.worker("one")
    await one.tick(heat=11)
    host.clock.now += 1
    one.watch.beat()
    await asyncio.wait_for(begun.wait(), PATIENCE)  # the repetition is on its way
    one.gauges = {"heat": 1}
    one.watch.tick()
    await asyncio.sleep(0)
    slow.set()
    await one.manager.delivery.flush(5)
    await one.beat(after=10)
    assert order == ["firing", "repeated", "resolved"]


async def test_a_report_counts_for_three_intervals_of_the_worker_that_sent_it() -> None:
    """As while one version of a service replaces another, whose settings are others."""
    host = Host(HOT)
    one, two = host.worker("one"), host.worker("two")
    two.state = {"interval": 6 * INTERVAL}
    await one.tick()
    await two.tick(heat=11)
    for _ in range(18):
        await one.tick(after=INTERVAL)
        assert one.watch.others()[0].keys() == {"two"}
        assert [alert["rule"] for alert in await one.manager.firing()] == ["hot"]
    await one.tick(after=INTERVAL)
    assert await one.manager.firing() == []
    assert one.watch.others()[0] == {}
    assert "two" not in host.store.reports.published(host.clock()), "it has ended, and its report is deleted"


async def test_a_worker_with_a_longer_interval_knows_soon_that_another_has_ended() -> None:
    host = Host(HOT)
    one, two = host.worker("one"), host.worker("two")
    two.state = {"interval": INTERVAL / 10}
    await one.tick()
    await two.tick(heat=11)
    host.clock.now += INTERVAL / 2
    assert one.watch.others()[0] == {}


@pytest.mark.parametrize("interval", [None, "soon", 0, -5.0, float("nan"), [1]])
async def test_a_worker_that_says_no_interval_is_taken_to_have_the_own_one(interval: object) -> None:
    host = Host(HOT)
    one, two = host.worker("one"), host.worker("two")
    two.state = {"interval": interval}
    await two.tick()
    host.clock.now += 3 * INTERVAL
    assert one.watch.others()[0].keys() == {"two"}
    host.clock.now += 1
    assert one.watch.others()[0] == {}


async def test_a_report_of_another_version_is_left_out() -> None:
    host = Host(HOT)
    one = host.worker("one")
    await one.beat()
    host.store.reports.publish("stranger", b"\x80binary", host.clock.now)
    await one.tick(heat=11)
    assert len(host.mailbox.alerts) == 1


async def test_an_evaluation_that_takes_long_keeps_the_lease_and_one_that_hangs_does_not() -> None:
    host, reached, opened = Host(HOT), threading.Event(), threading.Event()
    one, two = host.worker("one"), host.worker("two")
    await one.beat()
    one.gauges = two.gauges = {"heat": 11}

    def hang() -> None:
        reached.set()
        assert opened.wait(PATIENCE)

    one.reading = hang
    evaluating = asyncio.ensure_future(asyncio.to_thread(one.watch.tick))
    assert await asyncio.to_thread(reached.wait, PATIENCE)
    for _ in range(int(STUCK_SECONDS / BEAT_SECONDS)):
        await one.beat(after=BEAT_SECONDS)
        await two.beat()
        assert (one.watch.leads, two.watch.leads) == (True, False)
    for _ in range(int(LEASE_SECONDS / BEAT_SECONDS) + 2):
        await one.beat(after=BEAT_SECONDS)
    assert not one.watch.leads
    await two.beat()
    assert two.watch.leads
    opened.set()
    await evaluating
    await one.manager.delivery.flush(5)
    await one.beat(after=BEAT_SECONDS)
    await two.tick(after=BEAT_SECONDS, heat=11)
    assert [event.rule for event in host.mailbox.alerts] == ["hot"], "of two that evaluate, one tells"
    await two.watch.stop(1)
    await one.beat(after=BEAT_SECONDS)
    assert one.watch.leads, "it evaluates again"


async def test_who_stops_does_not_wait_for_a_store_that_hangs_and_comes_back_to_nothing() -> None:
    reached, opened = threading.Event(), threading.Event()

    class Hanging(MemoryStore):
        hangs = False

        def run(self, work: Callable[[Store], Any]) -> Any:
            if self.hangs:
                reached.set()
                assert opened.wait(PATIENCE)
            return super().run(work)

    host = Host(HOT)
    host.store = store = Hanging()
    one = host.worker("one")
    await one.tick(heat=5)
    store.hangs = True
    evaluating = asyncio.ensure_future(asyncio.to_thread(one.watch.tick))
    assert await asyncio.to_thread(reached.wait, PATIENCE)
    await one.watch.stop(0.01)
    opened.set()
    await evaluating
    one.watch.beat()
    assert (one.watch.leads, store.leases.holders(host.clock.now)) == (False, {})
    assert store.reports.published(host.clock.now) == {}, "it is in nobody's list any more"


async def test_who_loses_the_lease_to_a_slow_store_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(HOT)
    one, two = host.worker("one"), host.worker("two")
    await one.beat()
    tried = MemoryOutbox.tried

    def slow(self: MemoryOutbox, ids: Collection[int], attempts: int = 1) -> None:
        tried(self, ids, attempts)
        host.clock.now += LEASE_SECONDS

    with monkeypatch.context() as patch:
        patch.setattr(MemoryOutbox, "tried", slow)
        await one.tick(heat=11)
    assert host.mailbox.alerts == []
    await two.beat()
    assert [event.rule for event in host.mailbox.alerts] == ["hot"], "who has it now sends it"


def test_a_lease_outlasts_a_call_of_a_database_that_hangs() -> None:
    """Until it is renewed, less than half of it and a beat have passed; then the call begins."""
    assert LEASE_SECONDS / 2 - BEAT_SECONDS > CALL_SECONDS


async def test_what_the_service_measured_is_evaluated_once_and_reported_by_nobody() -> None:
    """Histograms and counters come from the measurements of the service; reports have what is each worker's own."""
    host = Host(
        Rule("sold", Count("sold"), ">", 10), Rule("each_sold", Count("sold_here"), ">", 10, scope="instance"), HOT
    )
    measured = Window(Snapshot(0, 300, sums={Series("sold"): 12.0}))
    workers = {name: host.worker(name) for name in ("one", "two")}

    def report(name: str) -> WorkerReport:
        sums = {Series("sold"): 12.0, Series("sold_here"): 11.0 if name == "two" else 1.0}
        return WorkerReport(Window(Snapshot(0, 300, sums=sums, gauges={Series("heat"): 1.0})))

    for name, worker in workers.items():
        worker.watch = Evaluator(worker.manager, name, partial(report, name), INTERVAL, lambda: measured)
    workers["one"].watch.beat()
    workers["two"].watch.tick()
    workers["one"].watch.tick()
    states = {rule["name"]: rule for rule in await workers["one"].manager.rule_states()}
    assert [value["value"] for value in states["sold"]["values"]] == [12.0], "not the 24 of both reports"
    assert {v["labels"]["instance"]: v["value"] for v in states["each_sold"]["values"]} == {"one": 1.0, "two": 11.0}
    published = host.store.reports.published(host.clock())
    snapshot = WorkerReport.decode(published["two"].report).window.snapshot
    assert dict(snapshot.sums) == {Series("sold_here"): 11.0}
    assert dict(snapshot.gauges) == {Series("heat"): 1.0}


async def test_every_worker_has_the_results_of_the_one_that_leads() -> None:
    host = Host(HOT)
    one, two = host.worker("one"), host.worker("two")
    await one.tick(heat=11)
    await two.tick(heat=5)
    await one.tick(heat=12)
    values = [rule["values"] for worker in (one, two) for rule in await worker.manager.rule_states()]
    assert values[0] == values[1] != []
    await one.watch.stop(1)
    await two.tick(heat=5)
    ((value,),) = (rule["values"] for rule in await two.manager.rule_states())
    assert value["value"] == 5
    await one.tick(heat=50)
    (ones,) = (rule["values"] for rule in await one.manager.rule_states())
    assert [shown["value"] for shown in ones] == [5], "not its own of before"


async def test_a_report_that_cannot_be_read_hides_no_rule() -> None:
    host = Host(HOT)
    one, two = host.worker("one"), host.worker("two")
    await one.tick(heat=11)
    host.store.reports.publish("one", b"\xff", host.clock())
    assert [rule["values"] for rule in await two.manager.rule_states()] == [[]]
    assert two.watch.others() == ({}, "one")
