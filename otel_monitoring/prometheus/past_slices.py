"""`read_slices`: metrics of the past from Prometheus, as the slices of which this package makes its answers."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from otel_monitoring.health.readings import DOCUMENTS, OWN
from otel_monitoring.health.series_query import Grid, SeriesQuery
from otel_monitoring.metrics.outcome import OutcomeClassifier, RequestOutcome
from otel_monitoring.metrics.slices.model import GaugeFigures, Requests, Slice, merged_requests
from otel_monitoring.metrics.snapshot import Histogram, Series
from otel_monitoring.prometheus.client import Connection
from otel_monitoring.prometheus.decoding import bound_of, classic_histogram, native_histogram, number_of
from otel_monitoring.prometheus.questions import Gauges, Questions, histogram_series
from otel_monitoring.prometheus.view import Application

_OF_REQUESTS = frozenset({"requests", "error_rate", "p50", "p95", "p99", "durations"})
_MIB = 1024 * 1024
_GAUGES: Mapping[str, tuple[str, str, float]] = {
    "cpu": ("avg", Gauges.CPU, 100.0),
    "process_cpu": ("avg", Gauges.PROCESS_CPU, 100.0),
    "memory": ("avg", Gauges.PROCESS_MEMORY, 1 / _MIB),
    "memory_percent": ("avg", Gauges.MEMORY, 100.0),
    "loop_lag": ("max", Gauges.LOOP_LAG, 1.0),
    "ping": ("avg", Gauges.PING, 1.0),
}
"""By metric: how the values of the processes become one, the name in Prometheus, and a factor."""
_ALL_DOCUMENTS = DOCUMENTS.rstrip("/")
_COLLECTION = "db_collection_name"


def is_known(metric: str, application: Application) -> bool:
    """Whether Prometheus is asked for a metric; the others are in the process's own slices alone."""
    own = metric in application.counters or metric in application.gauges
    return (
        own
        or metric in _OF_REQUESTS
        or metric in _GAUGES
        or metric in ("pool", _ALL_DOCUMENTS)
        or (metric.startswith(DOCUMENTS))
    )


async def read_slices(
    connection: Connection,
    questions: Questions,
    application: Application,
    query: SeriesQuery,
    grid: Grid,
    classify: OutcomeClassifier,
) -> dict[int, Slice]:
    """The slices of the steps of an answer; those in which no process ran are missing.

    Args:
        connection: Where to ask.
        questions: What to ask.
        application: The application's own metrics.
        query: What the answer is about: metrics that `is_known`.
        grid: Its steps.
        classify: Which requests are errors.

    Raises:
        PrometheusError: There is no usable answer.
    """

    def over(expression: str) -> Awaitable[list[dict[str, Any]]]:
        return connection.query_range(expression, grid.start + grid.step, grid.end, grid.step)

    gauges = {name: _gauge(questions, application, name) for name in query.metrics if name not in _OF_REQUESTS}
    counters = [name for name in query.metrics if name in application.counters]
    ran, requests, *found = await asyncio.gather(
        over(questions.running()),
        _requests(over, questions, query, grid, classify),
        *(over(expression) for expression in gauges.values() if expression),
        *(over(questions.counter(name, application.counters[name], grid.step)) for name in counters),
    )
    steps = {at for sample in ran for at, _ in _points(sample, grid)}
    readings = _readings([name for name, expression in gauges.items() if expression], found, grid)
    counts = {
        name: dict(point for sample in samples for point in _points(sample, grid))
        for name, samples in zip(counters, found[len(found) - len(counters) :], strict=True)
    }
    return {
        at: Slice(
            seconds=float(grid.step),
            requests=requests.get(at, Requests()),
            routes={query.endpoint: requests[at]} if query.endpoint is not None and at in requests else {},
            gauges=readings.get(at, {}),
            counters={name: values[at] for name, values in counts.items() if at in values},
        )
        for at in sorted(steps)
    }


def _gauge(questions: Questions, application: Application, name: str) -> str:
    """The question for a gauge; empty: it is a counter."""
    if name in _GAUGES:
        return questions.together(_GAUGES[name][0], _GAUGES[name][1])
    if name == "pool":
        return questions.together("sum", Gauges.CONNECTIONS, 'db_client_connection_state="used"')
    if name == _ALL_DOCUMENTS or name.startswith(DOCUMENTS):
        return questions.together("max", Gauges.DOCUMENTS, by=_COLLECTION)
    if name in application.counters:
        return ""
    return questions.average(name, application.gauges[name])


def _readings(
    names: Sequence[str], answers: Sequence[list[dict[str, Any]]], grid: Grid
) -> dict[int, dict[str, GaugeFigures]]:
    """The gauges of each step, by the names that slices have for them."""
    found: dict[int, dict[str, GaugeFigures]] = {}
    for name, samples in zip(names, answers, strict=False):
        scale = _GAUGES[name][2] if name in _GAUGES else 1.0
        for sample in samples:
            ours = name if name in _GAUGES or name == "pool" else OWN + name
            if name == _ALL_DOCUMENTS or name.startswith(DOCUMENTS):
                ours = DOCUMENTS + sample["metric"].get(_COLLECTION, "")
            for at, value in _points(sample, grid):
                figures = GaugeFigures.of([value * scale])
                if figures is not None:
                    found.setdefault(at, {})[ours] = figures
    return found


async def _requests(
    over: Any, questions: Questions, query: SeriesQuery, grid: Grid, classify: OutcomeClassifier
) -> dict[int, Requests]:
    """The requests of each step: of one endpoint, or all."""
    if not _OF_REQUESTS.intersection(query.metrics):
        return {}
    answers = await asyncio.gather(*(over(one) for one in questions.requests(grid.step, query.endpoint)))
    found: dict[int, list[Requests]] = {}
    for series, at, histogram in _native(answers[0], grid) if len(answers) == 1 else _classic(*answers, grid=grid):
        if histogram.count:
            errors = histogram.count if classify(series) is RequestOutcome.ERROR else 0
            found.setdefault(at, []).append(Requests(histogram, errors))
    return {at: merged_requests(parts) for at, parts in found.items()}


def _native(samples: Sequence[dict[str, Any]], grid: Grid) -> list[tuple[Series, int, Histogram]]:
    return [
        (histogram_series(sample["metric"]), _begins(pair[0], grid), histogram)
        for sample in samples
        for pair in sample.get("histograms") or ()
        if (histogram := native_histogram({"histogram": pair})) is not None
    ]


def _classic(
    buckets: Sequence[dict[str, Any]], sums: Sequence[dict[str, Any]], *, grid: Grid
) -> list[tuple[Series, int, Histogram]]:
    below: dict[tuple[Series, int], dict[float, float]] = {}
    for sample in buckets:
        series, bound = histogram_series(sample["metric"]), bound_of(sample["metric"])
        for at, value in _points(sample, grid):
            below.setdefault((series, at), {})[bound] = value
    totals = {(histogram_series(sample["metric"]), at): value for sample in sums for at, value in _points(sample, grid)}
    return [(*key, classic_histogram(values, totals.get(key, 0.0))) for key, values in below.items()]


def _points(sample: Mapping[str, Any], grid: Grid) -> list[tuple[int, float]]:
    """The values of a series, by when their steps begin."""
    pairs = ((_begins(pair[0], grid), number_of({"value": pair})) for pair in sample.get("values") or ())
    return [(at, value) for at, value in pairs if value is not None]


def _begins(time: float, grid: Grid) -> int:
    return round(float(time)) - grid.step
