"""`RequestOptions`: how requests are observed, whichever engine makes their spans; `report`: that one has failed."""

from collections.abc import Callable
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


class RequestOptions(NamedTuple):
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
    headers: CapturedHeaders = CapturedHeaders()
    known_methods: frozenset[str] = KNOWN_METHODS
    watched_statuses: frozenset[int] = frozenset()
    slow: SlowRequests | None = None
    service: "MonitoringService | None" = None
    database: WorkRecorder | None = None

    def leaves_out(self, scope: Scope) -> bool:
        """Whether a request or connection gets no span, metric or log record; its Host header has no influence."""
        return bool(self.excluded_url is not None and self.excluded_url(scope["path"])) or self.exclude(scope)


def report(
    options: RequestOptions, method: str, route: str | None, status: int | None, error: BaseException | None
) -> None:
    """Call `options.on_error` for a failed request."""
    with fail_open("report of a failed request"):
        options.on_error(RequestError(method, route, status, error))
