"""`Recorder`: measures requests and WebSockets like FastAPI's own telemetry, for FastAPI versions without it."""

from time import perf_counter, time_ns
from typing import Any, Final

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import INVALID_SPAN, Span, StatusCode, get_current_span
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from otel_monitoring import semconv
from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.http_server.broken_responses import REQUEST_KEY, broken_by
from otel_monitoring.instrumentation.http_server.disconnects import (
    client_left,
    observed_send,
    request_error_type,
    socket_closed,
)
from otel_monitoring.instrumentation.http_server.request import (
    RequestOptions,
    handled_exception,
    report,
    root_error,
    unhandled_exception,
)
from otel_monitoring.instrumentation.http_server.route_template import Entrance, RouteTemplates
from otel_monitoring.instrumentation.url_query import hide_query
from otel_monitoring.telemetry.logs_api import LoggerProvider, SeverityNumber

RAW_SEND_KEY: Final = "otel_monitoring.send"
ORIGINAL_KEY: Final = "otel_monitoring.scope"


class Recorder:
    """ASGI layer that records metrics, and adds attributes and errors to contrib's span if there is one.

    Args:
        app: The application that it measures.
        templates: Finds the matched route.
        meter_provider: Makes `http.server.request.duration` and `http.server.active_requests`.
        logger_provider: Makes the logger for unhandled exceptions, if `options.logs`.
        options: How requests are observed.
    """

    def __init__(
        self,
        app: ASGIApp,
        templates: RouteTemplates,
        *,
        meter_provider: MeterProvider,
        logger_provider: LoggerProvider | None,
        options: RequestOptions,
    ) -> None:
        self.app = app
        self.templates = templates
        self.options = options
        self.watched = options.watched_statuses
        meter = meter_provider.get_meter(semconv.SCOPE, schema_url=semconv.SCHEMA_URL)
        self.duration = semconv.REQUEST_DURATIONS.create(meter)
        self.active = meter.create_up_down_counter(
            semconv.HTTP_SERVER_ACTIVE_REQUESTS, unit="{request}", description="Number of active HTTP server requests."
        )
        logs = options.logs and logger_provider is not None
        self.logger = logger_provider.get_logger(semconv.SCOPE) if logs and logger_provider is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Measure one request or connection."""
        scope = scope.get(ORIGINAL_KEY, scope)
        if REQUEST_KEY in scope or scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await _Request(self, scope, receive, send).run()
        else:
            await self._websocket(scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        span = _span_of(scope)
        if scope.get("query_string") and not self.options.capture_query:
            hide_query(span, scope["query_string"])
        routed, entrance = _Routed(scope), Entrance(scope)
        scope[REQUEST_KEY] = routed
        headers = self.options.headers
        headers.of_request(span, scope["headers"])
        try:
            await self.app(scope, receive, observed_send(scope.pop(RAW_SEND_KEY, send), span, headers))
        except BaseException as error:
            if not socket_closed(error):
                self.note_exception(span, error, None)
                span.set_attribute(semconv.ERROR_TYPE, semconv.error_type(error))
                span.set_status(StatusCode.ERROR)
            raise
        finally:
            scope.pop(REQUEST_KEY, None)
            if span.is_recording():
                route = self.route_of(routed.scope, entrance)
                if route is not None:
                    span.set_attribute(semconv.HTTP_ROUTE, route)
                    span.update_name(f"WS {route}")
                # The span ends here, so that no outer layer records the exception a second time.
                span.end()

    def route_of(self, scope: Scope, entrance: Entrance, status: int | None = None) -> str | None:
        """The template of the route that handled a request; None if there is none or it is not found."""
        with fail_open("look-up of the matched route"):
            return self.templates.find(scope, entrance, status)
        return None

    def note_exception(self, span: Span, error: BaseException, route: str | None) -> None:
        """Record an unhandled exception on the span and as a log record."""
        if span.is_recording():
            span.record_exception(error)
        if self.logger is not None and isinstance(error, Exception):
            self.logger.emit(
                exception=error,
                event_name="http.server.request.exception",
                timestamp=time_ns(),
                severity_number=SeverityNumber.ERROR,
                severity_text="ERROR",
                body="Unhandled exception in FastAPI request",
                attributes=None if route is None else {semconv.HTTP_ROUTE: route},
            )


def _span_of(scope: Scope) -> Span:
    """Contrib's span of a request. Without contrib the current span is another's: then the invalid span."""
    return get_current_span() if RAW_SEND_KEY in scope else INVALID_SPAN


class _Routed:
    """Holds the scope that the router has written to, set by `RouteObserver`: middleware may have copied the scope."""

    __slots__ = ("scope",)

    def __init__(self, scope: Scope) -> None:
        self.scope = scope


class RouteObserver:
    """The innermost middleware: keeps the scope object that the router writes to."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Keep the scope, and handle the connection."""
        request = scope.get(REQUEST_KEY)
        if request is not None:
            request.scope = scope
        await self.app(scope, receive, send)


class _Request:
    """One measured request; it ends at the last byte of the response, or with the call if there is no response."""

    __slots__ = (
        "_active",
        "_attributes",
        "_disconnected",
        "_entered",
        "_entrance",
        "_error",
        "_finished",
        "_raw_send",
        "_receive",
        "_recorder",
        "_reported",
        "_send",
        "_span",
        "_started",
        "_status",
        "_trailers",
        "otel_monitoring_broken",
        "scope",
    )

    def __init__(self, recorder: Recorder, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = self._entered = scope
        self._entrance = Entrance(scope)
        self._recorder = recorder
        self._receive = receive
        self._send = send
        self._span = _span_of(scope)
        self._raw_send: Send = scope.pop(RAW_SEND_KEY, send)
        recorder.options.headers.of_request(self._span, scope["headers"])
        if scope.get("query_string") and not recorder.options.capture_query:
            hide_query(self._span, scope["query_string"])
        method = scope["method"]
        self._active = {
            semconv.URL_SCHEME: scope.get("scheme", "http"),
            semconv.HTTP_REQUEST_METHOD: method if method in recorder.options.known_methods else "_OTHER",
        }
        self._attributes: dict[str, Any] = dict(self._active)
        if scope.get("http_version"):
            self._attributes[semconv.NETWORK_PROTOCOL_VERSION] = scope["http_version"]
        self._status: int | None = None
        self._error: BaseException | None = None
        self._trailers = self._disconnected = self._finished = self._reported = False
        self._started = 0.0

    async def run(self) -> None:
        recorder, scope = self._recorder, self._entered
        scope[REQUEST_KEY] = self
        recorder.active.add(1, self._active)
        self._started = perf_counter()
        try:
            await recorder.app(scope, self.receive, self.send)
        except BaseException as error:
            self._raised(error)
            raise
        finally:
            if not self._finished:
                self._finish(
                    ConnectionError("Client disconnected")
                    if self._disconnected
                    else RuntimeError("Incomplete ASGI response")
                )
            scope.pop(REQUEST_KEY, None)
            if self._span.is_recording():
                self._span.end()

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._disconnected = True
        return message

    async def send(self, message: Message) -> None:
        if self._disconnected and not self._finished:
            # The client has disconnected: the message neither completes the request nor sets its status.
            await self._raw_send(message)
            return
        kind = message["type"]
        if kind == "http.response.start":
            self._status = status = message["status"]
            self._trailers = message.get("trailers", False)
            self._recorder.options.headers.of_response(self._span, message.get("headers") or ())
            if status >= 500 or status in self._recorder.watched:
                self._answered_badly(status)
        last = (
            (kind == "http.response.body" and not message.get("more_body", False) and not self._trailers)
            or (kind == "http.response.trailers" and not message.get("more_trailers", False))
            or kind == "http.response.pathsend"
        )
        if last:
            # contrib ends the span when it sends this message.
            self._describe(self._broken_by())
        await self._send(message)
        if last and not self._finished:
            self._record()

    def _broken_by(self) -> BaseException | None:
        error = broken_by(self)
        if error is not None:
            self._error = root_error(error)
            self._recorder.note_exception(self._span, self._error, self._route())
            self._report(self._error)
        return self._error if error is not None else None

    def _answered_badly(self, status: int) -> None:
        self._error = unhandled_exception()
        if self._error is not None:
            self._recorder.note_exception(self._span, self._error, self._route())
        self._reported = True
        report(
            self._recorder.options, self._recorder.templates, self.scope, self._entrance, status, handled_exception()
        )

    def _raised(self, error: BaseException) -> None:
        error = root_error(error)
        if client_left(error):
            if not self._finished:
                self._finish(ConnectionError("Client disconnected"))
            return
        if error is not self._error:
            self._recorder.note_exception(self._span, error, self._route())
        if not self._finished:
            self._finish(error)
        if isinstance(error, Exception):
            self._report(error)

    def _report(self, error: BaseException) -> None:
        if not self._reported:
            self._reported = True
            report(self._recorder.options, self._recorder.templates, self.scope, self._entrance, None, error)

    def _finish(self, error: BaseException) -> None:
        self._describe(error)
        self._record()

    def _describe(self, error: BaseException | None) -> None:
        attributes = self._attributes
        route = self._route()
        if route is not None:
            attributes[semconv.HTTP_ROUTE] = route
        status = self._status
        if status is not None:
            attributes[semconv.HTTP_RESPONSE_STATUS_CODE] = status
        failed = error is not None or status is None or status >= 500
        if failed:
            failure = error or self._error
            attributes[semconv.ERROR_TYPE] = (
                request_error_type(failure) if failure else str(status or "incomplete_response")
            )
        span = self._span
        if span.is_recording():
            span.set_attributes(attributes)
            if failed:
                span.set_status(StatusCode.ERROR)
            if route is not None:
                method = attributes[semconv.HTTP_REQUEST_METHOD]
                span.update_name(f"{'HTTP' if method == '_OTHER' else method} {route}")

    def _record(self) -> None:
        self._finished = True
        self._recorder.duration.record(max(0.0, perf_counter() - self._started), self._attributes)
        self._recorder.active.add(-1, self._active)

    def _route(self) -> str | None:
        return self._recorder.route_of(self.scope, self._entrance, self._status)
