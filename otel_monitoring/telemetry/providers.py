"""`Telemetry`: the resource and the providers of a service, and their export, started in each worker process.

Construction makes providers or joins those of the application; `start` makes the first thread and connection.
"""

import inspect
import logging
import os
import re
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import (
    TELEMETRY_SDK_LANGUAGE,
    TELEMETRY_SDK_NAME,
    TELEMETRY_SDK_VERSION,
    OTELResourceDetector,
    Resource,
    ServiceInstanceIdResourceDetector,
)
from opentelemetry.sdk.version import __version__ as sdk_version

from otel_monitoring import seams
from otel_monitoring.baggage import BaggageKeys
from otel_monitoring.config.otlp import SIGNALS, Signal
from otel_monitoring.config.settings import Settings
from otel_monitoring.environment import sdk_counts_spans, with_variables
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.forks import renewed
from otel_monitoring.guard import logger
from otel_monitoring.redact import redact
from otel_monitoring.semconv import SCHEMA_URL, SCOPE
from otel_monitoring.telemetry import logs_api
from otel_monitoring.telemetry.exception_signal import ExceptionSignal
from otel_monitoring.telemetry.export_state import ExportState, export_summary
from otel_monitoring.telemetry.log_filter import QuietExports
from otel_monitoring.telemetry.meter_providers import GuardedMeterProvider
from otel_monitoring.telemetry.propagation import keep_context
from otel_monitoring.telemetry.resource import detected
from otel_monitoring.telemetry.schema import joined
from otel_monitoring.telemetry.self_metrics import SelfMetrics
from otel_monitoring.telemetry.service_resource import ServiceResource
from otel_monitoring.telemetry.shutdown import JoinedPipeline, Pipeline, ReaderPipeline, close_all

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from otel_monitoring.telemetry.file_providers import FileProviders
    from otel_monitoring.telemetry.log_pipeline import HandlerPipeline, LogPipeline, LogSwitch
    from otel_monitoring.telemetry.logs_sdk import LoggerProvider
    from otel_monitoring.telemetry.span_pipeline import SpanSwitch

_SDK = {TELEMETRY_SDK_LANGUAGE: "python", TELEMETRY_SDK_NAME: "opentelemetry", TELEMETRY_SDK_VERSION: sdk_version}
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
    "none": logging.CRITICAL + 1,
}
_RANDOM_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""An id that the SDK draws anew in each process."""
_OWN_LOGGERS = ("otel_monitoring", "otel_monitoring.alerts")

P = TypeVar("P", MeterProvider, "TracerProvider", "LoggerProvider")

# Providers that a `Telemetry` of this process has made. One of them is another service's, not the application's own: it
# is never joined.
_made: "weakref.WeakSet[MeterProvider | TracerProvider | LoggerProvider]" = weakref.WeakSet()


class Telemetry:
    """The providers of one service and their exporters. It lives as long as the service and may be restarted.

    If the application, or `opentelemetry-instrument`, has set a global provider of the SDK, that is joined: only the
    aggregator's reader and listed baggage are added to it. Whoever set it has decided about its export; a second
    exporter would send everything twice. `stop` flushes it and never shuts it down. For any other signal this class
    makes a provider, which `make_global` makes the global one if there is none. Providers of spans and log records that
    would not be exported are no-ops, and never become global.

    With `OTEL_SDK_DISABLED=true` every provider is a no-op: nothing is measured or exported, and the health endpoints
    answer from their checks.

    Args:
        settings: What is exported where.
        service_name: `service.name`, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` has it.
        service_version: `service.version`, unless the settings or `OTEL_RESOURCE_ATTRIBUTES` have it.
        providers: Providers that the application has chosen, by signal; they take precedence over the global ones.
        service: The service that all this is for: see `PerService`.

    Attributes:
        meter_provider: The meter provider.
        tracer_provider: The tracer provider.
        logger_provider: The logger provider.
        baggage: The baggage keys that become attributes of spans and log records.
        tracing: Whether spans are recorded: they are exported, or the application's provider is joined.
        logging: Whether log records are emitted: they are exported, or the application's provider is joined.
        exports_metrics: Whether metrics leave the process. False: the aggregator's reader is the only one.
        resource: The resource. `service.instance.id` is different in each worker process: a random UUID, or the one in
            `OTEL_RESOURCE_ATTRIBUTES` with `:<process id>` added.
        instance_id: Names this process among those of the service: its `service.instance.id`, with `:<process id>`
            added where the application has chosen it, which may be the same in all workers.
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
        self._leave_spans: Callable[[], object] = bool
        if settings.log_level is not None:
            logging.getLogger("opentelemetry").setLevel(_LEVELS[settings.log_level])
        self.baggage = BaggageKeys(settings.baggage_keys)
        self._spans: SpanSwitch | None = None
        self._logs: LogSwitch | None = None
        self._joined: set[Signal] = set()
        self.resource = self._make_resource()
        self._from_file = self._read_file()
        keep_context()
        self._make_providers(join=not settings.sdk_disabled)
        self._states = self._make_states()
        self._measure_itself()

    def _make_resource(self) -> Resource:
        """The resource of this process: settings win over `OTEL_RESOURCE_ATTRIBUTES`, the application, detection."""
        settings, (name, version) = self._settings, self._names
        # A configuration file says itself what is detected, and takes the place of the variables.
        given = OTELResourceDetector().detect().attributes if settings.file is None else {}
        own = {"service.name": name, "service.version": version}
        set_by_us = {
            "service.name": settings.service_name,
            "service.namespace": settings.service_namespace,
            "service.version": settings.service_version,
            "deployment.environment.name": settings.environment,
        }
        attributes = {"service.name": "unknown_service", **(detected() if settings.file is None else {})}
        for source in (own, given, set_by_us):
            attributes.update({key: value for key, value in source.items() if value})
        if instance := given.get("service.instance.id"):
            attributes["service.instance.id"] = f"{instance}:{os.getpid()}"
        else:
            attributes.update(ServiceInstanceIdResourceDetector().detect().attributes)
        return ServiceResource({**_SDK, **attributes}, SCHEMA_URL)

    def _joined_resource(self, own: Resource) -> Resource:
        """One process has one resource: that of the application's providers takes precedence."""
        found = own
        for provider in self._theirs:
            found = joined(found, provider.resource)
        self.instance_id = _instance_id(found, own)
        return found

    def _read_file(self) -> "FileProviders | None":
        """The providers of the configuration file, where there is one and nobody has set global ones of the SDK."""
        file = self._settings.file
        if file is None or file.disabled:
            return None
        from otel_monitoring.telemetry.file_providers import FileProviders

        if not FileProviders.are_built(file) and not all(map(_is_replaceable, _global_providers())):
            return None
        found = FileProviders.of(file, self.resource.attributes)
        self._given = {**found.by_signal, **self._given}
        return found

    def _make_providers(self, *, join: bool) -> None:
        sent = {signal for signal in SIGNALS if self._is_sent(signal)}
        given = self._given
        tracers = self._to_join(
            "traces", given.get("traces") or trace.get_tracer_provider(), _loaded_tracer_provider(), join
        )
        meters = self._to_join("metrics", given.get("metrics") or metrics.get_meter_provider(), MeterProvider, join)
        loggers = self._to_join(
            "logs", given.get("logs") or logs_api.get_logger_provider(), _loaded_logger_provider(), join
        )
        self._theirs = [provider for provider in (loggers, tracers) if provider is not None]
        self.resource = self._joined_resource(self.resource)

        self.exports_metrics = True
        self.tracing = tracers is not None or "traces" in sent
        if self.tracing:
            tracers, self._spans = self._prepare_spans(tracers)
        self.logging = loggers is not None or "logs" in sent
        if self.logging:
            loggers, self._logs = self._prepare_logs(loggers)
        if meters is None:
            # Exemplars belong to exported points: without an export none are sampled.
            self.exports_metrics = "metrics" in sent
            exemplars = None if self.exports_metrics else AlwaysOffExemplarFilter()
            with with_variables(self._settings.variables()):
                meters = _make_provider(
                    lambda: GuardedMeterProvider((), self.resource, exemplars, shutdown_on_exit=False)
                )

        self._sdk = tracers, meters, loggers
        self.tracer_provider: trace.TracerProvider = tracers or trace.NoOpTracerProvider()
        self.logger_provider: logs_api.LoggerProvider = loggers or logs_api.NoOpLoggerProvider()
        self.meter_provider: metrics.MeterProvider = meters if join else metrics.NoOpMeterProvider()

    def _prepare_spans(self, tracers: "TracerProvider | None") -> "tuple[TracerProvider, SpanSwitch]":
        """The given provider, or one that is made, with the switch that was added to it."""
        # Imported here, as with log records below: a service that exports no spans loads nothing of the SDK for them.
        from otel_monitoring.telemetry.span_pipeline import BaggageSpanProcessor, SpanSwitch
        from otel_monitoring.telemetry.tracer_provider import ServiceTracerProvider

        switch = SpanSwitch([BaggageSpanProcessor(self.baggage)] if self._settings.baggage_keys else ())
        if tracers is None:
            return _make_provider(lambda: ServiceTracerProvider(switch, self.resource)), switch
        tracers.add_span_processor(switch)
        return tracers, switch

    def _prepare_logs(self, loggers: "LoggerProvider | None") -> "tuple[LoggerProvider, LogSwitch]":
        """The given provider, or one that is made, with the switch that was added to it."""
        # Imported here, because the SDK's classes for log records take 20 ms to load.
        from otel_monitoring.telemetry.log_pipeline import BaggageLogProcessor, LogSwitch
        from otel_monitoring.telemetry.logs_sdk import LoggerProvider

        provider = loggers or _make_provider(lambda: LoggerProvider(resource=self.resource, shutdown_on_exit=False))
        switch = LogSwitch([BaggageLogProcessor(self.baggage)] if self._settings.baggage_keys else ())
        provider.add_log_record_processor(switch)
        return provider, switch

    def make_global(self) -> None:
        """Make our providers the global ones, for each signal that has none.

        Call it when the service instruments an application, not earlier: FastAPI measures requests by itself once there
        are global providers, and requests recorded by hand would be counted twice.
        """
        if self._settings.sdk_disabled:
            return
        tracers, meters, loggers = self._sdk
        if tracers is not None:
            _set_global(trace.get_tracer_provider(), trace.set_tracer_provider, tracers)
        _set_global(metrics.get_meter_provider(), metrics.set_meter_provider, meters)
        if loggers is not None:
            _set_global(logs_api.get_logger_provider(), logs_api.set_logger_provider, loggers)
        if self._from_file is not None:
            self._from_file.instrument()

    def _is_sent(self, signal: Signal) -> bool:
        """Whether the settings name an exporter of `signal`."""
        settings = self._settings
        return (settings.exports(signal) or bool(settings.other_exporters(signal))) and _can_export(signal)

    def _to_join(self, signal: Signal, provider: object, kind: type[P] | None, join: bool) -> P | None:
        """`provider` if it is the application's own and of the SDK's class, so that it is joined; else None."""
        if not join or kind is None or not isinstance(provider, kind) or provider in _made:
            return None
        self._joined.add(signal)
        return provider

    def _make_states(self) -> dict[Signal, ExportState]:
        sent: dict[Signal, str | None] = {
            signal: self._settings.endpoint(signal)
            if signal not in self._joined and self._settings.exports(signal) and _can_export(signal)
            else None
            for signal in SIGNALS
        }
        states = {signal: ExportState(signal, sent[signal], self._settings.protocol(signal)) for signal in SIGNALS}
        if self._from_file is not None:
            states.update({signal: self._from_file.states[signal] for signal in SIGNALS if self._is_of_file(signal)})
        return states

    def _is_of_file(self, signal: Signal) -> bool:
        """Whether the provider of `signal` is one that the configuration file describes."""
        provider = self._from_file.by_signal.get(signal) if self._from_file is not None else None
        return provider is not None and provider is self._sdk[SIGNALS.index(signal)]

    def _measure_itself(self) -> None:
        """Make the instruments about our own work. Where the user has the SDK count its spans, it does that itself."""
        states = weakref.WeakMethod(self._current_states)
        meter = self.meter_provider.get_meter(SCOPE, schema_url=SCHEMA_URL)
        own = SelfMetrics(meter, lambda: found() if (found := states()) is not None else {})
        if sdk_counts_spans():
            return
        if self._spans is not None and ("traces" not in self._joined or self._is_of_file("traces")):
            own.count_spans(self._spans)
        if self._logs is not None and ("logs" not in self._joined or self._is_of_file("logs")):
            own.count_records(self._logs)

    def _current_states(self) -> Mapping[Signal, ExportState]:
        return self._states

    def start(self, reader: MetricReader) -> None:
        """Add the aggregator's reader and, for each endpoint, a pipeline. Does nothing if it has started.

        Args:
            reader: The aggregator's reader; `stop` removes it.
        """
        with self._lock:
            if self._reader is not None and self._pid == os.getpid():
                return
            if self._pid != os.getpid():
                self._adopt_process()
            meters = self._sdk[1]
            for provider in self._sdk:
                if provider in _made:
                    with seams.RESOURCE:  # tested now for a child that will be forked
                        inspect.signature(cast("Any", provider)._update_resource).bind(self.resource)  # noqa: SLF001
            if self._reader is not reader:  # otherwise it was added before a fork
                meters.add_metric_reader(reader)
            self._pipelines = self._make_pipelines()
            if self.tracing:
                from otel_monitoring.telemetry.span_exceptions import take_over

                logs = self.logger_provider.get_logger(SCOPE, schema_url=SCHEMA_URL)
                self._leave_spans = take_over(ExceptionSignal(logs if self.logging else None), self._service)
            self._reader = reader
            self._quiet = QuietExports()
            if self._pipelines or self._from_file is not None:
                self._quiet.install()

    def _adopt_process(self) -> None:
        """Begin anew in a forked child: with its own instance id and counters, without the parent's pipelines."""
        self._pid = os.getpid()
        self._pipelines = []
        for switch in (self._spans, self._logs):
            if switch is not None:
                switch.feed_none()
        self._states = self._make_states()
        self._theirs = [] if self._from_file is not None else self._theirs
        self.resource = self._joined_resource(self._make_resource())
        for provider in self._sdk:
            # The SDK sets a random `service.instance.id`, even where the user has set one.
            if provider in _made:
                with seams.RESOURCE:
                    cast("Any", provider)._update_resource(self.resource)  # noqa: SLF001

    def _make_pipelines(self) -> list[tuple[Signal, Pipeline]]:
        _, meters, loggers = self._sdk
        makers: dict[Signal, Callable[[ExportState], Pipeline]] = {}
        if self.exports_metrics:
            from otel_monitoring.telemetry.pipelines import MetricPipeline

            makers["metrics"] = lambda state: MetricPipeline(self._settings, state, meters)
        if (spans := self._spans) is not None:
            from otel_monitoring.telemetry.span_pipeline import span_pipeline

            makers["traces"] = lambda state: span_pipeline(self._settings, state, spans, meters)
        if loggers is not None and (logs := self._logs) is not None:
            # Loaded where there is a provider of log records: see `_prepare_logs`.
            from otel_monitoring.telemetry.log_pipeline import HandlerPipeline, log_pipeline

            if self._is_of_file("logs"):
                return [("logs", HandlerPipeline(loggers, self._service))]
            makers["logs"] = lambda state: log_pipeline(self._settings, state, logs, loggers, self._service, meters)
        made: list[tuple[Signal, Pipeline]] = []
        # First metrics: the queues of the others say how long they are to the readers that are there.
        for signal, state in sorted(self._states.items(), key=lambda item: item[0] != "metrics"):
            if state.endpoint is None or signal in self._joined:
                continue
            try:
                made.append((signal, makers[signal](state)))
            except Exception as error:  # noqa: BLE001 - the SDK raised for values of the environment; the service starts without the export
                state.cannot_begin(error)
        return [*self._make_others(), *made]

    def _make_others(self) -> list[tuple[Signal, Pipeline]]:
        """The pipelines of exporters beside OTLP."""
        settings, (_, meters, loggers) = self._settings, self._sdk
        if not any(settings.other_exporters(signal) for signal in SIGNALS):
            return []
        from otel_monitoring.telemetry.other_exporters import (
            other_metric_pipeline,
            other_pipelines,
            other_span_pipeline,
        )

        made: list[tuple[Signal, Pipeline]] = []
        if "traces" not in self._joined and (spans := self._spans) is not None:
            made += other_pipelines(settings, "traces", lambda kind, state: other_span_pipeline(kind, state, spans))
        if "metrics" not in self._joined:
            made += other_pipelines(
                settings, "metrics", lambda kind, state: other_metric_pipeline(kind, state, settings, meters)
            )
        if "logs" not in self._joined and loggers is not None and (logs := self._logs) is not None:
            from otel_monitoring.telemetry.log_pipeline import HandlerPipeline, other_log_pipeline

            made += other_pipelines(settings, "logs", lambda kind, state: other_log_pipeline(kind, state, logs))
            if settings.endpoint("logs") is None:
                made.append(("logs", HandlerPipeline(loggers, self._service)))
        return made

    @property
    def export_summary(self) -> str:
        """One line that says which signals are exported where, without credentials."""
        return export_summary(self._settings, self._joined, from_file=self._from_file is not None)

    def keep_logging(self) -> None:
        """Restore our handler, filter and loggers if `logging` has been configured since the start.

        `dictConfig` and `basicConfig(force=True)` remove every handler of the root logger; `dictConfig` also disables
        all loggers that it does not name.
        """
        for name in _OWN_LOGGERS:
            logging.getLogger(name).disabled = False
        with self._lock:
            if self._pid != os.getpid() or not self._pipelines:
                return
            self._quiet.install()
            if (handling := self._handling()) is not None and handling.restore():
                logger.info("logging was configured anew: the handler that exports log records is back")

    def stop(self, timeout: float) -> None:
        """Export what waits, close every pipeline, and remove the reader. Does nothing if it has not started.

        Args:
            timeout: Seconds until it returns, whatever the endpoint does. What is not exported by then is dropped. An
                export that hangs continues in a daemon thread, which does not keep the process alive.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            pipelines, self._pipelines = self._pipelines, []
            reader, self._reader = self._reader, None
            inherited = self._pid != os.getpid()
        if reader is None or inherited:
            return
        self._leave_spans()
        everything: list[tuple[str, Pipeline]] = [*pipelines, ("reader", ReaderPipeline(self._sdk[1], reader))]
        close_all([*everything, *self._joined_pipelines()], deadline, afterwards=self._quiet.uninstall)

    def flushes(self) -> list[Callable[[], None]]:
        """Functions that each export what waits in one pipeline; they block, and close nothing."""
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
            By signal the block of `ExportState.block`, and `provider`: `own`, `file` (of the configuration file),
            `application` (joined: it decides about its export), or `none` (a no-op, because the signal is not
            exported). For exported logs also `handler_restored`: how often a configuration of `logging` had removed our
            handler.
        """
        return {
            signal: {"provider": self._provider_of(signal), **state.block(now), **self._handler_of(signal)}
            for signal, state in self._states.items()
        }

    def _handler_of(self, signal: Signal) -> dict[str, int]:
        handling = self._handling() if signal == "logs" else None
        return {} if handling is None else {"handler_restored": handling.restored}

    def _handling(self) -> "LogPipeline | HandlerPipeline | None":
        """The pipeline that has the handler: of those of log records, the last one."""
        return cast("LogPipeline | HandlerPipeline | None", dict(self._pipelines).get("logs"))

    def _provider_of(self, signal: Signal) -> str:
        if self._is_of_file(signal):
            return "file"
        if signal in self._joined:
            return "application"
        if self._settings.sdk_disabled:
            return "none"
        return "own" if signal == "metrics" or self._states[signal].endpoint is not None else "none"


def _instance_id(resource: Resource, own: Resource) -> str:
    found, ours = (str(one.attributes.get("service.instance.id", "")) for one in (resource, own))
    return found if found == ours or _RANDOM_ID.fullmatch(found) else f"{found}:{os.getpid()}"


def _can_export(signal: Signal) -> bool:
    if signal != "logs":
        return True
    # Asked where logs are to be exported: see `_prepare_logs`.
    from otel_monitoring.telemetry.logs_sdk import available

    return available()


def _loaded_tracer_provider() -> "type[TracerProvider] | None":
    """The SDK's class, None where nobody has loaded it: then the application's provider is not of that class."""
    if "opentelemetry.sdk.trace" not in sys.modules:
        return None
    from opentelemetry.sdk.trace import TracerProvider

    return TracerProvider


def _loaded_logger_provider() -> "type[LoggerProvider] | None":
    """As `_loaded_tracer_provider`."""
    if "opentelemetry.sdk._logs" not in sys.modules:
        return None
    from otel_monitoring.telemetry.logs_sdk import LoggerProvider

    return LoggerProvider


def _make_provider(make: Callable[[], P]) -> P:
    try:
        provider = make()
    except ValueError as error:
        raise ConfigurationError(f"OTEL_*: {redact(str(error))}") from error
    _made.add(provider)
    return provider


def _global_providers() -> tuple[object, ...]:
    return trace.get_tracer_provider(), metrics.get_meter_provider(), logs_api.get_logger_provider()


def _is_replaceable(provider: object) -> bool:
    """Whether a global provider is the API's proxy, which is recognised by its class name alone."""
    return type(provider).__name__.lstrip("_").startswith("Proxy")


def _set_global(current: object, setter: Callable[[P], None], provider: P) -> None:
    """Make `provider` the global one if there is none yet."""
    if _is_replaceable(current):
        setter(provider)
