"""`note_rejected`: what the answer to an OTLP export says was not taken, though its status is 200.

Source: https://opentelemetry.io/docs/specs/otlp/#partial-success-1. The SDK's exporters leave it aside.
"""

from otel_monitoring.telemetry.export_state import ExportState, export_in_progress


def note_rejected(answer: bytes) -> None:
    """Have the export in progress in this thread know how many of its items the server has rejected, and why.

    Args:
        answer: The body of the server's answer, in protobuf. One that is no such answer tells nothing.
    """
    state: ExportState | None = getattr(export_in_progress, "state", None)
    if state is None:
        return
    # Loaded by the first answer that says something. The answers to metrics and logs have the same fields.
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    try:
        found = ExportTraceServiceResponse.FromString(answer).partial_success
    except DecodeError:
        return
    count, text = found.rejected_spans, found.error_message
    if count > 0:
        state.explain(f"the server rejected {count}: {text}" if text else f"the server rejected {count}")
        export_in_progress.rejected = count
