"""Zero-code start: what `opentelemetry-instrument` loads, and so what `otel-monitoring run` does.

In each process of the command, before any of the application's code: wait for FastAPI and PyMongo to be imported, then
follow the MongoDB clients that are built, and look for the FastAPI applications that are served. Each is instrumented
as `MonitoringService(db).instrument(app)` would, with settings from the environment. Where an application does so
itself, it decides: others of the process are left alone, and that is said.

All else is imported when it is needed. This module is loaded in every Python process of the command, also in those that
serve nothing, and before a server knows that its worker lives.
"""

import logging
import sys
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import wrapt
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined] # not typed

from otel_monitoring.environment import announce, opt_in_to_stable_conventions, show_announcements, zero_code_disabled
from otel_monitoring.errors import MonitoringError
from otel_monitoring.guard import fail_open, logger
from otel_monitoring.telemetry.logs_api import get_logger_provider

if TYPE_CHECKING:
    from fastapi import FastAPI

    from otel_monitoring.monitoring.service import MonitoringService
    from otel_monitoring.zero_code.mongo_clients import BuiltClients

__all__ = ["OtelMonitoringInstrumentor", "prepare", "take_over"]

_MAX_CHANGES = 20
_FASTAPI = ("opentelemetry.instrumentation.fastapi", "FastAPIInstrumentor")
_LIBRARIES = (
    ("opentelemetry.instrumentation.pymongo", "PymongoInstrumentor"),
    ("opentelemetry.instrumentation.httpx", "HTTPXClientInstrumentor"),
    ("opentelemetry.instrumentation.aiohttp_client", "AioHttpClientInstrumentor"),
    ("opentelemetry.instrumentation.requests", "RequestsInstrumentor"),
)
"""What a service instruments as well; left alone in processes that serve no application."""


class ZeroCode:
    """What one process does between the start of the interpreter and the first call of its application."""

    def __init__(self) -> None:
        self._services: list[MonitoringService] = []
        self._leave_clients: Callable[[], None] = lambda: None
        self._clients: BuiltClients | None = None
        self._changes = 0
        self._ended = False
        self._endings: list[Callable[[], None]] = []

    def begin(self) -> None:
        """Look out for the application and its clients, as soon as there can be any."""
        show_announcements()
        wrapt.register_post_import_hook(self._when_imported(self._look_for_application), "fastapi")
        wrapt.register_post_import_hook(self._when_imported(self._look_for_clients), "pymongo")

    def end(self) -> None:
        """Stop looking; what is instrumented stays so."""
        self._ended = True
        while self._endings:
            self._endings.pop()()

    def _when_imported(self, look: Callable[[], Callable[[], None]]) -> Callable[[object], None]:
        def imported(_: object) -> None:
            with fail_open("zero-code start"):
                if not self._ended:
                    self._endings.append(look())

        return imported

    def _look_for_application(self) -> Callable[[], None]:
        from otel_monitoring.instrumentation.http_server.served_app import when_served

        return when_served(self._served)

    def _look_for_clients(self) -> Callable[[], None]:
        from otel_monitoring.zero_code.mongo_clients import BuiltClients

        self._clients = BuiltClients(self._database_changed)
        self._leave_clients = self._clients.follow()
        return self._leave_clients

    def _served(self, app: "FastAPI") -> None:
        with fail_open("zero-code instrumentation"):
            from otel_monitoring.runtime.current_service import get_monitoring, service_of

            if service_of(app) is not None:
                return
            theirs = get_monitoring()
            if theirs is not None and theirs not in self._services:
                announce(f"{app.title}: not monitored, because another application calls MonitoringService itself")
                return
            try:
                _withdraw(*_LIBRARIES)
                self._instrument(app)
            except MonitoringError as error:
                self.end()
                logger.error("The application is not monitored: %s", str(error))

    def _instrument(self, app: "FastAPI") -> None:
        from otel_monitoring.config.settings import Settings
        from otel_monitoring.monitoring.service import MonitoringService

        settings = Settings.load()
        named = settings.database_uri is not None
        service = MonitoringService(None if named else self._handle(), settings=settings).instrument(app)
        for client in self._clients.clients if self._clients is not None else ():
            service.measure_client(client)
        self._services.append(service)
        if named:
            self._leave_clients()

    def _handle(self) -> object | None:
        return self._clients.handle if self._clients is not None else None

    def _database_changed(self) -> None:
        followers = [service for service in self._services if service.settings.database_uri is None]
        if not followers:
            return
        self._changes += 1
        if self._changes <= _MAX_CHANGES:
            self._watch(followers, self._handle())
        else:
            self._leave_clients()
            self._watch(followers, None)
            logger.warning(
                "The application closes its MongoDB clients all the time, so none is watched: "
                "set OTEL_MONITORING_DATABASE_URI"
            )

    @staticmethod
    def _watch(services: list["MonitoringService"], handle: object | None) -> None:
        for service in services:
            service.watch_database(handle)


class OtelMonitoringInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """The `opentelemetry_instrumentor` entry point, under the name `otel_monitoring`."""

    _zero_code: ZeroCode | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """None besides those of the package."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        with fail_open("zero-code start"):
            self._zero_code = ZeroCode()
            self._zero_code.begin()

    def _uninstrument(self, **kwargs: Any) -> None:
        if self._zero_code is not None:
            self._zero_code.end()


def prepare() -> None:
    """The `opentelemetry_pre_instrument` entry point: the first instrumentation to start fixes the conventions."""
    if not zero_code_disabled():
        opt_in_to_stable_conventions()


def take_over() -> None:
    """The `opentelemetry_post_instrument` entry point: one instrumentation for each library.

    That for FastAPI is installed because this package needs parts of it. Left on, it would measure beside ours what
    FastAPI measures by itself, and without our repairs. It has to go before the application is made; the others when
    there is a service that does their work.
    """
    if OtelMonitoringInstrumentor().is_instrumented_by_opentelemetry:
        with fail_open("zero-code start"):
            _withdraw(_FASTAPI)
            _withdraw_log_handler()


def _withdraw(*instrumentors: tuple[str, str]) -> None:
    for module, name in instrumentors:
        if module in sys.modules:
            other = getattr(sys.modules[module], name)()
            if other.is_instrumented_by_opentelemetry:
                other.uninstrument()


def _withdraw_log_handler() -> None:
    """Where no logger provider was set, we bring ours with a handler; contrib's would send every record again.

    It would also keep warnings from reaching stderr, as `logging` sends them there only while nobody handles them.
    """
    contrib = sys.modules.get("opentelemetry.instrumentation.logging.handler")
    if contrib is None or not type(get_logger_provider()).__name__.startswith("Proxy"):
        return
    root = logging.getLogger()
    for handler in [one for one in root.handlers if type(one) is contrib.LoggingHandler]:
        root.removeHandler(handler)
