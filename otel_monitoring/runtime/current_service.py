"""`current_service`: the monitoring service of the application whose code is running."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from otel_monitoring.monitoring.service import MonitoringService

T = TypeVar("T")

current_service: ContextVar["MonitoringService | None"] = ContextVar("otel_monitoring_service", default=None)
"""The service whose application's lifespan, request or check is running; its tasks and worker threads inherit it."""

_monitoring: "MonitoringService | None" = None
_services: "weakref.WeakKeyDictionary[object, weakref.ref[MonitoringService]]" = weakref.WeakKeyDictionary()


def set_monitoring(service: "MonitoringService | None") -> None:
    """Make `service` what `get_monitoring` returns outside of every application's lifespan, requests and checks."""
    global _monitoring
    _monitoring = service


def get_monitoring() -> "MonitoringService | None":
    """The service of the application whose lifespan, request or check is running.

    Elsewhere, e.g. in a thread that the application has started: the service of `set_monitoring`, or without one the
    first service that instrumented an application; None before there is one.
    """
    return current_service.get() or _monitoring


@contextmanager
def within_service(service: "MonitoringService") -> Iterator[None]:
    """Make `service` the current service inside the `with` block."""
    token = current_service.set(service)
    try:
        yield
    finally:
        with suppress(ValueError):  # left in another context than it was entered in
            current_service.reset(token)


def register(service: "MonitoringService", app: object) -> None:
    """Register `service` as the one that monitors `app`; both are held by weak references."""
    _services[app] = weakref.ref(service)


def service_of(app: object) -> "MonitoringService | None":
    """The service that monitors the application `app`; None if there is none."""
    try:
        found = _services.get(app)
    except TypeError:  # `app` has no weak references, or no hash
        return None
    return found() if found is not None else None


class PerService(Generic[T]):
    """One object for each service, where OpenTelemetry or `logging` has one for the whole process."""

    def __init__(self) -> None:
        self._in_use: dict[object, T] = {}

    def use(self, one: T, service: object) -> Callable[[], None]:
        """Use `one` for `service` from now on.

        Returns:
            Ends the use.
        """
        self._in_use[service] = one
        return lambda: self.leave(one, service)

    def leave(self, one: T, service: object) -> None:
        """End the use of `one` for `service`; does nothing if another object has replaced it."""
        if self._in_use.get(service) is one:
            del self._in_use[service]

    def first(self) -> T | None:
        """The object that has been in use longest; None if none is in use."""
        return next(iter(tuple(self._in_use.values())), None)

    def of_current(self) -> T | None:
        """The object of the current service, None if that has none; without a current service the `first`."""
        service = current_service.get()
        return self.first() if service is None else self._in_use.get(service)
