"""`ServiceParts`: everything a service is made of, built once and connected."""

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import NoOpMeterProvider

from otel_monitoring.alerts.manager import AlertManager
from otel_monitoring.config.otlp import Signal
from otel_monitoring.config.settings import Settings
from otel_monitoring.endpoints.answers import Reporter
from otel_monitoring.guard import fail_open
from otel_monitoring.health.checks import Checks
from otel_monitoring.health.requests import PerformanceMetrics, RequestStatistics
from otel_monitoring.instrumentation.http_client import instrument_clients
from otel_monitoring.instrumentation.http_server.request import current_request
from otel_monitoring.instrumentation.system.event_loop import LoopMonitor
from otel_monitoring.instrumentation.system.sampler import SystemSampler
from otel_monitoring.metrics.aggregator import Aggregator, BackgroundCollection
from otel_monitoring.monitoring.alert_feed import AlertFeed
from otel_monitoring.monitoring.database import WatchedDatabase, database_of
from otel_monitoring.runtime.threads import in_thread
from otel_monitoring.runtime.worker import Worker
from otel_monitoring.semconv import SCHEMA_URL, SCOPE, WRONG_TOKENS
from otel_monitoring.telemetry.providers import Telemetry
from otel_monitoring.tracing.destination import Destination, use

if TYPE_CHECKING:
    from otel_monitoring.monitoring.service import MonitoringService


class ServiceParts:
    """The connected parts of one service.

    Args:
        settings: How they are made.
        db: The database handle, or None: then the one at `settings.database_uri`, or none.
        service_name: Name of the service where nothing else says it.
        service_version: Its version, likewise.
        providers: OpenTelemetry providers that the application chose for itself, by signal.
        checks: The application's own checks.
        worker: What runs them.
        alert_manager: Answers the service's alert manager.
        service: The service.

    Attributes:
        checked: Done when the database and the checks have been asked for the first time.
    """

    def __init__(
        self,
        settings: Settings,
        db: Any,
        *,
        service_name: str | None,
        service_version: str | None,
        providers: Mapping[Signal, object],
        checks: Checks,
        worker: Worker,
        alert_manager: Callable[[], AlertManager],
        service: "MonitoringService",
    ) -> None:
        self._settings = settings
        self._service = service
        self._worker = worker
        self._checks = checks
        self._unasked: set[str] = set()
        self.checked: Future[None] = Future()
        self.loop: asyncio.AbstractEventLoop | None = None
        self._loop_monitor: LoopMonitor | None = None
        self.telemetry = Telemetry(
            settings, service_name=service_name, service_version=service_version, providers=providers, service=service
        )
        meter = self.telemetry.meter_provider.get_meter(SCOPE, schema_url=SCHEMA_URL)
        self.aggregator = Aggregator(
            clock=time.monotonic,
            span=settings.window,
            resolution=settings.sample_interval,
            cost_clock=time.thread_time,
        )
        self.collecting = BackgroundCollection(self.aggregator, worker)
        classifier = RequestStatistics(settings.error_statuses)
        self.performance = PerformanceMetrics(
            meter,
            self.aggregator,
            classifier,
            refresh=self.collecting.refresh,
            is_measured=_is_measured,
            max_endpoints=settings.max_endpoints,
        )
        self.system = SystemSampler(meter)
        self.wrong_tokens = meter.create_counter(
            WRONG_TOKENS, "{request}", "Requests to the private endpoints with a wrong admin token."
        )
        # What the driver notices is looked into at once: a ping out of turn.
        self._watched = WatchedDatabase(settings, self.telemetry, lambda: worker.poke(self.alerting.look_into_database))
        self.database = self._watched.checker
        self.database.observe_with(meter)
        checks.observe_with(meter)
        self._alert_manager = alert_manager
        self.alerting = AlertFeed(
            settings,
            telemetry=self.telemetry,
            aggregator=self.aggregator,
            database=self.database,
            checks=checks,
            system=self.system,
            performance=self.performance,
            loop_monitor=lambda: self._loop_monitor,
            measure=self.measure,
            draining=lambda: worker.draining,
        )
        self._watched.use(db if db is not None else database_of(settings))
        self.report = self._reporter(classifier)

    def acquire(self, stack: ExitStack) -> None:
        """Begin to work in this process; `stack` gives everything back in reverse."""
        self.collecting.reset_after_fork()
        self.telemetry.start(self.aggregator.reader)
        self.resume()
        self.system.start()
        stack.callback(self.system.stop)
        stack.callback(self._watched.detach)
        self._begin_alerting(stack)
        self._watched.attach()
        self._trace(stack)
        # The reader leaves its provider at the stop: what was recorded up to then stays in the answers.
        stack.callback(self.collecting.finish)

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Work for the application's `loop`: async checks and database handles run there, and its lag is measured."""
        self.loop = loop
        self.database.bind_loop(loop)
        self._loop_monitor = LoopMonitor(loop)
        self.system.start(self._loop_monitor)

    def watch_database(self, db: Any) -> None:
        """Check and measure `db`, and no other database, from now on; None: none."""
        self._watched.use(db)
        self._worker.poke(self.database.check_health)

    def measure_client(self, client: object) -> None:
        """Measure the commands and pools of a client that was made before the database was watched."""
        self._watched.measure_client(client)

    def keep_logging(self) -> None:
        """After the application's start-up, and from time to time: it may have configured `logging` anew."""
        with fail_open("keeping the way of log records"):
            self.telemetry.keep_logging()

    # The work of the watch thread

    async def sample(self) -> None:
        """Measure, and let the rules see it."""
        if not self._worker.draining:
            self.keep_logging()
            with fail_open("measuring"):
                await self.measure()
            self.alerting.tick()

    async def check_database(self) -> None:
        """Ping the database, and read its collections; what changed about it is evaluated at once."""
        if self._worker.draining:
            return
        before = self.database.status
        await self._watched.look_for_it()
        await self.database.ping()
        self._asked("database")
        if self.database.status != before:
            await self.alerting.evaluate_now()
        if not self._worker.draining:
            await self.database.refresh_collections()

    async def run_checks(self) -> None:
        """Run every check; what changed about them is evaluated at once."""
        if self._worker.draining:
            return
        before = self._checks.failing()
        await self._checks.run(self.loop)
        self._asked("checks")
        if self._checks.failing() != before:
            await self.alerting.evaluate_now()

    def freeze(self) -> None:
        """What is known of the database and the checks stays as it is, whatever is under way."""
        self.database.freeze()
        self._checks.freeze()

    def resume(self) -> None:
        """The database and the checks are asked again."""
        self.database.begin()
        self._checks.begin()

    async def drain(self, seconds: float) -> None:
        """The beginning of the stop: deliver what can be delivered within `seconds`."""
        self.freeze()
        await self.alerting.stop(seconds)

    def begin_asking(self) -> Future[None]:
        """A new `checked`, before a start."""
        self.resume()
        self._unasked = {"database", "checks"}
        self.checked = Future()
        return self.checked

    def _asked(self, what: str) -> None:
        self._unasked.discard(what)
        if not self._unasked and not self.checked.done():
            self.checked.set_result(None)

    async def probe_loop(self) -> None:
        """Ask the application's loop for a sign of life."""
        if self._loop_monitor is not None and not self._worker.draining:
            self._loop_monitor.probe(time.monotonic())
            await self.alerting.look_into_loop()

    async def send_early(self) -> None:
        """While the application shuts down, send what waits: nobody knows whether it is killed before it is done."""
        if self._worker.draining:
            await asyncio.gather(*map(_flushed, self.telemetry.flushes()))

    async def beat(self) -> None:
        """Lead if nobody does, and deliver."""
        self.alerting.beat()

    async def deliver(self) -> None:
        """Deliver what the application raised."""
        self.alerting.deliver()

    async def measure(self) -> None:
        """Take a sample of CPU, memory and the event loop, and collect all that was measured."""
        self.system.sample(time.monotonic())
        await self.collecting.collect()

    def _begin_alerting(self, stack: ExitStack) -> None:
        manager = self._alert_manager()
        self.alerting.begin(manager)
        manager.hand_over = lambda: self._worker.poke(self.deliver)
        stack.callback(setattr, manager, "hand_over", lambda: False)

    def _trace(self, stack: ExitStack) -> None:
        """Let traced operations and the application's HTTP clients report here."""
        telemetry, settings = self.telemetry, self._settings
        tracers, meters = telemetry.tracer_provider, telemetry.meter_provider
        # Without metric export nobody reads how long operations and requests took: no endpoint answers it.
        durations = meters if telemetry.exports_metrics else NoOpMeterProvider()
        stack.callback(use(Destination(tracers, durations, telemetry.baggage, self._worker.poke), self._service))
        if telemetry.tracing or telemetry.exports_metrics:
            hosts, capture_query = settings.baggage_hosts, settings.capture_query
            stack.callback(
                instrument_clients(
                    tracers, durations, baggage_hosts=hosts, capture_query=capture_query, service=self._service
                )
            )

    def _reporter(self, classifier: RequestStatistics) -> Reporter:
        return Reporter(
            thresholds=self._settings.thresholds,
            classifier=classifier,
            aggregator=self.aggregator,
            performance=self.performance,
            system=self.system,
            database=self.database,
            checks=self._checks,
            telemetry=self.telemetry,
            event_loop=self._loop_state,
            alert_manager=self._alert_manager,
            started_at=lambda: self._worker.started_at,
            troubles=self._troubles,
        )

    def _troubles(self, now: float) -> list[str]:
        """Why what is known here may be out of date, at a moment of the monotonic clock."""
        if self._worker.draining:
            return []
        if not self._worker.running:
            return self._worker.troubles(now)
        stale = self.database.stale(now)
        return [*self._worker.troubles(now), *([stale] if stale is not None else [])]

    def _loop_state(self) -> dict[str, Any]:
        return self._loop_monitor.as_json(time.monotonic()) if self._loop_monitor is not None else {}


async def _flushed(flush: Callable[[], None]) -> None:
    with fail_open("telemetry flush"):
        await in_thread(flush, name="otel-monitoring-flush")


def _is_measured(endpoint: str) -> bool:
    request = current_request()
    return request is not None and request.is_called(endpoint)
