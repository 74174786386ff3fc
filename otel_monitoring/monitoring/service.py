"""`MonitoringService`: health, metrics, traces and alerts of one FastAPI application, in one object.

`instrument` connects it to the application. `ServiceParts` is what it is made of; `Worker` starts and stops the
background work of each process.
"""

import asyncio
import os
import re
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import Meter
from opentelemetry.trace import Tracer

from otel_monitoring.alerts import AlertManager, chosen_alert_manager, offer_alert_manager
from otel_monitoring.alerts.evaluator import BEAT_SECONDS
from otel_monitoring.alerts.model import AlertSeverity, AlertType
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.alerts.rules.slo import Slo
from otel_monitoring.config.settings import Settings
from otel_monitoring.endpoints.routes import Doors, create_routes
from otel_monitoring.environment import opt_in_to_stable_conventions
from otel_monitoring.errors import ConfigurationError, InstrumentationError
from otel_monitoring.forks import renewed
from otel_monitoring.guard import fail_open
from otel_monitoring.health.checks import CheckFunction, Checks
from otel_monitoring.health.database import DatabaseHealthChecker
from otel_monitoring.health.database_handle import database_handle
from otel_monitoring.health.performance_metrics import PerformanceMetrics
from otel_monitoring.health.series_query import SeriesQuery
from otel_monitoring.instrumentation.http_server.fastapi import (
    RequestError,
    RequestOptions,
    check_application,
    instrument_app,
)
from otel_monitoring.instrumentation.http_server.headers import CapturedHeaders
from otel_monitoring.instrumentation.http_server.lifespan import Lifespan, follow_lifespan
from otel_monitoring.instrumentation.http_server.mounting_application import watch_mounting_application
from otel_monitoring.instrumentation.http_server.open_connections import OpenConnections
from otel_monitoring.instrumentation.http_server.own_routes import Endpoint, OwnRoutes
from otel_monitoring.instrumentation.http_server.request_options import KNOWN_METHODS
from otel_monitoring.instrumentation.system.sampler import SystemSampler
from otel_monitoring.metrics.service_history import SERVICE, Scope
from otel_monitoring.monitoring.announcement import announcement
from otel_monitoring.monitoring.monitored_database import check_store_setting
from otel_monitoring.monitoring.parts import ServiceParts
from otel_monitoring.redact import printable
from otel_monitoring.runtime.background import Job
from otel_monitoring.runtime.blocking_thread import BlockingJob
from otel_monitoring.runtime.current_service import get_monitoring, register, set_monitoring, within_service
from otel_monitoring.runtime.start_log import announce
from otel_monitoring.runtime.worker import Worker
from otel_monitoring.status_page.about import about
from otel_monitoring.status_page.routes import PATH as PAGE_PATH
from otel_monitoring.status_page.routes import page_routes

if TYPE_CHECKING:
    from fastapi import FastAPI

    from otel_monitoring.status_page.shared import Body

_CHECK_MAX_AGE = 2.5
"""Check intervals after which the result of a check is out of date."""
_LOOP_PROBE_SECONDS = 1.0
_PUBLISH_SECONDS = 1.0
_EARLY_EXPORT_SECONDS = 1.0
"""Seconds between two exports while the application shuts down."""
_SLICE_SECONDS = 1.0
"""Seconds between two looks at whether a slot of time is over."""
_EXPLAIN_SECONDS = 1.0
_FIRST_CHECK_SECONDS = 1.0
"""How long a start waits for the first check."""
_START_RETRY_SECONDS = 10.0
"""From a failed start to the next attempt."""
_LAST_CONNECTIONS_SECONDS = 1.0
"""How long a stop waits for connections that the server left open or has just cancelled."""
_ANSWER_TIMEOUT = 10.0
"""Seconds in which an answer must be ready."""


class MonitoringService:
    """Health, metrics, traces and alerts of one FastAPI + MongoDB service. It lives as long as the application.

    Args:
        db: The database to monitor: a PyMongo `Database`, `AsyncDatabase` or Motor database, or a client of these,
            which stands for its default database (`admin` where its URI names none). None: no database.
        check_interval: Seconds between database checks. None: `OTEL_MONITORING_CHECK_INTERVAL`, or 30.
        settings: Settings made before. None: read from the environment and `.env`.
        admin: The application's own dependency, `Depends(...)`, that guards the private endpoints.
        alert_manager: The alert manager to use. None: that of `set_alert_manager` or `initialize_alerts`, or its own.
        overrides: Any field of `Settings`; wins over the environment.

    Attributes:
        settings: The settings in use.
        checks: The application's health checks.

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
        self.checks = Checks(self.settings.check_timeout, _CHECK_MAX_AGE * self.settings.check_interval)
        self._db = database_handle(db)
        check_store_setting(self.settings, self._db)
        self._admin = admin
        self._given_alert_manager = alert_manager
        self._own_alert_manager: AlertManager | None = None
        self._tested_alert_manager: AlertManager | None = None
        self._app: FastAPI | None = None
        self._assembled: ServiceParts | None = None
        self._own_routes: OwnRoutes | None = None
        self._connections: OpenConnections | None = None
        self._answering = 0
        self._ready = False
        self._announced_in: int | None = None
        self._lifespans = renewed(self, "_lifespans", dict[Lifespan, None])
        self._begin_or_end = renewed(self, "_begin_or_end", threading.RLock)
        self._worker = self._make_worker()

    # Instrument

    def instrument(self, app: "FastAPI") -> "MonitoringService":
        """Instrument `app`: traces, metrics, endpoints, and start and stop with its lifespan.

        Call it once, after the application is made and before it serves.

        Returns:
            This service.

        Raises:
            InstrumentationError: `app` is no FastAPI application, serves already, or is instrumented already.
            ConfigurationError: A setting cannot work; the message names it.
        """
        if self._app is not None:
            raise InstrumentationError(
                "instrument() was called twice: one MonitoringService instruments one application"
            )
        check_application(app)
        endpoints = self._endpoints(app)
        parts = self._assemble(app)
        self._own_routes = own_routes = OwnRoutes(app, endpoints, self.settings.prefix)
        self._measure_requests(app, parts, own_routes)
        self._app = app
        register(self, app)
        own_routes.place()
        watch_mounting_application(app)
        follow_lifespan(
            app,
            within=lambda: within_service(self),
            starting=self._lifespan_begins,
            started=self._lifespan_started,
            stopping=self._lifespan_ends,
            stopped=self._lifespan_ended,
        )
        if get_monitoring() is None:
            set_monitoring(self)
        offer_alert_manager(self.alert_manager)
        return self

    def watch_database(self, db: Any) -> None:
        """Check and measure `db` from now on, in place of the one before: for handles made at start-up.

        Args:
            db: As for the constructor. None: no database.

        Raises:
            ConfigurationError: It is no database.
        """
        handle = database_handle(db)
        with suppress(RuntimeError):  # no loop runs
            loop = asyncio.get_running_loop()
            if any(lifespan.loop is loop for lifespan in self._open):
                self._worker.move(loop)  # first: a client that is used in another loop cannot be closed in its own
        self._watch(handle)

    def _watch(self, handle: Any) -> None:
        self._db = handle
        if self._assembled is not None:
            self._assembled.watch_database(handle)

    def measure_client(self, client: Any) -> None:
        """Measure a further MongoDB client, made before `instrument`. Clients made later are measured anyway.

        Raises:
            ConfigurationError: It is neither a client nor a database of one.
        """
        self._parts.measure_client(database_handle(client))

    # Start and stop

    async def start(self) -> None:
        """Start the background work of this process. Does nothing where it runs already.

        Waits up to a second for the first check, so that the first answer knows the state of the database.
        """
        await self._begin()
        self._started()

    def drain(self) -> None:
        """Answer 503 at `/health/ready` from now on, so that load balancers send no new requests.

        Measurements, checks and rules stop, and the last results stay: what the application closes from here on is no
        outage. Alerts that the application raises are still delivered.

        Where the application is served more than once, one shutdown drains nothing while another lifespan goes on.
        """
        with self._begin_or_end:
            if not self._goes_on:
                self._drain()

    def _drain(self) -> None:
        self._ready = False
        if self._worker.running:
            self._worker.draining = True
            self._parts.freeze()

    async def stop(self) -> None:
        """Flush and stop within the shutdown timeout. Does nothing where it does not run.

        Where the application is served more than once, one shutdown stops nothing while another lifespan goes on.
        """
        if not self._goes_on:
            self.drain()
            await self._worker.stop_soon()

    # Checks, rules and alerts

    def add_check(
        self, name: str, check: CheckFunction, *, critical: bool = False, timeout: float | None = None
    ) -> None:
        """Add a health check, which runs at every check interval.

        Args:
            name: Its name in answers and alerts.
            check: A function or coroutine function without arguments. It fails when it returns False, raises, or takes
                longer than `timeout`.
            critical: Whether the service is `unhealthy` while it fails; False: `degraded`.
            timeout: Seconds; None: `OTEL_MONITORING_CHECK_TIMEOUT`.

        Raises:
            ConfigurationError: The name is empty or taken, the check is not callable, the timeout is not positive.
        """
        self.checks.add(name, check, critical=critical, timeout=timeout)

    def add_rule(self, rule: Rule) -> None:
        """Add an alert rule; it replaces a default rule of the same name.

        Raises:
            ConfigurationError: A rule of this name was added before.
        """
        self.alert_manager.add_rule(rule)
        if self._assembled is not None:  # otherwise its parts are made for the application, and want it at the start
            self._assembled.want_metrics_of(rule)

    def add_slo(self, slo: Slo) -> None:
        """Add a service level objective; it replaces a preset of the same name.

        Raises:
            ConfigurationError: An objective, or a rule with the name of one of its rules, was added before.
        """
        self.alert_manager.add_slo(slo)

    async def add_alert(
        self,
        alert_type: AlertType | str,
        message: str,
        severity: AlertSeverity | str = AlertSeverity.WARNING,
        details: Mapping[str, Any] | None = None,
    ) -> bool:
        """Raise an alert; for arguments, result and errors see `AlertManager.send_alert`."""
        return await self.alert_manager.send_alert(alert_type, message, severity, details)

    # Results

    async def get_health_status(self, scope: Scope = SERVICE) -> dict[str, Any]:
        """The answer of `/health/detailed` from the latest results: cheap enough for every request.

        Args:
            scope: `service`, or `instance` for this process alone.
        """
        parts = self._parts
        if parts.engine is not None and scope == SERVICE:
            parts.engine.want()
        return parts.answers.detailed(scope)

    async def get_detailed_diagnostics(self, scope: Scope = SERVICE) -> dict[str, Any]:
        """The answer of `/health/diagnostics` from fresh measurements.

        Args:
            scope: `service`, or `instance` for this process alone.

        Raises:
            TimeLimitError: It took longer than ten seconds.
        """
        alerting = await self._refresh("diagnostics", scope)
        return await self._worker.call(partial(self._answer, "diagnostics", scope, alerting), _ANSWER_TIMEOUT)

    @property
    def performance_metrics(self) -> PerformanceMetrics:
        """Request counts, times and errors; and `record_request`."""
        return self._parts.performance

    @property
    def system_metrics(self) -> SystemSampler:
        """CPU and memory."""
        return self._parts.system

    @property
    def db_checker(self) -> DatabaseHealthChecker:
        """The state of the database."""
        return self._parts.database

    @property
    def alert_manager(self) -> AlertManager:
        """The alert manager that was given, the one chosen for the process, or this service's own."""
        found = self._tested_alert_manager or self._given_alert_manager or chosen_alert_manager()
        found = found or self._own_alert_manager
        if found is None:
            found = self._own_alert_manager = AlertManager(settings=self.settings)
        return found

    @property
    def meter(self) -> Meter:
        """A meter for the application's own metrics, exported like those of this package."""
        return self._parts.telemetry.meter_provider.get_meter("application")

    @property
    def tracer(self) -> Tracer:
        """A tracer for the application's own spans, exported like those of this package."""
        return self._parts.telemetry.tracer_provider.get_tracer("application")

    # What the endpoints ask

    @property
    def ready(self) -> bool:
        """Whether this process has started and is not draining."""
        return self._ready and (self._worker.running or self._worker.failure is not None)

    def basic_health(self) -> dict[str, Any]:
        """The answer of `/health`."""
        return self._parts.answers.basic()

    async def render(self, what: str, scope: Scope = SERVICE) -> bytes:
        """The JSON of an answer from fresh measurements, made in the background thread.

        Args:
            what: `detailed`, `metrics`, `diagnostics`, `errors` or `objectives`.
            scope: `service`, or `instance` for this process alone.

        Raises:
            TimeLimitError: It took longer than ten seconds.
        """
        self._answering += 1
        try:
            alerting = await self._refresh(what, scope)
            return await self._worker.call(partial(self._rendered, what, scope, alerting), _ANSWER_TIMEOUT)
        finally:
            self._answering -= 1

    def series(self, query: SeriesQuery) -> dict[str, Any]:
        """The answer of `/health/series`; it waits for the store.

        Raises:
            SeriesQueryError: The query has no answer.
            StoreError: The store failed.
        """
        return self._parts.past.series(query)

    async def page_update(self, *, every_endpoint: bool) -> "Body":
        """What changes on the status page; see `Updates`.

        Raises:
            TimeLimitError: It took longer than ten seconds.
        """
        updates = self._parts.updates
        if (body := updates.latest(every_endpoint=every_endpoint)) is not None:
            return body
        self._answering += 1
        try:
            return await self._worker.call(partial(updates.next, every_endpoint=every_endpoint), _ANSWER_TIMEOUT)
        finally:
            self._answering -= 1

    async def page_endpoints(self, span: str) -> "Body":
        """The endpoints over a range of the past, for the status page; see `EndpointsPast`.

        Raises:
            StoreError: The store failed.
            TimeLimitError: It took longer than ten seconds.
        """
        return await self._worker.call(partial(self._parts.endpoints_past.next, span), _ANSWER_TIMEOUT)

    def page_about(self) -> dict[str, Any]:
        """The versions and the settings in force, for the status page."""
        return about(self.settings, self._parts.answers.glance()["service"])

    def note_wrong_token(self) -> None:
        """Count a request to the private endpoints with a wrong admin token."""
        self._parts.wrong_tokens.add(1)

    async def _refresh(self, what: str, scope: Scope) -> dict[str, Any] | None:
        """Bring the measurements up to date; returns what the diagnostics say about alerts, None for other answers."""
        if what != "diagnostics":
            await self._parts.refresh(scope)
            return None
        alerting: dict[str, Any]
        alerting, _ = await asyncio.gather(self._parts.alerting_state.current(), self._parts.refresh(scope))
        return alerting

    async def _answer(self, what: str, scope: Scope, alerting: dict[str, Any] | None) -> dict[str, Any]:
        return self._parts.answers.answer(what, scope, alerting)

    async def _rendered(self, what: str, scope: Scope, alerting: dict[str, Any] | None) -> bytes:
        return self._parts.answers.rendered(what, scope, alerting)

    def _in_flight(self) -> int:
        """The requests that the application is handling, without those that ask for this answer."""
        return max(0, len(self._connections) - self._answering) if self._connections is not None else 0

    # What `otel_monitoring.testing` asks

    def drive_by_hand(self, manager: AlertManager | None) -> ServiceParts:
        """Start no background work, and use `manager` in place of the alert manager; None: as before.

        Returns:
            The parts of the service, to be driven by the test.

        Raises:
            InstrumentationError: The service runs, or is driven already.
        """
        if manager is not None and (self._worker.running or self._tested_alert_manager is not None):
            raise InstrumentationError("the service is running: AlertTester needs one that is stopped")
        self._tested_alert_manager = manager
        return self._parts

    # The wiring

    def _make_worker(self) -> Worker:
        settings = self.settings
        return Worker(
            (
                Job("sampling", settings.sample_interval, lambda: self._parts.sample()),
                Job("publishing", _PUBLISH_SECONDS, lambda: self._parts.publish(), lambda: self._parts.may_publish),
                Job("database check", settings.check_interval, lambda: self._parts.check_database()),
                Job("health checks", settings.check_interval, lambda: self._parts.run_checks()),
                Job("event loop probe", _LOOP_PROBE_SECONDS, lambda: self._parts.probe_loop()),
                Job("slices", _SLICE_SECONDS, lambda: self._parts.write_slices(), lambda: self._parts.slices_due),
                *(
                    [Job("Prometheus", settings.sample_interval, lambda: self._parts.ask_engine())]
                    if settings.prometheus_url is not None
                    else []
                ),
                *([Job("explain", _EXPLAIN_SECONDS, lambda: self._parts.explain())] if settings.explain else []),
                Job("early export", _EARLY_EXPORT_SECONDS, lambda: self._parts.send_early(), lambda: self._draining),
            ),
            blocking=BlockingJob("alerts", BEAT_SECONDS, lambda: self._parts.alerting.beat()),
            acquire=lambda stack: self._parts.acquire(stack),
            bind=lambda loop: self._parts.bind(loop),
            signalled=self._signalled,
            drain=lambda seconds: self._parts.drain(seconds),
            finish=lambda seconds: self._parts.finish(seconds),
            release=lambda seconds: self._parts.telemetry.stop(seconds),
            timeout=settings.shutdown_timeout,
            service=self,
        )

    @property
    def _draining(self) -> bool:
        return self._worker.draining

    @property
    def _parts(self) -> ServiceParts:
        return self._assembled or self._assemble(None)

    def _assemble(self, app: "FastAPI | None") -> ServiceParts:
        """Make the parts once: for the application, or for a service that is used before or without one."""
        if self._assembled is None:
            opt_in_to_stable_conventions()
            self._assembled = ServiceParts(
                self.settings,
                self._db,
                app,
                checks=self.checks,
                worker=self._worker,
                alert_manager=lambda: self.alert_manager,
                service=self,
                in_flight=self._in_flight,
            )
        return self._assembled

    def _endpoints(self, app: "FastAPI") -> list[Endpoint]:
        # FastAPI caches endpoints for the life of the process; through the proxy they do not keep the service alive.
        this = weakref.proxy(self)
        doors = Doors(app, this, self.settings, self._admin)
        endpoints = [*create_routes(doors, this)]
        if self.settings.page:
            public, private = doors.public(PAGE_PATH), doors.private(PAGE_PATH)
            endpoints += page_routes(public, private, this, ask_for_token=doors.ask_for_token)
        return endpoints

    def _measure_requests(self, app: "FastAPI", parts: ServiceParts, own_routes: OwnRoutes) -> None:
        telemetry = parts.telemetry
        instrumentation = instrument_app(
            app,
            tracer_provider=telemetry.tracer_provider,
            meter_provider=telemetry.meter_provider,
            logger_provider=telemetry.logger_provider,
            options=self._request_options(parts, own_routes),
            durations=parts.request_durations,
        )
        telemetry.make_global()
        self._connections = instrumentation.connections

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
            slow=parts.slow_requests,
            on_error=self._on_error,
            on_first_request=self._on_first_request,
            service=self,
            database=parts.database_work,
        )

    # What happens in the life of the application

    @property
    def _open(self) -> list[Lifespan]:
        """The lifespans of the application that have not ended, the oldest first."""
        return [lifespan for lifespan in tuple(self._lifespans) if not lifespan.loop.is_closed()]

    @property
    def _goes_on(self) -> bool:
        """Whether one lifespan shuts down, and another one does not."""
        return {lifespan.ending for lifespan in self._open} == {False, True}

    async def _lifespan_begins(self, lifespan: Lifespan) -> None:
        with self._begin_or_end:
            lifespan.database = self._db
            self._lifespans[lifespan] = None
        await self._begin()

    def _lifespan_started(self, lifespan: Lifespan) -> None:
        lifespan.database = self._db
        self._started()

    def _lifespan_ends(self, lifespan: Lifespan) -> None:
        with self._begin_or_end:
            lifespan.ending = True
            self.drain()
            other = next((other for other in self._open if not other.ending), None)
            if other is not None and lifespan.database is self._db:
                self._worker.move(other.loop)
                if other.database is not self._db:
                    self._watch(other.database)

    async def _lifespan_ended(self, lifespan: Lifespan) -> None:
        if not lifespan.ending:  # its startup has failed
            lifespan.database = self._db
            self._lifespan_ends(lifespan)
        self._lifespans.pop(lifespan, None)
        if self._open:
            return
        # Streams that the server has just cancelled end their spans before the exporters stop.
        if self._connections is not None:
            await self._connections.all_ended(min(_LAST_CONNECTIONS_SECONDS, self.settings.shutdown_timeout / 4))
        if not self._open:
            await self.stop()
        for begun in self._open:  # when the work still ran
            with suppress(RuntimeError):  # its loop is closed
                begun.loop.call_soon_threadsafe(self._begin_again, begun)

    def _begin_again(self, lifespan: Lifespan) -> None:
        if lifespan in self._lifespans and not lifespan.ending:
            self._start_worker()
            self._started()

    async def _begin(self) -> None:
        offer_alert_manager(self.alert_manager)
        checked = self._parts.begin_asking()
        if self._start_worker():
            await asyncio.wait({asyncio.wrap_future(checked)}, timeout=_FIRST_CHECK_SECONDS)

    def _start_worker(self, *, implicit: bool = False) -> bool:
        """Start the worker. Where that fails the application starts all the same, and another attempt follows."""
        if self._tested_alert_manager is not None:
            return False
        loop = asyncio.get_running_loop()
        try:
            return self._worker.start(loop, implicit=implicit)
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001 - no thread, no descriptor, no memory
            fail_open.note("starting the monitoring", error)
            loop.call_later(_START_RETRY_SECONDS, self._start_again, implicit)
            return False

    def _start_again(self, implicit: bool) -> None:
        if self._ready and not self._worker.running and self._start_worker(implicit=implicit):
            self._started()

    def _started(self) -> None:
        if self._own_routes is not None:
            self._own_routes.place()  # before routes that the application has added meanwhile
        self._ready = True
        self._parts.keep_logging()
        with fail_open("saying what is on"):
            self._announce(self._own_routes.announce() if self._own_routes is not None else [])

    def _on_first_request(self) -> None:
        # Without a lifespan nobody calls start(). The start precedes the request, so that the request is counted.
        already_running = self._worker.running
        self._start_worker(implicit=True)
        if not already_running:
            self._started()

    def _on_error(self, error: RequestError) -> None:
        parts, failure = self._parts, (error.method, error.route, error.status, error.exception)
        if parts.performance.note_failure(*failure):
            parts.errors.note(*failure, parts.clock())

    def _signalled(self) -> None:
        self._drain()
        # A server that waits for open streams may be killed before it shuts down: export now.
        self._worker.submit(self._parts.send_early)

    def _announce(self, kept: list[str]) -> None:
        """Log once in each process what is monitored; `kept` are endpoints that the application keeps for itself."""
        if self._announced_in == os.getpid() or self._worker.failure is not None:
            return
        self._announced_in = os.getpid()
        parts, manager = self._parts, self.alert_manager
        line = announcement(
            self.settings,
            service=self._name(),
            kept=kept,
            guarded=self._admin is not None,
            database=parts.database.description,
            channels=[channel.name for channel in manager.channels],
            store=manager.store,
            exports=parts.telemetry.export_summary,
        )
        announce(printable(line))

    def _name(self) -> str:
        """`service.name`, or the application's title where nobody has set one."""
        name = str(self._parts.telemetry.resource.attributes.get("service.name", ""))
        is_set = name and not name.startswith("unknown_service")
        return name if is_set or self._app is None else self._app.title
