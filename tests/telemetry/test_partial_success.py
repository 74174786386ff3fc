"""What a server rejects of an export, though it answers 200, is lost."""

from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces

from otel_monitoring.config.otlp import OtlpSettings, Signal
from otel_monitoring.telemetry.export_state import ExportState
from otel_monitoring.telemetry.otlp_exporters import CountedExporter, make_exporter
from otel_monitoring.telemetry.partial_success import note_rejected
from tests.http_server import Answer, HttpServer

pytestmark = pytest.mark.usefixtures("direct_connections")

PROTOBUF = {"Content-Type": "application/x-protobuf"}
SPANS = traces.ExportTraceServiceResponse(
    partial_success=traces.ExportTracePartialSuccess(rejected_spans=300, error_message="too old: größe")
).SerializeToString()
POINTS = metrics.ExportMetricsServiceResponse(
    partial_success=metrics.ExportMetricsPartialSuccess(rejected_data_points=300, error_message="too old")
).SerializeToString()
RECORDS = logs.ExportLogsServiceResponse(
    partial_success=logs.ExportLogsPartialSuccess(rejected_log_records=300, error_message="too old")
).SerializeToString()
HINT = traces.ExportTraceServiceResponse(
    partial_success=traces.ExportTracePartialSuccess(error_message="a hint")
).SerializeToString()


def exported(answer: bytes, headers: dict[str, str], *items: int) -> dict[str, Any]:
    """The figures after exports of batches with so many items, each of which the server answers alike."""
    with HttpServer(lambda _: Answer(200, answer, headers)) as server:
        state = ExportState("traces", server.url, "http/protobuf", clock=lambda: 7.0)
        exporter = CountedExporter(make_exporter("traces", OtlpSettings(otlp_endpoint=server.url)), state)
        for count in items:
            assert exporter.send([], count)
        exporter.close()
    return {**state.block(7.0), "losing": state.losing_for(157.0 - 1), "calm": state.losing_for(157.0)}


def test_of_what_is_rejected_in_part_the_rest_is_exported() -> None:
    found = exported(SPANS, PROTOBUF, 1000, 500)
    assert (found["exported"], found["dropped"], found["failures"]) == (900, 600, 0)
    assert found["last_error"] == "the server rejected 300: too old: größe"
    assert (found["losing"], found["calm"]) == (149.0, 0.0)


def test_an_export_of_which_all_is_rejected_has_failed() -> None:
    found = exported(SPANS, PROTOBUF, 200)
    assert (found["exported"], found["dropped"], found["failures"], found["last_success"]) == (0, 200, 1, None)


@pytest.mark.parametrize(
    ("answer", "headers"),
    [
        (b"", PROTOBUF),
        (b"\n\x00", PROTOBUF),  # as a Collector answers
        (HINT, PROTOBUF),
        (SPANS, {"Content-Type": "text/html"}),
        (b"{}", {"Content-Type": "application/json"}),
    ],
)
def test_where_nothing_is_rejected_all_is_exported(answer: bytes, headers: dict[str, str]) -> None:
    found = exported(answer, headers, 5)
    assert (found["exported"], found["dropped"], found["last_error"]) == (5, 0, None)


@pytest.mark.parametrize(("signal", "answer"), [("traces", SPANS), ("metrics", POINTS), ("logs", RECORDS)])
def test_every_signal_is_read(signal: Signal, answer: bytes) -> None:
    state = ExportState(signal, "http://c", "http/protobuf")
    with state.exporting():
        note_rejected(answer)
        state.succeeded(1000)
    assert (state.block(0.0)["exported"], state.block(0.0)["dropped"]) == (700, 300)


@pytest.mark.parametrize("length", range(len(SPANS)))
def test_an_answer_that_is_cut_or_none_tells_nothing(length: int) -> None:
    state = ExportState("traces", "http://c", "http/protobuf")
    for answer in (SPANS[:length], SPANS[:length] + b"\xff" * 20, b"<html>" * 9):
        with state.exporting():
            note_rejected(answer)
            state.succeeded(5)
    assert state.block(0.0)["dropped"] == 0


def test_outside_of_an_export_nobody_is_told() -> None:
    note_rejected(SPANS)
