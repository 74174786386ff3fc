"""What becomes of an outbox that is full: the least severe are left out, counted, and the next message says so."""

from collections import Counter
from collections.abc import Mapping
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
    known = before.details if before is not None else {}
    total = count + int(known.get("count", 0))
    types = Counter(known.get("types", {})) + Counter(left_out)
    message = f"{total} alerts were left out, the least severe first: more than {OUTBOX_LIMIT} waited for {channel}"
    event = before or AlertEvent(now, AlertType.CUSTOM, AlertSeverity.WARNING, "", rule=LEFT_OUT)
    return replace(event, time=now, message=message, details={"count": total, "types": dict(types)})
