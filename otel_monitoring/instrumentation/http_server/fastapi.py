"""`instrument_app`: FastAPI's own telemetry if it has one (>= 0.142), else contrib's spans and our metrics.

Both engines produce the same metrics (`http.server.request.duration`, `http.server.active_requests`), attributes and
values, and server spans with the same names; `tests/conformance` holds them to that.
"""

from typing import Any, Literal
from weakref import WeakSet

from fastapi.applications import FastAPI
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider
from starlette.middleware import Middleware
from starlette.types import ASGIApp

from otel_monitoring.errors import InstrumentationError
from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.http_server import broken_responses, contrib, native
from otel_monitoring.instrumentation.http_server.native import providers_of
from otel_monitoring.instrumentation.http_server.recorder import Recorder, RouteObserver
from otel_monitoring.instrumentation.http_server.request import (
    CurrentRequest,
    OpenConnections,
    RequestError,
    RequestOptions,
    current_request,
)
from otel_monitoring.instrumentation.http_server.route_template import RouteTemplates
from otel_monitoring.telemetry.logs_api import LoggerProvider

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
    ) -> None:
        self.tracer_provider, self.meter_provider, self._logger_provider = providers
        self._app = app
        self._options = options
        self._templates = RouteTemplates(app)
        self.connections = OpenConnections()
        self._native_configured = False
        self._applied = contrib.applied(app)
        self.engine: Engine = "native" if not self._applied and native.has_telemetry(app) else "contrib"
        if self.engine == "native":
            self._configure_native()
        elif not self._applied:
            contrib.apply(app, self.tracer_provider, operation_spans=options.operation_spans)
        self._build = app.build_middleware_stack
        vars(app)["build_middleware_stack"] = self._build_stack

    def _configure_native(self) -> None:
        providers: dict[str, Any] = {
            "tracer_provider": self.tracer_provider,
            "meter_provider": self.meter_provider,
            "logger_provider": self._logger_provider,
        }
        before = native.configure(self._app, providers, self._options)
        self._native_configured = bool(before)
        self.tracer_provider = before.get("tracer_provider") or self.tracer_provider
        self.meter_provider = before.get("meter_provider") or self.meter_provider
        self._logger_provider = before.get("logger_provider") or self._logger_provider

    def _build_stack(self) -> ASGIApp:
        app, options = self._app, self._options
        contrib.remove_from_mounted(app)
        observed = [Middleware(RouteObserver)] if self.engine == "contrib" else []
        # Innermost, next to the router; removed from the list afterwards, because the list is the user's.
        before, app.user_middleware = app.user_middleware, [*app.user_middleware, *observed]
        try:
            stack = self._build()
        finally:
            app.user_middleware = before
        completed = True
        with fail_open("look for middleware that completes broken answers"):
            completed = broken_responses.observe(stack)
        layer = contrib.find(stack)
        if layer is not None:
            self._applied = self._applied or self.engine == "native"
            self.engine = "contrib"
            options = contrib.repair(layer, options)
        if self.engine == "native":
            return native.NativeLayer(
                stack,
                options,
                self._templates,
                self.connections,
                configured=self._native_configured,
                completed=completed,
            )
        recorder = Recorder(
            stack,
            self._templates,
            meter_provider=self.meter_provider,
            logger_provider=self._logger_provider,
            options=options,
        )
        gate = contrib.Gate(recorder, options, tracing=options.tracing or self._applied)
        return contrib.ContribLayer(contrib.install(stack, recorder, gate), options, self.connections)


def instrument_app(
    app: FastAPI,
    *,
    tracer_provider: TracerProvider,
    meter_provider: MeterProvider,
    logger_provider: LoggerProvider | None,
    options: RequestOptions,
) -> AppInstrumentation:
    """Measure every request of `app`.

    Args:
        app: The application, before it has started. Options in `FastAPI(telemetry={...})` take precedence.
        tracer_provider: The provider of request spans, unless the application has one of its own.
        meter_provider: The provider of request metrics, likewise.
        logger_provider: The provider of log records about unhandled exceptions, likewise.
        options: How requests are observed.

    Raises:
        InstrumentationError: `app` is no FastAPI application, is instrumented already, or has already started.
    """
    check_application(app)
    instrumentation = AppInstrumentation(app, options, (tracer_provider, meter_provider, logger_provider))
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
