"""Whose work is being done: the monitoring service of the application that runs here."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_monitoring.monitoring import MonitoringService

running: ContextVar["MonitoringService | None"] = ContextVar("otel_monitoring_service", default=None)
"""The service of the application whose lifespan, request or check this code is part of; tasks and worker threads that
are started there inherit it."""

_monitoring: "MonitoringService | None" = None
_services: "weakref.WeakKeyDictionary[object, weakref.ref[MonitoringService]]" = weakref.WeakKeyDictionary()


def set_monitoring(service: "MonitoringService | None") -> None:
    """Make `service` the one that `get_monitoring` returns where no other one's application is running."""
    global _monitoring
    _monitoring = service


def get_monitoring() -> "MonitoringService | None":
    """The service of the application whose lifespan, request or check is running.

    Elsewhere, in a thread of the application's own say, the one of `set_monitoring`; without that the first one that
    instrumented an application. None before.
    """
    return running.get() or _monitoring


@contextmanager
def running_in(service: "MonitoringService") -> Iterator[None]:
    """What is called inside is part of the application that `service` monitors."""
    token = running.set(service)
    try:
        yield
    finally:
        with suppress(ValueError):  # left in another context than it was entered in
            running.reset(token)


def monitors(service: "MonitoringService", app: object) -> None:
    """Remember that `service` monitors `app`."""
    _services[app] = weakref.ref(service)


def service_of(app: object) -> "MonitoringService | None":
    """The service that monitors the application `app`, if one does."""
    try:
        found = _services.get(app)
    except TypeError:  # no weak references to it, or no hash
        return None
    return found() if found is not None else None
