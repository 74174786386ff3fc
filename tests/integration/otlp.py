"""OTLP requests for tests, made by hand: every field a value can be in, ids that are never the same."""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

RESOURCE = {"service.name": "orders", "service.version": "1.2", "deployment.environment.name": "test"}


def value(content: Any) -> AnyValue:
    match content:
        case bool():
            return AnyValue(bool_value=content)
        case int():
            return AnyValue(int_value=content)
        case float():
            return AnyValue(double_value=content)
        case Mapping():
            return AnyValue(kvlist_value=KeyValueList(values=attributes(content)))
        case list():
            return AnyValue(array_value=ArrayValue(values=[value(item) for item in content]))
        case _:
            return AnyValue(string_value=str(content))


def attributes(content: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=value(item)) for key, item in content.items()]


def read(pairs: Sequence[KeyValue]) -> dict[str, Any]:
    """Attributes as they arrived."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in pairs}


def span(
    name: str = "GET /orders/{number}",
    content: Mapping[str, Any] | None = None,
    *,
    trace: bytes | None = None,
    seconds: float = 0.01,
    error: str | None = None,
    **fields: Any,
) -> Span:
    """A finished span of a server, unless `fields` say otherwise. `error` is the status message of a failed one."""
    end = time.time_ns()
    made = Span(
        trace_id=trace or os.urandom(16),
        span_id=os.urandom(8),
        name=name,
        kind=fields.pop("kind", Span.SPAN_KIND_SERVER),
        start_time_unix_nano=end - int(seconds * 1e9),
        end_time_unix_nano=end,
        attributes=attributes(content or {}),
        **fields,
    )
    if error is not None:
        made.status.CopyFrom(Status(code=Status.STATUS_CODE_ERROR, message=error))
    return made


def traces(*spans: Span, resource: Mapping[str, Any] = RESOURCE) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.extend(attributes(resource))
    group.scope_spans.add().spans.extend(spans)
    return request


def export(channel: Any, request: ExportTraceServiceRequest, **options: Any) -> None:
    """Send it over a gRPC channel; an error is raised."""
    stub: Any = TraceServiceStub
    stub(channel).Export(request, **options)


def logs(*bodies: Any, resource: Mapping[str, Any] = RESOURCE, **content: Any) -> ExportLogsServiceRequest:
    """One record per body; `content` are the attributes of each."""
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    group.resource.attributes.extend(attributes(resource))
    records = group.scope_logs.add().log_records
    for body in bodies:
        records.append(
            LogRecord(
                time_unix_nano=time.time_ns(),
                severity_text="INFO",
                severity_number=SeverityNumber.SEVERITY_NUMBER_INFO,
                body=value(body),
                attributes=attributes(content),
            )
        )
    return request


def metrics(*made: Metric, resource: Mapping[str, Any] = RESOURCE) -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    group = request.resource_metrics.add()
    group.resource.attributes.extend(attributes(resource))
    group.scope_metrics.add().metrics.extend(made)
    return request


def counter(name: str, total: int, start: int, **content: Any) -> Metric:
    """A cumulative sum that counts since `start` (ns)."""
    metric = Metric(name=name, unit="1")
    metric.sum.is_monotonic = True
    metric.sum.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    point = metric.sum.data_points.add(start_time_unix_nano=start, time_unix_nano=time.time_ns(), as_int=total)
    point.attributes.extend(attributes(content))
    return metric


def histogram(name: str, counts: Sequence[int], start: int, **content: Any) -> Metric:
    """A cumulative exponential histogram of scale 3, its first bucket at 1."""
    metric = Metric(name=name, unit="s")
    metric.exponential_histogram.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    point = metric.exponential_histogram.data_points.add(
        start_time_unix_nano=start, time_unix_nano=time.time_ns(), count=sum(counts), sum=1.5 * sum(counts), scale=3
    )
    point.positive.offset = 0
    point.positive.bucket_counts.extend(counts)
    point.attributes.extend(attributes(content))
    return metric
