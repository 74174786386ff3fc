"""`FileProviders`: the providers that a configuration file describes, with their exports counted and redacted.

`opentelemetry-configuration` makes them, as they stand in the file: resource, samplers, processors, readers, exporters,
limits and propagators. A signal that the file does not name has no provider.
"""

import atexit
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from opentelemetry import propagate
from opentelemetry.sdk.resources import Resource

from otel_monitoring import seams
from otel_monitoring.config.configuration_file import SECTIONS, ConfigurationFile
from otel_monitoring.config.otlp import CONFIG_FILE, SIGNALS, Signal
from otel_monitoring.environment import (
    sdk_components_measured,
    warn_once,
    with_variables,
    without_specification_variables,
)
from otel_monitoring.redact import redact_error
from otel_monitoring.semconv import SCHEMA_URL
from otel_monitoring.telemetry.export_state import ExportState
from otel_monitoring.telemetry.otlp_exporters import count_refusals
from otel_monitoring.telemetry.pipelines import count_queue
from otel_monitoring.telemetry.redaction import redacted_spans
from otel_monitoring.telemetry.service_resource import ServiceResource

_DETECTION_SECONDS: Final = 2.0
_UNKNOWN: Final = "unknown_service"
_LEVELS: Final = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}
_IN_PLACE: Final = ("fastapi", "pymongo", "otel_monitoring")
"""Instrumentations that this package takes the place of."""

_built: "dict[str, FileProviders]" = {}
"""By path. The services of a process share what a file describes: each of its exporters sends once."""


class FileProviders:
    """The providers of one file.

    Args:
        file: The file.
        known: Attributes of the resource that the file need not have.

    Attributes:
        by_signal: The provider of each signal that the file names.
        states: Counters of their exports.
    """

    def __init__(self, file: ConfigurationFile, known: Mapping[str, Any]) -> None:
        self.by_signal: dict[Signal, Any] = {}
        self.states = {signal: ExportState(signal, None, "http/protobuf") for signal in SIGNALS}
        self._model = model = file.model
        resource = described_resource(model.resource, known)
        with without_specification_variables(), sdk_components_measured():
            for signal, section in SECTIONS.items():
                if getattr(model, section) is not None:
                    with with_variables(file.tls_variables(signal)):
                        self._build(signal, resource)
            self._propagate()
        if model.log_level is not None:
            logging.getLogger("opentelemetry").setLevel(_LEVELS[model.log_level.name.rstrip("234")])
        self._observe()

    @classmethod
    def are_built(cls, file: ConfigurationFile) -> bool:
        """Whether the providers of `file` have been made already."""
        return file.path in _built

    @classmethod
    def of(cls, file: ConfigurationFile, known: Mapping[str, Any]) -> "FileProviders":
        """The providers of `file`, made once in a process and its forked children."""
        if file.path not in _built:
            _built[file.path] = cls(file, known)
        return _built[file.path]

    def _build(self, signal: Signal, resource: Resource) -> None:
        from opentelemetry.configuration import file as made

        model, limits = self._model, self._model.attribute_limits
        try:
            if signal == "traces":
                self.by_signal[signal] = made.create_tracer_provider(model.tracer_provider, resource, limits)
            elif signal == "metrics":
                self.by_signal[signal] = made.create_meter_provider(model.meter_provider, resource)
            else:
                self.by_signal[signal] = made.create_logger_provider(model.logger_provider, resource, limits)
            # A dead endpoint would hold the end of the process for as long as exports are retried; `stop` flushes.
            atexit.unregister(self.by_signal[signal].shutdown)
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises: the service starts without the signal
            warn_once(f"{CONFIG_FILE}: {SECTIONS[signal]}: {redact_error(error)}; {signal} are not exported")

    def _propagate(self) -> None:
        from opentelemetry.configuration.file import create_propagator

        try:
            propagate.set_global_textmap(create_propagator(self._model.propagator))
        except Exception as error:  # noqa: BLE001 - as above
            warn_once(f"{CONFIG_FILE}: propagator: {redact_error(error)}; it is ignored")

    def instrument(self) -> None:
        """Start the instrumentations that the file lists, those that this package does itself aside."""
        listed = self._model.instrumentation_development
        if listed is not None and listed.python:
            from opentelemetry.configuration.instrumentation import configure_instrumentation

            others = {name: options for name, options in listed.python.items() if name not in _IN_PLACE}
            configure_instrumentation(replace(listed, python=others))

    def _observe(self) -> None:
        with seams.FILE_PROVIDERS:
            if (tracers := self.by_signal.get("traces")) is not None:
                for processor in tracers._active_span_processor._span_processors:  # noqa: SLF001
                    self._count("traces", processor.span_exporter, redacted_spans)
                    self._watch_queue("traces", processor)
            if (loggers := self.by_signal.get("logs")) is not None:
                # Loaded where log records are exported: see `Telemetry`.
                from otel_monitoring.telemetry.redaction import redacted_records

                for processor in loggers._multi_log_record_processor._log_record_processors:  # noqa: SLF001
                    batch = getattr(processor, "_batch_processor", processor)
                    self._count("logs", batch._exporter, redacted_records)  # noqa: SLF001
                    self._watch_queue("logs", processor)
            if (meters := self.by_signal.get("metrics")) is not None:
                for reader in meters._metric_readers:  # noqa: SLF001
                    if (exporter := getattr(reader, "_exporter", None)) is not None:
                        self._count("metrics", exporter, lambda data, _: data)

    def _watch_queue(self, signal: Signal, processor: Any) -> None:
        if hasattr(processor, "_batch_processor"):
            count_queue(processor, self.states[signal])

    def _count(self, signal: Signal, exporter: Any, prepare: Callable[[Any, Callable[[], float]], Any]) -> None:
        state, export = self.states[signal], exporter.export
        if type(exporter).__module__.startswith("opentelemetry.exporter.otlp."):
            count_refusals(exporter)
        state.sends_to(_endpoint_of(exporter), "grpc" if ".grpc" in type(exporter).__module__ else "http/protobuf")

        def counted(batch: Any, *args: Any, **options: Any) -> Any:
            items = _items(batch)
            with state.exporting():
                try:
                    result = export(prepare(batch, state.queue_fill), *args, **options)
                except Exception as error:
                    state.explain(f"{type(error).__name__}: {error}")
                    state.failed(items)
                    raise
            (state.succeeded if result.name == "SUCCESS" else state.failed)(items)
            return result

        exporter.export = counted


def described_resource(described: Any, known: Mapping[str, Any]) -> Resource:
    """The resource that the file describes, completed by what is `known`; detectors may hang."""
    from opentelemetry.configuration.file import create_resource

    made: list[Resource | Exception] = []

    def create() -> None:
        try:
            made.append(create_resource(described))
        except Exception as error:  # noqa: BLE001 - raised below, in the thread that waits
            made.append(error)

    thread = threading.Thread(target=create, name="otel-monitoring-detectors", daemon=True)
    thread.start()
    thread.join(_DETECTION_SECONDS)
    if not made:
        warn_once(
            f"{CONFIG_FILE}: resource: no answer of a detector within {_DETECTION_SECONDS:g} s; detectors are ignored"
        )
        made.append(create_resource(replace(described, detection_development=None)))
    found = made[0]
    if isinstance(found, Exception):
        warn_once(f"{CONFIG_FILE}: resource: {redact_error(found)}; it is ignored")
        found = create_resource(None)
    name = str(found.attributes.get("service.name") or _UNKNOWN)  # it is empty where the file's variable is not set
    named = {} if name.startswith(_UNKNOWN) and "service.name" in known else {"service.name": name}
    rest = {key: value for key, value in found.attributes.items() if key != "service.name"}
    return ServiceResource({**known, **rest, **named}, found.schema_url or SCHEMA_URL)


def _items(batch: Any) -> int:
    """How many spans, log records or data points are in a batch."""
    if isinstance(batch, Sequence):
        return len(batch)
    points: Iterable[Any] = (m for r in batch.resource_metrics for s in r.scope_metrics for m in s.metrics)
    return sum(len(metric.data.data_points) for metric in points)


def _endpoint_of(exporter: Any) -> str | None:
    endpoint = getattr(exporter, "_endpoint", None)
    return endpoint if isinstance(endpoint, str) else None
