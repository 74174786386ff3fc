"""`RequestStatistics`: counts, times and errors of requests; `PerformanceMetrics`: the documented access to them.

All figures come from the histogram `http.server.request.duration`, which is also exported: nothing is counted twice.
"""

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from otel_monitoring.guard import fail_open, logger
from otel_monitoring.metrics.aggregator import Aggregator
from otel_monitoring.metrics.cardinality import BoundedNames
from otel_monitoring.metrics.direct_histogram import RecordedHistogram
from otel_monitoring.metrics.outcome import OutcomeClassifier, RequestOutcome
from otel_monitoring.metrics.service_history import SERVICE, ErrorSeen, Scope
from otel_monitoring.metrics.service_measurements import ServiceMeasurements
from otel_monitoring.metrics.snapshot import Histogram, Series, merged
from otel_monitoring.metrics.window import Window, Windows
from otel_monitoring.redact import error_text, printable, redact, text_of
from otel_monitoring.redact.json_value import json_text
from otel_monitoring.runtime.give_way import giving_way
from otel_monitoring.semconv import (
    ERROR_TYPE,
    HTTP_REQUEST_METHOD,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
    HTTP_SERVER_REQUEST_DURATION,
    UNMATCHED_ROUTE,
)
from otel_monitoring.timestamps import rfc3339

_NAME_LENGTH = 500
_MAX_KNOWN = 50_000
_OTHER_ENDPOINTS = "(other)"
_CAUSE_LENGTH = 400
_LONGEST_CAUSE = 4096
_NO_STATUS = "none"
_TIMES = ("avg", "p50", "p95", "p99")
_guard = fail_open("recording a request")


@dataclass(frozen=True, slots=True)
class RequestStatistics(OutcomeClassifier):
    """Computes the documented figures of the requests in a window; those of a route once, until it has new requests."""

    _facts: dict[Series, "_Facts"] = field(default_factory=dict, init=False, repr=False, compare=False)

    def performance(self, window: Window) -> dict[str, Any]:
        """The documented block: counts, times in seconds (0 without a request), `error_rate` in percent.

        It is computed once for a window, as is `errors`.
        """
        known: dict[str, Any] | None = window.memo.get(("performance", self))
        if known is None:
            known = window.memo["performance", self] = self._performance(window)
        return known

    def _performance(self, window: Window) -> dict[str, Any]:
        routes = self._routes(window)
        whole = merged(route.durations for route in routes.values())
        counts = {
            outcome: sum(route.outcomes.get(outcome, 0) for route in routes.values()) for outcome in RequestOutcome
        }
        errors, disconnects = counts[RequestOutcome.ERROR], counts[RequestOutcome.CLIENT_DISCONNECT]
        return {
            "requests_recorded": whole.count,
            "success_count": whole.count - errors - disconnects,
            "error_count": errors,
            "client_error_count": counts[RequestOutcome.CLIENT_ERROR],
            "client_disconnect_count": disconnects,
            **{f"{name}_response_time": value for name, value in zip(_TIMES, _times(whole), strict=True)},
            "error_rate": percent(errors, whole.count),
        }

    def rate(self, window: Window) -> float:
        """Requests a second."""
        count, _ = self.errors(window)
        return round(count / window.seconds, 2) if window.seconds > 0 else 0.0

    def endpoints(self, total: Window, recent: Window) -> dict[str, dict[str, Any]]:
        """The figures of each route in `total`, and in `window` the same for `recent`.

        These are `call_count`, `avg/min/max/p50/p95/p99_time` (s), `error_count`, `error_rate` (%), and the requests by
        `methods` and by `statuses`, the classes of statuses. The route with the most requests comes first; all
        unmatched paths are one entry.
        """
        lately = self._routes(recent)
        return {
            name: {**route.figures, "window": lately.get(name, _NO_REQUESTS).figures}
            for name, route in self._sorted_routes(total)
        }

    def endpoints_json(self, total: Window, recent: Window) -> str:
        """`endpoints` as JSON; only what has changed is written anew."""
        lately = self._routes(recent)
        written = [
            f'{json_text(name)}: {route.json[:-1]}, "window": {lately.get(name, _NO_REQUESTS).json}}}'
            for name, route in giving_way(self._sorted_routes(total))
        ]
        return f"{{{', '.join(written)}}}"

    def endpoints_in(self, window: Window) -> dict[str, dict[str, Any]]:
        """The figures of each route in one window; computed once for it."""
        known: dict[str, dict[str, Any]] | None = window.memo.get(("endpoints", self))
        if known is None:
            known = {name: route.figures for name, route in giving_way(self._routes(window).items())}
            window.memo["endpoints", self] = known
        return known

    def errors(self, window: Window) -> tuple[int, int]:
        """The number of requests, and how many of them were errors."""
        known: tuple[int, int] | None = window.memo.get(("errors", self))
        if known is None:
            known = window.memo["errors", self] = self._errors(window)
        return known

    def _errors(self, window: Window) -> tuple[int, int]:
        routes: dict[str, _RouteStatistics] | None = window.memo.get(self)
        if routes is not None:  # each has added up its series
            return sum(one.durations.count for one in routes.values()), sum(one.errors for one in routes.values())
        recorded = window.histograms(HTTP_SERVER_REQUEST_DURATION)
        return (
            sum(histogram.count for _, histogram in recorded),
            sum(h.count for series, h in recorded if self._facts_of(series).outcome is RequestOutcome.ERROR),
        )

    def _sorted_routes(self, window: Window) -> "list[tuple[str, _RouteStatistics]]":
        """Each route; the one with the most requests comes first."""
        return sorted(self._routes(window).items(), key=lambda item: -item[1].durations.count)

    def _routes(self, window: Window) -> "dict[str, _RouteStatistics]":
        """The statistics of each route; computed once for a window."""
        known: dict[str, _RouteStatistics] | None = window.memo.get(self)
        if known is None:
            before: dict[str, _RouteStatistics] = window.kept.get(self, {})
            groups = window.grouped(HTTP_SERVER_REQUEST_DURATION, HTTP_ROUTE)
            known = {}
            for value, recorded in giving_way(groups.items()):
                name = UNMATCHED_ROUTE if value is None else str(value)
                route = before.get(name)
                known[name] = route if route is not None and route.is_of(recorded) else self._route(recorded)
            window.memo[self] = window.kept[self] = known
        return known

    def _route(self, recorded: list[tuple[Series, Histogram]]) -> "_RouteStatistics":
        route = _RouteStatistics(recorded)
        for series, histogram in recorded:
            facts, count = self._facts.get(series) or self._facts_of(series), histogram.count
            route.outcomes[facts.outcome] = route.outcomes.get(facts.outcome, 0) + count
            if facts.method is not None:
                route.methods[facts.method] = route.methods.get(facts.method, 0) + count
            route.statuses[facts.status] = route.statuses.get(facts.status, 0) + count
        return route

    def _facts_of(self, series: Series) -> "_Facts":
        known = self._facts.get(series)
        if known is None:
            if len(self._facts) >= _MAX_KNOWN:
                self._facts.clear()
            method = series.get(HTTP_REQUEST_METHOD)
            known = _Facts(self(series), None if method is None else str(method), _status_class(series))
            self._facts[series] = known
        return known


class _Facts(NamedTuple):
    """What the attributes of a series say of its requests."""

    outcome: RequestOutcome
    method: str | None
    status: str


class _RouteStatistics:
    """The requests of one route in a window.

    Args:
        recorded: Its series.
    """

    def __init__(self, recorded: Sequence[tuple[Series, Histogram]]) -> None:
        self._recorded = recorded
        self.durations = merged(histogram for _, histogram in recorded)
        self.outcomes: dict[RequestOutcome, int] = {}
        self.methods: dict[str, int] = {}
        self.statuses: dict[str, int] = {}

    def is_of(self, recorded: Sequence[tuple[Series, Histogram]]) -> bool:
        """Whether it is of these very series and histograms, which never change."""
        own = self._recorded
        return len(own) == len(recorded) and all(a[1] is b[1] for a, b in zip(own, recorded, strict=True))

    @property
    def errors(self) -> int:
        """How many of them were errors."""
        return self.outcomes.get(RequestOutcome.ERROR, 0)

    @cached_property
    def figures(self) -> dict[str, Any]:
        """The documented figures."""
        durations, errors = self.durations, self.errors
        count = durations.count
        avg, p50, p95, p99 = _times(durations)
        return {
            "call_count": count,
            "avg_time": avg,
            "p50_time": p50,
            "p95_time": p95,
            "p99_time": p99,
            "min_time": round(durations.min, 6) if count else 0.0,
            "max_time": round(durations.max, 6) if count else 0.0,
            "error_count": errors,
            "error_rate": percent(errors, count),
            "methods": self.methods,
            "statuses": self.statuses,
        }

    @cached_property
    def json(self) -> str:
        """The documented figures as JSON."""
        return json_text(self.figures)


def _status_class(series: Series) -> str:
    """`2xx` and so on; `none` where there was no response."""
    status = series.get(HTTP_RESPONSE_STATUS_CODE)
    return f"{int(status) // 100}xx" if isinstance(status, int) else _NO_STATUS


def percent(part: float, whole: float) -> float:
    """`part` of `whole` in percent, rounded to two decimals; 0 if `whole` is 0."""
    return round(100.0 * part / whole, 2) if whole else 0.0


def _times(histogram: Histogram) -> list[float]:
    """The mean, p50, p95 and p99 in seconds; 0 where nothing was recorded."""
    found = (histogram.mean, *histogram.quantiles((0.50, 0.95, 0.99)))
    return [0.0 if value is None else round(value, 6) for value in found]


_NO_REQUESTS = _RouteStatistics(())


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
