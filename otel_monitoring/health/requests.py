"""What the recorded requests say, and `PerformanceMetrics`: the documented view on them, and a way to add to them.

All of it reads the histogram `http.server.request.duration`, the one that is exported; nothing is counted twice.
"""

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from opentelemetry.metrics import Meter

from otel_monitoring.guard import fail_open, logger
from otel_monitoring.metrics.aggregator import Aggregator
from otel_monitoring.metrics.cardinality import BoundedNames
from otel_monitoring.metrics.outcome import OutcomeClassifier, RequestOutcome
from otel_monitoring.metrics.snapshot import Histogram, Series, merged
from otel_monitoring.metrics.window import Window
from otel_monitoring.redact import error_text, printable, redact, text_of
from otel_monitoring.semconv import (
    ERROR_TYPE,
    HTTP_REQUEST_METHOD,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
    HTTP_SERVER_REQUEST_DURATION,
    REQUEST_DURATIONS,
    UNMATCHED_ROUTE,
)
from otel_monitoring.timestamps import rfc3339

_NAME_LENGTH = 500
_OTHER_ENDPOINTS = "(other)"
_CAUSE_LENGTH = 400
_LONGEST_CAUSE = 4096
_guard = fail_open("recording a request")


@dataclass(frozen=True, slots=True)
class RequestStatistics(OutcomeClassifier):
    """The documented figures of requests, by how these ended."""

    def performance(self, window: Window) -> dict[str, Any]:
        """The documented block: counts, times in seconds (0 before the first request), `error_rate` in percent."""
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
            **{f"{name}_response_time": value for name, value in _times(whole).items()},
            "error_rate": percent(errors, whole.count),
        }

    def endpoints(self, window: Window) -> dict[str, dict[str, Any]]:
        """Each route's `call_count`, `avg/min/max/p50/p95/p99_time` (s), `error_count`, `error_rate` (%), `methods`.

        Routes come busiest first; unmatched paths are one entry.
        """
        routes = sorted(self._routes(window).items(), key=lambda item: -item[1].durations.count)
        return {name: route.as_json() for name, route in routes}

    def errors(self, window: Window) -> tuple[int, int]:
        """How many requests were recorded, and how many of them were errors."""
        recorded = window.histograms(HTTP_SERVER_REQUEST_DURATION)
        return (
            sum(histogram.count for _, histogram in recorded),
            sum(histogram.count for series, histogram in recorded if self(series) is RequestOutcome.ERROR),
        )

    def _routes(self, window: Window) -> "dict[str, _RouteStatistics]":
        """What was recorded for each route; worked out once for a window."""
        known: dict[str, _RouteStatistics] | None = window.memo.get(self)
        if known is None:
            groups = window.grouped(HTTP_SERVER_REQUEST_DURATION, HTTP_ROUTE)
            known = {
                UNMATCHED_ROUTE if name is None else str(name): self._route(recorded)
                for name, recorded in groups.items()
            }
            window.memo[self] = known
        return known

    def _route(self, recorded: list[tuple[Series, Histogram]]) -> "_RouteStatistics":
        route = _RouteStatistics(merged(histogram for _, histogram in recorded), {}, {})
        for series, histogram in recorded:
            outcome = self(series)
            route.outcomes[outcome] = route.outcomes.get(outcome, 0) + histogram.count
            method = series.get(HTTP_REQUEST_METHOD)
            if method is not None:
                route.methods[str(method)] = route.methods.get(str(method), 0) + histogram.count
        return route


@dataclass(frozen=True, slots=True)
class _RouteStatistics:
    durations: Histogram
    outcomes: dict[RequestOutcome, int]
    methods: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        durations, errors = self.durations, self.outcomes.get(RequestOutcome.ERROR, 0)
        return {
            "call_count": durations.count,
            **{f"{name}_time": value for name, value in _times(durations).items()},
            "min_time": _seconds(durations.min),
            "max_time": _seconds(durations.max),
            "error_count": errors,
            "error_rate": percent(errors, durations.count),
            "methods": self.methods,
        }


def percent(part: float, whole: float) -> float:
    """`part` of `whole` in percent, to two places; 0 of nothing is 0."""
    return round(100.0 * part / whole, 2) if whole else 0.0


def _times(histogram: Histogram) -> dict[str, float]:
    return {
        "avg": _seconds(histogram.mean),
        "p50": _seconds(histogram.quantile(0.50)),
        "p95": _seconds(histogram.quantile(0.95)),
        "p99": _seconds(histogram.quantile(0.99)),
    }


def _seconds(value: float | None) -> float:
    return 0.0 if value is None else round(value, 6)


class LastError:
    """What went wrong last. It is redacted when it is read: a request that fails pays for no more than its text.

    Args:
        cause: What went wrong, as it was said; it may hold secrets.
        request: `GET /route`, where it was a request that failed.
        time: When, in Unix seconds.
    """

    __slots__ = ("_cause", "_request", "_told", "time")

    def __init__(self, cause: str, request: str, time: float) -> None:
        self._cause = cause
        self._request = request
        self._told: str | None = None
        self.time = time

    @property
    def text(self) -> str:
        """Its text, redacted."""
        if self._told is None:
            cause = redact(self._cause, limit=_CAUSE_LENGTH)
            self._told = f"{cause} ({redact(self._request)})" if self._request else cause
        return self._told


class PerformanceMetrics:
    """Request counts, times and errors, read from the histogram that is exported.

    Args:
        meter: Where `record_request` records.
        aggregator: Where the measurements are read from.
        classifier: What counts as an error.
        refresh: Brings the aggregator up to date without blocking the caller's loop.
        is_measured: Whether an endpoint's name is the path of the very request that is being measured anyway.
        max_endpoints: How many names `record_request` keeps apart; further ones are one endpoint, `(other)`.
    """

    def __init__(
        self,
        meter: Meter,
        aggregator: Aggregator,
        classifier: RequestStatistics,
        *,
        refresh: Callable[[], Awaitable[None]],
        is_measured: Callable[[str], bool],
        max_endpoints: int,
    ) -> None:
        self._duration = REQUEST_DURATIONS.create(meter)
        self._aggregator = aggregator
        self._classifier = classifier
        self._refresh = refresh
        self._is_measured = is_measured
        self._bounded = BoundedNames(max_endpoints, _OTHER_ENDPOINTS)
        self._last: LastError | None = None
        self._warned = False

    async def record_request(
        self, endpoint: str, duration: float, status_code: int = 200, error: str | None = None
    ) -> None:
        """Record an operation beside the requests that are measured by themselves.

        It goes into the same histogram. Called with the path of the request that is being measured anyway (the
        documented middleware, left in place), it records nothing and says so once.

        Args:
            endpoint: Its name, e.g. a route. A path with identifiers in it makes one entry each, up to a limit.
            duration: Seconds; a clock that went backwards counts as 0.
            status_code: HTTP status of the outcome.
            error: What went wrong, if anything; kept, redacted, as `last_error`.
        """
        if self._is_measured(endpoint):
            self._warn_once()
            return
        with _guard:
            self._record(printable(text_of(endpoint))[:_NAME_LENGTH], float(duration), int(status_code), error)

    async def get_summary(self) -> dict[str, Any]:
        """The documented block since the start; under `window` the same figures for the last minutes."""
        await self._refresh()
        return self.summary()

    def summary(self) -> dict[str, Any]:
        """What `get_summary` returns, without collecting first."""
        last = self._last
        recent = self._aggregator.history.recent
        return {
            **self._classifier.performance(self._aggregator.history.total),
            "last_error": last.text if last is not None else None,
            "last_error_time": rfc3339(last.time) if last is not None else None,
            "window": {"seconds": round(recent.seconds, 1), **self._classifier.performance(recent)},
        }

    @property
    def last_error(self) -> str | None:
        """The last error's text, redacted; None while there was none."""
        return self._last.text if self._last is not None else None

    @property
    def endpoints(self) -> dict[str, dict[str, Any]]:
        """Every route's figures since the start, busiest first: the `endpoints` of the diagnostics."""
        return self._classifier.endpoints(self._aggregator.history.total)

    def note_failure(self, method: str, route: str | None, status: int | None, error: BaseException | None) -> None:
        """Remember a request that failed as the last error, if its outcome counts as one.

        Args:
            method: The request's method.
            route: Its route, None for an unmatched path.
            status: The status it was answered with, None for none.
            error: What was raised, where that is known.
        """
        if status is not None and error is None and not self._classifier.is_error_status(status):
            return
        request = f"{method} {route or UNMATCHED_ROUTE}"
        self.note_error(error if error is not None else f"HTTP {status}", request)

    def note_error(self, error: object, request: str = "") -> None:
        """Remember an exception, or anything that has a text, as the last error; and which request failed with it."""
        cause = error_text(error) if isinstance(error, BaseException) else text_of(error)[:_LONGEST_CAUSE]
        self._last = LastError(cause, request, time.time())

    def _record(self, endpoint: str, duration: float, status_code: int, error: str | None) -> None:
        if not math.isfinite(duration):
            raise ValueError(f"duration: must be a number of seconds, not {duration}")
        attributes: dict[str, str | int] = {
            HTTP_ROUTE: self._bounded(endpoint),
            HTTP_RESPONSE_STATUS_CODE: status_code,
        }
        failed = self._classifier.is_error_status(status_code)
        if failed or (error is not None and status_code < 400):
            attributes[ERROR_TYPE] = str(status_code) if failed else "_OTHER"
            self.note_error(error if error is not None else f"HTTP {status_code} on {endpoint}")
        self._duration.record(max(0.0, duration), attributes)
        self._aggregator.invalidate()

    def _warn_once(self) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "record_request was called for a request that instrument(app) measures already: "
                "it is counted once; the middleware that calls it can be removed"
            )
