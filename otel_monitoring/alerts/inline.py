"""Delivery by the caller, where no service does it in the background."""

import asyncio
from collections.abc import Callable
from uuid import uuid4

from otel_monitoring.alerts.delivery import Delivery
from otel_monitoring.alerts.leading import CALLER, Lease
from otel_monitoring.guard import contained
from otel_monitoring.health.execution import in_thread
from otel_monitoring.store import Store
from otel_monitoring.store.protocol import lease_of

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
    own = delivery.conditions().keys()
    lease = Lease(store, f"{CALLER}{uuid4().hex}", clock, _SECONDS, [lease_of(name) for name in own])
    with _delivering:
        for _ in range(_ATTEMPTS):
            complete = await in_thread(lease.hold, name="otel-monitoring-alert")
            delivery.pump(store, lambda name: lease.holds(lease_of(name)), paced=False)
            await delivery.flush(_SECONDS)
            if complete or own.isdisjoint(await in_thread(store.backlog, name="otel-monitoring-alert")):
                break
            await asyncio.sleep(_PAUSE)
        await in_thread(lease.give_back, name="otel-monitoring-alert")
