"""`PerformanceMetrics`: the documented access to the counts, times and errors of requests, and `record_request`."""

import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

from otel_monitoring.guard import fail_open, logger
from otel_monitoring.health.request_statistics import RequestStatistics
from otel_monitoring.metrics.aggregator import Aggregator
from otel_monitoring.metrics.cardinality import BoundedNames
from otel_monitoring.metrics.direct_histogram import RecordedHistogram
from otel_monitoring.metrics.service_history import SERVICE, ErrorSeen, Scope
from otel_monitoring.metrics.service_measurements import ServiceMeasurements
from otel_monitoring.metrics.window import Windows
from otel_monitoring.redact import error_text, printable, redact, text_of
from otel_monitoring.semconv import (
    ERROR_TYPE,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
    UNMATCHED_ROUTE,
)
from otel_monitoring.timestamps import rfc3339

_NAME_LENGTH = 500
_OTHER_ENDPOINTS = "(other)"
_CAUSE_LENGTH = 400
_LONGEST_CAUSE = 4096
_guard = fail_open("recording a request")


class LastError:
    """The last error. Its text is redacted when it is read, so that a failing request does not pay for it.

    Args:
        cause: The text of the error, which may contain secrets.
        request: The failed request as `GET /route`; empty if it was no request.
        time: When it happened, in Unix seconds.
    """

    __slots__ = ("_cause", "_request", "_text", "time")

    def __init__(self, cause: str, request: str, time: float) -> None:
        self._cause = cause
        self._request = request
        self._text: str | None = None
        self.time = time

    @property
    def text(self) -> str:
        """The redacted text, with the request."""
        if self._text is None:
            cause = redact(self._cause, limit=_CAUSE_LENGTH)
            self._text = f"{cause} ({redact(self._request)})" if self._request else cause
        return self._text


class PerformanceMetrics:
    """Request counts, times and errors of the service, read from the exported histogram.

    Args:
        durations: The histogram in which `record_request` records.
        aggregator: The measurements of this process.
        statistics: Computes the figures of a window.
        refresh: Brings the measurements up to date without blocking the caller's loop.
        is_measured: Whether an endpoint name is the path of the current request, which is measured anyway.
        max_endpoints: Maximum number of names that `record_request` records; further ones are `(other)`.
        service: The measurements of the service; None: this process is the service.
        clock: Returns Unix time in seconds, as all processes of the service have it.
    """

    def __init__(
        self,
        durations: RecordedHistogram,
        aggregator: Aggregator,
        statistics: RequestStatistics,
        *,
        refresh: Callable[[], Awaitable[None]],
        is_measured: Callable[[str], bool],
        max_endpoints: int,
        service: ServiceMeasurements | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._durations = durations
        self._aggregator = aggregator
        self._service = service
        self._clock = clock
        self._statistics = statistics
        self._refresh = refresh
        self._is_measured = is_measured
        self._bounded = BoundedNames(max_endpoints, _OTHER_ENDPOINTS)
        self._last: LastError | None = None
        self._warned = False

    async def record_request(
        self, endpoint: str, duration: float, status_code: int = 200, error: str | None = None
    ) -> None:
        """Record an operation in the histogram of requests; requests themselves are measured without this call.

        For the path of the current request, e.g. in the documented middleware, nothing is recorded, because it is
        measured anyway; one warning says so.

        Args:
            endpoint: The name of the operation, e.g. a route. Paths with identifiers are one endpoint each.
            duration: Duration in seconds; a negative one counts as 0.
            status_code: HTTP status of the outcome.
            error: The error's text, kept redacted as `last_error`; None if there was no error.
        """
        if self._is_measured(endpoint):
            self._warn_once()
            return
        with _guard:
            self._record(printable(text_of(endpoint))[:_NAME_LENGTH], float(duration), int(status_code), error)

    async def get_summary(self, scope: Scope = SERVICE) -> dict[str, Any]:
        """The documented block since the service's totals count; `window` has the same figures for the recent window.

        Args:
            scope: `service`, or `instance` for this process alone.
        """
        await self._refresh()
        return self.summary(scope)

    def summary(self, scope: Scope = SERVICE) -> dict[str, Any]:
        """The result of `get_summary` without a collection before it."""
        history, last = self.history(scope), self._last_error(scope)
        recent = history.recent
        return {
            **self._statistics.performance(history.total),
            "last_error": last.text if last is not None else None,
            "last_error_time": rfc3339(last.time) if last is not None else None,
            "requests_per_second": self._statistics.rate(recent),
            "window": {"seconds": round(recent.seconds, 1), **self._statistics.performance(recent)},
        }

    @property
    def last_error(self) -> str | None:
        """The redacted text of the last error of this process; None if there was none."""
        return self._last.text if self._last is not None else None

    @property
    def endpoints(self) -> dict[str, dict[str, Any]]:
        """The figures of every route since the service's totals count: `endpoints` of the diagnostics."""
        return self.endpoints_of(SERVICE)

    def endpoints_of(self, scope: Scope) -> dict[str, dict[str, Any]]:
        """The figures of every route."""
        history = self.history(scope)
        return self._statistics.endpoints(history.total, history.recent)

    def endpoints_json(self, scope: Scope) -> str:
        """`endpoints_of` as JSON."""
        history = self.history(scope)
        return self._statistics.endpoints_json(history.total, history.recent)

    def history(self, scope: Scope) -> Windows:
        """What was measured; before the first exchange with the other processes, this process alone."""
        service = self._of_service(scope)
        return service.history if service is not None else self._aggregator.history

    def _last_error(self, scope: Scope) -> "ErrorSeen | LastError | None":
        service = self._of_service(scope)
        return service.last_error if service is not None else self._last

    def _of_service(self, scope: Scope) -> ServiceMeasurements | None:
        service = self._service
        return service if scope == SERVICE and service is not None and service.joined else None

    def error_seen(self) -> ErrorSeen | None:
        """The last error of this process, to be published."""
        last = self._last
        return ErrorSeen(last.text, last.time) if last is not None else None

    def note_failure(self, method: str, route: str | None, status: int | None, error: BaseException | None) -> bool:
        """Keep a failed request as the last error, if its outcome counts as an error; returns whether it does.

        Args:
            method: The request's method.
            route: The request's route; None: the path matched no route.
            status: The response's status; None: there was no response.
            error: The exception that was raised; None if it is not known.
        """
        if status is not None and error is None and not self._statistics.is_error_status(status):
            return False
        request = f"{method} {route or UNMATCHED_ROUTE}"
        self.note_error(error if error is not None else f"HTTP {status}", request)
        return True

    def note_error(self, error: object, request: str = "") -> None:
        """Keep an exception, or any object's text, as the last error, with the request `GET /route` that failed."""
        cause = error_text(error) if isinstance(error, BaseException) else text_of(error)[:_LONGEST_CAUSE]
        self._last = LastError(cause, request, self._clock())

    def _record(self, endpoint: str, duration: float, status_code: int, error: str | None) -> None:
        if not math.isfinite(duration):
            raise ValueError(f"duration: must be a number of seconds, not {duration}")
        attributes: dict[str, str | int] = {
            HTTP_ROUTE: self._bounded(endpoint),
            HTTP_RESPONSE_STATUS_CODE: status_code,
        }
        failed = self._statistics.is_error_status(status_code)
        if failed or (error is not None and status_code < 400):
            attributes[ERROR_TYPE] = str(status_code) if failed else "_OTHER"
            self.note_error(error if error is not None else f"HTTP {status_code} on {endpoint}")
        self._durations.bind(attributes).record(max(0.0, duration))
        self._aggregator.invalidate()

    def _warn_once(self) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "record_request was called for a request that instrument(app) measures already: "
                "it is counted once; the middleware that calls it can be removed"
            )
