"""Exporters beside OTLP that `OTEL_TRACES_EXPORTER` and its like name: `console`, `prometheus`, and what is installed.

They are found by the SDK's entry points (`opentelemetry_traces_exporter`, …). What they send is redacted as with OTLP,
and not counted in the diagnostics, which are about OTLP.
"""

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from otel_monitoring.config.otlp import OtlpSettings, Signal
from otel_monitoring.environment import warn_once, with_variables
from otel_monitoring.redact import redact_error
from otel_monitoring.telemetry.export_state import ExportState
from otel_monitoring.telemetry.otlp_exporters import CountedExporter
from otel_monitoring.telemetry.pipelines import BatchPipeline, MetricPipeline
from otel_monitoring.telemetry.shutdown import Pipeline, ReaderPipeline
from otel_monitoring.telemetry.span_pipeline import CountedSpanExporter, SpanSwitch


def other_pipelines(
    settings: OtlpSettings, signal: Signal, make: Callable[[Any, ExportState], Pipeline]
) -> list[tuple[Signal, Pipeline]]:
    """A pipeline for each exporter beside OTLP; one that cannot be made is left out with a warning.

    Args:
        settings: The OTLP settings.
        signal: Whose exporters.
        make: Makes a pipeline for an exporter's class.
    """
    made = []
    for name in settings.other_exporters(signal):
        try:
            found = next(iter(entry_points(group=f"opentelemetry_{signal}_exporter", name=name)), None)
            if found is None:
                warn_once(f"OTEL_{signal.upper()}_EXPORTER: {name} is not installed; it is ignored")
                continue
            with with_variables(settings.variables()):
                made.append((signal, make(found.load(), ExportState(signal, None, "http/protobuf"))))
        except Exception as error:  # noqa: BLE001 - code of others; the service starts without the exporter
            warn_once(f"OTEL_{signal.upper()}_EXPORTER: {name}: {redact_error(error)}; it is ignored")
    return made


def other_span_pipeline(kind: Any, state: ExportState, switch: SpanSwitch) -> Pipeline:
    """Export the spans that reach `switch` by an exporter of class `kind`."""
    exporter = CountedExporter(kind(), state)
    processor = BatchSpanProcessor(CountedSpanExporter(exporter))
    return BatchPipeline(exporter, processor, state, lambda on: switch.feed(processor, on=on))


def other_metric_pipeline(kind: Any, state: ExportState, settings: OtlpSettings, provider: MeterProvider) -> Pipeline:
    """Export metrics by an exporter of class `kind`, or have them read by a reader of that class."""
    if not issubclass(kind, MetricReader):
        return MetricPipeline(settings, state, provider, kind())
    reader = kind()
    provider.add_metric_reader(reader)
    return ReaderPipeline(provider, reader)
