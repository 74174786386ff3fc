"""`Recorder`: measures requests and WebSockets, whatever makes their spans."""

from collections.abc import Awaitable, Callable
from time import perf_counter, time_ns
from types import FrameType
from typing import Any, Final

from opentelemetry.context import Context, attach, detach, get_current, set_value
from opentelemetry.trace import Span, StatusCode
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from otel_monitoring import semconv
from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.database_work.span import describe
from otel_monitoring.instrumentation.database_work.work import WORK, Work, current_work
from otel_monitoring.instrumentation.http_server.broken_responses import REQUEST_KEY
from otel_monitoring.instrumentation.http_server.disconnects import (
    client_left,
    observed_send,
    request_error_type,
    socket_closed,
)
from otel_monitoring.instrumentation.http_server.native import MEASURED, RouteNaming, name_around
from otel_monitoring.instrumentation.http_server.request_exceptions import (
    handled_exception,
    root_error,
    unhandled_exception,
)
from otel_monitoring.instrumentation.http_server.request_metrics import RequestMetrics
from otel_monitoring.instrumentation.http_server.request_options import RequestOptions, report
from otel_monitoring.instrumentation.http_server.route_template import RouteTemplates, entrance_of
from otel_monitoring.instrumentation.http_server.server_spans import RAW_SEND_KEY, contribs_span
from otel_monitoring.instrumentation.url_query import hide_query
from otel_monitoring.metrics.direct_histogram import RecordedSeries
from otel_monitoring.telemetry.exception_signal import ExceptionSignal, LogEvent

ORIGINAL_KEY: Final = "otel_monitoring.scope"

_REQUEST_EXCEPTION: Final = "http.server.request.exception"
_SOCKET_EXCEPTION: Final = "fastapi.websocket.exception"

_reading_frame = fail_open("finding the request that blocks the event loop")


def request_in(frame: FrameType | None) -> str:
    """The request whose code runs in a frame or in one that called it, as `GET /route`; empty: none.

    Args:
        frame: The innermost frame of another thread, which waits meanwhile or goes on.
    """
    with _reading_frame:
        while frame is not None:
            request = frame.f_locals.get("self") if frame.f_code is _Request.run.__code__ else None
            if isinstance(request, _Request):
                return request.name
            frame = frame.f_back
    return ""


Spans = Callable[[Scope], tuple[Span | None, Context | None]]
"""Returns the span of a request, and the context in which the request is to be handled; None: the current one."""


class Recorder:
    """ASGI layer that records metrics, and adds attributes and errors to the span if there is one.

    Args:
        app: The application that it measures.
        templates: Finds the matched route where FastAPI does not name it.
        metrics: Where durations are recorded.
        spans: Starts or finds the span of a request; None: there are none.
        naming: Has FastAPI name the route; None: it does not.
        logger: Emits unhandled exceptions as log events; None: there are none.
        options: How requests are observed.
    """

    def __init__(
        self,
        app: ASGIApp,
        templates: RouteTemplates,
        *,
        metrics: RequestMetrics,
        spans: Spans | None,
        naming: RouteNaming | None,
        logger: Any,
        options: RequestOptions,
    ) -> None:
        self.app = app
        self.templates = templates
        self.metrics = metrics
        self.spans = spans
        self.naming = naming
        self.options = options
        self.watched = options.watched_statuses
        self._exceptions = ExceptionSignal(logger)
        self.own_spans = spans is not contribs_span

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Measure one request or connection."""
        scope = scope.get(ORIGINAL_KEY, scope)
        if REQUEST_KEY in scope or scope["type"] not in ("http", "websocket"):
            return self.app(scope, receive, send)
        kind = _Request if scope["type"] == "http" else _Socket
        return kind(self, scope, receive, send).run()

    def note_exception(
        self, span: Span | None, error: BaseException, route: str | None, event: str, *, since: float = 0.0
    ) -> None:
        """Record an unhandled exception of what began at `since`; a cancellation or the end of the process is none."""
        if isinstance(error, Exception):
            body = "Unhandled exception in FastAPI " + ("request" if event == _REQUEST_EXCEPTION else "WebSocket")
            where = None if route is None else {semconv.HTTP_ROUTE: route}
            self._exceptions.record(error, span, LogEvent(event, body, where), since=since)


class RouteObserver:
    """The innermost middleware: tells a request in which task and with which scope object it reaches the router.

    Other middleware may copy the scope, and may have the request handled in a task of its own.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Keep the scope, and handle the connection."""
        request = scope.get(REQUEST_KEY)
        if request is not None:
            request.reached(scope)
        await self.app(scope, receive, send)


class _Connection:
    """A request or WebSocket that is measured.

    Attributes:
        scope: The scope that the router has written to.
        broken_by: What broke off the response below a middleware that completed it.
    """

    __slots__ = (
        "_around",
        "_context",
        "_ended",
        "_entered",
        "_entrance",
        "_named",
        "_raw_send",
        "_receive",
        "_recorder",
        "_send",
        "_span",
        "_token",
        "broken_by",
        "scope",
    )

    def __init__(self, recorder: Recorder, scope: Scope, receive: Receive, send: Send, method: str) -> None:
        self._recorder = recorder
        self.scope = self._entered = scope
        self._receive = receive
        self._send = send
        self._entrance = entrance = entrance_of(scope)
        self._around: Any = scope.get(MEASURED)
        self.broken_by: Exception | None = None
        self._span: Span | None = None
        self._context: Context | None = None
        self._ended: int | None = None
        self._token: Any = None
        if recorder.spans is not None:
            self._span, self._context = recorder.spans(scope)
            self._describe_span()
        self._raw_send: Send = scope.pop(RAW_SEND_KEY, send)
        naming = recorder.naming
        self._named: Any = None if naming is None else naming.request(self._span, method, entrance.prefix)

    def _describe_span(self) -> None:
        span, scope, options = self._span, self._entered, self._recorder.options
        if span is None:
            return
        options.headers.of_request(span, scope["headers"])
        if not self._recorder.own_spans and scope.get("query_string") and not options.capture_query:
            hide_query(span, scope["query_string"])

    def _enter(self) -> None:
        """Become the measurement of the scope, and make the context current."""
        scope, naming, context = self._entered, self._recorder.naming, self._context
        scope[REQUEST_KEY] = self
        if naming is not None:
            scope[MEASURED] = self._named
            if context is not None or naming.in_context:
                context = naming.within(self._named, get_current() if context is None else context)
        if context is not None:
            self._context, self._token = context, attach(context)

    def _leave(self) -> None:
        """Undo `_enter`, and end the span."""
        scope, naming, span = self._entered, self._recorder.naming, self._span
        scope.pop(REQUEST_KEY, None)
        if naming is not None:
            scope[MEASURED] = self._around
            naming.ended(self._named)
        if self._token is not None:
            detach(self._token)
        if span is not None and span.is_recording():
            span.end(self._ended)

    def reached(self, scope: Scope) -> None:
        """The connection has reached the router, in the current task, with this scope."""
        self.scope = scope

    def _route(self, status: int | None = None) -> str | None:
        """The template of the route that handles the connection; None if there is none or it is not found."""
        named, scope, templates = self._named, self.scope, self._recorder.templates
        known: str | None = None
        if named is not None:
            known = named.route
            # FastAPI does not name what is behind a router that is not its own.
            if known is not None and scope.get("app") is templates.app:
                return known
        with fail_open("look-up of the matched route"):
            return templates.find(scope, self._entrance, status) or known
        return known

    def _name(self, route: str | None, method: str) -> None:
        """Name the span, and the measurement of an application around, after the route."""
        span = self._span
        if route is None:
            return
        if span is not None and span.is_recording() and (self._named is None or self._named.route != route):
            span.set_attribute(semconv.HTTP_ROUTE, route)
            span.update_name(f"{method} {route}")
        if self._around is not None:
            name_around(self._around, route)


class _Socket(_Connection):
    """One WebSocket: a span from its opening to its end."""

    __slots__ = ()

    def __init__(self, recorder: Recorder, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(recorder, scope, receive, send, "WS")

    async def run(self) -> None:
        recorder, span, send = self._recorder, self._span, self._raw_send
        if span is not None:
            send = observed_send(send, span, recorder.options.headers)
        self._enter()
        try:
            await recorder.app(self._entered, self._receive, send)
        except BaseException as error:
            if not socket_closed(error):
                recorder.note_exception(span, error, None, _SOCKET_EXCEPTION)
                if span is not None:
                    span.set_attribute(semconv.ERROR_TYPE, semconv.error_type(error))
                    span.set_status(StatusCode.ERROR)
            raise
        finally:
            if span is not None or self._around is not None:
                self._name(self._route(), "WS")
            # The span ends here, so that no outer layer records the exception a second time.
            self._leave()


class _Request(_Connection):
    """One measured request; it ends at the last byte of the response, or with the call if there is no response."""

    __slots__ = (
        "_active",
        "_disconnected",
        "_error",
        "_finished",
        "_method",
        "_reported",
        "_series",
        "_started",
        "_status",
        "_template",
        "_trailers",
        "_work",
    )

    def __init__(self, recorder: Recorder, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        known = method in recorder.options.known_methods
        self._method: str = method if known else semconv.OTHER
        super().__init__(recorder, scope, receive, send, method if known else "HTTP")
        self._status: int | None = None
        self._error: BaseException | None = None
        self._series: RecordedSeries | None = None
        self._template: str | None = None
        self._work: Work | None = None
        self._trailers = self._disconnected = self._finished = self._reported = False

    async def run(self) -> None:
        recorder = self._recorder
        self._active = active = recorder.metrics.active(self._method, self._entered.get("scheme", "http"))
        active.add(self)
        database = recorder.options.database
        if database is not None:
            self._work = work = database.begin()
            with_work = current_work.set(work)
            if self._span is not None:  # threads that the application starts have at most OpenTelemetry's context
                self._context = set_value(WORK, work, self._context)
        self._enter()
        self._started = perf_counter()
        try:
            await recorder.app(self._entered, self.receive, self.send)
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
            if database is not None:
                work.close()
                current_work.reset(with_work)
            self._leave()

    def reached(self, scope: Scope) -> None:
        super().reached(scope)
        if self._work is not None:
            self._work.reached()

    @property
    def name(self) -> str:
        """The request as `GET /route`."""
        return f"{self._method} {self._route(self._status) or semconv.UNMATCHED_ROUTE}"

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._disconnected = True
        return message

    def send(self, message: Message) -> Any:
        if self._disconnected and not self._finished:
            # The client has disconnected: the message neither completes the request nor sets its status.
            return self._raw_send(message)
        kind = message["type"]
        if kind == "http.response.start":
            self._begin_answer(message)
        elif (
            (kind == "http.response.body" and not message.get("more_body", False) and not self._trailers)
            or (kind == "http.response.trailers" and not message.get("more_trailers", False))
            or kind == "http.response.pathsend"
        ):
            return self._send_last(message)
        return self._send(message)

    def _begin_answer(self, message: Message) -> None:
        self._status = status = message["status"]
        self._trailers = message.get("trailers", False)
        if self._span is not None:
            self._recorder.options.headers.of_response(self._span, message.get("headers") or ())
        if status >= 500 or status in self._recorder.watched:
            self._answered_badly(status)

    async def _send_last(self, message: Message) -> None:
        # contrib ends the span when it sends this message.
        self._describe(self._broken_by())
        await self._send(message)
        if not self._finished:
            self._record()

    def _broken_by(self) -> BaseException | None:
        found = self.broken_by
        if found is None:
            return None
        self._error = error = root_error(found)
        self._note(error)
        self._report(error)
        return error

    def _answered_badly(self, status: int) -> None:
        self._error = unhandled_exception()
        if self._error is not None:
            self._note(self._error)
        self._reported = True
        report(self._recorder.options, self._method, self._route(status), status, handled_exception())

    def _raised(self, error: BaseException) -> None:
        error = root_error(error)
        if client_left(error):
            if not self._finished:
                self._finish(ConnectionError("Client disconnected"))
            return
        if error is not self._error:
            self._note(error)
        if not self._finished:
            self._finish(error)
        if isinstance(error, Exception):
            self._report(error)

    def _note(self, error: BaseException) -> None:
        route = self._route(self._status)
        self._recorder.note_exception(self._span, error, route, _REQUEST_EXCEPTION, since=self._started)

    def _report(self, error: BaseException) -> None:
        if not self._reported:
            self._reported = True
            report(self._recorder.options, self._method, self._route(self._status), None, error)

    def _finish(self, error: BaseException) -> None:
        self._describe(error)
        self._record()

    def _describe(self, error: BaseException | None) -> None:
        """Find the series, and put what is known about the answer on the span."""
        status, scope = self._status, self._entered
        cause: str | None = None
        if error is not None or status is None or status >= 500:
            failure = error or self._error
            cause = request_error_type(failure) if failure else str(status or "incomplete_response")
        route = self._template = self._route(status)
        self._series = self._recorder.metrics.series(
            (self._method, scope.get("scheme", "http"), scope.get("http_version") or None, route, status, cause)
        )
        span = self._span
        if span is not None and span.is_recording():
            if status is not None:
                span.set_attribute(semconv.HTTP_RESPONSE_STATUS_CODE, status)
            if cause is not None:
                span.set_attribute(semconv.ERROR_TYPE, cause)
                span.set_status(StatusCode.ERROR)
            if self._work is not None:
                describe(span, self._work)
        if span is not None or self._around is not None:
            self._name(route, "HTTP" if self._method == semconv.OTHER else self._method)

    def _record(self) -> None:
        self._finished = True
        series, span = self._series, self._span
        if series is not None:
            seconds = max(0.0, perf_counter() - self._started)
            series.record(seconds, self._context)
            if span is not None and series.slowest is not None and seconds > series.slowest.least:
                context = span.get_span_context()
                if context.trace_flags.sampled:
                    series.slowest.note(seconds, context.trace_id)
        self._active.discard(self)
        work, database = self._work, self._recorder.options.database
        if work is not None and database is not None:
            database.answered(work, self._method, self._template, self._context)
        if span is not None and self._recorder.own_spans:
            if self._error is None and (self._status or 0) >= 500:
                self._ended = time_ns()  # its exception may come later, out of middleware with a task of its own
            else:
                span.end()
