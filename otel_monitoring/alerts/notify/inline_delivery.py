"""Delivery within `send_alert`, where no service delivers in the background."""

import asyncio
from collections.abc import Callable
from uuid import uuid4

from otel_monitoring.alerts.notify.delivery import Delivery
from otel_monitoring.alerts.store import Store
from otel_monitoring.alerts.store.leases import CALLER, LeaderLease, lease_of
from otel_monitoring.guard import fail_open
from otel_monitoring.runtime.threads import in_thread

_LEASE_SECONDS = 15.0
_PAUSE_SECONDS = 0.1
_LEASE_ATTEMPTS = 100

_delivering = fail_open("alert delivery")


async def deliver_inline(delivery: Delivery, store: Store, clock: Callable[[], float]) -> None:
    """Deliver the outbox in the caller's event loop; waits for other processes that deliver at the same time.

    Events that fail stay in the outbox, for the next alert or the next start of the service.

    Args:
        delivery: The channels.
        store: The store with the outbox.
        clock: Returns Unix time in seconds.
    """
    own = delivery.conditions().keys()
    lease = LeaderLease(store.leases, f"{CALLER}{uuid4().hex}", clock, _LEASE_SECONDS, [lease_of(name) for name in own])
    with _delivering:
        for _ in range(_LEASE_ATTEMPTS):
            complete = await in_thread(lease.hold, name="otel-monitoring-alert")
            waiting = await in_thread(store.outbox.waiting, name="otel-monitoring-alert")
            delivery.pump(store, waiting, lambda name: lease.holds(lease_of(name)), paced=False)
            await delivery.flush(_LEASE_SECONDS)
            if complete or own.isdisjoint(await in_thread(store.outbox.backlog, name="otel-monitoring-alert")):
                break
            await asyncio.sleep(_PAUSE_SECONDS)
        await in_thread(lease.give_back, name="otel-monitoring-alert")
