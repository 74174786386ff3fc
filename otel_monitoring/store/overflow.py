"""What becomes of an outbox that is full: the least severe are left out, counted, and the next message says so."""

from dataclasses import replace

from otel_monitoring.errors import StoreError
from otel_monitoring.events import LEFT_OUT, AlertEvent, AlertSeverity, AlertType, Arrival, ChannelResult
from otel_monitoring.guard import contained
from otel_monitoring.store.protocol import OUTBOX_LIMIT


def given_up(now: float) -> ChannelResult:
    """What becomes of those that are left out at `now`, in Unix seconds."""
    return ChannelResult(Arrival.GIVEN_UP, at=now, error=f"more than {OUTBOX_LIMIT} waited")


def note(before: AlertEvent | None, channel: str, count: int, now: float) -> AlertEvent:
    """The event that says how many were left out.

    Args:
        before: The one that waits already.
        channel: Whose outbox is full.
        count: How many more are left out now.
        now: Unix seconds.
    """
    contained.note("alert outbox", StoreError(f"{channel}: {count} events left out, more than {OUTBOX_LIMIT} wait"))
    total = count + (int(before.details["count"]) if before is not None else 0)
    message = f"{total} alerts were left out, the least severe first: more than {OUTBOX_LIMIT} waited for {channel}"
    event = before or AlertEvent(now, AlertType.CUSTOM, AlertSeverity.WARNING, "", rule=LEFT_OUT)
    return replace(event, time=now, message=message, details={"count": total})
