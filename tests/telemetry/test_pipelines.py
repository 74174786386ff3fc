"""The queue in front of an exporter that takes nothing."""

import logging
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from otel_monitoring.telemetry.export_state import ExportState
from otel_monitoring.telemetry.pipelines import BatchPipeline
from otel_monitoring.telemetry.span_pipeline import SpanSwitch
from tests.waiting import eventually

SIZE = 4


class Stuck(SpanExporter):
    """Takes one batch, and keeps it until `release`."""

    def __init__(self) -> None:
        self.began, self.release = threading.Event(), threading.Event()
        self.names: list[str] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.began.set()
        assert self.release.wait(60)
        self.names += [span.name for span in spans]
        return SpanExportResult.SUCCESS


def test_what_finds_the_queue_full_is_dropped_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    exporter, switch = Stuck(), SpanSwitch()
    state = ExportState("traces", "http://collector", "http/protobuf")
    processor = BatchSpanProcessor(
        exporter, max_queue_size=SIZE, max_export_batch_size=SIZE, schedule_delay_millis=600_000
    )

    def turn(on: bool) -> None:
        switch.target = processor if on else None

    counted: Any = exporter
    pipeline = BatchPipeline(counted, processor, state, turn)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(switch)
    tracer = provider.get_tracer("test")

    def end(*names: str) -> None:
        for name in names:
            tracer.start_span(name).end()

    with caplog.at_level(logging.WARNING):
        end("a", "b", "c", "d")
        assert exporter.began.wait(60)
        assert state.queue_fill() == 0.0
        end("e")
        assert state.queue_fill() == 1 / SIZE
        end("f", "g", "h")
        assert state.queue_fill() == 1.0
        end(*"ijklmnop")
    assert state.block(0.0)["dropped"] == 8
    assert len([one for one in caplog.records if "Queue full" in one.getMessage()]) == 1

    exporter.release.set()
    eventually(lambda: state.block(0.0)["queue"] == 0, "the queue is empty")
    end("q")
    pipeline.detach()
    end("r")
    pipeline.close(60)
    assert exporter.names[:4] == ["a", "b", "c", "d"]
    assert exporter.names[-1] == "q"
    assert len(exporter.names) == 9
    assert state.block(0.0)["dropped"] == 8
