"""`Outbox`: the events that wait for a channel.

Beyond `OUTBOX_LIMIT` events of a channel the least severe are left out, and one more event, the notice, counts them.
"""

import secrets
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from otel_monitoring.alerts.model import LEFT_OUT, AlertEvent, AlertSeverity, AlertType, ChannelResult, DeliveryState
from otel_monitoring.errors import StoreError
from otel_monitoring.guard import fail_open

OUTBOX_LIMIT = 1000
"""The most events that wait for one channel."""

UNREADABLE = " (unreadable)"
"""Appended to the channel of an event that cannot be read."""

_RANDOM_BITS = 20
_TICKS_PER_SECOND = 2_000_000_000


class Queued(NamedTuple):
    """An event that waits for one channel.

    Attributes:
        id: Its id, unique in all stores; later events have larger ids.
        channel: The name of the channel.
        event: The event.
        queued_at: When it was enqueued, in Unix seconds.
        attempts: The number of attempts so far.
    """

    id: int
    channel: str
    event: AlertEvent
    queued_at: float
    attempts: int = 0


class Outbox(Protocol):
    """The events that wait for a channel. What becomes of them is noted in the history, if it has them."""

    def enqueue(self, events: Sequence[AlertEvent], channels: Collection[str], now: float) -> None:
        """Add `events`, which were raised together, for each channel, at `now` in Unix seconds."""

    def restore(self, rows: Collection[Queued]) -> None:
        """Add events that waited in another store, with their ids and attempts; those that wait here stay."""

    def pending(self, channel: str, limit: int) -> Sequence[Queued]:
        """The `limit` oldest events that wait for `channel`, the oldest first."""

    def waiting(self) -> frozenset[str]:
        """The channels with waiting events; where other workers enqueued them, it may be two seconds late."""

    def backlog(self) -> dict[str, int]:
        """The number of waiting events by channel; channels without events may be missing."""

    def tried(self, ids: Collection[int], attempts: int = 1) -> None:
        """Count more attempts for each of these events."""

    def note(self, ids: Collection[int], result: ChannelResult) -> None:
        """Note the result of these events in the history."""

    def settle(self, ids: Collection[int], result: ChannelResult | None = None) -> None:
        """Remove these events, and note their result in the history, unless it is None."""

    def arrived(self, rows: Sequence[Queued], result: ChannelResult) -> None:
        """Remove delivered events of one channel, and note their result in the history.

        An event that was left out during its delivery is no longer counted as left out.
        """


def new_ids(count: int, now: float, largest: int) -> range:
    """Ids for events that are enqueued at `now`, in Unix seconds.

    They tell when, and are random besides: stores whose events are joined later have no id in common.

    Args:
        count: How many.
        now: Unix seconds.
        largest: The largest id that the store ever gave; they are larger.
    """
    first = max(int(now * _TICKS_PER_SECOND), largest) + 1 + secrets.randbits(_RANDOM_BITS)
    return range(first, first + count)


def given_up(now: float) -> ChannelResult:
    """The result of an event that is left out at `now`, in Unix seconds."""
    return ChannelResult(DeliveryState.GIVEN_UP, at=now, error=f"more than {OUTBOX_LIMIT} waited")


def overflow_notice(before: AlertEvent | None, channel: str, left_out: Mapping[str, int], now: float) -> AlertEvent:
    """The notice that counts the left-out events of a channel.

    Args:
        before: The notice that waits already, if there is one.
        channel: The channel whose outbox is full.
        left_out: How many more events are left out, by title.
        now: Unix seconds.
    """
    count = sum(left_out.values())
    fail_open.note("alert outbox", StoreError(f"{channel}: {count} events left out, more than {OUTBOX_LIMIT} wait"))
    event = before or AlertEvent(now, AlertType.CUSTOM, AlertSeverity.WARNING, "", rule=LEFT_OUT)
    return _with_counts(event, channel, _counts(event) + Counter(left_out), now)


def notice_without(before: AlertEvent, channel: str, arrived: Iterable[str]) -> AlertEvent | None:
    """The notice without events that were delivered after all; None: it counts no event any more.

    Args:
        before: The notice that waits.
        channel: The channel whose outbox was full.
        arrived: The titles of the delivered events.
    """
    counts = _counts(before) - Counter(arrived)
    return _with_counts(before, channel, counts, before.time) if counts else None


def _counts(notice: AlertEvent) -> Counter[str]:
    return Counter({title: int(count) for title, count in notice.details.get("types", {}).items()})


def _with_counts(event: AlertEvent, channel: str, counts: Counter[str], now: float) -> AlertEvent:
    total = sum(counts.values())
    message = f"{total} alerts were left out, the least severe first: more than {OUTBOX_LIMIT} waited for {channel}"
    return replace(event, time=now, message=message, details={"count": total, "types": dict(counts)})
