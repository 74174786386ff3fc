"""`MonitoringService`: the one place that wires the parts together."""

import asyncio
import os
import re
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from opentelemetry.metrics import Meter
from opentelemetry.trace import Tracer

from otel_monitoring.alerts import AlertManager, chosen_alert_manager, offer_alert_manager
from otel_monitoring.alerts.evaluator import beat_seconds
from otel_monitoring.alerts.model import AlertSeverity, AlertType
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.config.settings import THRESHOLDS, Settings
from otel_monitoring.endpoints.routes import create_routes
from otel_monitoring.environment import announce, opt_in_to_stable_conventions
from otel_monitoring.errors import ConfigurationError, InstrumentationError
from otel_monitoring.guard import fail_open
from otel_monitoring.health.checks import CheckFunction, Checks
from otel_monitoring.health.database import DatabaseHealthChecker
from otel_monitoring.health.database_handle import database_handle
from otel_monitoring.health.requests import PerformanceMetrics
from otel_monitoring.instrumentation.http_server.fastapi import (
    RequestError,
    RequestOptions,
    check_application,
    instrument_app,
    providers_of,
)
from otel_monitoring.instrumentation.http_server.headers import CapturedHeaders
from otel_monitoring.instrumentation.http_server.lifespan import follow_lifespan
from otel_monitoring.instrumentation.http_server.mounting_application import watch_mounting_application
from otel_monitoring.instrumentation.http_server.own_routes import OwnRoutes
from otel_monitoring.instrumentation.http_server.request import KNOWN_METHODS, OpenConnections
from otel_monitoring.instrumentation.system.sampler import SystemSampler as SystemMetrics
from otel_monitoring.monitoring.announcement import announcement
from otel_monitoring.monitoring.parts import ServiceParts
from otel_monitoring.redact import printable
from otel_monitoring.redact.json_value import json_text
from otel_monitoring.runtime.background import Job
from otel_monitoring.runtime.current_service import get_monitoring, monitors, set_monitoring, within_service
from otel_monitoring.runtime.worker import Worker
from otel_monitoring.telemetry.meter_providers import HistogramMeterProvider

if TYPE_CHECKING:
    from fastapi import FastAPI

    from otel_monitoring.config.otlp import Signal

__all__ = [
    "THRESHOLDS",
    "DatabaseHealthChecker",
    "MonitoringService",
    "PerformanceMetrics",
    "SystemMetrics",
    "get_monitoring",
    "set_monitoring",
]

_FIRST_CHECK_SECONDS = 1.0
_CHECK_INTERVALS = 2.5
"""Intervals after which what a check said counts no more."""
_LOOP_PROBE_SECONDS = 1.0
_EARLY_EXPORT_SECONDS = 1.0
"""How often what waits is sent while the application shuts down."""
_RENDER_TIMEOUT = 10.0
_LAST_CONNECTIONS_SECONDS = 1.0
"""How long a stop waits for requests and WebSockets that the server leaves open, or has just cancelled."""
_RETRY_SECONDS = 10.0
"""From a start that failed to the next try."""


class MonitoringService:
    """Health, metrics, traces and alerts of one FastAPI + MongoDB service. It lives as long as the application.

    Args:
        db: The database to watch: a pymongo `Database`, `AsyncDatabase` or Motor database, or a client of these, whose
            default database is meant (`admin` where its URI names none); None for none.
        check_interval: Seconds between database checks; `OTEL_MONITORING_CHECK_INTERVAL` or 30 when not given.
        settings: Settings made before; without it they are read from the environment and `.env`.
        admin: The application's own dependency, `Depends(...)`, that guards the private endpoints.
        alert_manager: The alert manager to use. When not given, that of `set_alert_manager` or `initialize_alerts`, or
            one of its own.
        overrides: Any field of `Settings`, winning over the environment.

    Raises:
        ConfigurationError: A setting cannot work; the message names it.
    """

    def __init__(
        self,
        db: Any = None,
        check_interval: float | None = None,
        *,
        settings: Settings | None = None,
        admin: Any = None,
        alert_manager: AlertManager | None = None,
        **overrides: Any,
    ) -> None:
        if settings is not None and (overrides or check_interval is not None):
            raise ConfigurationError("settings: pass either a Settings object or single settings, not both")
        self.settings = settings or Settings.load(check_interval=check_interval, **overrides)
        self.checks = Checks(self.settings.check_timeout, _CHECK_INTERVALS * self.settings.check_interval)
        self._db = database_handle(db)
        self._admin = admin
        self._alert_manager = alert_manager
        self._own_alert_manager: AlertManager | None = None
        self._app: FastAPI | None = None
        self._assembled: ServiceParts | None = None
        self._ready = False
        self._driven = False
        self._undriven: AlertManager | None = None
        self._announced: int | None = None
        self._own_routes: OwnRoutes | None = None
        self._connections: OpenConnections | None = None
        self._worker = Worker(
            (
                Job("sampling", self.settings.sample_interval, lambda: self._parts.sample()),
                Job("database check", self.settings.check_interval, lambda: self._parts.check_database()),
                Job("health checks", self.settings.check_interval, lambda: self._parts.run_checks()),
                Job("event loop probe", _LOOP_PROBE_SECONDS, lambda: self._parts.probe_loop()),
                Job("early export", _EARLY_EXPORT_SECONDS, lambda: self._parts.send_early()),
                Job("alerts", beat_seconds(self.settings.sample_interval), lambda: self._parts.beat()),
            ),
            acquire=lambda stack: self._parts.acquire(stack),
            bind=lambda loop: self._parts.bind(loop),
            signalled=self._signalled,
            drain=lambda seconds: self._parts.drain(seconds),
            release=lambda seconds: self._parts.telemetry.stop(seconds),
            timeout=self.settings.shutdown_timeout,
            service=self,
        )

    # What users call

    def instrument(self, app: "FastAPI") -> "MonitoringService":
        """Instrument `app`: traces, metrics, endpoints, start and stop with its lifespan.

        Call it once, after the application is made and before it serves.

        Raises:
            InstrumentationError: `app` is no FastAPI application, serves already, or is instrumented already.
        """
        if self._app is not None:
            raise InstrumentationError(
                "instrument() was called twice: one MonitoringService instruments one application"
            )
        check_application(app)
        # FastAPI keeps endpoints in caches of the process: they must not keep the application alive.
        routes = create_routes(app, weakref.proxy(self), self.settings, self._admin)
        parts = self._assemble(app)
        meters = parts.telemetry.request_meters
        self._own_routes = own_routes = OwnRoutes(app, routes, self.settings.prefix)
        instrumentation = instrument_app(
            app,
            tracer_provider=parts.telemetry.tracer_provider,
            meter_provider=meters if parts.telemetry.exports_metrics else HistogramMeterProvider(meters),
            logger_provider=parts.telemetry.logger_provider,
            options=self._request_options(parts, own_routes),
        )
        parts.telemetry.make_global()
        self._app = app
        self._connections = instrumentation.connections
        monitors(self, app)
        own_routes.place()
        watch_mounting_application(app)
        follow_lifespan(
            app,
            within=lambda: within_service(self),
            starting=self._begin,
            started=self._started,
            stopping=self.drain,
            stopped=self._stopped,
        )
        if get_monitoring() is None:
            set_monitoring(self)
        self._offer_alerts()
        return self

    def _request_options(self, parts: ServiceParts, own_routes: OwnRoutes) -> RequestOptions:
        settings = self.settings
        return RequestOptions(
            exclude=own_routes.answers,
            excluded_url=re.compile("|".join(settings.excluded_urls)).search if settings.excluded_urls else None,
            headers=CapturedHeaders(
                settings.capture_request_headers, settings.capture_response_headers, settings.sanitize_headers
            ),
            tracing=parts.telemetry.tracing,
            logs=parts.telemetry.logging,
            operation_spans=settings.operation_spans,
            capture_query=settings.capture_query,
            known_methods=frozenset(settings.known_methods) or KNOWN_METHODS,
            watched_statuses=settings.error_statuses or frozenset(),
            on_error=self._on_error,
            on_first_request=self._on_first_request,
            service=self,
        )

    async def start(self) -> None:
        """Start the background work of this process; does nothing when it runs.

        Waits up to a second for the first check, so that the first answer already knows the database.
        """
        await self._begin()
        self._started()

    async def stop(self) -> None:
        """Flush and stop, within the shutdown timeout; does nothing when not running."""
        self.drain()
        await self._worker.stop_soon()

    async def _stopped(self) -> None:
        # Of streams that the server has just cancelled, the spans are to end before what exports them.
        if self._connections is not None:
            await self._connections.all_ended(min(_LAST_CONNECTIONS_SECONDS, self.settings.shutdown_timeout / 4))
        await self.stop()

    def drain(self) -> None:
        """Answer 503 at `/health/ready` from now on, so that no new traffic is sent here.

        What is known stays as it is: nothing is measured, checked or evaluated any more, because what the application
        closes from here on is no outage. Alerts it raises itself are delivered still.
        """
        self._ready = False
        if self._worker.running:
            self._worker.draining = True
            self._parts.freeze()

    def _signalled(self) -> None:
        self.drain()
        # A server that waits for streams in vain kills the process, be it after a second: before any shutdown.
        self._worker.poke(self._parts.send_early)

    def watch_database(self, db: Any) -> None:
        """Check and measure `db` from now on, in place of the one given before: for handles made at start-up.

        Args:
            db: As for the constructor; None: no database.

        Raises:
            ConfigurationError: It is no database.
        """
        self._db = database_handle(db)
        if self._assembled is not None:
            self._assembled.watch_database(db)

    def measure_client(self, client: Any) -> None:
        """Measure a further MongoDB client that was made before `instrument`; those made later are measured anyway.

        Raises:
            ConfigurationError: It is no client, and no database of one.
        """
        self._parts.measure_client(database_handle(client))

    def add_check(
        self, name: str, check: CheckFunction, *, critical: bool = False, timeout: float | None = None
    ) -> None:
        """Add a health check; see `Checks.add`."""
        self.checks.add(name, check, critical=critical, timeout=timeout)

    def add_rule(self, rule: Rule) -> None:
        """Add an alert rule; see `AlertManager.add_rule`."""
        self.alert_manager.add_rule(rule)

    async def add_alert(
        self,
        alert_type: AlertType | str,
        message: str,
        severity: AlertSeverity | str = AlertSeverity.WARNING,
        details: Mapping[str, Any] | None = None,
    ) -> bool:
        """Raise an alert; see `AlertManager.send_alert`."""
        return await self.alert_manager.send_alert(alert_type, message, severity, details)

    async def get_health_status(self) -> dict[str, Any]:
        """What `/health/detailed` answers, from the values at hand: cheap enough to ask on every request."""
        return self._parts.report.detailed()

    async def get_detailed_diagnostics(self) -> dict[str, Any]:
        """What `/health/diagnostics` answers, brought up to date."""
        await self._parts.collecting.refresh()
        return await self._worker.call(self._diagnostics, _RENDER_TIMEOUT)

    @property
    def performance_metrics(self) -> PerformanceMetrics:
        """Request counts, times and errors; and `record_request`."""
        return self._parts.performance

    @property
    def system_metrics(self) -> SystemMetrics:
        """CPU and memory."""
        return self._parts.system

    @property
    def db_checker(self) -> DatabaseHealthChecker:
        """The state of the database."""
        return self._parts.database

    @property
    def alert_manager(self) -> AlertManager:
        """The alert manager given, the one chosen for the process, or its own."""
        found = self._alert_manager or chosen_alert_manager() or self._own_alert_manager
        if found is None:
            found = self._own_alert_manager = AlertManager(settings=self.settings)
        return found

    @property
    def meter(self) -> Meter:
        """For the application's own metrics: they leave by the same way."""
        return self._parts.telemetry.meter_provider.get_meter("application")

    @property
    def tracer(self) -> Tracer:
        """For the application's own spans: they leave by the same way."""
        return self._parts.telemetry.tracer_provider.get_tracer("application")

    def drive_by_hand(self, manager: AlertManager | None) -> ServiceParts:
        """For `otel_monitoring.testing`: start no background work, and have `manager` in place of the alert manager.

        Args:
            manager: None: as before.

        Returns:
            What the service is made of.

        Raises:
            InstrumentationError: The service runs, or is driven already.
        """
        if manager is None:
            self._driven, self._alert_manager = False, self._undriven
        elif self._worker.running or self._driven:
            raise InstrumentationError("the service runs: its alerts can be tried only while it does not")
        else:
            self._driven, self._undriven, self._alert_manager = True, self._alert_manager, manager
        return self._parts

    # What the routes ask

    @property
    def ready(self) -> bool:
        """Whether this process has started up and is not draining."""
        return self._ready and (self._worker.running or self._worker.failure is not None)

    def basic_health(self) -> dict[str, Any]:
        """What `/health` answers."""
        return self._parts.report.basic()

    async def render(self, what: str) -> bytes:
        """`detailed`, `metrics` or `diagnostics`, brought up to date, as JSON; made off the application's loop."""
        await self._parts.collecting.refresh()
        return await self._worker.call(lambda: self._rendered(what), _RENDER_TIMEOUT)

    # The wiring

    @property
    def _parts(self) -> ServiceParts:
        return self._assembled or self._assemble(None)

    def _assemble(self, app: "FastAPI | None") -> ServiceParts:
        if self._assembled is None:
            opt_in_to_stable_conventions()
            self._assembled = ServiceParts(
                self.settings,
                self._db,
                service_name=getattr(app, "title", None),
                service_version=getattr(app, "version", None),
                providers=cast("dict[Signal, object]", providers_of(app)),
                checks=self.checks,
                worker=self._worker,
                alert_manager=lambda: self.alert_manager,
                service=self,
            )
        return self._assembled

    def _started(self) -> None:
        if self._own_routes is not None:
            self._own_routes.place()
        self._ready = True
        self._parts.keep_logging()
        with fail_open("saying what is on"):
            self._announce(self._own_routes.announce() if self._own_routes is not None else [])

    def _announce(self, kept: list[str]) -> None:
        if self._announced == os.getpid() or self._worker.failure is not None:
            return
        self._announced = os.getpid()
        parts, manager = self._parts, self.alert_manager
        line = announcement(
            self.settings,
            service=self._name(),
            kept=kept,
            guarded=self._admin is not None,
            database=parts.database.description,
            channels=[channel.name for channel in manager.channels],
            store=manager.store,
            exports=parts.telemetry.announcement,
        )
        announce(printable(line))

    def _name(self) -> str:
        name = str(self._parts.telemetry.resource.attributes.get("service.name", ""))
        known = name and not name.startswith("unknown_service")
        return name if known or self._app is None else self._app.title

    async def _begin(self) -> None:
        self._offer_alerts()
        checked = self._parts.begin_asking()
        if self._start():
            await asyncio.wait({asyncio.wrap_future(checked)}, timeout=_FIRST_CHECK_SECONDS)

    def _start(self, *, implicit: bool = False) -> bool:
        """Start the worker; where that fails, the application starts all the same, and it is tried again."""
        if self._driven:
            return False
        loop = asyncio.get_running_loop()
        try:
            return self._worker.start(loop, implicit=implicit)
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001 - no thread, no descriptor, no memory
            fail_open.note("starting the monitoring", error)
            loop.call_later(_RETRY_SECONDS, self._start_again, implicit)
            return False

    def _start_again(self, implicit: bool) -> None:
        if self._ready and not self._worker.running and self._start(implicit=implicit):
            self._started()

    def _offer_alerts(self) -> None:
        offer_alert_manager(self.alert_manager)

    def _on_first_request(self) -> None:
        # Without a lifespan nobody has called start(). Here and now, so that this very request is counted.
        fresh = not self._worker.running
        self._start(implicit=True)
        if fresh:
            self._started()

    def _on_error(self, error: RequestError) -> None:
        self._parts.performance.note_failure(error.method, error.route, error.status, error.exception)

    def note_wrong_token(self) -> None:
        """Count a request to the private endpoints with a wrong admin token."""
        self._parts.wrong_tokens.add(1)

    async def _diagnostics(self) -> dict[str, Any]:
        return self._parts.report.diagnostics()

    async def _rendered(self, what: str) -> bytes:
        return json_text(self._parts.report.answer(what)).encode()
