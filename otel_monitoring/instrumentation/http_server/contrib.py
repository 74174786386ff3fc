"""The engine for FastAPI before 0.142, and for applications that use opentelemetry-instrumentation-fastapi (contrib).

contrib makes the spans. The metrics are ours: those of contrib include background tasks, join mounted applications into
one route, and match all routes a second time. Changed are public attributes of contrib's layer:
`OpenTelemetryMiddleware.app`, `.default_span_details`, `.exclude_*_span` and its instruments.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi.applications import FastAPI
from opentelemetry.metrics import NoOpMeterProvider, NoOpUpDownCounter
from opentelemetry.trace import TracerProvider
from starlette.background import BackgroundTask
from starlette.routing import Mount
from starlette.types import ASGIApp, Scope

from otel_monitoring import seams
from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.http_server.broken_responses import layers
from otel_monitoring.instrumentation.http_server.headers import CapturedHeaders
from otel_monitoring.instrumentation.http_server.recorder import Recorder
from otel_monitoring.instrumentation.http_server.request_layers import Gate
from otel_monitoring.instrumentation.http_server.request_options import RequestOptions
from otel_monitoring.instrumentation.http_server.span_attributes import span_details
from otel_monitoring.telemetry.schema import OneSchema

if TYPE_CHECKING:
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

_MODULE = "opentelemetry.instrumentation.fastapi"
_LAYER_MODULE = "opentelemetry.instrumentation.asgi"
_FLAG = "_is_instrumented_by_opentelemetry"
_EXCEPTION_LAYER = _MODULE, "ExceptionHandlerMiddleware"


def applied(app: FastAPI) -> bool:
    """Whether the application is instrumented by contrib already, by its instrumentor or as middleware."""
    return bool(getattr(app, _FLAG, False)) or any(_is_layer(entry.cls) for entry in app.user_middleware)


def apply(app: FastAPI, tracer_provider: TracerProvider, *, operation_spans: bool) -> None:
    """Instrument `app` by contrib, for spans only.

    contrib also replaces `BackgroundTask.__call__` for the whole process, with the tracer of the first application for
    all of them. Without `operation_spans` that is undone at once.

    Args:
        app: The application.
        tracer_provider: Makes the tracer of the spans.
        operation_spans: Whether background tasks get spans.
    """
    ours = not hasattr(BackgroundTask, "_otel_original_call")
    instrumentor = seams.CONTRIB.load(_MODULE, "FastAPIInstrumentor")
    with seams.CONTRIB:
        instrumentor.instrument_app(
            app,
            tracer_provider=OneSchema(tracer_provider),
            meter_provider=NoOpMeterProvider(),
            exclude_spans=["receive", "send"],
        )
        if not applied(app) or not hasattr(BackgroundTask, "_otel_original_call"):
            raise LookupError("it does not say that it was applied")
    original = getattr(BackgroundTask, "_otel_original_call", None)
    if ours and original is not None and not operation_spans:
        setattr(BackgroundTask, "__call__", original)  # noqa: B010 - a method, which mypy lets nobody assign
        delattr(BackgroundTask, "_otel_original_call")


def find(stack: Any) -> "OpenTelemetryMiddleware | None":
    """Contrib's layer in a built middleware stack; None if there is none."""
    kind = _layer_class()
    return next((layer for layer in layers(stack) if isinstance(layer, kind)), None) if kind is not None else None


def _layer_class() -> "type[OpenTelemetryMiddleware] | None":
    """`OpenTelemetryMiddleware` if it is imported already: it takes 20 ms, and FastAPI >= 0.142 does without."""
    return seams.CONTRIB.load(_LAYER_MODULE, "OpenTelemetryMiddleware") if _LAYER_MODULE in sys.modules else None


def repair(layer: "OpenTelemetryMiddleware", options: RequestOptions) -> RequestOptions:
    """Switch off contrib's metrics, its spans for each message, and its second matching of all routes.

    Our layers exclude URLs and capture headers in place of contrib, which also matches the host of a URL.

    Returns:
        The options, with the excluded URLs and captured headers that contrib was given in code, if any.
    """
    with seams.CONTRIB:
        histograms = [name for name in vars(layer) if name.endswith(("_histogram", "_histogram_old", "_histogram_new"))]
        for name in histograms:
            setattr(layer, name, None)
        if not histograms:
            raise LookupError("there are no histograms")
        layer.active_requests_counter = NoOpUpDownCounter("http.server.active_requests")
        layer.default_span_details = lambda scope: span_details(options, scope)
        # The user who sets these hooks wants those spans.
        layer.exclude_receive_span = layer.exclude_receive_span or layer.client_request_hook is None
        layer.exclude_send_span = layer.exclude_send_span or layer.client_response_hook is None
        _drop_exception_layer(layer.app)
        options = options._replace(excluded_url=_excluded_url(layer, options))
        options = options._replace(headers=_headers(layer, options))
    return options


def _excluded_url(layer: "OpenTelemetryMiddleware", options: RequestOptions) -> Callable[[str], object] | None:
    of_environment = seams.CONTRIB_URLS.load(_MODULE, "_excluded_urls_from_env")
    given, layer.excluded_urls = layer.excluded_urls, None
    return options.excluded_url if given is None or given is of_environment else given.url_disabled


def _headers(layer: "OpenTelemetryMiddleware", options: RequestOptions) -> CapturedHeaders:
    request, layer.http_capture_headers_server_request = layer.http_capture_headers_server_request, None
    response, layer.http_capture_headers_server_response = layer.http_capture_headers_server_response, None
    sanitize = layer.http_capture_headers_sanitize_fields.sanitize_header_value
    return options.headers.replaced_by(request, response, lambda name: sanitize(name, "") != "")


def remove_from_mounted(app: FastAPI) -> None:
    """Remove contrib from mounted applications, to which `FastAPIInstrumentor().instrument()` adds it, too.

    The mounting application measures their requests.
    """
    for route in app.routes:
        for mounted in layers(route.app) if isinstance(route, Mount) else ():
            if isinstance(mounted, FastAPI) and mounted is not app:
                remove_from_mounted(mounted)
                if applied(mounted):
                    _without_contrib(mounted)


def install(stack: ASGIApp, recorder: Recorder, gate: Gate) -> ASGIApp:
    """Put the gate before contrib's layer and the recorder behind it; without contrib, both before the whole stack."""
    layer = find(stack)
    if layer is None:
        seams.CONTRIB.lost(LookupError("it did not become part of the application"))
        recorder.app = stack
        gate.app = recorder
        return gate
    recorder.app = layer.app
    layer.app = recorder
    gate.app = layer
    return _replaced(stack, layer, gate)


def leave_out(app: FastAPI, exclude: Callable[[Scope], bool]) -> None:
    """Have contrib leave out the requests that `exclude` selects; `app` is not instrumented by us."""
    build = app.build_middleware_stack

    def build_middleware_stack() -> ASGIApp:
        stack = build()
        layer: Any = find(stack)
        if layer is not None:
            layer.excluded_urls = _Urls(layer.excluded_urls, exclude)
        return stack

    vars(app)["build_middleware_stack"] = build_middleware_stack


class _Urls:
    """Tells contrib which URLs to leave out: those that it was given, and those that `exclude` selects."""

    def __init__(self, given: Any, exclude: Callable[[Scope], bool]) -> None:
        self._given = given
        self._exclude = exclude

    def url_disabled(self, url: str) -> bool:
        """Whether contrib leaves out requests with this URL."""
        if self._given is not None and self._given.url_disabled(url):
            return True
        _, _, host, path = f"{url}///".split("/", 3)
        scope = {"type": "http", "method": "GET", "path": f"/{path[:-3]}", "headers": [(b"host", host.encode())]}
        with fail_open("look-up of our own endpoints"):
            return self._exclude({**scope, "root_path": ""})
        return False


def _without_contrib(mounted: FastAPI) -> None:
    build = mounted.build_middleware_stack

    def build_middleware_stack() -> ASGIApp:
        stack = build()
        layer = find(stack)
        if layer is None:
            return stack
        _drop_exception_layer(layer.app)
        return _replaced(stack, layer, layer.app)

    vars(mounted)["build_middleware_stack"] = build_middleware_stack
    if mounted.middleware_stack is not None:
        mounted.middleware_stack = build_middleware_stack()


def _is_layer(middleware: Any) -> bool:
    return middleware is not None and middleware is _layer_class()


def _replaced(stack: Any, old: object, new: ASGIApp) -> ASGIApp:
    """`stack` with the layer `old` replaced by `new`."""
    if stack is old:
        return new
    parent = next(layer for layer in layers(stack) if getattr(layer, "app", None) is old)
    parent.app = new
    found: ASGIApp = stack
    return found


def _drop_exception_layer(stack: Any) -> None:
    """Remove contrib's layer that records exceptions: the recorder records each once, and only errors."""
    for layer in layers(stack):
        inner = getattr(layer, "app", None)
        if (type(inner).__module__, type(inner).__name__) == _EXCEPTION_LAYER and inner is not None:
            layer.app = inner.app
            return
