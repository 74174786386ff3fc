"""A full outbox: the least severe events are left out, and a notice in the outbox counts them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from otel_monitoring.alerts.model import LEFT_OUT, AlertEvent, AlertSeverity, AlertType, ChannelResult, DeliveryState
from otel_monitoring.alerts.store.protocol import OUTBOX_LIMIT
from otel_monitoring.errors import StoreError
from otel_monitoring.guard import fail_open


def given_up(now: float) -> ChannelResult:
    """The result of an event that is left out at `now`, in Unix seconds."""
    return ChannelResult(DeliveryState.GIVEN_UP, at=now, error=f"more than {OUTBOX_LIMIT} waited")


def notice(before: AlertEvent | None, channel: str, left_out: Mapping[str, int], now: float) -> AlertEvent:
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


def without(before: AlertEvent, channel: str, arrived: Iterable[str], now: float) -> AlertEvent | None:
    """The notice without events that were delivered after all; None: it counts no event any more.

    Args:
        before: The notice that waits.
        channel: The channel whose outbox was full.
        arrived: The titles of the delivered events.
        now: Unix seconds.
    """
    counts = _counts(before) - Counter(arrived)
    return _with_counts(before, channel, counts, now) if counts else None


def _counts(notice: AlertEvent) -> Counter[str]:
    return Counter({title: int(count) for title, count in notice.details.get("types", {}).items()})


def _with_counts(event: AlertEvent, channel: str, counts: Counter[str], now: float) -> AlertEvent:
    total = sum(counts.values())
    message = f"{total} alerts were left out, the least severe first: more than {OUTBOX_LIMIT} waited for {channel}"
    return replace(event, time=now, message=message, details={"count": total, "types": dict(counts)})
