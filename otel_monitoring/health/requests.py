"""What the recorded requests say: the documented performance block and the table of endpoints.

Both read the histogram `http.server.request.duration`, the one that is exported; nothing is counted twice.
"""

from dataclasses import dataclass
from typing import Any

from otel_monitoring.metrics.outcome import OutcomeOf, RequestOutcome
from otel_monitoring.metrics.snapshot import Histogram, Series, merged
from otel_monitoring.metrics.window import Window
from otel_monitoring.semconv import HTTP_REQUEST_METHOD, HTTP_ROUTE, HTTP_SERVER_REQUEST_DURATION, UNMATCHED_ROUTE


@dataclass(frozen=True, slots=True)
class Classifier(OutcomeOf):
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

    def _routes(self, window: Window) -> "dict[str, _Route]":
        """What was recorded for each route; worked out once for a window."""
        known: dict[str, _Route] | None = window.memo.get(self)
        if known is None:
            groups = window.grouped(HTTP_SERVER_REQUEST_DURATION, HTTP_ROUTE)
            known = {
                UNMATCHED_ROUTE if name is None else str(name): self._route(recorded)
                for name, recorded in groups.items()
            }
            window.memo[self] = known
        return known

    def _route(self, recorded: list[tuple[Series, Histogram]]) -> "_Route":
        route = _Route(merged(histogram for _, histogram in recorded), {}, {})
        for series, histogram in recorded:
            outcome = self(series)
            route.outcomes[outcome] = route.outcomes.get(outcome, 0) + histogram.count
            method = series.get(HTTP_REQUEST_METHOD)
            if method is not None:
                route.methods[str(method)] = route.methods.get(str(method), 0) + histogram.count
        return route


@dataclass(frozen=True, slots=True)
class _Route:
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
