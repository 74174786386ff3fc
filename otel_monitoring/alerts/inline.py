"""Delivery by the caller, where no service does it in the background."""

import asyncio
from collections.abc import Callable
from uuid import uuid4

from otel_monitoring.alerts.delivery import Delivery
from otel_monitoring.alerts.leading import Lease
from otel_monitoring.guard import contained
from otel_monitoring.health.execution import in_thread
from otel_monitoring.store import Store

_SECONDS = 15.0
_PAUSE = 0.1
_ATTEMPTS = 100

_delivering = contained("alert delivery")


async def deliver(delivery: Delivery, store: Store, clock: Callable[[], float]) -> None:
    """Deliver what waits, now, in the caller's loop; returns at once what another process delivers already.

    What fails stays in the outbox, for the next alert or the next start of the service.

    Args:
        delivery: By which channels.
        store: Whose outbox is emptied.
        clock: Unix time in seconds.
    """
    lease = Lease(store, f"caller-{uuid4().hex}", clock, _SECONDS)
    with _delivering:
        for _ in range(_ATTEMPTS):
            if await in_thread(lease.hold, name="otel-monitoring-alert"):
                break
            await asyncio.sleep(_PAUSE)
            if not await in_thread(store.backlog, name="otel-monitoring-alert"):
                return
        delivery.pump(store, lambda: lease.held, paced=False)
        await delivery.flush(_SECONDS)
        await in_thread(lease.give_back, name="otel-monitoring-alert")
