"""Zero-code start: what `opentelemetry-instrument` loads, and so what `otel-monitoring run` does.

In each process of the command, before any of the application's code: follow the MongoDB clients it builds, and wait for
the FastAPI application that is served. That one is instrumented as `MonitoringService(db).instrument(app)` would, with
settings from the environment. An application that does so itself is left alone.
"""

import logging
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from opentelemetry import _logs
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined] # not typed
from opentelemetry.instrumentation.logging.handler import LoggingHandler

from otel_monitoring.config import Settings, opt_in_to_stable_conventions, zero_code_disabled
from otel_monitoring.errors import MonitoringError
from otel_monitoring.guard import contained, logger
from otel_monitoring.instrument.served import when_served
from otel_monitoring.monitoring import MonitoringService, get_monitoring

if TYPE_CHECKING:
    from fastapi import FastAPI

    from otel_monitoring.instrument.mongodb.clients import BuiltClients

__all__ = ["OtelMonitoringInstrumentor", "prepare", "take_over"]

_MAX_CHANGES = 20


class ZeroCode:
    """What one process does between the start of the interpreter and the first call of its application."""

    def __init__(self) -> None:
        self._service: MonitoringService | None = None
        self._changes = 0
        self._clients = _built_clients()
        self._endings: list[Callable[[], None]] = []

    def begin(self) -> None:
        """Look out for clients and the application."""
        if self._clients is not None:
            self._clients.changed = self._database_changed
            self._endings.append(self._clients.follow())
        self._endings.append(when_served(self._served))

    def end(self) -> None:
        """Stop looking; what is instrumented stays so."""
        while self._endings:
            self._endings.pop()()

    def _served(self, app: "FastAPI") -> None:
        if get_monitoring() is not None:
            self.end()  # the application does it itself
            return
        with contained("zero-code instrumentation"):
            try:
                self._instrument(app)
            except MonitoringError as error:
                self.end()
                logger.error("The application is not monitored: %s", error)

    def _instrument(self, app: "FastAPI") -> None:
        settings = Settings.load()
        if settings.database_uri is not None and self._clients is not None:
            self._clients.changed = None
        service = MonitoringService(None if settings.database_uri else self._handle(), settings=settings)
        service.instrument(app)
        self._service = service
        for client in self._clients.clients if self._clients is not None else ():
            service.measure_client(client)

    def _handle(self) -> object | None:
        return self._clients.handle if self._clients is not None else None

    def _database_changed(self) -> None:
        if self._service is None:
            return
        self._changes += 1
        if self._changes <= _MAX_CHANGES:
            self._service.watch_database(self._handle())
        else:
            self.end()
            self._service.watch_database(None)
            logger.warning(
                "The application closes its MongoDB clients all the time, so none is watched: "
                "set OTEL_MONITORING_DATABASE_URI"
            )


def _built_clients() -> "BuiltClients | None":
    try:
        from otel_monitoring.instrument.mongodb.clients import BuiltClients
    except ImportError:  # an application without PyMongo
        return None
    return BuiltClients()


class OtelMonitoringInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """The `opentelemetry_instrumentor` entry point, under the name `otel_monitoring`."""

    _zero_code: ZeroCode | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """None besides those of the package."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        with contained("zero-code start"):
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

    Those for FastAPI and PyMongo are installed because this package needs parts of them. Left on, they would measure
    beside ours what FastAPI measures by itself, and without our repairs.
    """
    if not OtelMonitoringInstrumentor().is_instrumented_by_opentelemetry:
        return
    with contained("zero-code start"):
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

        _withdraw(FastAPIInstrumentor())
        _withdraw_log_handler()
    with contained("zero-code start"):
        try:
            from opentelemetry.instrumentation.pymongo import PymongoInstrumentor
        except ImportError:
            return
        _withdraw(PymongoInstrumentor())


def _withdraw(instrumentor: BaseInstrumentor) -> None:
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()


def _withdraw_log_handler() -> None:
    """Where no logger provider was set, we bring ours with a handler; contrib's would send every record again.

    It would also keep warnings from reaching stderr, as `logging` sends them there only while nobody handles them.
    """
    if type(_logs.get_logger_provider()).__name__.startswith("Proxy"):
        root = logging.getLogger()
        for handler in [one for one in root.handlers if type(one) is LoggingHandler]:
            root.removeHandler(handler)
