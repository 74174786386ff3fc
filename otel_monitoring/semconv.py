"""The names of metrics and attributes that this package emits, histogram definitions, and Prometheus' spelling.

Source: OpenTelemetry semantic conventions 1.44 (https://opentelemetry.io/docs/specs/semconv/) for HTTP, database,
process, system and CPython. Names that the conventions lack begin with `otel_monitoring.`; what they mean is defined in
`docs/registry/otel_monitoring.yaml`.
"""

import re
from typing import Final, NamedTuple

from opentelemetry.metrics import Histogram, Meter

SCOPE: Final = "otel_monitoring"
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"

# HTTP server
HTTP_SERVER_REQUEST_DURATION: Final = "http.server.request.duration"
HTTP_SERVER_ACTIVE_REQUESTS: Final = "http.server.active_requests"
HTTP_ROUTE: Final = "http.route"
HTTP_REQUEST_METHOD: Final = "http.request.method"
HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"
ERROR_TYPE: Final = "error.type"
URL_SCHEME: Final = "url.scheme"
NETWORK_PROTOCOL_VERSION: Final = "network.protocol.version"
UNMATCHED_ROUTE: Final = "(unmatched)"
OTHER: Final = "_OTHER"
"""The conventions' value for everything outside of a limited set of values."""

# Database client
DB_CLIENT_OPERATION_DURATION: Final = "db.client.operation.duration"
DB_CLIENT_CONNECTION_COUNT: Final = "db.client.connection.count"
DB_CLIENT_CONNECTION_MAX: Final = "db.client.connection.max"
DB_CLIENT_CONNECTION_IDLE_MIN: Final = "db.client.connection.idle.min"
DB_CLIENT_CONNECTION_PENDING_REQUESTS: Final = "db.client.connection.pending_requests"
DB_CLIENT_CONNECTION_TIMEOUTS: Final = "db.client.connection.timeouts"
DB_CLIENT_CONNECTION_CREATE_TIME: Final = "db.client.connection.create_time"
DB_CLIENT_CONNECTION_WAIT_TIME: Final = "db.client.connection.wait_time"
DB_CLIENT_CONNECTION_USE_TIME: Final = "db.client.connection.use_time"
DB_CLIENT_CONNECTION_POOL_NAME: Final = "db.client.connection.pool.name"
DB_CLIENT_CONNECTION_STATE: Final = "db.client.connection.state"
DB_SYSTEM_NAME: Final = "db.system.name"
DB_NAMESPACE: Final = "db.namespace"
DB_COLLECTION_NAME: Final = "db.collection.name"
DB_OPERATION_NAME: Final = "db.operation.name"
DB_OPERATION_BATCH_SIZE: Final = "db.operation.batch.size"
DB_QUERY_SUMMARY: Final = "db.query.summary"
DB_RESPONSE_STATUS_CODE: Final = "db.response.status_code"
DB_RESPONSE_RETURNED_ROWS: Final = "db.response.returned_rows"
DB_QUERY_TEXT: Final = "db.query.text"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
NETWORK_PEER_ADDRESS: Final = "network.peer.address"
NETWORK_PEER_PORT: Final = "network.peer.port"

# Process, system, runtime
PROCESS_UPTIME: Final = "process.uptime"
PROCESS_CPU_UTILIZATION: Final = "process.cpu.utilization"
PROCESS_MEMORY_USAGE: Final = "process.memory.usage"
PROCESS_THREAD_COUNT: Final = "process.thread.count"
PROCESS_OPEN_FILE_DESCRIPTOR_COUNT: Final = "process.unix.file_descriptor.count"
SYSTEM_CPU_UTILIZATION: Final = "system.cpu.utilization"
SYSTEM_MEMORY_USAGE: Final = "system.memory.usage"
SYSTEM_MEMORY_LIMIT: Final = "system.memory.limit"
SYSTEM_MEMORY_UTILIZATION: Final = "system.memory.utilization"
SYSTEM_MEMORY_STATE: Final = "system.memory.state"

# The SDK about itself
OTEL_SDK_SPAN_STARTED: Final = "otel.sdk.span.started"
OTEL_SDK_SPAN_LIVE: Final = "otel.sdk.span.live"
OTEL_SDK_LOG_CREATED: Final = "otel.sdk.log.created"
OTEL_SPAN_SAMPLING_RESULT: Final = "otel.span.sampling_result"
# What its processors, exporters and readers emit, which measure themselves
OTEL_SDK_PROCESSOR_SPAN_PROCESSED: Final = "otel.sdk.processor.span.processed"
OTEL_SDK_PROCESSOR_SPAN_QUEUE_SIZE: Final = "otel.sdk.processor.span.queue.size"
OTEL_SDK_PROCESSOR_SPAN_QUEUE_CAPACITY: Final = "otel.sdk.processor.span.queue.capacity"
OTEL_SDK_PROCESSOR_LOG_PROCESSED: Final = "otel.sdk.processor.log.processed"
OTEL_SDK_PROCESSOR_LOG_QUEUE_SIZE: Final = "otel.sdk.processor.log.queue.size"
OTEL_SDK_PROCESSOR_LOG_QUEUE_CAPACITY: Final = "otel.sdk.processor.log.queue.capacity"
OTEL_SDK_EXPORTER_SPAN_EXPORTED: Final = "otel.sdk.exporter.span.exported"
OTEL_SDK_EXPORTER_SPAN_INFLIGHT: Final = "otel.sdk.exporter.span.inflight"
OTEL_SDK_EXPORTER_LOG_EXPORTED: Final = "otel.sdk.exporter.log.exported"
OTEL_SDK_EXPORTER_LOG_INFLIGHT: Final = "otel.sdk.exporter.log.inflight"
OTEL_SDK_EXPORTER_METRIC_DATA_POINT_EXPORTED: Final = "otel.sdk.exporter.metric_data_point.exported"
OTEL_SDK_EXPORTER_METRIC_DATA_POINT_INFLIGHT: Final = "otel.sdk.exporter.metric_data_point.inflight"
OTEL_SDK_EXPORTER_OPERATION_DURATION: Final = "otel.sdk.exporter.operation.duration"
OTEL_SDK_METRIC_READER_COLLECTION_DURATION: Final = "otel.sdk.metric_reader.collection.duration"
OTEL_COMPONENT_NAME: Final = "otel.component.name"
OTEL_COMPONENT_TYPE: Final = "otel.component.type"

# Ours: what the conventions do not name
TELEMETRY_LOSS: Final = "otel_monitoring.telemetry.loss.duration"
"""Seconds for which exports of a signal have been failing, or its full queue dropping; 0: nothing is lost."""
TELEMETRY_SIGNAL: Final = "otel_monitoring.telemetry.signal"
"""`traces`, `metrics` or `logs`."""
EVENT_LOOP_LAG: Final = "otel_monitoring.event_loop.lag"
GC_PAUSE_DURATION: Final = "otel_monitoring.gc.pause.duration"
GC_GENERATION: Final = "cpython.gc.generation"
DATABASE_UP: Final = "otel_monitoring.database.up"
DATABASE_PING_DURATION: Final = "otel_monitoring.database.ping.duration"
DATABASE_POOL_WAIT: Final = "otel_monitoring.database.pool.wait"
"""Seconds that the last ping waited for a connection of the application's pool without getting one; 0: it got one."""
DATABASE_ERROR: Final = "otel_monitoring.database.error"
"""1: the last ping was answered with an error; 0: it succeeded."""
CHECK_FAILING: Final = "otel_monitoring.check.failing"
"""1: the last run of the check failed; 0: it passed."""
CHECK_NAME: Final = "otel_monitoring.check.name"
CHECK_CRITICAL: Final = "otel_monitoring.check.critical"
CPU_PRESSURE: Final = "otel_monitoring.cpu.pressure"
MEMORY_PRESSURE: Final = "otel_monitoring.memory.pressure"
"""Share (0 to 1) of the container's or host's CPU or memory in use; 0 where this service has no part in the use."""
RESOURCE_SCOPE: Final = "otel_monitoring.resource.scope"
"""Whose CPU or memory it is: `container` or `host`."""
COLLECTION_DOCUMENTS: Final = "otel_monitoring.database.collection.documents"
ALERTS: Final = "otel_monitoring.alerts"
MAINTENANCE: Final = "otel_monitoring.maintenance"
NOTIFICATIONS_SENT: Final = "otel_monitoring.notifications.sent"
NOTIFICATIONS_FAILED: Final = "otel_monitoring.notifications.failed"
NOTIFICATIONS_RETRIED: Final = "otel_monitoring.notifications.retried"
WRONG_TOKENS: Final = "otel_monitoring.access.wrong_tokens"
ALERT_TYPE: Final = "otel_monitoring.alert.type"
ALERT_SEVERITY: Final = "otel_monitoring.alert.severity"
ALERT_STATUS: Final = "otel_monitoring.alert.status"
ALERT_OUTCOME: Final = "otel_monitoring.alert.outcome"
ALERT_RULE: Final = "otel_monitoring.alert.rule"
ALERT_LABEL: Final = "otel_monitoring.alert.label"
"""What a label's attribute begins with; `.` and the label's name follow."""
ALERT_EVENT: Final = "otel_monitoring.alert"
CHANNEL: Final = "otel_monitoring.channel"

# Counters of the application's own, of failed business operations: the default rules evaluate them.
BILLING_FAILURES: Final = "billing.failures"
DELIVERY_FAILURES: Final = "delivery.failures"
OPERATION_DURATION: Final = "otel_monitoring.operation.duration"
OPERATION_NAME: Final = "otel_monitoring.operation.name"
OPERATION_EXCEPTION: Final = "otel_monitoring.operation.exception"
REQUEST_COMMANDS: Final = "otel_monitoring.request.database.commands"
REQUEST_DATABASE_DURATION: Final = "otel_monitoring.request.database.duration"
OPERATION_COMMANDS: Final = "otel_monitoring.operation.database.commands"
OPERATION_DATABASE_DURATION: Final = "otel_monitoring.operation.database.duration"
DATABASE_RETRIES: Final = "otel_monitoring.database.retries"
DATABASE_COMMANDS: Final = "otel_monitoring.database.commands"
"""On the span of a request: how many commands it has sent."""
DATABASE_DURATION: Final = "otel_monitoring.database.duration"
"""On the span of a request: the seconds in which at least one of its commands was under way."""
DATABASE_REPEATED: Final = "otel_monitoring.database.repeated"
"""On the span of a request: what it has sent ten times or more, with shape, number and line."""


class Durations(NamedTuple):
    """Definition of a histogram, of durations unless `unit` says otherwise: the one place for its name and boundaries.

    The first `create_histogram` in a process sets the boundaries for every later one; the SDK's default boundaries are
    for milliseconds.

    Attributes:
        name: The instrument's name.
        description: The instrument's description.
        bounds: Upper bounds of the buckets, for exporters with explicit buckets.
        unit: The unit of the values and bounds.
    """

    name: str
    description: str
    bounds: tuple[float, ...]
    unit: str = "s"

    def create(self, meter: Meter) -> Histogram:
        """Make the histogram in `meter`, or return the one that the meter has."""
        return meter.create_histogram(
            self.name, unit=self.unit, description=self.description, explicit_bucket_boundaries_advisory=self.bounds
        )


# https://opentelemetry.io/docs/specs/semconv/http/http-metrics/#metric-httpserverrequestduration
REQUEST_DURATIONS: Final = Durations(
    HTTP_SERVER_REQUEST_DURATION,
    "Duration of HTTP server requests.",
    (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
# https://opentelemetry.io/docs/specs/semconv/database/database-metrics/: the bounds for commands, for pools too.
_DATABASE_BOUNDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
COMMAND_DURATIONS: Final = Durations(
    DB_CLIENT_OPERATION_DURATION, "Duration of database client operations.", _DATABASE_BOUNDS
)
CONNECTION_CREATE_TIMES: Final = Durations(
    DB_CLIENT_CONNECTION_CREATE_TIME, "Time it took to create a connection.", _DATABASE_BOUNDS
)
CONNECTION_WAIT_TIMES: Final = Durations(
    DB_CLIENT_CONNECTION_WAIT_TIME, "Time it took to obtain a connection from the pool.", _DATABASE_BOUNDS
)
CONNECTION_USE_TIMES: Final = Durations(
    DB_CLIENT_CONNECTION_USE_TIME,
    "Time between borrowing a connection and returning it to the pool.",
    _DATABASE_BOUNDS,
)
GC_PAUSES: Final = Durations(
    GC_PAUSE_DURATION,
    "Time the garbage collector stopped the process.",
    (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0),
)
# The bounds for requests, extended to jobs that take minutes.
OPERATION_DURATIONS: Final = Durations(
    OPERATION_DURATION,
    "Duration of traced operations.",
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
_COMMAND_BOUNDS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
COMMANDS_OF_REQUESTS: Final = Durations(
    REQUEST_COMMANDS, "MongoDB commands of one HTTP request that sends any.", _COMMAND_BOUNDS, "{command}"
)
DATABASE_TIMES_OF_REQUESTS: Final = Durations(
    REQUEST_DATABASE_DURATION,
    "Time of an HTTP request in which at least one of its MongoDB commands was under way.",
    _DATABASE_BOUNDS,
)
COMMANDS_OF_OPERATIONS: Final = Durations(
    OPERATION_COMMANDS, "MongoDB commands of one traced operation that sends any.", _COMMAND_BOUNDS, "{command}"
)
DATABASE_TIMES_OF_OPERATIONS: Final = Durations(
    OPERATION_DATABASE_DURATION,
    "Time of a traced operation in which at least one of its MongoDB commands was under way.",
    _DATABASE_BOUNDS,
)

# UCUM units as the OTLP translation of the Collector and of Prometheus spells them: https://prometheus.io/docs/specs/om/
_UNIT_SUFFIX: Final = {"s": "seconds", "ms": "milliseconds", "By": "bytes", "1": "ratio", "%": "percent"}


def error_type(error: BaseException) -> str:
    """The value of `error.type` for an exception: its qualified class name, with the module unless it is `builtins`."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def prometheus_name(name: str, unit: str = "", *, monotonic: bool = False, gauge: bool = False) -> str:
    """The name under which Prometheus stores an OTLP metric (`UnderscoreEscapingWithSuffixes`).

    Args:
        name: OpenTelemetry instrument name, e.g. `http.server.request.duration`.
        unit: UCUM unit, e.g. `s`, `By`, `1`; an annotation such as `{request}` adds no suffix.
        monotonic: Whether it is a monotonic sum: adds `_total`.
        gauge: Whether it is a gauge: unit `1` adds `_ratio` to gauges only.
    """
    escaped = prometheus_label(name)
    suffix = _UNIT_SUFFIX.get(unit, "")
    if suffix and not (suffix == "ratio" and not gauge) and not escaped.endswith(f"_{suffix}"):
        escaped += f"_{suffix}"
    if monotonic and not escaped.endswith("_total"):
        escaped += "_total"
    return escaped


def prometheus_label(key: str) -> str:
    """The label under which Prometheus stores the attribute `key`, e.g. `http_route`."""
    return re.sub(r"[^a-zA-Z0-9_]+", "_", key).strip("_")
