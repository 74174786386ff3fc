"""The engine for FastAPI >= 0.142, which measures requests itself: sets its options and adds one ASGI layer."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from fastapi.applications import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from otel_monitoring import seams
from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.http_server.broken_responses import MEASURED, broken_by
from otel_monitoring.instrumentation.http_server.disconnects import (
    client_left,
    observed_send,
    request_error_type,
    socket_closed,
)
from otel_monitoring.instrumentation.http_server.request import (
    OpenConnections,
    RequestOptions,
    handled_exception,
    report,
    request_path,
    running_loop,
)
from otel_monitoring.instrumentation.http_server.route_template import Entrance, RouteTemplates
from otel_monitoring.instrumentation.url_query import hide_query
from otel_monitoring.runtime.current_service import current_service

_CONFIG = "_telemetry"
_DECIDERS = ("_normal_websocket_disconnect", "_exception_type", "_exception")
_MEASURED_BY = "otel_monitoring.measured_by"
_LEFT = "otel_monitoring.left"
_PREFIX = "_mount_prefix"


def has_telemetry(app: FastAPI) -> bool:
    """Whether the installed FastAPI has telemetry of its own."""
    if find_spec("fastapi.telemetry") is None:
        return False
    if not isinstance(vars(app).get(_CONFIG), dict):
        seams.FASTAPI_OPTIONS.lost(LookupError("there are no options"))
    return True


def providers_of(app: object) -> dict[str, object]:
    """The providers that the user has set in `FastAPI(telemetry={...})`, by signal (`traces`, `metrics`, `logs`)."""
    config = getattr(app, "__dict__", {}).get(_CONFIG)
    if not isinstance(config, dict):
        return {}
    keys = {"traces": "tracer_provider", "metrics": "meter_provider", "logs": "logger_provider"}
    return {signal: config[key] for signal, key in keys.items() if config.get(key) is not None}


def configure(app: FastAPI, providers: dict[str, Any], options: RequestOptions) -> dict[str, Any]:
    """Set FastAPI's telemetry options, except those that the user has set in `FastAPI(telemetry={...})`.

    An option is the user's if it differs from the default of `FastAPI()`. `exclude` combines the user's function and
    ours. `auto_configure` is always off, because it would export to the same endpoint a second time.

    Returns:
        The options as they were before; empty if there are none.
    """
    config = vars(app).get(_CONFIG)
    if not isinstance(config, dict):
        return {}
    before = dict(config)
    defaults = vars(FastAPI(openapi_url=None)).get(_CONFIG, {})
    wanted: dict[str, Any] = {**providers, "operation_spans": options.operation_spans}
    # A provider that the user has set exports by itself.
    if config.get("tracer_provider") is None:
        wanted["tracing"] = options.tracing
    if config.get("logger_provider") is None:
        wanted["logs"] = options.logs
    for key, value in wanted.items():
        if key in config and config[key] == defaults.get(key):
            config[key] = value
    config["exclude"] = _either(_noting(options), config.get("exclude"))
    config["auto_configure"] = False
    configure_disconnects()
    return before


def leave_out(app: FastAPI, exclude: Callable[[Scope], bool]) -> None:
    """Have FastAPI's telemetry leave out the requests that `exclude` selects; `app` is not instrumented by us."""
    config = vars(app).get(_CONFIG)
    if isinstance(config, dict):
        theirs = config.get("exclude")
        config["exclude"] = exclude if theirs is None else _either(theirs, exclude)


def leave_to_others(scope: Scope) -> None:
    """Mark a request that the mounting application leaves out, and the instrumented mounted one measures."""
    scope[_LEFT] = True


def configure_disconnects() -> None:
    """Have FastAPI's telemetry, in this process, not count disconnected clients and closed WebSockets as errors.

    It decides that in three private functions, which run outside our layer and are replaced here. If one is missing,
    such requests and connections count as errors.
    """
    asgi = seams.FASTAPI_LEAVING.load("fastapi.telemetry._asgi")
    with seams.FASTAPI_LEAVING:
        normal, _, note = (getattr(asgi, name) for name in _DECIDERS)
        if not hasattr(note, "otel_monitoring"):
            _replace_deciders(asgi, normal, note)


def _replace_deciders(asgi: Any, normal: Any, note: Any) -> None:
    def _normal_websocket_disconnect(exc: BaseException) -> bool:
        return socket_closed(exc) or bool(normal(exc))

    def _exception(*, scope: Scope, exc: BaseException) -> None:
        if not client_left(exc):
            note(scope=scope, exc=exc)

    vars(_exception)["otel_monitoring"] = True
    for name, function in zip(_DECIDERS, (_normal_websocket_disconnect, request_error_type, _exception), strict=True):
        setattr(asgi, name, function)


def _noting(options: RequestOptions) -> Callable[[Scope], bool]:
    """Returns whether a request is left out, and notes in the scope which application is going to measure it."""

    def leaves_out(scope: Scope) -> bool:
        scope[_MEASURED_BY] = options
        return options.leaves_out(scope)

    return leaves_out


def _either(ours: Any, theirs: Any) -> Any:
    return ours if theirs is None else lambda scope: ours(scope) or theirs(scope)


class NativeLayer:
    """The outermost layer of the stack: notes first request, current request and errors, redacts the span's query.

    Args:
        app: The middleware stack. The attribute has this name because FastAPI follows `.app` to find contrib.
        options: How requests are observed.
        templates: Finds the routes of failed requests.
        connections: The open connections.
        configured: Whether FastAPI's telemetry has our options, so that the scope says who measures a request.
        completed: Whether there may be middleware that completes a response that broke off.
    """

    def __init__(
        self,
        app: ASGIApp,
        options: RequestOptions,
        templates: RouteTemplates,
        connections: OpenConnections,
        *,
        configured: bool,
        completed: bool,
    ) -> None:
        self.app = app
        self._completed = completed
        self._configured = configured
        self._connections = connections
        self._options = options
        self._service = options.service
        self._templates = templates
        self._watched = options.watched_statuses
        self._hide_query = not options.capture_query
        self._loop: object = self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        kind = scope["type"]
        if kind not in ("http", "websocket"):
            await self._other(scope, receive, send)
            return
        if self._configured and _MEASURED_BY not in scope and _measured_around(scope):
            await self._measured_here(scope, receive, send)
            return
        if self._loop is not running_loop():
            self._begin()
        span = getattr(scope.get(MEASURED), "span", None)
        if span is not None:
            self._options.headers.of_request(span, scope["headers"])
        self._connections.began(send)
        try:
            if kind == "http":
                await self._http(scope, receive, send, span)
            else:
                await self._websocket(scope, receive, send, span)
        finally:
            self._connections.ended(send)

    async def _measured_here(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Measure a request that a mounting application measures, too, or leaves to this one.

        FastAPI measures a request once. The mounting application is not instrumented by us, so our figures need a
        measurement of their own.
        """
        around, app = scope.pop(MEASURED), scope["app"]
        scope[_MEASURED_BY] = None  # in case this application does not measure it either

        def naming_send(message: Message) -> Any:
            _name_around(around, scope)
            return send(message)

        try:
            await app(scope, receive, send if around is None else naming_send)
        finally:
            scope[MEASURED] = around

    async def _websocket(self, scope: Scope, receive: Receive, send: Send, span: Any) -> None:
        if span is None:
            await self._other(scope, receive, send)
            return
        entrance = Entrance(scope)
        if entrance.root_path:
            _name_from(scope, entrance)
        try:
            await self._other(scope, receive, observed_send(send, span, self._options.headers))
        finally:
            self._name(scope, entrance)

    async def _http(self, scope: Scope, receive: Receive, send: Send, span: Any) -> None:
        if self._hide_query and span is not None and scope.get("query_string"):
            hide_query(span, scope["query_string"])
        entrance = Entrance(scope)
        if entrance.root_path:
            _name_from(scope, entrance)
        reported = gone = False

        async def watched_receive() -> Message:
            nonlocal gone
            message = await receive()
            gone = gone or message["type"] == "http.disconnect"
            return message

        def watched_send(message: Message) -> Any:
            nonlocal reported
            if gone:
                return _send_to_nobody(scope, message, send)
            if message["type"] == "http.response.start":
                status = message["status"]
                self._name(scope, entrance, status)
                if span is not None:
                    self._options.headers.of_response(span, message.get("headers") or ())
                if status >= 500 or status in self._watched:
                    reported = True
                    report(self._options, self._templates, scope, entrance, status, handled_exception())
            elif self._completed and not message.get("more_body"):
                error = broken_by(scope.get(MEASURED))
                if error is not None:
                    _break_off(scope, error)
                    reported = True
                    report(self._options, self._templates, scope, entrance, None, error)
            return send(message)

        ours, token = current_service.set(self._service), request_path.set(scope["path"])
        try:
            await self.app(scope, watched_receive, watched_send)
        except Exception as error:
            if not reported and not client_left(error):
                report(self._options, self._templates, scope, entrance, None, error)
            raise
        finally:
            request_path.reset(token)
            current_service.reset(ours)

    def _name(self, scope: Scope, entrance: Entrance, status: int | None = None) -> None:
        """Set the route where FastAPI does not find it, e.g. behind a router that is not FastAPI's."""
        measured: Any = scope.get(MEASURED)
        if measured is None or scope.get("endpoint") is entrance.endpoint:
            return
        named = getattr(measured, "route", "") is not None and scope.get("app") is self._templates.app
        if named or (self._configured and scope.get(_MEASURED_BY) is not self._options):
            return
        with fail_open("look-up of the matched route"), seams.FASTAPI_REQUEST:
            route = self._templates.find(scope, entrance, status)
            if route is not None and route != measured.route:
                measured.route = route
                if measured.span is not None:
                    measured.span.update_name(f"{measured.span_method} {route}")

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        ours = current_service.set(self._service)
        try:
            await self.app(scope, receive, send)
        finally:
            current_service.reset(ours)

    def _begin(self) -> None:
        self._loop = running_loop()
        with fail_open("start on the first request"):
            self._options.on_first_request()


def _name_around(around: Any, scope: Scope) -> None:
    """Set the route in the mounting application's measurement: FastAPI sets it in one measurement only."""
    route = getattr(scope.get(MEASURED), "route", None)
    if route is not None:
        with seams.FASTAPI_REQUEST:
            whole = getattr(around, _PREFIX) + route
            if around.route != whole:
                around.route = whole
                if around.span is not None:
                    around.span.update_name(f"{around.span_method} {whole}")


def _measured_around(scope: Scope) -> bool:
    """Whether a mounting application measures the request, or leaves it to this one."""
    return MEASURED in scope and (scope[MEASURED] is not None or _LEFT in scope)


async def _send_to_nobody(scope: Scope, message: Message, send: Send) -> None:
    """Send a message after the client has disconnected, as middleware and error handlers may do.

    The message must neither complete the request for FastAPI's telemetry nor set its status.
    """
    kind = message["type"]
    if kind == "http.response.body":
        message = {**message, "more_body": True}
    elif kind == "http.response.trailers":
        message = {**message, "more_trailers": True}
    await send(message)
    measured: Any = scope.get(MEASURED)
    if kind == "http.response.start" and getattr(measured, "status_code", None) is not None:
        measured.status_code = None


class _BrokenStatus(int):
    """The status of a response that broke off; it compares as at least 500, so that FastAPI counts a failure."""

    def __ge__(self, other: int) -> bool:
        return True


def _break_off(scope: Scope, error: Exception) -> None:
    """Record the failure before FastAPI's telemetry ends, which is at the next message."""
    measured: Any = scope[MEASURED]
    with seams.FASTAPI_BROKEN:
        measured.status_code = _BrokenStatus(measured.status_code)
        seams.FASTAPI_BROKEN.load("fastapi.telemetry._asgi", "_exception")(scope=scope, exc=error)


def _name_from(scope: Scope, entrance: Entrance) -> None:
    """Set the prefix of the route of a request that FastAPI has just begun to measure to that of `entrance`.

    FastAPI's prefix is the root path, even if the path came without it, and includes that of a mounting application.
    """
    measured: Any = scope.get(MEASURED)
    with seams.FASTAPI_REQUEST:
        # A mounting application that measures has chosen its mount already, and names the routes below.
        if measured is not None and measured.route is None and isinstance(getattr(measured, _PREFIX), str):
            setattr(measured, _PREFIX, entrance.prefix)
