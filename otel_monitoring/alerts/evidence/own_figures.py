"""`own_figures`: what a process says about its own work, for the evidence of alerts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from opentelemetry.trace import format_trace_id

from otel_monitoring import semconv as c
from otel_monitoring.metrics.outcome import OutcomeClassifier, RequestOutcome
from otel_monitoring.metrics.slow_requests import SlowRequest
from otel_monitoring.metrics.window import Window

_ROUTES_LIMIT = 60
_TRACES_LIMIT = 40
_PEERS_LIMIT = 20
_POOLS_LIMIT = 20
_NOW_SAMPLES = 3

Gauge = Sequence["float | None"]


def own_figures(
    recent: Window,
    classify: OutcomeClassifier,
    *,
    gauges: Mapping[str, Gauge],
    slow: Iterable[SlowRequest],
    peers: Mapping[tuple[str, str], str],
) -> dict[str, Any]:
    """The figures as JSON: see `WorkerFigures`.

    Args:
        recent: The recent window of this process, with its gauges.
        classify: Which requests are errors.
        gauges: The readings of each gauge, oldest first.
        slow: The slowest traced requests lately, the slowest first.
        peers: The hosts that failed requests were waiting for, by the type of the exception and the request.
    """
    return {
        "routes": _routes(recent, classify),
        "gauges": {name: pair for name, found in gauges.items() if (pair := _now_and_before(found)) is not None},
        "traces": _traces(list(slow), classify),
        "peers": [[*key, host] for key, host in list(peers.items())[-_PEERS_LIMIT:]],
        "pools": _pools(recent),
    }


def _routes(recent: Window, classify: OutcomeClassifier) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for series, histogram in recent.histograms(c.HTTP_SERVER_REQUEST_DURATION):
        sums = found.setdefault(str(series.get(c.HTTP_ROUTE) or c.UNMATCHED_ROUTE), [0, 0, 0.0])
        sums[0] += histogram.count
        sums[1] += histogram.count if classify(series) is RequestOutcome.ERROR else 0
        sums[2] += histogram.sum
    kept = sorted(found, key=lambda route: (-found[route][1], -found[route][2]))[:_ROUTES_LIMIT]
    return {route: [found[route][0], found[route][1], round(found[route][2], 3)] for route in kept}


def _now_and_before(readings: Gauge) -> list[float] | None:
    """The mean of the last readings, and the median of the older half."""
    known = [reading for reading in readings if reading is not None]
    if not known:
        return None
    latest = known[-_NOW_SAMPLES:]
    older = sorted(known[: max(1, len(known) // 2)])
    return [round(sum(latest) / len(latest), 4), round(older[len(older) // 2], 4)]


def _traces(slow: Sequence[SlowRequest], classify: OutcomeClassifier) -> list[list[Any]]:
    failed = [one for one in slow if _is_error(one, classify)]
    half = _TRACES_LIMIT // 2
    chosen = dict.fromkeys((one.trace_id, one.seconds) for one in (*failed[:half], *slow[:half]))
    return [_trace(one) for one in slow if (one.trace_id, one.seconds) in chosen]


def _is_error(one: SlowRequest, classify: OutcomeClassifier) -> bool:
    status = one.attributes.get(c.HTTP_RESPONSE_STATUS_CODE)
    return classify.is_error_status(status) if isinstance(status, int) else c.ERROR_TYPE in one.attributes


def _trace(one: SlowRequest) -> list[Any]:
    known = one.attributes
    return [
        round(one.seconds, 4),
        known.get(c.HTTP_REQUEST_METHOD, ""),
        known.get(c.HTTP_ROUTE, c.UNMATCHED_ROUTE),
        known.get(c.HTTP_RESPONSE_STATUS_CODE),
        known.get(c.ERROR_TYPE, ""),
        format_trace_id(one.trace_id),
    ]


def _pools(recent: Window) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for series, value in recent.gauges(c.DB_CLIENT_CONNECTION_COUNT):
        counts = found.setdefault(str(series.get(c.DB_CLIENT_CONNECTION_POOL_NAME) or ""), [0.0, 0.0])
        counts[0] += value if series.get(c.DB_CLIENT_CONNECTION_STATE) == "used" else 0.0
        counts[1] += value
    return {name: found[name] for name in sorted(found)[:_POOLS_LIMIT]}
