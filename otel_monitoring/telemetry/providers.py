"""`Telemetry`: the resource, the providers, and what leaves the process; started in each worker, stopped by a deadline.

Construction makes providers or joins those the application has; no thread and no connection exists before `start`.
"""

import inspect
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider

from otel_monitoring import seams
from otel_monitoring.baggage import BaggageKeys
from otel_monitoring.config.otlp import SIGNALS, Signal
from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.forks import renewed
from otel_monitoring.guard import logger
from otel_monitoring.redact import redact
from otel_monitoring.telemetry import logs_api, logs_sdk
from otel_monitoring.telemetry.baggage_processors import BaggageLogProcessor, BaggageSpanProcessor
from otel_monitoring.telemetry.export_state import ExportState, announcement
from otel_monitoring.telemetry.log_filter import QuietExports
from otel_monitoring.telemetry.logs_sdk import LoggerProvider
from otel_monitoring.telemetry.meter_providers import GuardedMeterProvider, RequestMeterProvider
from otel_monitoring.telemetry.pipelines import (
    LogPipeline,
    LogSwitch,
    MetricPipeline,
    Pipeline,
    SpanSwitch,
    log_pipeline,
    span_pipeline,
)
from otel_monitoring.telemetry.shutdown import JoinedPipeline, ReaderPipeline, close_all

_OWN_LOGGERS = ("otel_monitoring", "otel_monitoring.alerts")

P = TypeVar("P", MeterProvider, TracerProvider, LoggerProvider)

# Providers that a Telemetry of this process made: another service's are not the application's own, so never joined.
_made: "weakref.WeakSet[MeterProvider | TracerProvider | LoggerProvider]" = weakref.WeakSet()


class Telemetry:
    """One service's providers and their exporters. Lives as long as the service; `start` and `stop` may alternate.

    A provider of the SDK that is already global, set by the application or by `opentelemetry-instrument`, is joined:
    the aggregator's reader and listed baggage are added to it and nothing else, because whoever set
    it decided what it exports, and a second exporter would send everything twice. `stop` flushes it and never shuts it
    down. A signal without such a provider gets one of ours, which `make_global` makes the global one if there is none.
    Spans and log records that would go nowhere are not made: their providers are then no-ops, and the global ones are
    left alone.

    With `OTEL_SDK_DISABLED=true` every provider is a no-op: nothing is measured or exported, and the health endpoints
    answer from their checks.

    Args:
        settings: What is exported where.
        service_name: `service.name` where neither `OTEL_SERVICE_NAME` nor `OTEL_RESOURCE_ATTRIBUTES` has it.
        service_version: `service.version` where neither the settings nor `OTEL_RESOURCE_ATTRIBUTES` have it.
        providers: The providers the application chose for itself, by signal; they come before the global ones.
        service: Whose it is: see `PerService`.

    Attributes:
        meter_provider: Where instruments are made.
        request_meters: The same for the requests of the service's own application.
        tracer_provider: Where tracers are made.
        logger_provider: Where OpenTelemetry log records are emitted.
        baggage: Which baggage becomes attributes of spans and log records.
        tracing: Whether spans are worth recording: they are exported, or the application's own provider is joined.
        logging: The same for log records.
        exports_metrics: Whether metrics leave the process; else the aggregator's reader is the only one.
        resource: What the telemetry is about. In each worker process `service.instance.id` is another: a random UUID,
            or, where one is set in `OTEL_RESOURCE_ATTRIBUTES`, that with `:<process id>` added.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        service_name: str | None,
        service_version: str | None,
        providers: Mapping[Signal, object] | None = None,
        service: object = None,
    ) -> None:
        self._settings = settings
        self._service = service
        self._names = service_name, service_version
        self._given = providers or {}
        self._lock = renewed(self, "_lock", threading.Lock)
        self._pid = os.getpid()
        self._pipelines: list[tuple[Signal, Pipeline]] = []
        self._reader: MetricReader | None = None
        self.baggage = BaggageKeys(settings.baggage_keys)
        listed = bool(settings.baggage_keys)
        self._spans = SpanSwitch([BaggageSpanProcessor(self.baggage)] if listed else ())
        self._logs = LogSwitch([BaggageLogProcessor(self.baggage)] if listed else ())
        self._joined: set[Signal] = set()
        self.resource = self._make_resource()
        self._make_providers(join=not settings.sdk_disabled)
        self._states = self._make_states()

    def _make_resource(self) -> Resource:
        """The resource of this process. Order of precedence: settings, `OTEL_RESOURCE_ATTRIBUTES`, the application."""
        given = OTELResourceDetector().detect().attributes
        name, version = self._names
        instance = given.get("service.instance.id")
        attributes = {
            "service.name": self._settings.service_name or given.get("service.name") or name or "unknown_service",
            "service.version": self._settings.service_version or given.get("service.version") or version,
            "deployment.environment.name": self._settings.environment or given.get("deployment.environment.name"),
            "service.instance.id": f"{instance}:{os.getpid()}" if instance else None,
        }
        return Resource.create({key: value for key, value in attributes.items() if value})

    def _make_providers(self, *, join: bool) -> None:
        sent = {signal for signal in SIGNALS if self._settings.exports(signal) and _possible(signal)}
        given = self._given
        tracers = self._theirs("traces", given.get("traces") or trace.get_tracer_provider(), TracerProvider, join)
        meters = self._theirs("metrics", given.get("metrics") or metrics.get_meter_provider(), MeterProvider, join)
        loggers = self._theirs("logs", given.get("logs") or logs_api.get_logger_provider(), LoggerProvider, join)
        for joined in (loggers, tracers):
            if joined is not None:  # one process, one resource: the application's wins
                self.resource = self.resource.merge(joined.resource)

        self.exports_metrics = True
        self.tracing = tracers is not None or "traces" in sent
        if tracers is None and self.tracing:
            tracers = _make(lambda: TracerProvider(resource=self.resource, shutdown_on_exit=False))
        if tracers is not None:
            tracers.add_span_processor(self._spans)
        self.logging = loggers is not None or "logs" in sent
        if loggers is None and self.logging:
            loggers = _make(lambda: LoggerProvider(resource=self.resource, shutdown_on_exit=False))
        if loggers is not None:
            loggers.add_log_record_processor(self._logs)
        if meters is None:
            # Exemplars are for exported points; where there are none, no measurement is asked whether it is one.
            self.exports_metrics = "metrics" in sent
            exemplars = None if self.exports_metrics else AlwaysOffExemplarFilter()
            meters = _make(lambda: GuardedMeterProvider((), self.resource, exemplars, shutdown_on_exit=False))

        self._sdk = tracers, meters, loggers
        self.tracer_provider: trace.TracerProvider = tracers or trace.NoOpTracerProvider()
        self.logger_provider: logs_api.LoggerProvider = loggers or logs_api.NoOpLoggerProvider()
        self.meter_provider: metrics.MeterProvider = meters if join else metrics.NoOpMeterProvider()
        own = self.meter_provider
        self.request_meters: metrics.MeterProvider = (
            RequestMeterProvider(own) if isinstance(own, GuardedMeterProvider) else own
        )

    def make_global(self) -> None:
        """Let whoever asks OpenTelemetry for the global providers get ours, where none is set.

        Not before a service instruments an application: FastAPI measures requests by itself as soon as there are
        global providers, and requests that are recorded by hand would count twice.
        """
        if self._settings.sdk_disabled:
            return
        tracers, meters, loggers = self._sdk
        if tracers is not None:
            _set_global(trace.get_tracer_provider(), trace.set_tracer_provider, tracers)
        _set_global(metrics.get_meter_provider(), metrics.set_meter_provider, meters)
        if loggers is not None:
            _set_global(logs_api.get_logger_provider(), logs_api.set_logger_provider, loggers)

    def _theirs(self, signal: Signal, provider: object, kind: type[P], join: bool) -> P | None:
        """The provider to join, if the application has one."""
        if not join or not isinstance(provider, kind) or provider in _made:
            return None
        self._joined.add(signal)
        return provider

    def _make_states(self) -> dict[Signal, ExportState]:
        sent: dict[Signal, str | None] = {
            signal: self._settings.endpoint(signal) if signal not in self._joined and _possible(signal) else None
            for signal in SIGNALS
        }
        return {signal: ExportState(signal, sent[signal], self._settings.protocol(signal)) for signal in SIGNALS}

    def start(self, reader: MetricReader) -> None:
        """Attach the aggregator's reader and, where endpoints are set, the exporters. Does nothing when started.

        Args:
            reader: A pull reader; it is taken off again by `stop`.
        """
        with self._lock:
            if self._reader is not None and self._pid == os.getpid():
                return
            if self._pid != os.getpid():
                self._adopt_process()
            meters = self._sdk[1]
            for provider in self._sdk:
                if provider in _made:
                    with seams.RESOURCE:  # for a child that will be forked
                        inspect.signature(cast("Any", provider)._update_resource).bind(self.resource)  # noqa: SLF001
            if self._reader is not reader:  # else inherited from before a fork, still attached
                meters.add_metric_reader(reader)
            self._pipelines = self._make_pipelines()
            self._reader = reader
            self._quiet = QuietExports()
            if self._pipelines:
                self._quiet.install()

    def _adopt_process(self) -> None:
        """Be a worker of our own after a fork: another identity, our own numbers, nothing of the parent's threads."""
        self._pid = os.getpid()
        self._pipelines = []
        self._spans.target = self._logs.target = None
        self._states = self._make_states()
        if not self._joined:
            self.resource = self._make_resource()
        for provider in self._sdk:
            # The SDK renews `service.instance.id` itself, but to a random one even where it was set.
            if provider in _made:
                with seams.RESOURCE:
                    cast("Any", provider)._update_resource(self.resource)  # noqa: SLF001

    def _make_pipelines(self) -> list[tuple[Signal, Pipeline]]:
        _, meters, loggers = self._sdk
        makers: dict[Signal, Callable[[ExportState], Pipeline]] = {
            "traces": lambda state: span_pipeline(self._settings, state, self._spans),
            "metrics": lambda state: MetricPipeline(self._settings, state, meters),
        }
        if loggers is not None:
            makers["logs"] = lambda state: log_pipeline(self._settings, state, self._logs, loggers, self._service)
        made: list[tuple[Signal, Pipeline]] = []
        for signal, state in self._states.items():
            if state.endpoint is None:
                continue
            try:
                made.append((signal, makers[signal](state)))
            except Exception as error:  # noqa: BLE001 - the SDK's, from what the environment says; the service starts
                state.cannot_begin(error)
        return made

    @property
    def announcement(self) -> str:
        """Where the signals go, in a few words and without credentials."""
        return announcement(self._settings, self._joined)

    def keep_logging(self) -> None:
        """Undo what a configuration of `logging`, made since the start, has done to the way of log records and ours.

        `dictConfig` and `basicConfig(force=True)` take every handler of the root logger away, and the former disables
        all loggers that it does not name.
        """
        for name in _OWN_LOGGERS:
            logging.getLogger(name).disabled = False
        with self._lock:
            if self._pid != os.getpid() or not self._pipelines:
                return
            self._quiet.install()
            for _, pipeline in self._pipelines:
                if isinstance(pipeline, LogPipeline) and pipeline.restore():
                    logger.info("logging was configured anew: the handler that exports log records is back")

    def stop(self, timeout: float) -> None:
        """Send what waits, close every exporter, and take the reader off. Does nothing when not started.

        Args:
            timeout: Seconds until it returns, whatever the endpoint does. What has not left by then is dropped; an
                export that hangs ends later in a daemon thread, which keeps no process alive.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            pipelines, self._pipelines = self._pipelines, []
            reader, self._reader = self._reader, None
            inherited = self._pid != os.getpid()
        if reader is None or inherited:
            return
        everything: list[tuple[str, Pipeline]] = [*pipelines, ("reader", ReaderPipeline(self._sdk[1], reader))]
        close_all([*everything, *self._joined_pipelines()], deadline, afterwards=self._quiet.uninstall)

    def flushes(self) -> list[Callable[[], None]]:
        """By signal what sends all that waits now, and blocks meanwhile; nothing is closed."""
        with self._lock:
            pipelines = self._pipelines if self._pid == os.getpid() else []
        return [pipeline.flush for _, pipeline in [*pipelines, *self._joined_pipelines()]]

    def _joined_pipelines(self) -> list[tuple[str, Pipeline]]:
        sdk = zip(SIGNALS, self._sdk, strict=True)
        return [
            (signal, JoinedPipeline(sdk_one))
            for signal, sdk_one in sdk
            if signal in self._joined and sdk_one is not None
        ]

    def state(self, now: float) -> dict[str, Any]:
        """The `telemetry` block of the diagnostics: one object per signal.

        Args:
            now: Seconds of `time.monotonic`.

        Returns:
            By signal what `ExportState.block` says, and `provider`: `own`, `application` (joined: how it exports is not
            known here), or `none` (not made, because it would go nowhere). For logs that are exported also
            `handler_restored`: how often a configuration of `logging` had taken our handler away.
        """
        return {
            signal: {"provider": self._provider_of(signal), **state.block(now), **self._handler_of(signal)}
            for signal, state in self._states.items()
        }

    def _handler_of(self, signal: Signal) -> dict[str, int]:
        pipeline = dict(self._pipelines).get(signal)
        return {"handler_restored": pipeline.restored} if isinstance(pipeline, LogPipeline) else {}

    def _provider_of(self, signal: Signal) -> str:
        if signal in self._joined:
            return "application"
        if self._settings.sdk_disabled:
            return "none"
        return "own" if signal == "metrics" or self._states[signal].endpoint is not None else "none"


def _possible(signal: Signal) -> bool:
    return signal != "logs" or logs_sdk.available()


def _make(make: Callable[[], P]) -> P:
    try:
        provider = make()
    except ValueError as error:
        raise ConfigurationError(f"OTEL_*: {redact(str(error))}") from error
    _made.add(provider)
    return provider


def _set_global(current: object, setter: Callable[[P], None], provider: P) -> None:
    """Make `provider` the global one if none is: the API then holds a proxy, which only its name tells from others."""
    if type(current).__name__.lstrip("_").startswith("Proxy"):
        setter(provider)
