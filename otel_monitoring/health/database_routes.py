"""`routes_as_json`: what each route does with the database: `database.routes` of the diagnostics."""

from collections.abc import Collection, Iterable, Set
from typing import Any, Final

from otel_monitoring import semconv
from otel_monitoring.health.request_statistics import percent
from otel_monitoring.metrics.database_work import (
    OPERATION,
    REQUEST,
    CommandUse,
    DatabaseWork,
    QueryShape,
    Repetition,
    Source,
)
from otel_monitoring.metrics.snapshot import Histogram, merged
from otel_monitoring.metrics.window import Window, Windows
from otel_monitoring.redact import redact_name
from otel_monitoring.timestamps import rfc3339

_ROUTES: Final = 200
_COLLECTIONS: Final = 20
_FINDINGS: Final = 50
_HOT: Final = 20
_NAMED: Final = 3


def routes_as_json(work: DatabaseWork, history: Windows) -> dict[str, Any]:
    """The documented block.

    Args:
        work: What requests and operations did.
        history: What was measured in the same processes, or in all of the service where Prometheus answers.
    """
    uses = list(work.uses.items.values())
    repetitions = sorted(work.repetitions.items.values(), key=lambda one: -one.commands)
    shapes = list(work.shapes.items.values())
    return {
        "routes": _routes(uses, history),
        "repeated": [_repetition(one) for one in repetitions[:_FINDINGS]],
        "slow": [_shape(one) for one in sorted(shapes, key=lambda one: -one.seconds) if one.slow][:_FINDINGS],
        "scans": [_shape(one) for one in shapes if one.plan is not None and one.plan.scan][:_FINDINGS],
        "collections": _collections(uses),
    }


def busiest_routes(recent: Window, limit: int) -> list[tuple[Source, dict[str, Any]]]:
    """The routes and operations that wait longest for the database, with their figures in `routes`.

    Args:
        recent: The window.
        limit: The most that are wanted.
    """
    return _Figures(recent).busiest(limit)


def findings(work: DatabaseWork, limit: int) -> list[tuple[str, Repetition | QueryShape]]:
    """What is to be looked at, the latest first: `N+1`, `collection scan` or `slow`, and what it is about.

    Args:
        work: What requests and operations did.
        limit: The most of each kind that are wanted.
    """
    shapes = sorted(work.shapes.items.values(), key=lambda one: -one.last)
    scans = [one for one in shapes if one.plan is not None and one.plan.scan]
    slow = [one for one in shapes if one.slow and one not in scans]
    repeated = sorted(work.repetitions.items.values(), key=lambda one: -one.last)
    return [
        *(("N+1", one) for one in repeated[:limit]),
        *(("collection scan", one) for one in scans[:limit]),
        *(("slow", one) for one in slow[:limit]),
    ]


def _routes(uses: Iterable[CommandUse], history: Windows) -> list[dict[str, Any]]:
    by_source: dict[Source, list[CommandUse]] = {}
    for use in uses:
        by_source.setdefault((use.kind, use.name), []).append(use)
    total, recent = _Figures(history.total), _Figures(history.recent)
    # Where Prometheus answers, other processes have had routes that this one has not.
    sources = {**by_source, **dict.fromkeys(total.sources - by_source.keys(), ())}
    seconds = {source: total.seconds(source, sum(use.seconds for use in found)) for source, found in sources.items()}
    return [
        {
            "kind": kind,
            "name": name,
            "commands": total.commands((kind, name), sum(use.commands for use in sources[kind, name])),
            "retries": sum(use.retries for use in sources[kind, name]),
            **total.of((kind, name)),
            "window": recent.of((kind, name)),
            "collections": _of_source(sources[kind, name]),
        }
        for kind, name in sorted(seconds, key=lambda source: -seconds[source])[:_ROUTES]
    ]


def _of_source(uses: Collection[CommandUse]) -> list[dict[str, Any]]:
    whole = sum(use.seconds for use in uses)
    return [
        {
            "collection": use.collection or None,
            "operation": use.operation,
            "commands": use.commands,
            "seconds": round(use.seconds, 6),
            "share_percent": percent(use.seconds, whole),
        }
        for use in sorted(uses, key=lambda use: -use.seconds)[:_COLLECTIONS]
    ]


class _Figures:
    """The figures of one window by route."""

    def __init__(self, window: Window) -> None:
        self._commands = _by_source(window, semconv.REQUEST_COMMANDS, semconv.OPERATION_COMMANDS)
        self._times = _by_source(window, semconv.REQUEST_DATABASE_DURATION, semconv.OPERATION_DATABASE_DURATION)
        self._window = window

    @property
    def sources(self) -> Set[Source]:
        """Those that have sent commands."""
        return self._commands.keys()

    def commands(self, source: Source, otherwise: int) -> int:
        """How many commands it has sent; `otherwise` where that was not measured."""
        found = self._commands.get(source)
        return otherwise if found is None else round(found.sum)

    def seconds(self, source: Source, otherwise: float) -> float:
        """How long it has waited for them."""
        found = self._times.get(source)
        return otherwise if found is None else found.sum

    def busiest(self, limit: int) -> list[tuple[Source, dict[str, Any]]]:
        order = sorted(self._times, key=lambda source: -self._times[source].sum)
        return [(source, self.of(source)) for source in order[:limit]]

    def of(self, source: Source) -> dict[str, Any]:
        commands, times = self._commands.get(source, _NONE), self._times.get(source, _NONE)
        durations = self._durations(source)
        count = max(sum(one.count for one in durations), commands.count)
        seconds = sum(one.sum for one in durations)
        return {
            "requests": count,
            "commands_per_request": {
                "avg": round(commands.sum / count, 2) if count else 0.0,
                "p95": round(commands.quantile(0.95) or 0.0),
                "max": round(commands.max) if commands.count else 0,
            },
            "database_time": {
                "avg": round(times.sum / count, 6) if count else 0.0,
                "p95": round(times.quantile(0.95) or 0.0, 6),
                "max": round(times.max, 6) if times.count else 0.0,
            },
            "share_percent": min(100.0, percent(times.sum, seconds)) if seconds else None,
        }

    def _durations(self, source: Source) -> list[Histogram]:
        """How long all its requests or runs took, also those that used no database."""
        kind, name = source
        if kind == OPERATION:
            runs = self._window.grouped(semconv.OPERATION_DURATION, semconv.OPERATION_NAME)
            return [histogram for _, histogram in runs.get(name, ())]
        if kind != REQUEST:
            return []
        method, _, route = name.partition(" ")
        requests = self._window.grouped(semconv.HTTP_SERVER_REQUEST_DURATION, semconv.HTTP_ROUTE)
        routes = (route, None, "") if route == semconv.UNMATCHED_ROUTE else (route,)
        recorded = [item for one in routes for item in requests.get(one, ())]
        return [histogram for series, histogram in recorded if str(series.get(semconv.HTTP_REQUEST_METHOD)) == method]


_NONE: Final = Histogram(min=0.0, max=0.0)


def _by_source(window: Window, of_requests: str, of_operations: str) -> dict[Source, Histogram]:
    found: dict[Source, list[Histogram]] = {}
    for series, histogram in window.histograms(of_requests):
        route = series.get(semconv.HTTP_ROUTE) or semconv.UNMATCHED_ROUTE
        name = redact_name(f"{series.get(semconv.HTTP_REQUEST_METHOD)} {route}")
        found.setdefault((REQUEST, name), []).append(histogram)
    for series, histogram in window.histograms(of_operations):
        found.setdefault((OPERATION, redact_name(str(series.get(semconv.OPERATION_NAME)))), []).append(histogram)
    return {source: merged(histograms) for source, histograms in found.items()}


def _repetition(one: Repetition) -> dict[str, Any]:
    return {
        **_source(one.kind, one.name),
        "operation": one.operation,
        "collection": one.collection or None,
        "shape": one.shape,
        "caller": one.caller or None,
        "requests": one.requests,
        "per_request": {"avg": round(one.commands / one.requests, 1), "max": one.most},
        "first_seen": rfc3339(one.first),
        "last_seen": rfc3339(one.last),
    }


def _shape(one: QueryShape) -> dict[str, Any]:
    plan = one.plan
    return {
        "operation": one.operation,
        "collection": one.collection or None,
        "shape": one.shape,
        "count": one.slow,
        "seconds": round(one.seconds, 6),
        "max": round(one.slowest, 6),
        "routes": [_source(kind, name) for kind, name in one.sources],
        "plan": None if plan is None else plan.text,
        "explained_at": None if plan is None else rfc3339(plan.at),
        "first_seen": rfc3339(one.first),
        "last_seen": rfc3339(one.last),
    }


def _source(kind: str, name: str) -> dict[str, str]:
    return {"kind": kind, "name": name}


def _collections(uses: Iterable[CommandUse]) -> list[dict[str, Any]]:
    """The collections by the time of their commands: the first is the hottest."""
    by_collection: dict[str, list[CommandUse]] = {}
    for use in uses:
        by_collection.setdefault(use.collection, []).append(use)
    seconds = {name: sum(use.seconds for use in found) for name, found in by_collection.items()}
    whole = sum(seconds.values())
    return [
        {
            "collection": name or None,
            "commands": sum(use.commands for use in by_collection[name]),
            "seconds": round(seconds[name], 6),
            "share_percent": percent(seconds[name], whole),
            "routes": _busiest(by_collection[name]),
        }
        for name in sorted(seconds, key=lambda name: -seconds[name])[:_HOT]
    ]


def _busiest(uses: Iterable[CommandUse]) -> list[dict[str, str]]:
    by_source: dict[Source, float] = {}
    for use in uses:
        by_source[use.kind, use.name] = by_source.get((use.kind, use.name), 0.0) + use.seconds
    return [_source(*source) for source in sorted(by_source, key=lambda one: -by_source[one])[:_NAMED]]
