"""`instrument_app`: one recorder measures requests; the spans are its own, or contrib's.

For FastAPI with telemetry of its own (>= 0.142), which is switched off, the engine is `native`; else, and where the
user has applied contrib, it is `contrib`. Both produce the same metrics (`http.server.request.duration`,
`http.server.active_requests`), attributes and values, and server spans with the same names; `tests/conformance` holds
them to that.
"""

from collections.abc import Callable, Collection
from typing import Any, Literal
from weakref import WeakSet

from fastapi.applications import FastAPI
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.types import ASGIApp, Scope

from otel_monitoring import semconv
from otel_monitoring.errors import InstrumentationError
from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.http_server import broken_responses, contrib, native
from otel_monitoring.instrumentation.http_server.current_request import CurrentRequest, current_request
from otel_monitoring.instrumentation.http_server.native import (
    ChosenTelemetry,
    RouteNaming,
    ValidationLogger,
    providers_of,
)
from otel_monitoring.instrumentation.http_server.open_connections import OpenConnections
from otel_monitoring.instrumentation.http_server.recorder import Recorder, RouteObserver, Spans
from otel_monitoring.instrumentation.http_server.request_layers import ApplicationLayer, Gate
from otel_monitoring.instrumentation.http_server.request_metrics import RequestMetrics
from otel_monitoring.instrumentation.http_server.request_options import RequestError, RequestOptions
from otel_monitoring.instrumentation.http_server.route_template import RouteTemplates
from otel_monitoring.instrumentation.http_server.server_spans import ServerSpans, contribs_span
from otel_monitoring.metrics.direct_histogram import DirectHistogram
from otel_monitoring.telemetry.logs_api import LoggerProvider
from otel_monitoring.telemetry.meter_providers import other_readers

__all__ = [
    "AppInstrumentation",
    "CurrentRequest",
    "RequestError",
    "RequestOptions",
    "current_request",
    "instrument_app",
    "providers_of",
]

Engine = Literal["native", "contrib"]

_instrumented: WeakSet[FastAPI] = WeakSet()


class AppInstrumentation:
    """An instrumented application.

    Attributes:
        engine: `native` or `contrib`. If an `OpenTelemetryMiddleware` is added later, `native` becomes `contrib` when
            the middleware stack is built, because FastAPI then leaves the measurement to that.
        tracer_provider: The provider of request spans: the user's in `FastAPI(telemetry={...})`, else the given one.
        meter_provider: The provider of request metrics, likewise.
        connections: The requests and WebSockets that are being handled.
    """

    def __init__(
        self,
        app: FastAPI,
        options: RequestOptions,
        providers: tuple[TracerProvider, MeterProvider, LoggerProvider | None],
        durations: DirectHistogram,
    ) -> None:
        self.tracer_provider, self.meter_provider, self._logger_provider = providers
        self._app = app
        self._options = options
        self._durations = durations
        self._templates = RouteTemplates(app)
        self.connections = OpenConnections()
        self._applied = contrib.applied(app)
        self.engine: Engine = "native" if not self._applied and native.has_telemetry() else "contrib"
        self._chosen: ChosenTelemetry | None = ChosenTelemetry()
        if self.engine == "native":
            self._take_over()
        elif not self._applied:
            contrib.apply(app, self.tracer_provider, operation_spans=options.operation_spans)
        self._build = app.build_middleware_stack
        vars(app)["build_middleware_stack"] = self._build_stack

    def _take_over(self) -> None:
        """Measure in place of FastAPI's own telemetry, and do what the user has told that."""
        options, chosen = self._options, native.switch_off(self._app)
        self._chosen = chosen
        if chosen is None:  # FastAPI's own makes the spans and log records
            self._options = options._replace(tracing=False, logs=False)
            return
        # A provider that the user has set exports by itself.
        self._options = options._replace(
            tracing=chosen.tracing and (options.tracing or chosen.tracer_provider is not None),
            logs=chosen.logs and (options.logs or chosen.logger_provider is not None),
            operation_spans=chosen.operation_spans and options.operation_spans,
            exclude=_either(options.exclude, chosen.exclude),
        )
        self.tracer_provider = chosen.tracer_provider or self.tracer_provider
        self.meter_provider = chosen.meter_provider or self.meter_provider
        self._logger_provider = chosen.logger_provider or self._logger_provider

    def _build_stack(self) -> ASGIApp:
        app, options = self._app, self._options
        contrib.remove_from_mounted(app)
        # Innermost, next to the router; removed from the list afterwards, because the list is the user's.
        named = self.engine == "native" and RouteNaming.tried()
        observed = [] if named and not any(map(_makes_tasks, app.user_middleware)) else [Middleware(RouteObserver)]
        before, app.user_middleware = app.user_middleware, [*app.user_middleware, *observed]
        try:
            stack = self._build()
        finally:
            app.user_middleware = before
        with fail_open("look for middleware that completes broken answers"):
            broken_responses.observe(stack)
        layer = contrib.find(stack)
        if layer is not None:
            self._applied = self._applied or self.engine == "native"
            self.engine = "contrib"
            options = contrib.repair(layer, options)
        recorder = self._recorder(stack, options)
        if self.engine == "native":
            gate = Gate(recorder, options, tracing=False)
            return ApplicationLayer(gate, options, self.connections)
        gate = Gate(recorder, options, tracing=options.tracing or self._applied)
        return ApplicationLayer(contrib.install(stack, recorder, gate), options, self.connections)

    def _recorder(self, stack: ASGIApp, options: RequestOptions) -> Recorder:
        logs = options.logs and self._logger_provider is not None
        logger = None
        if logs and self._logger_provider is not None:
            logger = self._logger_provider.get_logger(semconv.SCOPE, schema_url=semconv.SCHEMA_URL)
        spans: Spans | None = contribs_span
        tracer = None
        if self.engine == "native":
            own = ServerSpans(self.tracer_provider, options) if options.tracing else None
            tracer = own.tracer if own is not None and options.operation_spans else None
            spans = own
        validations = ValidationLogger(logger) if logger is not None and self.engine == "native" else None
        return Recorder(
            stack,
            self._templates,
            metrics=RequestMetrics(self.meter_provider, self._durations, self._readers(), options.slow),
            spans=spans,
            naming=RouteNaming.tried(logger=validations, tracer=tracer),
            logger=logger,
            options=options,
        )

    def _readers(self) -> Collection[object] | None:
        return other_readers(self.meter_provider) if self._chosen is None or self._chosen.metrics else None


def _makes_tasks(middleware: Any) -> bool:
    """Whether middleware of this entry has each request handled in a task of its own, as far as that is known."""
    return isinstance(middleware.cls, type) and issubclass(middleware.cls, BaseHTTPMiddleware)


def _either(ours: Callable[[Scope], bool], theirs: Callable[[Scope], bool] | None) -> Callable[[Scope], bool]:
    return ours if theirs is None else lambda scope: ours(scope) or theirs(scope)


def instrument_app(
    app: FastAPI,
    *,
    tracer_provider: TracerProvider,
    meter_provider: MeterProvider,
    logger_provider: LoggerProvider | None,
    options: RequestOptions,
    durations: DirectHistogram | None = None,
) -> AppInstrumentation:
    """Measure every request of `app`.

    Args:
        app: The application, before it has started. Options in `FastAPI(telemetry={...})` take precedence.
        tracer_provider: The provider of request spans, unless the application has one of its own.
        meter_provider: The provider of request metrics, likewise.
        logger_provider: The provider of log records about unhandled exceptions, likewise.
        options: How requests are observed.
        durations: The aggregator's histogram of request durations; None: there is no aggregator.

    Raises:
        InstrumentationError: `app` is no FastAPI application, is instrumented already, or has already started.
    """
    check_application(app)
    instrumentation = AppInstrumentation(
        app,
        options,
        (tracer_provider, meter_provider, logger_provider),
        durations or DirectHistogram(semconv.HTTP_SERVER_REQUEST_DURATION),
    )
    _instrumented.add(app)
    return instrumentation


def check_application(app: object) -> None:
    """Check that `instrument_app` can instrument `app`.

    Raises:
        InstrumentationError: See `instrument_app`.
    """
    if not isinstance(app, FastAPI):
        kind = f"{type(app).__module__}.{type(app).__qualname__}"
        wraps = ", which wraps an application" if callable(getattr(app, "app", None)) else ""
        raise InstrumentationError(
            f"instrument() needs the FastAPI application itself, not {kind}{wraps}: call instrument(app) with the "
            "object that FastAPI() returned, before anything wraps it."
        )
    if app in _instrumented:
        raise InstrumentationError(
            "This application is instrumented already: call instrument(app) once, where the application is created."
        )
    if app.middleware_stack is not None:
        raise InstrumentationError(
            "The application has already started, so instrument(app) comes too late: call it where the application is "
            "created, not in a lifespan, a startup handler or a request."
        )
