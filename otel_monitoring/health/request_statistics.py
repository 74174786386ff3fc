"""`RequestStatistics`: counts, times and errors of the requests in a window.

All figures come from the histogram `http.server.request.duration`, which is also exported: nothing is counted twice.
"""

from collections.abc import Sequence
from dataclasses import field
from functools import cached_property
from typing import Any, NamedTuple

from otel_monitoring.metrics.outcome import OutcomeClassifier, RequestOutcome
from otel_monitoring.metrics.snapshot import Histogram, Series, merged
from otel_monitoring.metrics.window import Window
from otel_monitoring.redact.json_text import json_text
from otel_monitoring.runtime.give_way import giving_way
from otel_monitoring.semconv import (
    HTTP_REQUEST_METHOD,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
    HTTP_SERVER_REQUEST_DURATION,
    UNMATCHED_ROUTE,
)

_MAX_KNOWN = 50_000
_NO_STATUS = "none"
_TIMES = ("avg", "p50", "p95", "p99")


class RequestStatistics(OutcomeClassifier):
    """Computes the documented figures of the requests in a window; those of a route once, until it has new requests."""

    _facts: dict[Series, "_Facts"] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Begin without anything known."""
        object.__setattr__(self, "_facts", {})

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
            by_route: dict[str, list[_Recorded]] = {}
            for series, histogram in giving_way(window.histograms(HTTP_SERVER_REQUEST_DURATION)):
                facts = self._facts.get(series) or self._facts_of(series)
                by_route.setdefault(facts.route, []).append((facts, histogram))
            known = {}
            for name, recorded in giving_way(by_route.items()):
                route = before.get(name)
                # Equal lists have the same histograms, mostly as the same objects: that is seen at once.
                known[name] = route if route is not None and route.recorded == recorded else _RouteStatistics(recorded)
            window.memo[self] = window.kept[self] = known
        return known

    def _facts_of(self, series: Series) -> "_Facts":
        known = self._facts.get(series)
        if known is None:
            if len(self._facts) >= _MAX_KNOWN:
                self._facts.clear()
            route, method = series.get(HTTP_ROUTE), series.get(HTTP_REQUEST_METHOD)
            known = _Facts(
                UNMATCHED_ROUTE if route is None else str(route),
                self(series),
                None if method is None else str(method),
                _status_class(series),
            )
            self._facts[series] = known
        return known


class _Facts(NamedTuple):
    """What the attributes of a series say of its requests."""

    route: str
    outcome: RequestOutcome
    method: str | None
    status: str


_Recorded = tuple[_Facts, Histogram]
"""What a series says, and its durations."""


class _RouteStatistics:
    """The requests of one route in a window.

    Args:
        recorded: Its series.
    """

    def __init__(self, recorded: Sequence[_Recorded]) -> None:
        self.recorded = recorded
        self.durations = merged(histogram for _, histogram in recorded)
        self.outcomes: dict[RequestOutcome, int] = {}
        self.methods: dict[str, int] = {}
        self.statuses: dict[str, int] = {}
        for (_, outcome, method, status), histogram in recorded:
            count = histogram.count
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + count
            if method is not None:
                self.methods[method] = self.methods.get(method, 0) + count
            self.statuses[status] = self.statuses.get(status, 0) + count

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
