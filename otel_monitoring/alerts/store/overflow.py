"""What becomes of an outbox that is full: the least severe are left out, counted, and the next message says so."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from otel_monitoring.alerts.model import LEFT_OUT, AlertEvent, AlertSeverity, AlertType, ChannelResult, DeliveryState
from otel_monitoring.alerts.store.protocol import OUTBOX_LIMIT
from otel_monitoring.errors import StoreError
from otel_monitoring.guard import fail_open


def given_up(now: float) -> ChannelResult:
    """What becomes of those that are left out at `now`, in Unix seconds."""
    return ChannelResult(DeliveryState.GIVEN_UP, at=now, error=f"more than {OUTBOX_LIMIT} waited")


def note(before: AlertEvent | None, channel: str, left_out: Mapping[str, int], now: float) -> AlertEvent:
    """The event that says how many were left out.

    Args:
        before: The one that waits already.
        channel: Whose outbox is full.
        left_out: How many more are left out now, by title.
        now: Unix seconds.
    """
    count = sum(left_out.values())
    fail_open.note("alert outbox", StoreError(f"{channel}: {count} events left out, more than {OUTBOX_LIMIT} wait"))
    event = before or AlertEvent(now, AlertType.CUSTOM, AlertSeverity.WARNING, "", rule=LEFT_OUT)
    return _told(event, channel, _types(event) + Counter(left_out), now)


def without(before: AlertEvent, channel: str, arrived: Iterable[str], now: float) -> AlertEvent | None:
    """The event that says how many were left out, but for those that arrived all the same; None: nothing is to be said.

    Args:
        before: The one that waits.
        channel: Whose outbox was full.
        arrived: Their titles.
        now: Unix seconds.
    """
    types = _types(before) - Counter(arrived)
    return _told(before, channel, types, now) if types else None


def _types(event: AlertEvent) -> Counter[str]:
    return Counter({title: int(count) for title, count in event.details.get("types", {}).items()})


def _told(event: AlertEvent, channel: str, types: Counter[str], now: float) -> AlertEvent:
    total = sum(types.values())
    message = f"{total} alerts were left out, the least severe first: more than {OUTBOX_LIMIT} waited for {channel}"
    return replace(event, time=now, message=message, details={"count": total, "types": dict(types)})
