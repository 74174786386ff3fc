"""`span_pipeline`: the way of spans to an OTLP endpoint; loaded by services that export spans or join a provider."""

from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from otel_monitoring.baggage import BaggageKeys
from otel_monitoring.config.otlp import OtlpSettings
from otel_monitoring.environment import sdk_components_measured
from otel_monitoring.guard import fail_open
from otel_monitoring.telemetry.export_state import ExportState
from otel_monitoring.telemetry.otlp_exporters import CountedExporter, count_refusals, make_exporter
from otel_monitoring.telemetry.pipelines import BatchPipeline
from otel_monitoring.telemetry.redaction import redacted_spans
from otel_monitoring.telemetry.shutdown import Pipeline
from otel_monitoring.telemetry.switch import Switch


class BaggageSpanProcessor(SpanProcessor):
    """Adds listed baggage entries to each span at its start.

    Args:
        keys: The listed keys.
    """

    def __init__(self, keys: BaggageKeys) -> None:
        self._keys = keys

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Add the entries of the parent context."""
        for key, value in self._keys.entries(parent_context).items():
            span.set_attribute(key, value)


class SpanSwitch(Switch[SpanProcessor], SpanProcessor):
    """A span processor that stays in a tracer provider, from which none can be removed, while `target` changes.

    Args:
        first: Processors that handle each span before the target, or without one.

    Attributes:
        target: The processor that exports spans; None: spans are not exported.
        acts_at_start: Whether anything happens when a span starts.
        started: How many sampled spans have started.
        ended: How many of these have ended.
    """

    def __init__(self, first: Sequence[SpanProcessor] = ()) -> None:
        super().__init__(_Each)
        self._first = tuple(first)
        self.acts_at_start = bool(first)
        self._guard = fail_open("span processing")
        self.started = self.ended = 0

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Run the first processors; the target, a batch queue of the SDK, does nothing at the start of a span."""
        self.started += 1
        for processor in self._first:
            with self._guard:
                processor.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Run the first processors, then the target."""
        self.ended += 1
        for processor in self._first:
            with self._guard:
                processor.on_end(span)
        target = self.target
        if target is not None:
            target.on_end(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Have the target export what waits."""
        target = self.target
        return target.force_flush(timeout_millis) if target is not None else True


class _Each(SpanProcessor):
    """Hands spans that have ended to several processors."""

    def __init__(self, processors: Sequence[SpanProcessor]) -> None:
        self._processors = processors

    def on_end(self, span: ReadableSpan) -> None:
        for processor in self._processors:
            processor.on_end(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        flushed = [processor.force_flush(timeout_millis) for processor in self._processors]
        return all(flushed)


class CountedSpanExporter(SpanExporter):
    """Redacts spans and exports them through a `CountedExporter`."""

    def __init__(self, exporter: CountedExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export and count a batch."""
        sent = self._exporter.send(redacted_spans(spans, self._exporter.queue_fill), len(spans))
        return SpanExportResult.SUCCESS if sent else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Shut the exporter down."""
        self._exporter.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """True: there is no queue."""
        return True


def span_pipeline(
    settings: OtlpSettings, state: ExportState, switch: SpanSwitch, meters: MeterProvider | None = None
) -> Pipeline:
    """Export the spans that reach `switch` to the endpoint for traces; `meters` measure what becomes of them."""
    with sdk_components_measured(settings.variables()):
        sender = make_exporter("traces", settings, meters)
        count_refusals(sender)
        exporter = CountedExporter(sender, state)
        processor = BatchSpanProcessor(CountedSpanExporter(exporter), meter_provider=meters)

    return BatchPipeline(exporter, processor, state, lambda on: switch.feed(processor, on=on))
