"""`Seam`: every use of a private name of another library, in one table, with what happens when the name is gone.

A release of a library may rename or change a private name at any time. A seam is therefore used inside `with seam:`, or
loaded by `seam.load`. When it fails, the feature that needs it is off, one warning names the library and its version,
and the diagnostics list the seam. Names that are only compared with cannot fail; they are in the table for
completeness. A public name is used wherever there is one.
"""

import platform
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Any, TypeVar

from otel_monitoring.guard import logger
from otel_monitoring.redact import redact_error

T = TypeVar("T")


class LostError(LookupError):
    """Something needs a seam that has failed; its warning has been logged already."""


class Seam:
    """Private names of one library that serve one purpose; usable from any thread.

    As a context manager it suppresses every `Exception` and passes it to `lost`.

    Args:
        library: Name of the distribution, as pip knows it, or `Python`.
        names: The private names, as the library spells them.
        purpose: What they are used for.
        without: What is off, or done in another way, when they are gone.

    Attributes:
        error: Why the seam failed, redacted; None while it works.
    """

    def __init__(self, library: str, *names: str, purpose: str, without: str) -> None:
        self.library = library
        self.names = names
        self.purpose = purpose
        self.without = without
        self.error: str | None = None

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self.lost(error)
        return True

    @property
    def holds(self) -> bool:
        """Whether no use of the seam has failed so far."""
        return self.error is None

    @property
    def version(self) -> str | None:
        """The installed version of the library; None if it is not installed."""
        try:
            return platform.python_version() if self.library == "Python" else version(self.library)
        except PackageNotFoundError:
            return None

    def lost(self, error: Exception) -> None:
        """Record that the seam has failed with `error`; the first failure is logged as a warning."""
        if self.holds:
            self.error = redact_error(error)
            logger.warning(
                "%s %s is built differently than this version of otel_monitoring expects (%s: %s): %s",
                self.library,
                self.version or "(version unknown)",
                self.names[0],
                self.error,
                self.without,
            )

    def load(self, module: str, name: str | None = None) -> Any:
        """The module `module`, or its attribute `name`; None if it does not exist."""
        with self:
            found = import_module(module)
            return found if name is None else getattr(found, name)
        return None

    def get(self, reach: Callable[[], T], otherwise: T) -> T:
        """The result of `reach`, or `otherwise` if it raises an `Exception`."""
        with self:
            return reach()
        return otherwise


EXEMPLARS = Seam(
    "opentelemetry-sdk",
    "ExponentialBucketHistogramAggregation._create_aggregation",
    purpose="the reader of the health endpoints samples no exemplars, which only exported points need",
    without="each measurement takes a few microseconds more, for exemplars",
)
READER_STORAGE = Seam(
    "opentelemetry-sdk",
    "MetricReader._collect",
    "SynchronousMeasurementConsumer._reader_storages",
    "MetricReaderStorage._instrument_view_instrument_matches",
    purpose="the SDK keeps nothing for the reader of the health endpoints of what that reader measures itself",
    without="while metrics are exported, each request takes a few microseconds more, and each route a KiB",
)
SDK_SERIES = Seam(
    "opentelemetry-sdk",
    "Histogram._measurement_consumer",
    "SynchronousMeasurementConsumer._reader_storages",
    "SynchronousMeasurementConsumer._sdk_config",
    "Histogram._is_enabled",
    "MetricReaderStorage._get_or_init_view_instrument_match",
    "_ViewInstrumentMatch._attributes_aggregation",
    "_ViewInstrumentMatch._view",
    "View._attribute_keys",
    "opentelemetry.sdk.metrics._internal._view_instrument_match._hash_attributes",
    purpose="record exported durations of the same attributes without a look at the attributes",
    without="while metrics are exported, each duration takes four times as long to record",
)
EXPORT_QUEUE = Seam(
    "opentelemetry-sdk",
    "BatchSpanProcessor._batch_processor",
    "BatchProcessor._metrics",
    "BatchProcessor._queue",
    purpose="count the items that a full queue drops, read its length, and close it by a deadline",
    without="`dropped` lacks the items that a full queue loses, `queue` is null, and closing has no deadline",
)
READER_METRICS = Seam(
    "opentelemetry-sdk",
    "MetricReader._set_meter_provider",
    purpose="measure how long the reader of exported metrics collects",
    without="`otel.sdk.metric_reader.collection.duration` is missing",
)
EXPORTER_METRICS = Seam(
    "opentelemetry-exporter-otlp-proto-common",
    "OTLPSpanExporter._metrics",
    purpose="a batch that the endpoint refuses is counted with `error.type` in `otel.sdk.exporter.…`",
    without="`otel.sdk.exporter.…` counts what an HTTP endpoint refuses as exported",
)
HTTP_TRANSPORT = Seam(
    "opentelemetry-exporter-otlp-proto-http",
    "OTLPSpanExporter(_transport)",
    purpose="export over HTTP without loading `requests` and urllib3",
    without="the exporters load `requests` and urllib3, which take 5 MiB",
)
RESOURCE = Seam(
    "opentelemetry-sdk",
    "TracerProvider._update_resource",
    purpose="a forked worker has the `service.instance.id` that the user set, with the worker's process id added",
    without="a forked worker has the SDK's random `service.instance.id`",
)
FILE_PROVIDERS = Seam(
    "opentelemetry-sdk",
    "TracerProvider._active_span_processor",
    "SynchronousMultiSpanProcessor._span_processors",
    "LoggerProvider._multi_log_record_processor",
    "SynchronousMultiLogRecordProcessor._log_record_processors",
    "MeterProvider._metric_readers",
    "PeriodicExportingMetricReader._exporter",
    "OTLPSpanExporter._endpoint",
    purpose="count what the exporters of a configuration file send, and redact errors in it",
    without="of a configuration file's exports nothing is counted, and secrets in errors leave the process",
)
LOGS = Seam(
    "opentelemetry-sdk",
    "opentelemetry.sdk._logs",
    "opentelemetry._logs",
    purpose="export log records",
    without="log records are not exported",
)
LOG_EXPORTER = Seam(
    "opentelemetry-exporter-otlp-proto-common",
    "opentelemetry.exporter.otlp.proto.http._log_exporter",
    "opentelemetry.exporter.otlp.proto.grpc._log_exporter",
    purpose="export log records",
    without="log records are not exported",
)
PROXIES = Seam(
    "opentelemetry-api",
    "ProxyTracerProvider",
    "_ProxyMeterProvider",
    "ProxyLoggerProvider",
    purpose="see by the class name whether the application has set a global provider",
    without="our providers do not become the global ones; requests and commands are measured all the same",
)
SUPPRESSION = Seam(
    "opentelemetry-api",
    "opentelemetry.context._SUPPRESS_INSTRUMENTATION_KEY",
    purpose="suppress the instrumentation of what the monitoring itself asks and sends, without loading `wrapt`",
    without="instrumentations that look for this key alone make spans of what the monitoring itself asks and sends",
)
EXPORT_LOGGERS = Seam(
    "opentelemetry-sdk",
    "opentelemetry.sdk._shared_internal",
    purpose="find the loggers of the exporters by their names, to limit their warnings to one a minute",
    without="the warnings of the exporters are not limited",
)
CONTRIB = Seam(
    "opentelemetry-instrumentation-fastapi",
    "FastAPI._is_instrumented_by_opentelemetry",
    "BackgroundTask._otel_original_call",
    "OpenTelemetryMiddleware.duration_histogram_new",
    "ExceptionHandlerMiddleware",
    purpose="make request spans for FastAPI before 0.142, without contrib's metrics",
    without="there are no request spans; metrics are recorded all the same",
)
CONTRIB_URLS = Seam(
    "opentelemetry-instrumentation-fastapi",
    "_excluded_urls_from_env",
    purpose="distinguish URLs that are excluded in code, which take precedence, from those of the environment",
    without="URLs that the environment excluded when the process began count as excluded in code",
)
FASTAPI_OPTIONS = Seam(
    "fastapi",
    "FastAPI._telemetry",
    purpose="switch off FastAPI's own telemetry, in whose place ours measures",
    without="FastAPI's own telemetry runs beside ours, with its defaults: it makes the request spans, also of the "
    "monitoring endpoints and excluded URLs; pass FastAPI(telemetry={...})",
)
FASTAPI_REQUEST = Seam(
    "fastapi",
    "fastapi.telemetry._api._RequestTelemetry",
    "_REQUEST_TELEMETRY_KEY",
    "_mount_prefix",
    "_exceptions",
    purpose="have FastAPI name the route of a request, make spans of operations and log failed validations",
    without="our own search names the routes; there are no spans of operations and no log records of validations",
)
FASTAPI_ROUTES = Seam(
    "fastapi",
    "fastapi.routing.iter_route_contexts",
    "effective_route_contexts",
    "original_route",
    "original_router",
    "starlette_route",
    purpose="find the template of a route in an included router (FastAPI 0.137 and later)",
    without="failures in included routers may be reported without their route",
)
MONGO_LISTENERS = Seam(
    "pymongo",
    "client.options.pool_options._event_listeners",
    purpose="add listeners to an existing client",
    without="commands of existing clients are not measured; make the client with "
    "event_listeners=otel_monitoring.instrumentation.mongodb.instrumentation.monitoring_listeners()",
)
MONGO_OPTIONS = Seam(
    "pymongo",
    "client._init_kwargs",
    purpose="make the alert store's own client like the application's",
    without="OTEL_MONITORING_STORE=mongodb needs OTEL_MONITORING_STORE_URI",
)
MONGO_SERVERS = Seam(
    "pymongo",
    "client._topology",
    "_servers",
    "_monitor",
    "_publish",
    "_telemetry",
    "_should_publish",
    "enabled_for_cmap",
    purpose="have the existing pools and monitors of such a client report their events",
    without="an existing client's connections are measured only in pools that it makes from now on",
)
MONGO_POOL = Seam(
    "pymongo",
    "client._topology._servers",
    "pool.requests",
    "pool.max_pool_size",
    purpose="distinguish an exhausted pool from a database that is down, before a ping waits for it",
    without="an exhausted pool is noticed only after a ping has waited for it",
)
MONGO_REGISTRY = Seam(
    "pymongo",
    "pymongo.monitoring._LISTENERS",
    purpose="read which listeners every new client gets, and remove ours at the stop",
    without="our listeners stay registered after the stop and do nothing",
)
MONGO_CLOSED = Seam(
    "pymongo",
    "client._closed",
    "_OperationCancelled",
    purpose="see that the application has closed its client, which is no outage",
    without="a client that the application has closed is recognised only by its errors",
)
MONGO_TRACING = Seam(
    "pymongo",
    "pymongo._otel._is_tracing_enabled",
    "options._options",
    purpose="make no spans where PyMongo makes them itself",
    without="a command may have two spans",
)
MONGO_COMMENTS = Seam(
    "pymongo",
    "client._send_cluster_time",
    purpose="add the trace context to commands as their `comment`, before they are encoded",
    without="commands carry no trace context, as without OTEL_MONITORING_TRACE_COMMENTS",
)
FINALIZERS = Seam(
    "Python",
    "multiprocessing.util.Finalize",
    purpose="stop in order in a process that `multiprocessing` has forked: such a process runs no `atexit` functions",
    without="a process that `multiprocessing` has forked may end before its last telemetry is exported",
)
LOGGERS = Seam(
    "Python",
    "logging.root.manager.loggerDict",
    purpose="list all loggers, to find those of the exporters and limit their warnings to one a minute",
    without="the warnings of the exporters are not limited",
)
RUNNERS = Seam(
    "Python",
    "asyncio.runners",
    purpose="recognise `asyncio.run`'s handler of SIGINT by its module, and leave the signal to it",
    without="SIGINT is blocked until everything is stopped, as it is for a server",
)


def all_seams() -> list[Seam]:
    """Every seam, in the order of this module."""
    return [value for value in globals().values() if isinstance(value, Seam)]


def lost_seams() -> list[dict[str, str | None]]:
    """The failed seams as the diagnostics list them: `library`, `version`, `name`, `error`, `without`."""
    return [
        {
            "library": seam.library,
            "version": seam.version,
            "name": seam.names[0],
            "error": seam.error,
            "without": seam.without,
        }
        for seam in all_seams()
        if not seam.holds
    ]
