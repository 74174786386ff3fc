"""`ServiceParts`: everything a `MonitoringService` is made of, built once and connected.

What was measured flows from the instrumentation into `telemetry` (exported) and `aggregator` (answered and evaluated);
`answers` makes the JSON of the endpoints, `alerting` hands everything to the alert rules.
"""

import asyncio
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from otel_monitoring.alerts.evidence.sources import EvidenceSources
from otel_monitoring.alerts.manager import AlertManager
from otel_monitoring.alerts.notify.origin import Origin
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.alerts.store import MemoryStore
from otel_monitoring.config.settings import Settings
from otel_monitoring.endpoints.answers import HealthAnswers, Sources
from otel_monitoring.guard import fail_open, logger
from otel_monitoring.health.checks import Checks
from otel_monitoring.health.errors import ErrorRecorder
from otel_monitoring.health.instances import Instances
from otel_monitoring.health.performance_metrics import PerformanceMetrics
from otel_monitoring.health.query_plan import Explainer
from otel_monitoring.health.request_statistics import RequestStatistics
from otel_monitoring.instrumentation.database_work.metrics import WorkMetrics
from otel_monitoring.instrumentation.database_work.recorder import WorkRecorder
from otel_monitoring.instrumentation.http_server.current_request import current_request
from otel_monitoring.instrumentation.http_server.fastapi import providers_of
from otel_monitoring.instrumentation.http_server.recorder import request_in
from otel_monitoring.instrumentation.system.event_loop import LoopMonitor
from otel_monitoring.instrumentation.system.sampler import SystemSampler
from otel_monitoring.metrics.aggregator import Aggregator, BackgroundCollection
from otel_monitoring.metrics.database_work import DatabaseWork
from otel_monitoring.metrics.direct_histogram import DirectHistogram, RecordedHistogram
from otel_monitoring.metrics.service_history import SERVICE, Scope, ServiceHistory
from otel_monitoring.metrics.service_measurements import ServiceMeasurements
from otel_monitoring.metrics.slices.own_deltas import OwnDeltas
from otel_monitoring.metrics.slow_requests import SlowRequests
from otel_monitoring.metrics.stream import MeasurementStream
from otel_monitoring.metrics.window import Windows
from otel_monitoring.monitoring.alert_feed import AlertFeed
from otel_monitoring.monitoring.alerting_state import AlertingState
from otel_monitoring.monitoring.monitored_database import MonitoredDatabase, database_of
from otel_monitoring.monitoring.objectives import Objectives
from otel_monitoring.monitoring.service_exchange import ServiceExchange
from otel_monitoring.monitoring.slice_writer import SliceWriter
from otel_monitoring.runtime.threads import in_thread
from otel_monitoring.runtime.worker import Worker
from otel_monitoring.semconv import REQUEST_DURATIONS, SCHEMA_URL, SCOPE, WRONG_TOKENS
from otel_monitoring.status_page.routes import page_url_of
from otel_monitoring.telemetry.meter_providers import other_readers
from otel_monitoring.telemetry.providers import Telemetry
from otel_monitoring.tracing.destination import Destination, use

if TYPE_CHECKING:
    from fastapi import FastAPI

    from otel_monitoring.config.otlp import Signal
    from otel_monitoring.endpoints.past_answers import PastAnswers
    from otel_monitoring.monitoring.service import MonitoringService
    from otel_monitoring.prometheus.engine import PrometheusEngine
    from otel_monitoring.status_page.endpoints_past import EndpointsPast
    from otel_monitoring.status_page.updates import Updates

_AN_HOUR_OF_SAMPLES = 360


class ServiceParts:
    """The connected parts of one service.

    Args:
        settings: The service's settings.
        db: The database handle. None: the database of `settings.database_uri`, or no database.
        app: The application, whose title and version name the telemetry where nothing else does. None: none yet.
        checks: The application's health checks.
        worker: Runs the parts in the background.
        alert_manager: Returns the service's alert manager, which may change.
        service: The service.
        in_flight: Returns the number of requests that the application is handling.

    Attributes:
        telemetry: Providers and exporters.
        aggregator: Collects what was measured and keeps its history.
        collecting: Runs the aggregator's collections off the event loops.
        request_durations: The aggregator's histogram of request durations.
        performance: Request counts, times and errors.
        system: CPU and memory.
        wrong_tokens: Counts requests with a wrong admin token.
        database: The state of the database.
        alerting: Hands samples and evidence to the alert rules.
        alerting_state: Reads what the diagnostics say about alerts.
        service_history: What all processes of the service measured.
        engine: The Prometheus that answers in its place; None: none is set.
        slices: Writes the slices of the past.
        objectives: Keeps the sums by which objectives are judged.
        errors: Groups the failed requests of this process.
        slow_requests: Remembers the slowest traced requests of this process.
        database_work: Adds up what requests and operations of this process do with the database.
        exchange: Exchanges measurements and states with the other processes.
        answers: Makes the JSON of the health endpoints.
    """

    def __init__(
        self,
        settings: Settings,
        db: Any,
        app: "FastAPI | None",
        *,
        checks: Checks,
        worker: Worker,
        alert_manager: Callable[[], AlertManager],
        service: "MonitoringService",
        in_flight: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._service = service
        self._worker = worker
        self._checks = checks
        self._alert_manager = alert_manager
        self._in_flight = in_flight
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_monitor: LoopMonitor | None = None
        self._not_yet_asked: set[str] = set()
        self._publish_at = 0.0
        self._known_origin: tuple[object, Origin] | None = None
        self._checked: Future[None] = Future()
        self.telemetry = Telemetry(
            settings,
            service_name=getattr(app, "title", None),
            service_version=getattr(app, "version", None),
            providers=cast("dict[Signal, object]", providers_of(app)),
            service=service,
        )
        self._meter = self.telemetry.meter_provider.get_meter(SCOPE, schema_url=SCHEMA_URL)
        self._statistics = RequestStatistics(settings.error_statuses)
        self._make_measurements()
        self._make_recorders()
        self._make_past()
        self._monitored = MonitoredDatabase(settings, self.telemetry, self._direct, self._look_into_database)
        self.database = self._monitored.checker
        self.database.observe_with(self._meter)
        checks.observe_with(self._meter)
        self.alerting = self._make_alert_feed()
        self._monitored.use(db if db is not None else database_of(settings))
        self.alerting_state = AlertingState(lambda: self._alert_manager(), worker, self.alerting.late)
        self.answers = self._make_answers()

    # What only readers of the past and of the page need is loaded with the first of them.

    @cached_property
    def past(self) -> "PastAnswers":
        """Makes the JSON about the past."""
        from otel_monitoring.endpoints.past_answers import PastAnswers

        settings = self._settings
        # Prometheus has one value for each export.
        exports = settings.metric_export_interval / 1000 if self.engine is not None else 0.0
        return PastAnswers(
            self._alert_manager,
            lambda: self.answers.known(),
            max(settings.sample_interval, exports),
            self.engine.past if self.engine is not None else None,
        )

    @cached_property
    def updates(self) -> "Updates":
        """What changes on the status page."""
        from otel_monitoring.status_page.figures import PageFigures
        from otel_monitoring.status_page.updates import Updates

        thresholds = self._settings.thresholds
        figures = PageFigures(
            self.answers, self.performance, self._statistics, thresholds, lambda: self._alert_manager()
        )
        return Updates(figures.content)

    @cached_property
    def endpoints_past(self) -> "EndpointsPast":
        """The endpoints over a range of the past, for the status page."""
        from otel_monitoring.status_page.endpoints_past import EndpointsPast

        return EndpointsPast(lambda: self._alert_manager())

    def _make_measurements(self) -> None:
        """What this process measured, and what all processes of the service did."""
        settings = self._settings
        self.aggregator = Aggregator(
            clock=time.monotonic,
            span=settings.window,
            resolution=settings.sample_interval,
            cost_clock=time.thread_time,
        )
        self.collecting = BackgroundCollection(self.aggregator, self._worker)
        self.service_history = ServiceHistory(
            self.aggregator.history,
            clock=time.monotonic,
            wall_clock=self.clock,
            span=settings.window,
            resolution=settings.sample_interval,
        )
        self.service_history.own_metrics = lambda: self.aggregator.reader.application
        self.aggregator.listeners.append(self.service_history.note)
        self._instances = Instances(settings.sample_interval)
        self._own_deltas = OwnDeltas(lambda: self.aggregator.reader.application)
        self.exchange = ServiceExchange(
            self.service_history,
            self._instances,
            collecting=self.collecting,
            worker=self._worker,
            stream=self._stream,
            states=lambda: self.alerting.others() if self.engine is None else ({}, None),
            leads=lambda: self.alerting.leads,
            last_error=lambda: self.performance.error_seen(),
            keep=self._own_deltas.note,
            close=lambda: self._alert_manager().store.close(),
            pause=settings.sample_interval / 2,
        )
        self.engine = self._make_engine() if settings.prometheus_url is not None else None

    def _make_recorders(self) -> None:
        """What records requests, their errors and their commands, and samples the system."""
        settings = self._settings
        self.errors = ErrorRecorder()
        self.slow_requests = SlowRequests(settings.window)
        self.service_history.take_errors = lambda: self.errors.take(self._origin().version)
        # With OTEL_SDK_DISABLED nothing is measured: nobody reads the histograms.
        self._direct = DirectHistogram if settings.sdk_disabled else self.aggregator.reader.direct
        self.database_work = WorkRecorder(
            WorkMetrics(self.telemetry.meter_provider, self._direct),
            settings.slow_command_ms,
            explain=settings.explain,
            clock=self.clock,
        )
        self._explainer = Explainer(self.database_work)
        self.service_history.take_work = self.database_work.take
        self.request_durations = self._direct(REQUEST_DURATIONS.name)
        readers = other_readers(self.telemetry.meter_provider)
        self.performance = PerformanceMetrics(
            RecordedHistogram(self.request_durations, REQUEST_DURATIONS.create(self._meter), readers),
            self.aggregator,
            self._statistics,
            refresh=self.refresh,
            is_measured=_is_current_request,
            max_endpoints=settings.max_endpoints,
            service=self._service_measurements,
            clock=self.clock,
        )
        self.system = SystemSampler(self._meter)
        self.wrong_tokens = self._meter.create_counter(
            WRONG_TOKENS, "{request}", "Requests to the private endpoints with a wrong admin token."
        )

    def _make_past(self) -> None:
        """What keeps the past, and the objectives that are judged by it."""
        self.slices = SliceWriter(
            self._statistics,
            table=lambda: self._alert_manager().store.slices,
            deltas=lambda: self._stream() or self._own_deltas,
            readings=lambda: self.answers.readings(),
            leads=lambda: self.alerting.leads,
            clock=self.clock,
        )
        self.service_history.before_base = self.slices.write
        self.objectives = Objectives(self._alert_manager, lambda: self.alerting.leads, self.clock)

    def _make_alert_feed(self) -> AlertFeed:
        # The process's first alert manager outlives its service, and must not keep it.
        monitored = weakref.ref(self._monitored)
        return AlertFeed(
            self._settings,
            telemetry=self.telemetry,
            aggregator=self.aggregator,
            database=self.database,
            checks=self._checks,
            system=self.system,
            performance=self.performance,
            loop_monitor=lambda: self._loop_monitor,
            measure=self._measure,
            exchange=self.exchange.exchange,
            submit=self._worker.submit,
            state=lambda: self.answers.own_state(),
            draining=lambda: self._worker.draining,
            store_database=lambda: None if (alive := monitored()) is None else alive.application_database,
            event_sums=self.objectives.event_sums,
            figures=self._own_figures,
            evidence=EvidenceSources(
                history=lambda: self.performance.history(SERVICE),
                errors=lambda: self._service_measurements.errors,
                table=lambda: self._alert_manager().store.slices,
                classify=self._statistics,
                window=self._settings.window,
                trace_url=self._settings.trace_url or "",
                page_url=page_url_of(self._settings),
            ),
            engine=self.engine,
        )

    def _own_figures(self) -> dict[str, Any]:
        """What this process says about its own work, for the evidence of alerts."""
        from otel_monitoring.alerts.evidence.own_figures import own_figures  # one process alone needs none

        samples = self.system.recent(_AN_HOUR_OF_SAMPLES)
        return own_figures(
            self.aggregator.history.recent,
            self._statistics,
            gauges={
                "cpu": [sample.cpu.process_percent for sample in samples],
                "memory": [sample.memory_mb for sample in samples],
                "lag": [sample.event_loop_lag for sample in samples],
            },
            slow=self.slow_requests.recent(time.monotonic()),
            peers=dict(self.errors.peers),
        )

    def _make_engine(self) -> "PrometheusEngine":
        # Imported here: a service without one needs no HTTP client.
        from otel_monitoring.prometheus.engine import PrometheusEngine

        return PrometheusEngine(
            self._settings,
            worker=self._worker,
            resource=lambda: self.telemetry.resource.attributes,
            origin=self._origin,
            store=lambda: self._alert_manager().store,
            rules=lambda: {rule.name: rule for rule in self._alert_manager().rules},
            own=lambda: self.aggregator.history,
            units=lambda: self.aggregator.reader.application,
            errors=lambda: self.service_history.errors,
            last_error=lambda: self.performance.error_seen(),
            leader=lambda: self.telemetry.instance_id if self.alerting.leads else None,
            classify=self._statistics,
            wall_clock=lambda: self._alert_manager().clock(),
        )

    @property
    def _service_measurements(self) -> ServiceMeasurements:
        return self.engine or self.service_history

    def _make_answers(self) -> HealthAnswers:
        return HealthAnswers(
            Sources(
                thresholds=self._settings.thresholds,
                sample_interval=self._settings.sample_interval,
                statistics=self._statistics,
                aggregator=self.aggregator,
                service=self._service_measurements,
                instances=self.engine.instances if self.engine is not None else self._instances,
                performance=self.performance,
                system=self.system,
                database=self.database,
                checks=self._checks,
                telemetry=self.telemetry,
                event_loop=self._loop_state,
                alert_manager=self._alert_manager,
                started_at=lambda: self._worker.started_at,
                troubles=self._troubles,
                in_flight=self._in_flight,
                origin=self._origin,
                objectives=self.objectives.answer,
                blind=self.objectives.blind,
                routes=self._routes,
                work=lambda: self._work(SERVICE),
            )
        )

    def _routes(self, scope: Scope) -> dict[str, Any]:
        from otel_monitoring.health.database_routes import routes_as_json

        return routes_as_json(*self._work(scope))

    def _work(self, scope: Scope) -> tuple[DatabaseWork, Windows]:
        """What routes do with the database. Prometheus has the figures of all processes, and the work of none."""
        whole, own = self.service_history, self.aggregator.history
        if scope != SERVICE or not self._service_measurements.joined:
            return whole.own_work, own
        return whole.own_work if self.engine is not None else whole.work, self._service_measurements.history

    def clock(self) -> float:
        """Unix seconds, as all processes of the service have them."""
        return self._alert_manager().clock()

    # Start and stop in one process

    def begin_asking(self) -> "Future[None]":
        """Ask the database and the checks from now on; the result is done when each was asked for the first time."""
        self._resume()
        self._not_yet_asked = {"database", "checks"}
        self._checked = Future()
        return self._checked

    def acquire(self, stack: ExitStack) -> None:
        """Begin to work in this process; `stack` undoes everything in reverse order."""
        self.collecting.reset_after_fork()
        self.exchange.reset_after_fork()
        self.alerting_state.reset_after_fork()
        self.service_history.begin_after_fork()
        if self.engine is not None:
            self.engine.begin()
        for rule in self._alert_manager().rules:
            self.want_metrics_of(rule)
        self.telemetry.start(self.aggregator.reader)
        self._resume()
        self.system.start()
        stack.callback(self.system.stop)
        stack.callback(self._monitored.detach)
        self._begin_alerting(stack)
        self._monitored.attach()
        self._trace(stack)

    def want_metrics_of(self, rule: Rule) -> None:
        """Have the metrics of `rule` measured here: few up-down counters are, unless a rule asks for them."""
        late = self.aggregator.reader.want(rule.expression.metrics) & rule.expression.metrics
        if late:
            names = ", ".join(sorted(late))
            logger.warning("rule %s: add it before the service starts; until a restart it has no %s", rule.name, names)

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Work for the application's `loop`: async checks and database handles run there, and its lag is measured."""
        self._loop = loop
        self.database.bind_loop(loop)
        self._loop_monitor = LoopMonitor(loop, request_in=request_in)
        self.system.start(self._loop_monitor)

    def freeze(self) -> None:
        """Keep the results of the database and the checks as they are, also against checks under way."""
        self.database.freeze()
        self._checks.freeze()

    async def drain(self, seconds: float) -> None:
        """Begin the stop: deliver the alerts that can be delivered within `seconds`."""
        self.freeze()
        await self.alerting.stop(seconds)

    def finish(self, seconds: float) -> None:
        """Collect and publish what was measured last, within about `seconds`, while everything still measures."""
        until = time.monotonic() + seconds
        self.collecting.finish(seconds / 2)
        self.exchange.finish(max(0.0, until - time.monotonic()))

    def keep_logging(self) -> None:
        """Restore the export of log records, which the application undoes when it configures `logging` anew."""
        with fail_open("keeping the way of log records"):
            self.telemetry.keep_logging()

    # Another database, a further client

    def watch_database(self, db: Any) -> None:
        """Check and measure `db`, and no other database, from now on. None: no database."""
        self._monitored.use(db)
        self._worker.submit(self.database.check_health)

    def measure_client(self, client: object) -> None:
        """Measure the commands and pools of a client that was made before the database was instrumented."""
        self._monitored.measure_client(client)

    async def refresh(self, scope: Scope = SERVICE) -> None:
        """Bring the measurements up to date for an answer; callable on any loop, never raises."""
        if scope != SERVICE:
            await self.collecting.refresh()
            return
        own = self.exchange.refresh()
        await (own if self.engine is None else asyncio.gather(own, self.engine.refresh()))

    # The jobs of the background thread

    async def ask_engine(self) -> None:
        """Ask Prometheus what fires, and for the next answer."""
        if self.engine is not None and not self._worker.draining:
            await self.engine.ask()

    async def sample(self) -> None:
        """Measure; the exchange and the evaluation of the alert rules follow, and delay no sample."""
        if not self._worker.draining:
            self.keep_logging()
            await self._measure()
            self.alerting.evaluate_soon()

    @property
    def may_publish(self) -> bool:
        """Whether there are requests to publish, and it is time: `publish` costs at most a hundredth of a core."""
        waits = self._worker.draining or time.monotonic() < self._publish_at
        return not waits and self.aggregator.reader.has_values

    async def publish(self) -> None:
        """Publish requests before the next sample: what was not published is lost if the process is killed.

        An exchange costs at most a thousandth of a core, and a collection a hundredth.
        """
        now = time.monotonic()
        await self.collecting.collect()
        await self.exchange.publish()
        self._publish_at = now + max(1000 * self.exchange.cost, 100 * self.aggregator.cost)

    async def check_database(self) -> None:
        """Ping the database, and read its collections if they are due; evaluate the rules where its status changed."""
        if self._worker.draining:
            return
        before = self.database.status
        await self._monitored.make_pending()
        await self.database.ping()
        self._asked("database")
        if self.database.status != before:
            await self.alerting.evaluate_now()
        if self.database.collections_due and not self._worker.draining:
            await self.database.refresh_collections()

    async def explain(self) -> None:
        """Ask the database for the plans of some shapes."""
        if not self._worker.draining:
            await self._explainer.explain(self.database.target, time.monotonic())

    async def run_checks(self) -> None:
        """Run every check; evaluate the rules at once where others fail than before."""
        if self._worker.draining:
            return
        before = self._checks.failing()
        await self._checks.run(self._loop)
        self._asked("checks")
        if self._checks.failing() != before:
            await self.alerting.evaluate_now()

    async def probe_loop(self) -> None:
        """Measure the lag of the application's loop, and evaluate the rules at once where it is blocked."""
        if self._loop_monitor is not None and not self._worker.draining:
            self._loop_monitor.probe(time.monotonic())
            await self.alerting.look_into_loop()

    async def send_early(self) -> None:
        """Export the queued telemetry while the application shuts down: the process may be killed before the stop."""
        await asyncio.gather(*map(_flushed, self.telemetry.flushes()))

    @property
    def slices_due(self) -> bool:
        """Whether a slot of time has begun, or another process leads than before."""
        return not self._worker.draining and (self.slices.due or self.objectives.due)

    async def write_slices(self) -> None:
        """As the leader, write the slice of the past of every slot of time, and bring the objectives up to date."""
        await self.slices.tick()
        # Not waited for: a process that begins to lead reads 30 days, for half a minute on some servers.
        self._worker.submit(self.objectives.tick)

    # Inside

    def _resume(self) -> None:
        self.database.begin()
        self._checks.begin()

    def _asked(self, what: str) -> None:
        self._not_yet_asked.discard(what)
        if not self._not_yet_asked and not self._checked.done():
            self._checked.set_result(None)

    async def _measure(self) -> None:
        """Sample CPU, memory and the event loop, and collect everything that was measured.

        What fails or hangs, as a callback of the application may, keeps neither checks nor rules from going on.
        """
        with fail_open("measuring"):
            self.system.sample(time.monotonic())
            await self.collecting.collect()

    def _look_into_database(self) -> None:
        """The driver noticed a failure: ping now instead of waiting for the next check."""
        self._worker.submit(self.alerting.look_into_database)

    def _begin_alerting(self, stack: ExitStack) -> None:
        manager = self._alert_manager()
        self.alerting.begin(manager)
        manager.hand_over = self._worker.wake
        stack.callback(setattr, manager, "hand_over", lambda: False)
        manager.engine = self.engine
        stack.callback(setattr, manager, "engine", None)

    def _trace(self, stack: ExitStack) -> None:
        """Connect traced operations and the application's HTTP clients to this service's providers."""
        telemetry, settings = self.telemetry, self._settings
        tracers, meters = telemetry.tracer_provider, telemetry.meter_provider
        loggers = telemetry.logger_provider if telemetry.logging else None
        destination = Destination(
            tracers,
            meters,
            telemetry.baggage,
            self._worker.submit,
            self._direct,
            logger_provider=loggers,
            work=self.database_work,
        )
        stack.callback(use(destination, self._service))
        if telemetry.tracing or telemetry.exports_metrics:
            from otel_monitoring.instrumentation.http_client import instrument_clients

            hosts, capture_query = settings.baggage_hosts, settings.capture_query
            stack.callback(
                instrument_clients(
                    tracers, meters, baggage_hosts=hosts, capture_query=capture_query, service=self._service
                )
            )

    def _stream(self) -> MeasurementStream | None:
        """The measurements that the processes of the service share.

        A store in memory is shared with nobody; where Prometheus answers for all of them, nothing is published.
        """
        store = self._alert_manager().store
        return None if isinstance(store, MemoryStore) or self.engine is not None else store.measurements

    def _origin(self) -> Origin:
        """The service's name, version, environment and host; kept until the resource is another, as after a fork."""
        resource = self.telemetry.resource
        if self._known_origin is None or self._known_origin[0] is not resource:
            self._known_origin = resource, Origin.here(self._settings, resource.attributes)
        return self._known_origin[1]

    def _troubles(self, now: float) -> list[str]:
        """Why the results may be out of date; `now` in seconds of the monotonic clock."""
        if self._worker.draining:
            return []
        if not self._worker.running:
            return self._worker.troubles(now)
        stale = (self.collecting.stale(now), self.database.stale(now), self.alerting.stuck(now))
        return [*self._worker.troubles(now), *(text for text in stale if text is not None)]

    def _loop_state(self) -> dict[str, Any]:
        return self._loop_monitor.as_json(time.monotonic()) if self._loop_monitor is not None else {}


async def _flushed(flush: Callable[[], None]) -> None:
    with fail_open("telemetry flush"):
        await in_thread(flush, name="otel-monitoring-flush")


def _is_current_request(endpoint: str) -> bool:
    """Whether `endpoint` is the request being handled, which the instrumentation measures already."""
    request = current_request()
    return request is not None and request.is_called(endpoint)
