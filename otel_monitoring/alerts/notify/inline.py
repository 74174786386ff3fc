"""Delivery by the caller, where no service does it in the background."""

import asyncio
from collections.abc import Callable
from uuid import uuid4

from otel_monitoring.alerts.notify.delivery import Delivery
from otel_monitoring.alerts.store import Store
from otel_monitoring.alerts.store.leader_lease import CALLER, LeaderLease
from otel_monitoring.alerts.store.protocol import lease_of
from otel_monitoring.guard import fail_open
from otel_monitoring.runtime.threads import in_thread

_SECONDS = 15.0
_PAUSE = 0.1
_ATTEMPTS = 100

_delivering = fail_open("alert delivery")


async def deliver(delivery: Delivery, store: Store, clock: Callable[[], float]) -> None:
    """Deliver what waits, now, in the caller's loop; returns at once what another process delivers already.

    What fails stays in the outbox, for the next alert or the next start of the service.

    Args:
        delivery: By which channels.
        store: Whose outbox is emptied.
        clock: Unix time in seconds.
    """
    own = delivery.conditions().keys()
    lease = LeaderLease(store, f"{CALLER}{uuid4().hex}", clock, _SECONDS, [lease_of(name) for name in own])
    with _delivering:
        for _ in range(_ATTEMPTS):
            complete = await in_thread(lease.hold, name="otel-monitoring-alert")
            delivery.pump(store, lambda name: lease.holds(lease_of(name)), paced=False)
            await delivery.flush(_SECONDS)
            if complete or own.isdisjoint(await in_thread(store.backlog, name="otel-monitoring-alert")):
                break
            await asyncio.sleep(_PAUSE)
        await in_thread(lease.give_back, name="otel-monitoring-alert")
