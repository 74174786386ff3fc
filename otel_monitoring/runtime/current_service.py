"""Whose work is being done: the monitoring service of the application that runs here."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from otel_monitoring.monitoring.service import MonitoringService

T = TypeVar("T")

current_service: ContextVar["MonitoringService | None"] = ContextVar("otel_monitoring_service", default=None)
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
    return current_service.get() or _monitoring


@contextmanager
def within_service(service: "MonitoringService") -> Iterator[None]:
    """What is called inside is part of the application that `service` monitors."""
    token = current_service.set(service)
    try:
        yield
    finally:
        with suppress(ValueError):  # left in another context than it was entered in
            current_service.reset(token)


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


class PerService(Generic[T]):
    """What each service of the process has of one kind, where OpenTelemetry or `logging` has one for the process."""

    def __init__(self) -> None:
        self._in_use: dict[object, T] = {}

    def use(self, one: T, service: object) -> Callable[[], None]:
        """Begin to use `one` for `service`; returns the end."""
        self._in_use[service] = one
        return lambda: self.leave(one, service)

    def leave(self, one: T, service: object) -> None:
        """End the use of `one`."""
        if self._in_use.get(service) is one:
            del self._in_use[service]

    def first(self) -> T | None:
        """The first in use; None where none is."""
        return next(iter(tuple(self._in_use.values())), None)

    def of_current(self) -> T | None:
        """That of the service whose application is running, None where it has none; outside of all, the first."""
        service = current_service.get()
        return self.first() if service is None else self._in_use.get(service)
