"""The entry points that `opentelemetry-instrument` and `otel-monitoring run` load before the application's code.

In each process of the command they wait until FastAPI and PyMongo are imported, then follow the MongoDB clients that
are made and the FastAPI applications that are served. Each application is instrumented as by
`MonitoringService(db).instrument(app)`, with settings from the environment. Where one application does that itself, the
others of the process are left alone, and a line says so.

All other modules are imported when they are needed: every Python process of the command loads this module, also those
that serve nothing, and servers wait for their workers meanwhile.
"""

import logging
import sys
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined] # not typed

from otel_monitoring.environment import opt_in_to_stable_conventions, zero_code_disabled
from otel_monitoring.errors import MonitoringError
from otel_monitoring.guard import fail_open, logger
from otel_monitoring.runtime.imported import when_imported
from otel_monitoring.runtime.start_log import announce, show_announcements
from otel_monitoring.telemetry.logs_api import get_logger_provider

if TYPE_CHECKING:
    from fastapi import FastAPI

    from otel_monitoring.monitoring.service import MonitoringService
    from otel_monitoring.zero_code.mongo_clients import BuiltClients

__all__ = ["OtelMonitoringInstrumentor", "prepare", "take_over"]

_MAX_DATABASE_CHANGES = 20
"""Changes of the application's database after which its clients are no longer followed."""
_FASTAPI = ("opentelemetry.instrumentation.fastapi", "FastAPIInstrumentor")
_LIBRARIES = (
    ("opentelemetry.instrumentation.pymongo", "PymongoInstrumentor"),
    ("opentelemetry.instrumentation.httpx", "HTTPXClientInstrumentor"),
    ("opentelemetry.instrumentation.aiohttp_client", "AioHttpClientInstrumentor"),
    ("opentelemetry.instrumentation.requests", "RequestsInstrumentor"),
)
"""Instrumentors of libraries that a service instruments itself. They stay in processes that serve no application."""


class ZeroCode:
    """Finds and instruments the applications of one process, and follows its MongoDB clients."""

    def __init__(self) -> None:
        self._services: list[MonitoringService] = []
        self._clients: BuiltClients | None = None
        self._stop_following: Callable[[], None] = lambda: None
        self._database_changes = 0
        self._ended = False
        self._undo: list[Callable[[], None]] = []

    def begin(self) -> None:
        """Follow applications and clients from the import of FastAPI and PyMongo on."""
        show_announcements()
        when_imported("fastapi", self._starting(self._follow_applications))
        when_imported("pymongo", self._starting(self._follow_clients))

    def end(self) -> None:
        """Stop following. Instrumented applications stay instrumented."""
        self._ended = True
        while self._undo:
            self._undo.pop()()

    def _starting(self, follow: Callable[[], Callable[[], None]]) -> Callable[[object], None]:
        def imported(_: object) -> None:
            with fail_open("zero-code start"):
                if not self._ended:
                    self._undo.append(follow())

        return imported

    def _follow_applications(self) -> Callable[[], None]:
        from otel_monitoring.instrumentation.http_server.served_app import when_served

        return when_served(self._served)

    def _follow_clients(self) -> Callable[[], None]:
        from otel_monitoring.zero_code.mongo_clients import BuiltClients

        self._clients = BuiltClients(self._database_changed)
        self._stop_following = self._clients.follow()
        return self._stop_following

    def _served(self, app: "FastAPI") -> None:
        with fail_open("zero-code instrumentation"):
            from otel_monitoring.runtime.current_service import get_monitoring, service_of

            if service_of(app) is not None:
                return
            in_use = get_monitoring()
            if in_use is not None and in_use not in self._services:
                announce(f"{app.title}: not monitored, because another application calls MonitoringService itself")
                return
            try:
                _uninstrument(*_LIBRARIES)
                self._instrument(app)
            except MonitoringError as error:
                self.end()
                logger.error("The application is not monitored: %s", str(error))

    def _instrument(self, app: "FastAPI") -> None:
        from otel_monitoring.config.settings import Settings
        from otel_monitoring.monitoring.service import MonitoringService

        settings = Settings.load()
        is_configured = settings.database_uri is not None
        service = MonitoringService(None if is_configured else self._handle(), settings=settings).instrument(app)
        for client in self._clients.clients if self._clients is not None else ():
            service.measure_client(client)
        self._services.append(service)
        if is_configured:
            self._stop_following()

    def _handle(self) -> object | None:
        return self._clients.handle if self._clients is not None else None

    def _database_changed(self) -> None:
        followers = [service for service in self._services if service.settings.database_uri is None]
        if not followers:
            return
        self._database_changes += 1
        if self._database_changes <= _MAX_DATABASE_CHANGES:
            self._watch(followers, self._handle())
        else:
            self._stop_following()
            self._watch(followers, None)
            logger.warning(
                "The application keeps closing its MongoDB clients, so no database is checked: "
                "set OTEL_MONITORING_DATABASE_URI"
            )

    @staticmethod
    def _watch(services: list["MonitoringService"], handle: object | None) -> None:
        for service in services:
            service.watch_database(handle)


class OtelMonitoringInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """The entry point `opentelemetry_instrumentor`: the instrumentation named `otel_monitoring`."""

    _zero_code: ZeroCode | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: the package has its own dependencies."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        with fail_open("zero-code start"):
            self._zero_code = ZeroCode()
            self._zero_code.begin()

    def _uninstrument(self, **kwargs: Any) -> None:
        if self._zero_code is not None:
            self._zero_code.end()


def prepare() -> None:
    """The entry point `opentelemetry_pre_instrument`: choose the stable semantic conventions.

    The first instrumentation that starts fixes the conventions for the process.
    """
    if not zero_code_disabled():
        opt_in_to_stable_conventions()


def take_over() -> None:
    """The entry point `opentelemetry_post_instrument`: uninstrument FastAPI where contrib has instrumented it.

    contrib's instrumentation for FastAPI is installed because this package needs parts of it. It would measure each
    request a second time, and must go before the application is made. Other libraries follow in `_served`.
    """
    if OtelMonitoringInstrumentor().is_instrumented_by_opentelemetry:
        with fail_open("zero-code start"):
            _uninstrument(_FASTAPI)
            _remove_log_handler()


def _uninstrument(*instrumentors: tuple[str, str]) -> None:
    for module, name in instrumentors:
        if module in sys.modules:
            other = getattr(sys.modules[module], name)()
            if other.is_instrumented_by_opentelemetry:
                other.uninstrument()


def _remove_log_handler() -> None:
    """Remove contrib's log handler where no logger provider is set: our provider and handler take its place.

    Both handlers would export every record twice. A handler also keeps warnings from stderr, where `logging` prints
    them only while the root logger has none.
    """
    contrib = sys.modules.get("opentelemetry.instrumentation.logging.handler")
    if contrib is None or not type(get_logger_provider()).__name__.startswith("Proxy"):
        return
    root = logging.getLogger()
    for handler in [one for one in root.handlers if type(one) is contrib.LoggingHandler]:
        root.removeHandler(handler)
