"""What both request engines share: options, current request, open connections, and reports of failed requests."""

import asyncio
import re
import sys
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from starlette.types import Scope

from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.database_work.recorder import WorkRecorder
from otel_monitoring.instrumentation.http_server.headers import CapturedHeaders
from otel_monitoring.metrics.slow_requests import SlowRequests

if TYPE_CHECKING:
    from otel_monitoring.monitoring.service import MonitoringService

# https://opentelemetry.io/docs/specs/semconv/http/http-spans/: the methods of RFC 9110, RFC 5789 and QUERY.
KNOWN_METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)
_POLL_SECONDS: Final = 0.01

_ANSWERED_BY: Final = "starlette.middleware.errors"

request_path: ContextVar[str | None] = ContextVar("otel_monitoring_request_path", default=None)
"""The path of the current HTTP request; the engines set it."""


class RequestError(NamedTuple):
    """A failed request.

    Attributes:
        method: The request's method; `_OTHER` if it is not a known one.
        route: The template of the matched route with all prefixes; None if no route matched.
        status: The status of the response; None if there was no response.
        exception: The exception that was raised, also if a handler turned it into a response; None if it is unknown.
    """

    method: str
    route: str | None
    status: int | None
    exception: BaseException | None


@dataclass(frozen=True, kw_only=True)
class RequestOptions:
    """How requests are observed.

    Attributes:
        exclude: Whether a request or connection, given by its scope, is not measured: our own endpoints.
        excluded_url: Whether the user has excluded a path; None: no path is excluded.
        tracing: Whether spans are exported. False: no spans are made.
        logs: Whether unhandled exceptions become log records.
        operation_spans: Whether dependencies, endpoint, serialization and background tasks get spans, if the engine
            supports it.
        capture_query: Keep the values of `url.query` on spans. False: each is replaced by `REDACTED`.
        headers: The headers that become attributes of spans.
        known_methods: Methods that are reported as they are; any other is `_OTHER`.
        watched_statuses: Statuses below 500 for which `on_error` is called, too.
        on_error: Called for 5xx responses, watched statuses and unhandled exceptions, unless excluded.
        on_first_request: Called before the first request or connection on an event loop.
        slow: Where the slowest traced requests are remembered; None: nowhere.
        service: The service of the application: see `current_service`.
        database: Receives what requests do with the database; None: nobody does.
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
    slow: SlowRequests | None = None
    service: "MonitoringService | None" = None
    database: WorkRecorder | None = None

    def leaves_out(self, scope: Scope) -> bool:
        """Whether a request or connection gets no span, metric or log record; its Host header has no influence."""
        return bool(self.excluded_url is not None and self.excluded_url(scope["path"])) or self.exclude(scope)


class OpenConnections:
    """The requests and WebSockets that an application is handling; usable in any thread."""

    def __init__(self) -> None:
        self._open: set[object] = set()
        self.began, self.ended = self._open.add, self._open.discard

    def __len__(self) -> int:
        """How many are being handled."""
        return len(self._open)

    async def all_ended(self, seconds: float) -> None:
        """Wait until all have ended, at most `seconds`: cancelled requests may still clean up."""
        until = monotonic() + seconds
        while self._open and monotonic() < until:  # noqa: ASYNC110 - they end in any thread
            await asyncio.sleep(_POLL_SECONDS)


class CurrentRequest(NamedTuple):
    """The instrumented HTTP request in which the calling code runs.

    Attributes:
        path: The decoded path, as in the ASGI scope.
    """

    path: str

    def is_called(self, endpoint: str) -> bool:
        """Whether `endpoint` is this request's path, also as `request.url.path` spells it.

        A handler that records an operation under its own path looks like a middleware that records the request; both
        are taken for the request.
        """
        return endpoint == self.path or _as_in_url(endpoint) == _as_in_url(self.path)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The running asyncio loop; None under trio."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def current_request() -> CurrentRequest | None:
    """The instrumented HTTP request in which the calling code runs, or None.

    It is known in middleware, handlers, dependencies, worker threads and background tasks, and in tasks started there.
    """
    path = request_path.get()
    return None if path is None else CurrentRequest(path)


def _as_in_url(path: str) -> str:
    """The path in a form that is equal for all spellings of `request.url.path` by Starlette's versions."""
    plain = path.replace("%3F", "?").replace("%23", "#").replace("%5C", "\\")
    return re.split(r"[?#]", plain.translate({9: None, 10: None, 13: None}), maxsplit=1)[0]


def root_error(error: BaseException) -> BaseException:
    """The exception in a group of one; Starlette before 0.42 raises such groups from streaming responses."""
    inner = getattr(error, "exceptions", None)
    while isinstance(inner, tuple) and len(inner) == 1:
        error = inner[0]
        inner = getattr(error, "exceptions", None)
    return error


def handled_exception() -> BaseException | None:
    """The exception that the caller is handling, or None."""
    return sys.exc_info()[1]


def unhandled_exception() -> BaseException | None:
    """The exception for which `ServerErrorMiddleware` sends a response, as no handler took it; None without one."""
    error = sys.exc_info()[1]
    trace = None if error is None else error.__traceback__
    caught_in = None if trace is None else trace.tb_frame.f_globals.get("__name__")
    return error if caught_in == _ANSWERED_BY else None


def report(
    options: RequestOptions, method: str, route: str | None, status: int | None, error: BaseException | None
) -> None:
    """Call `options.on_error` for a failed request."""
    with fail_open("report of a failed request"):
        options.on_error(RequestError(method, route, status, error))
