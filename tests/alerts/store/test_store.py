"""What every store promises, asked of each of them; and that they agree on whatever is asked of them."""

import atexit
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from pymongo import MongoClient

from otel_monitoring.alerts.model import (
    AlertEvent,
    AlertSeverity,
    AlertType,
    ChannelResult,
    DeliveryState,
    Outcome,
    Status,
)
from otel_monitoring.alerts.mute import Mute
from otel_monitoring.alerts.selection import Selection
from otel_monitoring.alerts.store import MemoryStore, Store, open_store
from otel_monitoring.alerts.store.fallback import FallbackStore
from otel_monitoring.alerts.store.history import HISTORY_LIMIT
from otel_monitoring.alerts.store.leases import LEADER
from otel_monitoring.alerts.store.mongodb import MongoStore
from otel_monitoring.alerts.store.notes import NOTES_LIMIT, NOTES_SECONDS
from otel_monitoring.alerts.store.outbox import OUTBOX_LIMIT, Queued
from otel_monitoring.alerts.store.protocol import CLOCK_TOLERANCE
from otel_monitoring.alerts.store.sqlite import SqliteStore
from otel_monitoring.alerts.store.sqlite.state_file import state_path
from otel_monitoring.config import Settings
from otel_monitoring.guard import fail_open
from tests.integration.servers import Server, ferretdb, nx27017

NOW = 1_700_000_000.0
DAY = 86_400.0
KINDS: dict[str, Callable[[Path], Store]] = {
    "memory": lambda _: MemoryStore(),
    "sqlite": lambda folder: SqliteStore(folder / "alerts.db"),
    "sqlite, memory": lambda folder: FallbackStore(SqliteStore(folder / "alerts.db")),
    "nx-27017": lambda _: mongo_store(nx27017),
    "FerretDB": lambda _: mongo_store(ferretdb),
    "nx-27017, sqlite, memory": lambda folder: with_file(mongo_store(nx27017), folder),
}
SERVERS = [pytest.param(kind, id=kind.__name__, marks=pytest.mark.integration) for kind in (nx27017, ferretdb)]
EVERY_KIND = [
    pytest.param(kind, marks=pytest.mark.integration if kind.startswith(("nx-27017", "FerretDB")) else ())
    for kind in KINDS
]
_servers = ExitStack()
atexit.register(_servers.close)


@cache
def server_of(kind: Callable[[], AbstractContextManager[Server]]) -> Server:
    """One server of a kind for all tests of the process."""
    return _servers.enter_context(kind())


def mongo_store(kind: Callable[[], AbstractContextManager[Server]]) -> MongoStore:
    server = server_of(kind)
    return MongoStore(lambda: MongoClient(server.uri)["shop"], uuid4().hex)


def with_file(primary: MongoStore, folder: Path) -> FallbackStore:
    secondary = FallbackStore(SqliteStore(folder / "alerts.db"))
    return FallbackStore(primary, secondary, known=lambda: primary.known)


@pytest.fixture(params=EVERY_KIND)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = KINDS[request.param](tmp_path)
    yield store
    assert store.problem is None
    store.close()


def event(message: str = "CPU at 91%", **values: Any) -> AlertEvent:
    return AlertEvent(
        **{"time": NOW, "type": AlertType.HIGH_CPU, "severity": AlertSeverity.WARNING, "message": message, **values}
    )


def messages(store: Store, limit: int = HISTORY_LIMIT, **filters: Any) -> list[str]:
    return [event.message for event in store.history.events(limit=limit, **filters)]


def waiting(store: Store, channel: str, limit: int = OUTBOX_LIMIT) -> list[str]:
    return [queued.event.message for queued in store.outbox.pending(channel, limit)]


# History


def test_an_event_comes_back_as_it_went_in(store: Store) -> None:
    full = AlertEvent(
        NOW,
        AlertType.API_TIMEOUT,
        AlertSeverity.CRITICAL,
        "langsam · 慢\x00\u2028",
        {"p95": 2.5, "nested": {"list": [1, None, True]}},
        Outcome.MUTED,
        Status.RESOLVED,
        {"endpoint": "/api/orders/"},
        "API_TIMEOUT",
        "i-1",
        NOW - 60,
        "https://runbooks.example/timeout",
        "0af7651916cd43dd8448eb211c80319c",
    )
    store.history.append(full)
    store.outbox.enqueue([full], ["mail"], NOW)
    assert list(store.history.events(limit=1)) == [full]
    assert store.outbox.pending("mail", 1)[0].event == full


def test_the_newest_come_first_filtered_and_limited(store: Store) -> None:
    for number in range(6):
        kind, severity = [(AlertType.HIGH_CPU, AlertSeverity.WARNING), (AlertType.CUSTOM, AlertSeverity.INFO)][
            number % 2
        ]
        store.history.append(event(str(number), type=kind, severity=severity))
    assert messages(store, 3) == ["5", "4", "3"]
    assert messages(store, 2, alert_type=AlertType.HIGH_CPU) == ["4", "2"]
    assert messages(store, 9, severity=AlertSeverity.INFO) == ["5", "3", "1"]
    assert messages(store, 9, alert_type=AlertType.CUSTOM, severity=AlertSeverity.WARNING) == []
    assert messages(store, 0) == []


def test_the_history_keeps_a_thousand_and_counts_all_but_resolves(store: Store) -> None:
    def work(tx: Store) -> None:
        for number in range(HISTORY_LIMIT + 5):
            tx.history.append(event(str(number)))
        tx.history.append(event("over", status=Status.RESOLVED))
        tx.history.append(event("own", type=AlertType.CUSTOM))

    store.run(work)
    kept = messages(store)
    assert (len(kept), kept[0], kept[-1]) == (HISTORY_LIMIT, "own", "7")
    assert store.history.counts() == {AlertType.HIGH_CPU: HISTORY_LIMIT + 5, AlertType.CUSTOM: 1}


def test_clear_forgets_events_and_counts_only(store: Store) -> None:
    store.history.append(event())
    store.outbox.enqueue([event("waits")], ["mail"], NOW)
    store.mutes.add(Mute(Selection.of(AlertType.CUSTOM), NOW + 60))
    store.incidents.save({"rule": "firing"})
    store.notes.note("key", NOW)
    store.history.clear()
    assert (messages(store), store.history.counts(), store.notes.noted_at("key")) == ([], {}, NOW)
    assert waiting(store, "mail") == ["waits"]
    assert store.incidents.saved() == {"rule": "firing"}
    assert len(store.mutes.all(NOW)) == 1
    store.history.append(event("next"))
    assert messages(store) == ["next"]


@pytest.mark.parametrize(
    "details",
    [{"when": object()}, {("a", 1): 1}, {"loop": None}],
    ids=["no form in JSON", "no key in JSON", "contains itself"],
)
def test_details_without_a_form_in_json_lose_nothing_else(store: Store, details: dict[Any, Any]) -> None:
    if "loop" in details:
        details["loop"] = details
    store.history.append(event("odd", details=details))
    store.outbox.enqueue([event("odd", details=details)], ["mail"], NOW)
    assert (messages(store), waiting(store, "mail")) == (["odd"], ["odd"])


# Mutes, and what was notified


def test_mutes_end_and_stand_in_the_order_of_their_ends(store: Store) -> None:
    later = Mute(Selection.of(AlertType.HIGH_CPU, labels={"instance": "a"}), NOW + 60, "ops", "deploy")
    sooner = Mute(Selection.of(AlertType.CUSTOM), NOW + 30)
    store.mutes.add(later)
    store.mutes.add(sooner)
    assert store.mutes.all(NOW) == [sooner, later]
    assert store.mutes.all(NOW + 30) == [later]
    assert store.mutes.all(NOW + 60) == []


def test_a_mute_replaces_the_one_of_the_same_type_and_labels(store: Store) -> None:
    first = Mute(Selection.of(AlertType.HIGH_CPU, labels={"a": "1", "b": "2"}), NOW + 60)
    second = Mute(Selection.of(AlertType.HIGH_CPU, labels={"b": "2", "a": "1"}), NOW + 30, reason="shorter")
    other = Mute(Selection.of(AlertType.HIGH_CPU), NOW + 90)
    for mute in (first, other, second):
        store.mutes.add(mute)
    assert store.mutes.all(NOW) == [second, other]


def test_unmute_ends_one_by_its_labels_or_all_of_a_type(store: Store) -> None:
    for labels in ({}, {"a": "1"}, {"a": "2"}):
        store.mutes.add(Mute(Selection.of(AlertType.HIGH_CPU, labels=labels), NOW + 60))
    store.mutes.add(Mute(Selection.of(AlertType.CUSTOM), NOW + 60))
    of_label = Mute(Selection.of(AlertType.HIGH_CPU, labels={"a": "1"}), 0.0)
    assert store.mutes.remove(of_label)
    assert not store.mutes.remove(of_label)
    assert store.mutes.remove(Mute(Selection.of(AlertType.HIGH_CPU), 0.0, "somebody else"))
    assert [mute.selection for mute in store.mutes.all(NOW)] == [
        Selection.of(AlertType.HIGH_CPU, labels={"a": "2"}),
        Selection.of(AlertType.CUSTOM),
    ]


def test_notes_are_kept_for_a_day(store: Store) -> None:
    assert store.notes.noted_at("a") is None
    store.notes.note("a", NOW)
    store.notes.note("b", NOW + 5)
    store.notes.note("a", NOW + 9)
    assert (store.notes.noted_at("a"), store.notes.noted_at("b")) == (NOW + 9, NOW + 5)
    store.notes.note("c", NOW + 6 + NOTES_SECONDS)
    assert (store.notes.noted_at("a"), store.notes.noted_at("b")) == (NOW + 9, None)


def test_notes_are_bounded_and_the_latest_stay(store: Store) -> None:
    def work(tx: Store) -> None:
        for number in range(NOTES_LIMIT + 600):
            tx.notes.note(str(number), NOW)

    store.run(work)
    first = bisect_left(range(NOTES_LIMIT), True, key=lambda number: store.notes.noted_at(str(number)) is not None)
    assert 100 < first <= 600
    assert store.notes.noted_at(str(NOTES_LIMIT + 599)) == NOW


def test_notes_are_cleared(store: Store) -> None:
    store.notes.note("key", NOW)
    store.notes.clear()
    assert store.notes.noted_at("key") is None
    store.notes.note("key", NOW)
    assert store.notes.noted_at("key") == NOW


def test_keys_may_be_any_text(store: Store) -> None:
    odd = "慢 \x00 \ud800 '\";--"
    store.notes.note(odd, NOW)
    store.incidents.save({odd: "{}"})
    assert store.notes.noted_at(odd) == NOW
    assert list(store.incidents.saved().values()) == ["{}"]


# The states of the rules


def test_states_are_saved_replaced_and_removed(store: Store) -> None:
    store.incidents.save({"a": "pending", "b": "firing"})
    store.incidents.save({"a": "firing", "b": None, "c": None})
    store.incidents.save({})
    assert store.incidents.saved() == {"a": "firing"}


# The outbox


def test_an_event_waits_for_each_channel_until_it_is_settled(store: Store) -> None:
    store.outbox.enqueue([event("1")], ["mail", "slack"], NOW)
    store.outbox.enqueue([event("2")], ["mail"], NOW + 1)
    store.outbox.enqueue([event("3")], [], NOW + 2)
    assert store.outbox.backlog() == {"mail": 2, "slack": 1}
    first, second = store.outbox.pending("mail", 10)
    assert (first.channel, first.queued_at, first.attempts, second.event.message) == ("mail", NOW, 0, "2")
    assert first.id < second.id
    store.outbox.settle([first.id])
    store.outbox.settle([])
    assert (waiting(store, "mail"), waiting(store, "slack"), waiting(store, "log")) == (["2"], ["1"], [])


def test_numbers_are_not_used_again(store: Store) -> None:
    store.outbox.enqueue([event("1")], ["mail"], NOW)
    (first,) = store.outbox.pending("mail", 1)
    store.outbox.settle([first.id])
    store.outbox.enqueue([event("2")], ["mail"], NOW)
    store.outbox.settle([first.id])
    assert waiting(store, "mail") == ["2"]


def test_the_oldest_come_first_however_often_they_were_tried(store: Store) -> None:
    for number in range(3):
        store.outbox.enqueue([event(str(number))], ["mail"], NOW)
    zero, one, _ = store.outbox.pending("mail", 10)
    store.outbox.tried([zero.id, one.id])
    store.outbox.tried([zero.id])
    assert [(row.event.message, row.attempts) for row in store.outbox.pending("mail", 10)] == [
        ("0", 2),
        ("1", 1),
        ("2", 0),
    ]
    assert waiting(store, "mail", 1) == ["0"]


def test_a_full_outbox_leaves_out_the_oldest_of_a_channel_and_the_next_message_says_so(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    def work(tx: Store) -> None:
        tx.outbox.enqueue([event("elsewhere")], ["slack"], NOW)
        for number in range(OUTBOX_LIMIT + 2):
            tx.outbox.enqueue([event(str(number))], ["mail"], NOW)

    store.run(work)
    assert store.outbox.backlog() == {"mail": OUTBOX_LIMIT, "slack": 1}
    (note,) = [row.event for row in store.outbox.pending("mail", OUTBOX_LIMIT) if row.event.is_overflow_notice]
    assert note.message == f"3 alerts were left out, the least severe first: more than {OUTBOX_LIMIT} waited for mail"
    assert note.details == {"count": 3, "types": {"HIGH_CPU": 3}}
    assert waiting(store, "mail", 1) == ["3"]
    assert fail_open.failures["alert outbox"] == 2
    assert sum("alert outbox" in line for line in caplog.messages) == 1


def test_a_full_outbox_leaves_out_the_least_severe_and_never_what_is_more_urgent(store: Store) -> None:
    severities = [AlertSeverity.CRITICAL, AlertSeverity.INFO, AlertSeverity.ERROR, AlertSeverity.WARNING]

    def work(tx: Store) -> None:
        raised = [event(str(number), severity=severities[number % 4]) for number in range(OUTBOX_LIMIT * 2)]
        tx.outbox.enqueue(raised[:10], ["mail", "slack"], NOW)
        tx.outbox.enqueue(raised[10:], ["mail", "slack"], NOW)

    store.run(work)
    assert store.outbox.backlog() == {"mail": OUTBOX_LIMIT, "slack": OUTBOX_LIMIT}
    kept = [row.event for row in store.outbox.pending("mail", OUTBOX_LIMIT)]
    told = Counter(one.severity for one in kept if not one.is_overflow_notice)
    assert told == {AlertSeverity.CRITICAL: OUTBOX_LIMIT / 2, AlertSeverity.ERROR: OUTBOX_LIMIT / 2 - 1}
    assert [one.details["count"] for one in kept if one.is_overflow_notice] == [OUTBOX_LIMIT + 1]


def test_what_was_left_out_while_it_was_on_its_way_is_told_by_the_next_unless_it_arrived(store: Store) -> None:
    def fill(tx: Store) -> None:
        for number in range(OUTBOX_LIMIT + 1):
            raise_alert(tx, str(number), ["mail"])

    store.run(fill)
    sent = store.outbox.pending("mail", OUTBOX_LIMIT)
    store.outbox.tried([row.id for row in sent])
    for message in ("meanwhile", "and", "another"):
        raise_alert(store, message, ["mail"])
    (note,) = [
        row for row in store.outbox.pending("mail", OUTBOX_LIMIT) if row.event.is_overflow_notice and not row.attempts
    ]
    assert note.event.details == {"count": 4, "types": {"HIGH_CPU": 4}}
    left_out = {event.message for event in store.history.events(limit=HISTORY_LIMIT) if event.channels["mail"].error}
    assert left_out >= {"4", "5"}
    store.outbox.arrived(
        [row for row in sent if row.event.message != "5"], ChannelResult(DeliveryState.DELIVERED, at=NOW)
    )
    (note,) = [row for row in store.outbox.pending("mail", OUTBOX_LIMIT) if row.event.is_overflow_notice]
    assert note.event.details == {"count": 1, "types": {"HIGH_CPU": 1}}
    assert note.event.message.startswith("1 alerts were left out")
    assert become(store)["4"]["mail"]["state"] == "delivered"
    assert become(store)["5"]["mail"]["state"] == "given up"
    assert waiting(store, "mail") == ["meanwhile", note.event.message, "and", "another"]
    store.outbox.arrived(
        [row for row in sent if row.event.message == "5"], ChannelResult(DeliveryState.DELIVERED, at=NOW)
    )
    assert waiting(store, "mail") == ["meanwhile", "and", "another"], "nothing was left out in the end"


# What became of each channel


def become(store: Store) -> dict[str, dict[str, dict[str, Any]]]:
    """What the history says of each channel, by the event's message."""
    return {event.message: event.as_json().get("channels", {}) for event in store.history.events(limit=HISTORY_LIMIT)}


def raise_alert(store: Store, message: str, channels: Collection[str] = ("mail", "slack"), **values: Any) -> None:
    raised = event(message, incident=message, **values)
    store.history.append(raised.as_history_entry(channels))
    store.outbox.enqueue([raised], channels, NOW)


def test_the_history_tells_what_became_of_each_channel(store: Store) -> None:
    for message in ("1", "2"):
        raise_alert(store, message)
    assert become(store)["1"] == {"mail": {"state": "waiting"}, "slack": {"state": "waiting"}}
    (mail, _), (slack, _) = store.outbox.pending("mail", 2), store.outbox.pending("slack", 2)
    store.outbox.note(
        [mail.id], ChannelResult(DeliveryState.RETRYING, attempts=3, next_attempt=NOW + 60, error="refused")
    )
    store.outbox.note([0], ChannelResult(DeliveryState.RETRYING))
    assert become(store)["1"]["mail"] == {
        "state": "retrying",
        "attempts": 3,
        "next_attempt": "2023-11-14T22:14:20.000+00:00",
        "error": "refused",
    }
    store.outbox.settle([mail.id], ChannelResult(DeliveryState.DELIVERED, at=NOW + 60, attempts=4))
    store.outbox.settle([slack.id], ChannelResult(DeliveryState.GIVEN_UP, at=NOW, attempts=1, error="invalid_payload"))
    assert become(store)["1"] == {
        "mail": {"state": "delivered", "at": "2023-11-14T22:14:20.000+00:00", "attempts": 4},
        "slack": {
            "state": "given up",
            "at": "2023-11-14T22:13:20.000+00:00",
            "attempts": 1,
            "error": "invalid_payload",
        },
    }
    assert become(store)["2"] == {"mail": {"state": "waiting"}, "slack": {"state": "waiting"}}


def test_a_channel_may_have_any_name(store: Store) -> None:
    names = ('"', "a.b", "$", "", "\u2028 ünï", "[0]")
    raise_alert(store, "1", names)
    for name in names:
        store.outbox.settle([row.id for row in store.outbox.pending(name, 1)], ChannelResult(DeliveryState.DELIVERED))
    assert become(store)["1"] == {name: {"state": "delivered"} for name in names}


@pytest.mark.parametrize("outcome", [Outcome.SUPPRESSED, Outcome.MUTED, Outcome.INHIBITED])
def test_what_is_kept_from_its_channels_says_so(store: Store, outcome: Outcome) -> None:
    kept = event("1", outcome=outcome, incident="i")
    store.history.append(kept.as_history_entry(["alertmanager"], others=["mail", "alertmanager"]))
    store.outbox.enqueue([kept], ["alertmanager"], NOW)
    store.outbox.settle(
        [row.id for row in store.outbox.pending("alertmanager", 1)], ChannelResult(DeliveryState.DELIVERED)
    )
    assert become(store)["1"] == {"mail": {"state": outcome.value}, "alertmanager": {"state": "delivered"}}


def test_a_repetition_that_is_no_alert_of_its_own_changes_nothing(store: Store) -> None:
    raise_alert(store, "1", ["mail"])
    store.outbox.settle([row.id for row in store.outbox.pending("mail", 1)], ChannelResult(DeliveryState.DELIVERED))
    store.outbox.enqueue([event("1", incident="1", time=NOW + 3600)], ["mail"], NOW + 3600)
    store.outbox.settle([row.id for row in store.outbox.pending("mail", 1)], ChannelResult(DeliveryState.GIVEN_UP))
    assert become(store) == {"1": {"mail": {"state": "delivered"}}}


def test_what_a_full_outbox_leaves_out_is_given_up(store: Store) -> None:
    def work(tx: Store) -> None:
        for number in range(OUTBOX_LIMIT + 1):
            raise_alert(tx, str(number), ["mail"], time=NOW + number)

    store.run(work)
    told = become(store)
    assert {told[message]["mail"]["state"] for message in ("1", "2")} == {"given up", "waiting"}
    assert told["1"]["mail"]["error"] == f"more than {OUTBOX_LIMIT} waited"


def test_what_the_history_no_longer_has_is_settled_all_the_same(store: Store) -> None:
    raise_alert(store, "1", ["mail"])
    store.history.clear()
    raise_alert(store, "2", ["mail"])
    store.outbox.settle([row.id for row in store.outbox.pending("mail", 1)], ChannelResult(DeliveryState.DELIVERED))
    assert (become(store), waiting(store, "mail")) == ({"2": {"mail": {"state": "waiting"}}}, ["2"])


# Workers


def test_one_worker_leads_until_its_lease_ends_or_it_resigns(store: Store) -> None:
    assert store.leases.holders(NOW).get(LEADER) is None
    assert store.leases.lead("a", NOW, NOW + 30)
    assert not store.leases.lead("b", NOW + 29, NOW + 59)
    assert store.leases.lead("a", NOW + 29, NOW + 59)
    assert store.leases.holders(NOW + 58).get(LEADER) == "a"
    assert store.leases.holders(NOW + 59).get(LEADER) is None
    assert store.leases.lead("b", NOW + 59, NOW + 89)
    assert not store.leases.lead("a", NOW + 60, NOW + 90)
    store.leases.resign("a")
    assert store.leases.holders(NOW + 60).get(LEADER) == "b"
    store.leases.resign("b")
    assert store.leases.holders(NOW + 60).get(LEADER) is None
    assert store.leases.lead("a", NOW + 60, NOW + 90)


def test_a_lease_from_before_the_clock_was_set_back_is_void(store: Store) -> None:
    assert store.leases.lead("dead", NOW, NOW + 30)
    assert not store.leases.lead("b", NOW - CLOCK_TOLERANCE, NOW)
    assert store.leases.holders(NOW - CLOCK_TOLERANCE).get(LEADER) == "dead"
    earlier = NOW - 7 * DAY
    assert store.leases.holders(earlier).get(LEADER) is None
    assert store.leases.lead("b", earlier, earlier + 30)
    assert store.leases.holders(earlier).get(LEADER) == "b"


def test_the_latest_report_of_each_worker_is_kept(store: Store) -> None:
    store.reports.publish("a", b"old", NOW)
    store.reports.publish("a", bytes(range(256)) * 1200, NOW + 1)
    store.reports.publish("b", b"", NOW + 2)
    assert store.reports.published(NOW + DAY) == {"a": (NOW + 1, bytes(range(256)) * 1200), "b": (NOW + 2, b"")}
    store.reports.delete("a")
    store.reports.delete("a")
    assert store.reports.published(NOW + 2) == {"b": (NOW + 2, b"")}
    store.reports.delete("b")
    assert store.reports.published(NOW + 2) == {}


def test_each_lease_has_a_holder_of_its_own(store: Store) -> None:
    assert store.leases.lead("a", NOW, NOW + 5, [LEADER, "channel:mail"]) == {LEADER, "channel:mail"}
    assert store.leases.lead("b", NOW, NOW + 5, [LEADER, "channel:mail", "channel:slack"]) == {"channel:slack"}
    assert store.leases.holders(NOW) == {LEADER: "a", "channel:mail": "a", "channel:slack": "b"}
    assert store.leases.lead("a", NOW + 4, NOW + 9, ["channel:mail"]) == {"channel:mail"}
    assert store.leases.holders(NOW + 5) == {"channel:mail": "a"}
    assert store.leases.holders(NOW + 64, within=60) == {LEADER: "a", "channel:mail": "a", "channel:slack": "b"}
    store.leases.resign("b")
    assert store.leases.holders(NOW + 4) == {LEADER: "a", "channel:mail": "a"}
    assert store.leases.lead("c", NOW + 4, NOW + 9, ["channel:slack"]) == {"channel:slack"}


def test_how_a_channel_fares_is_known_to_all(store: Store) -> None:
    store.conditions.save("mail", "1")
    store.conditions.save("slack", "2")
    store.conditions.save("mail", "3")
    assert store.conditions.saved() == {"mail": "3", "slack": "2"}


def test_a_report_from_before_the_clock_was_set_back_is_forgotten(store: Store) -> None:
    store.reports.publish("dead", b"of a wrong tomorrow", NOW + DAY, urgent=True)
    store.reports.publish("a", b"a little ahead", NOW + CLOCK_TOLERANCE)
    assert store.reports.published(NOW) == {"a": (NOW + CLOCK_TOLERANCE, b"a little ahead")}
    assert store.reports.published(NOW + DAY) == {"a": (NOW + CLOCK_TOLERANCE, b"a little ahead")}, "it was forgotten"
    assert not store.reports.urgent_since(NOW)


def test_urgency_outlives_the_report_that_told_it(store: Store) -> None:
    store.reports.publish("a", b"1", NOW)
    assert not store.reports.urgent_since(NOW - 1)
    store.reports.publish("a", b"2", NOW + 1, urgent=True)
    store.reports.publish("a", b"3", NOW + 2)
    assert store.reports.urgent_since(NOW)
    assert not store.reports.urgent_since(NOW + 1)


# Transactions


def test_a_transaction_takes_effect_as_a_whole(store: Store) -> None:
    def work(tx: Store) -> str:
        tx.history.append(event())
        tx.outbox.enqueue([event()], ["mail"], NOW)
        return "done"

    assert store.run(work) == "done"
    assert (len(messages(store)), len(waiting(store, "mail"))) == (1, 1)

    def see(tx: Store) -> None:
        tx.history.append(event("2"))
        assert messages(tx) == messages(store) == ["2", "CPU at 91%"], "it sees what it did"

    store.run(see)
    assert messages(store) == ["2", "CPU at 91%"]


def everything(store: Store) -> tuple[object, ...]:
    return (
        list(store.history.events(limit=HISTORY_LIMIT)),
        store.history.counts(),
        store.mutes.all(NOW),
        store.notes.noted_at("key"),
        store.incidents.saved(),
        store.acknowledgements.saved(),
        store.outbox.pending("mail", OUTBOX_LIMIT),
        store.leases.holders(NOW),
        store.conditions.saved(),
        store.notes.all(),
    )


def test_a_transaction_left_by_an_exception_did_nothing(store: Store) -> None:
    def fill(name: str) -> None:
        store.history.append(event(name))
        store.mutes.add(Mute(Selection.of(AlertType.HIGH_CPU, labels={"name": name}), NOW + 60))
        store.notes.note("key", NOW + len(name))
        store.incidents.save({name: name, "kept": name})
        store.acknowledgements.save({name: name, "acknowledged": name})
        store.outbox.enqueue([event(name)], ["mail"], NOW)

    def half(tx: Store, error: BaseException) -> None:
        fill("half")
        tx.outbox.settle([row.id for row in tx.outbox.pending("mail", 1)])
        tx.outbox.tried([row.id for row in tx.outbox.pending("mail", 1)])
        tx.mutes.remove(Mute(Selection.of(AlertType.HIGH_CPU, labels={"name": "before"}), 0.0))
        tx.history.clear()
        raise error

    fill("before")
    before = everything(store)
    for error in (KeyError(), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            store.run(partial(half, error=error))
        assert everything(store) == before
    store.history.append(event("after"))
    assert messages(store) == ["after", "before"]


def test_transactions_are_not_nested(store: Store) -> None:
    with pytest.raises(RuntimeError, match="not nested"):
        store.run(lambda tx: tx.run(lambda _: None))
    store.history.append(event())


def test_threads_do_not_come_between(store: Store) -> None:
    def add() -> None:
        for _ in range(5):
            store.run(lambda tx: tx.incidents.save({"n": str(int(tx.incidents.saved().get("n", "0")) + 1)}))
            store.history.append(event())

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (store.incidents.saved(), store.history.counts()) == ({"n": "20"}, {AlertType.HIGH_CPU: 20})


def test_a_closed_store_opens_again(store: Store) -> None:
    store.history.append(event("1"))
    store.close()
    store.close()
    store.history.append(event("2"))
    assert messages(store) == ["2", "1"]


# Which store


def test_the_setting_chooses_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_MONITORING_STORE")
    chosen = Settings.load(store="memory", state_dir=tmp_path / "state")
    assert isinstance(open_store(chosen, service_name="orders", environment=None), MemoryStore)
    chosen = Settings.load(state_dir=tmp_path / "state")
    store = open_store(chosen, service_name="orders", environment="prod")
    assert not [*(tmp_path / "state").glob("*.db")], "no file is opened before the first use"
    store.history.append(event())
    (file,) = (tmp_path / "state").glob("*.db")
    assert file.name.startswith("orders-prod-")
    again = open_store(chosen, service_name="orders", environment="prod")
    assert messages(again) == ["CPU at 91%"]
    other = open_store(chosen, service_name="orders", environment="staging")
    assert messages(other) == []
    for opened in (store, again, other):
        opened.close()


def test_the_settings_of_the_store_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OTEL_MONITORING_STORE")
    assert (Settings.load().store, Settings.load().state_dir) == ("sqlite", None)
    monkeypatch.setenv("OTEL_MONITORING_STORE", "memory")
    monkeypatch.setenv("OTEL_MONITORING_STATE_DIR", str(tmp_path))
    assert (Settings.load().store, Settings.load().state_dir) == ("memory", tmp_path)
    monkeypatch.setenv("OTEL_MONITORING_STORE", "redis")
    with pytest.raises(ValueError, match="OTEL_MONITORING_STORE"):
        Settings.load()


def test_services_and_environments_never_share_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def path(name: str, environment: str | None = None) -> Path:
        return state_path(tmp_path, service_name=name, environment=environment)

    names = [
        "orders",
        "Orders",
        "orders api",
        "orders/api",
        "orders_api",
        "../../etc/passwd",
        "訂單",
        "订单",
        "x" * 300,
    ]
    paths = [path(name) for name in names] + [path("orders", "prod"), path("orders-prod"), path("orders", "Prod")]
    assert len({str(found).lower() for found in paths}) == len(paths)
    assert all(found.parent == tmp_path and found.name.isascii() and len(found.name) < 80 for found in paths)
    distinct, indistinct = path("orders"), [path(name) for name in ("FastAPI", "", "unknown_service:python")]
    monkeypatch.chdir(tmp_path)
    assert path("orders") == distinct
    assert not {path(name) for name in ("FastAPI", "", "unknown_service:python")} & set(indistinct)


def test_without_a_directory_it_is_the_platforms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tmp_path in state_path(None, service_name="orders", environment=None).parents
    assert state_path(Path("~/alerts"), service_name="a", environment=None).parent == tmp_path / "alerts"


# Moved from another store


def test_events_move_to_another_store_with_their_ids_and_attempts(store: Store) -> None:
    other = MemoryStore()
    raise_alert(store, "here", ["mail"])
    raise_alert(other, "there", ["mail", "slack"])
    moved = [*other.outbox.pending("mail", 9), *other.outbox.pending("slack", 9)]
    other.outbox.tried([moved[0].id], 3)
    moved[0] = other.outbox.pending("mail", 9)[0]
    for _ in range(2):
        store.outbox.restore(moved)
        assert sorted(waiting(store, "mail")) == ["here", "there"]
        assert store.outbox.pending("slack", 9) == moved[1:]
    assert {row.event.message: row.attempts for row in store.outbox.pending("mail", 9)} == {"here": 0, "there": 3}
    store.outbox.enqueue([event("later")], ["slack"], NOW - DAY)
    assert waiting(store, "slack") == ["there", "later"], "ids grow, whatever the clock says"


def test_ids_of_two_stores_are_never_the_same(store: Store) -> None:
    other = MemoryStore()
    for either in (store, other):
        either.outbox.enqueue([event(str(number)) for number in range(9)], ["mail"], NOW)
    ids = {row.id for either in (store, other) for row in either.outbox.pending("mail", 9)}
    assert len(ids) == 18


def test_what_moves_into_a_full_outbox_pushes_out_the_least_severe(store: Store) -> None:
    store.outbox.enqueue([event("info", severity=AlertSeverity.INFO)] * OUTBOX_LIMIT, ["mail"], NOW)
    store.outbox.restore([Queued(1, "mail", event("moved"), NOW), Queued(2, "mail", event("moved"), NOW)])
    rows = store.outbox.pending("mail", OUTBOX_LIMIT)
    assert [row.event.message for row in rows[:2]] == ["moved", "moved"]
    assert [row.event.details["count"] for row in rows if row.event.is_overflow_notice] == [3]
    assert len(rows) == OUTBOX_LIMIT


# All of them agree

TYPES = strategies.sampled_from([AlertType.HIGH_CPU, AlertType.CUSTOM, AlertType.DATABASE_DOWN])
NAMES = strategies.sampled_from(["a", "b", "c"])
LABELS: strategies.SearchStrategy[Mapping[str, str]] = strategies.dictionaries(NAMES, NAMES, max_size=2)
CHANNELS = strategies.lists(NAMES, max_size=3, unique=True)
EVENTS = strategies.builds(
    AlertEvent,
    time=strategies.just(NOW),
    type=TYPES,
    severity=strategies.sampled_from(AlertSeverity),
    message=strategies.text(max_size=5),
    details=strategies.dictionaries(strategies.text(max_size=3), strategies.integers() | strategies.text(max_size=3)),
    outcome=strategies.sampled_from(Outcome),
    status=strategies.sampled_from(Status),
    labels=LABELS,
    since=strategies.none() | strategies.floats(0, NOW),
)


class Agreement(RuleBasedStateMachine):
    """Does the same to a store in memory and one in a file, and compares every answer. Time never goes back."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.stores: list[Any] = [MemoryStore(), SqliteStore(Path(self.folder.name) / "alerts.db")]
        self.transaction: list[Any] = []
        self.raised = 0
        self.now = NOW

    def both(self, ask: Callable[[Store], object]) -> None:
        memory, sqlite = (ask(store) for store in self.stores)
        assert memory == sqlite

    def teardown(self) -> None:
        if self.transaction:
            self.commit()
        self.compare()
        for store in self.stores:
            store.close()
        self.folder.cleanup()

    @initialize()
    def begin_empty(self) -> None:
        self.compare()

    @rule()
    def compare(self) -> None:
        for kind in (None, AlertType.HIGH_CPU):
            for severity in (None, AlertSeverity.WARNING):
                self.both(lambda s, k=kind, v=severity: list(s.history.events(limit=7, alert_type=k, severity=v)))  # type: ignore[misc]
        self.both(lambda s: s.history.counts())
        self.both(lambda s: s.incidents.saved())
        self.both(lambda s: s.acknowledgements.saved())
        self.both(lambda s: s.outbox.backlog())
        for name in "abc":
            self.both(lambda s, n=name: [row._replace(id=0) for row in s.outbox.pending(n, 4)])  # type: ignore[misc]
            self.both(lambda s, n=name: s.notes.noted_at(n))  # type: ignore[misc]
        for lately in (0.0, 60.0):
            self.both(lambda s, seconds=lately: s.leases.holders(self.now, seconds))  # type: ignore[misc]
        self.both(lambda s: s.conditions.saved())
        self.both(lambda s: s.reports.urgent_since(self.now - 9))
        self.both(lambda s: s.mutes.all(self.now))

    @rule(seconds=strategies.sampled_from([0.5, 10.0, 61.0, DAY]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: not self.transaction)
    @rule()
    def begin(self) -> None:
        self.transaction = [store.exclusive() for store in self.stores]
        for entered in self.transaction:
            entered.__enter__()

    @precondition(lambda self: self.transaction)
    @rule()
    def commit(self) -> None:
        for entered in self.transaction:
            entered.__exit__(None, None, None)
        self.transaction = []

    @precondition(lambda self: self.transaction)
    @rule()
    def roll_back(self) -> None:
        for entered in self.transaction:
            error = KeyError()
            assert not entered.__exit__(KeyError, error, None)
        self.transaction = []
        self.compare()

    @rule(event=EVENTS, channels=CHANNELS)
    def raise_alert(self, event: AlertEvent, channels: list[str]) -> None:
        self.raised += 1
        event = replace(event, incident=str(self.raised))
        self.both(lambda s: s.history.append(event.as_history_entry(channels, "abc")))
        self.both(lambda s: s.outbox.enqueue([event], channels, self.now))

    @rule()
    def clear(self) -> None:
        self.both(lambda s: s.history.clear())
        self.both(lambda s: s.notes.clear())

    @rule(kind=TYPES, labels=LABELS, seconds=strategies.floats(-5, 60), author=NAMES)
    def mute(self, kind: AlertType, labels: Mapping[str, str], seconds: float, author: str) -> None:
        self.both(lambda s: s.mutes.add(Mute(Selection(frozenset((kind,)), labels=labels), self.now + seconds, author)))

    @rule(kind=TYPES, labels=LABELS)
    def unmute(self, kind: AlertType, labels: Mapping[str, str]) -> None:
        self.both(lambda s: s.mutes.all(self.now))
        self.both(lambda s: s.mutes.remove(Mute(Selection(frozenset((kind,)), labels=labels), 0.0)))

    @rule(key=NAMES)
    def note(self, key: str) -> None:
        self.both(lambda s: s.notes.note(key, self.now))

    @rule(states=strategies.dictionaries(NAMES, strategies.none() | strategies.text(max_size=4)))
    def save(self, states: dict[str, str | None]) -> None:
        self.both(lambda s: s.incidents.save(states))
        self.both(lambda s: s.acknowledgements.save({f"a{key}": state for key, state in states.items()}))

    @rule(channel=NAMES, count=strategies.integers(1, 3), state=strategies.sampled_from(DeliveryState))
    def deliver(self, channel: str, count: int, state: DeliveryState) -> None:
        result = ChannelResult(state, at=self.now, error="down")
        for store in self.stores:
            rows = store.outbox.pending(channel, count)
            ids = [row.id for row in rows]
            store.outbox.tried(ids)
            if state is DeliveryState.DELIVERED:
                store.outbox.arrived(rows, result)
            else:
                store.outbox.settle(ids, result) if state.final else store.outbox.note(ids, result)

    @rule(worker=NAMES, seconds=strategies.floats(0, 30), leases=CHANNELS)
    def lead(self, worker: str, seconds: float, leases: list[str]) -> None:
        self.both(lambda s: s.leases.lead(worker, self.now, self.now + seconds, leases))

    @rule(channel=NAMES, condition=strategies.text(max_size=3, alphabet="abc"))
    def describe(self, channel: str, condition: str) -> None:
        self.both(lambda s: s.conditions.save(channel, condition))

    @rule(worker=NAMES)
    def resign(self, worker: str) -> None:
        self.both(lambda s: s.leases.resign(worker))
        self.both(lambda s: s.reports.delete(worker))

    @rule(worker=NAMES, report=strategies.binary(max_size=4), urgent=strategies.booleans())
    def publish(self, worker: str, report: bytes, urgent: bool) -> None:
        self.both(lambda s: s.reports.publish(worker, report, self.now, urgent=urgent))

    @rule()
    def read_reports(self) -> None:
        self.both(lambda s: s.reports.published(self.now))


TestAgreement = Agreement.TestCase
TestAgreement.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
