"""What both request engines share: their options, the current request, and the texts that may leave the process."""

import asyncio
import re
import sys
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Final

from starlette.types import Scope

from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.http_server.broken_responses import MEASURED
from otel_monitoring.instrumentation.http_server.headers import CapturedHeaders
from otel_monitoring.instrumentation.http_server.route_template import Entrance, RouteTemplates

if TYPE_CHECKING:
    from otel_monitoring.monitoring.service import MonitoringService

# https://opentelemetry.io/docs/specs/semconv/http/http-spans/: the methods of RFC 9110, RFC 5789 and QUERY.
KNOWN_METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)
_POLL_SECONDS: Final = 0.01

_ANSWERED_BY: Final = "starlette.middleware.errors"

request_path: ContextVar[str | None] = ContextVar("otel_monitoring_request_path", default=None)
"""The path of the HTTP request the code runs in; the engines set it."""


@dataclass(frozen=True, slots=True)
class RequestError:
    """A request that went wrong.

    Attributes:
        method: The request's method, `_OTHER` when it is none of the known ones.
        route: The matched route's template with all its prefixes, or None.
        status: The status that was sent, or None when there was none.
        exception: What was raised, where it can be seen, also when a handler turned it into the answer.
    """

    method: str
    route: str | None
    status: int | None
    exception: BaseException | None


@dataclass(frozen=True, kw_only=True)
class RequestOptions:
    """How requests are observed.

    Attributes:
        exclude: Which requests and connections get no span and no metric (`scope` → bool): our own endpoints.
        excluded_url: Whether a path is one of those that the user leaves out likewise; None: there are none.
        tracing: Whether anybody exports spans; False: no span work at all.
        logs: Whether unhandled exceptions become log records.
        operation_spans: Spans for dependencies, endpoint, serialization and background tasks, where the engine can.
        capture_query: Keep the values of `url.query` on spans; else every one is replaced by `REDACTED`.
        headers: Which headers of requests and answers spans have.
        known_methods: Methods that are reported as they are; every other one is `_OTHER`.
        watched_statuses: Statuses below 500 that `on_error` wants to see too.
        on_error: Called for 5xx answers, watched statuses and unhandled exceptions of requests that are not excluded.
        on_first_request: Called before the first request or connection on an event loop is handled.
        service: Whose requests they are: see `current_service`.
    """

    exclude: Callable[[Scope], bool]
    tracing: bool
    logs: bool
    on_error: Callable[[RequestError], None]
    on_first_request: Callable[[], None]
    operation_spans: bool = False
    capture_query: bool = False
    excluded_url: Callable[[str], object] | None = None
    headers: CapturedHeaders = field(default_factory=CapturedHeaders)
    known_methods: frozenset[str] = KNOWN_METHODS
    watched_statuses: frozenset[int] = frozenset()
    service: "MonitoringService | None" = None

    def leaves_out(self, scope: Scope) -> bool:
        """Whether a request or connection gets no span, metric or log record. The Host header does not matter."""
        return bool(self.excluded_url is not None and self.excluded_url(scope["path"])) or self.exclude(scope)


class OpenConnections:
    """The requests and WebSockets that an application is handling; usable from any thread."""

    def __init__(self) -> None:
        self._open: set[object] = set()
        self.began, self.ended = self._open.add, self._open.discard

    async def all_ended(self, seconds: float) -> None:
        """Wait until there are none, at most `seconds`: cancelled ones may have to tidy up."""
        until = monotonic() + seconds
        while self._open and monotonic() < until:  # noqa: ASYNC110 - they end in any thread
            await asyncio.sleep(_POLL_SECONDS)


@dataclass(frozen=True, slots=True)
class CurrentRequest:
    """The instrumented HTTP request in which the calling code runs.

    Attributes:
        path: Its decoded path, as in the ASGI scope.
    """

    path: str

    def is_called(self, endpoint: str) -> bool:
        """Whether `endpoint` is this request's path as `request.url.path` spells it: then the request is ours already.

        A handler that records an operation under its own path cannot be told from a middleware that records the
        request; it counts as the request.
        """
        return endpoint == self.path or _as_in_url(endpoint) == _as_in_url(self.path)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The asyncio loop that runs here; None under trio."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def current_request() -> CurrentRequest | None:
    """The instrumented HTTP request this code runs in, or None.

    Known in middleware, handlers, dependencies, worker threads, background tasks, and tasks that were started there.
    """
    path = request_path.get()
    return None if path is None else CurrentRequest(path)


def _as_in_url(path: str) -> str:
    """The path as every version of Starlette spells it in `request.url.path`."""
    plain = path.replace("%3F", "?").replace("%23", "#").replace("%5C", "\\")
    return re.split(r"[?#]", plain.translate({9: None, 10: None, 13: None}), maxsplit=1)[0]


def root_error(error: BaseException) -> BaseException:
    """The exception in a group of one: Starlette before 0.42 raises such groups from streaming answers."""
    inner = getattr(error, "exceptions", None)
    while isinstance(inner, tuple) and len(inner) == 1:
        error = inner[0]
        inner = getattr(error, "exceptions", None)
    return error


def handled_exception() -> BaseException | None:
    """The exception that the caller of `send` is handling, or None."""
    return sys.exc_info()[1]


def unhandled_exception() -> BaseException | None:
    """Like `handled_exception`, for one that no handler took: `ServerErrorMiddleware` answers and raises it again."""
    error = sys.exc_info()[1]
    trace = None if error is None else error.__traceback__
    caught_in = None if trace is None else trace.tb_frame.f_globals.get("__name__")
    return error if caught_in == _ANSWERED_BY else None


def report(
    options: RequestOptions,
    templates: RouteTemplates,
    scope: Scope,
    entrance: Entrance,
    status: int | None,
    error: BaseException | None,
) -> None:
    """Tell `on_error` about a request, unless it is excluded."""
    with fail_open("report of a failed request"):
        if options.leaves_out(scope):
            return
        method = scope["method"] if scope["method"] in options.known_methods else "_OTHER"
        route = getattr(scope.get(MEASURED), "route", None) or templates.find(scope, entrance, status)
        options.on_error(RequestError(method, route, status, error))
