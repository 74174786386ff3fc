"""`PageFigures`: the figures of the page, from the answers that are there, in as few bytes as they need.

Lists of rows have no keys: their columns are documented at the function that makes them, and once more in the page's
`types.js`. Times are Unix seconds.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from otel_monitoring.alerts.manager import AlertManager
from otel_monitoring.alerts.overview import firing
from otel_monitoring.config.settings import Thresholds
from otel_monitoring.endpoints.answers import HealthAnswers
from otel_monitoring.errors import StoreError
from otel_monitoring.health.database_routes import busiest_routes, findings
from otel_monitoring.health.performance_metrics import PerformanceMetrics
from otel_monitoring.health.request_statistics import RequestStatistics, percent
from otel_monitoring.metrics.database_work import DatabaseWork, QueryShape, Repetition
from otel_monitoring.metrics.service_history import SERVICE
from otel_monitoring.metrics.snapshot import merged
from otel_monitoring.metrics.window import Window, Windows
from otel_monitoring.redact import redact
from otel_monitoring.semconv import (
    DB_CLIENT_OPERATION_DURATION,
    DB_COLLECTION_NAME,
    DB_OPERATION_NAME,
    ERROR_TYPE,
)
from otel_monitoring.status_page.rounding import figure
from otel_monitoring.status_page.status_since import StatusSince

SHOWN: Final = 20
"""How many endpoints the page shows first; `endpoints.js` has the same number."""
_FIRING_LIMIT: Final = 30
_EVIDENCE_LIMIT = 3
"""Of how many alerts the page says what changed: an update is to stay small."""
_MUTES_LIMIT: Final = 30
_ERRORS_LIMIT: Final = 15
_INSTANCES_LIMIT: Final = 40
_ROUTES_LIMIT: Final = 8
_FINDINGS_LIMIT: Final = 4
_COMMANDS_LIMIT: Final = 12
_COLLECTIONS_LIMIT: Final = 40
_TEXT_LENGTH: Final = 300

Row = list[Any]


class PageFigures:
    """Makes the contents of updates.

    Args:
        answers: The answers of the health endpoints.
        performance: The requests of the service.
        statistics: Computes their figures.
        thresholds: The limits that charts show.
        alerts: Returns the alert manager.
    """

    def __init__(
        self,
        answers: HealthAnswers,
        performance: PerformanceMetrics,
        statistics: RequestStatistics,
        thresholds: Thresholds,
        alerts: Callable[[], AlertManager],
    ) -> None:
        self._answers = answers
        self._performance = performance
        self._statistics = statistics
        self._thresholds = thresholds
        self._alerts = alerts
        self._since = StatusSince(lambda: alerts().store.slices)

    def content(self, every_endpoint: bool) -> dict[str, Any]:
        """What the page shows now. It waits for the store, so it runs in a thread.

        Args:
            every_endpoint: False: `endpoints` are those that the page shows first, in whatever order.
        """
        glance = self._answers.glance()
        window = self._performance.history(SERVICE).recent
        endpoints = self._statistics.endpoints_in(window)
        rows = [_endpoint(name, endpoints[name], window.seconds) for name in sorted(endpoints)]
        now = round(self._alerts().clock(), 3)
        return {
            "time": now,
            "status": glance["status"],
            "since": self._since.of(glance["status"], now),
            "reasons": [_short(reason) for reason in glance["reasons"]],
            "uptime": glance["uptime_seconds"],
            "incomplete": glance.get("incomplete"),
            "service": glance["service"],
            "thresholds": self._thresholds.as_dict(),
            "now": self._now(window, glance["instances"]),
            "endpoints": rows if every_endpoint else foremost(rows),
            "endpoint_count": len(rows),
            "errors": self._errors(),
            "database": {**_database(glance["database"], window), **_routes(*self._answers.database_work())},
            "instances": [_instance(one) for one in glance["instances"][:_INSTANCES_LIMIT]],
            "instance_count": len(glance["instances"]),
            **self._alerting(),
        }

    def _now(self, window: Window, instances: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """The requests in the window."""
        found = self._statistics.performance(window)
        return {
            "seconds": round(window.seconds),
            "requests": self._statistics.rate(window),
            "count": found["requests_recorded"],
            "error_rate": found["error_rate"],
            **{name: figure(found[f"{name}_response_time"]) for name in ("p50", "p95", "p99")},
            "in_flight": sum(one.get("requests_in_flight") or 0 for one in instances),
        }

    def _errors(self) -> dict[str, Any]:
        groups = self._answers.errors()["errors"]
        columns = ("type", "route", "count", "first_seen", "last_seen", "new", "version")
        return {"count": len(groups), "groups": [[group[key] for key in columns] for group in groups[:_ERRORS_LIMIT]]}

    def _alerting(self) -> dict[str, Any]:
        """What fires and what is muted; `event` changes with every new alert of the history."""
        manager = self._alerts()
        try:
            store = manager.store
            rules = {rule.name: rule for rule in manager.rules}
            fires = firing(manager.incidents(), rules, manager.acknowledged())
            mutes = [mute.as_json() for mute in manager.mutes()]
            events = store.history.events(limit=1)
        except StoreError as error:
            return {"firing": [], "mutes": [], "event": "", "store_problem": redact(str(error))}
        return {
            "firing": [*fires[:_EVIDENCE_LIMIT], *map(_without_evidence, fires[_EVIDENCE_LIMIT:_FIRING_LIMIT])],
            "firing_count": len(fires),
            "mutes": mutes[:_MUTES_LIMIT],
            "mute_count": len(mutes),
            "event": f"{events[0].time}" if events else "",
            "store_problem": store.problem,
        }


def _without_evidence(alert: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in alert.items() if name != "evidence"}


def _endpoint(name: str, figures: Mapping[str, Any], seconds: float) -> Row:
    """Name, methods, requests a second, p50 and p95 in seconds, errors in percent, all in the window."""
    rate = figures["call_count"] / seconds if seconds > 0 else 0.0
    return [
        *(name, ", ".join(figures["methods"])),
        *(figure(rate), figure(figures["p50_time"]), figure(figures["p95_time"]), figures["error_rate"]),
    ]


_ORDERS: Sequence[Callable[[Row], Any]] = (
    lambda row: -row[2],
    lambda row: -(row[4] or 0),
    lambda row: (-row[5], -row[2]),
)
"""By load, p95 and errors, as the page sorts. To sort by name as people do it has to have all of them."""


def foremost(endpoints: Sequence[Row]) -> list[Row]:
    """The endpoints that the page shows first in any order but that of their names; all of them where these are few."""
    if len(endpoints) <= SHOWN * len(_ORDERS):
        return list(endpoints)
    names = {row[0] for order in _ORDERS for row in sorted(endpoints, key=order)[:SHOWN]}
    return [row for row in endpoints if row[0] in names]


def _instance(one: Mapping[str, Any]) -> Row:
    """Host, process id, version, status, uptime, age of the report, whether it leads, and its figures.

    The figures: requests a second, requests in flight, CPU of the process in percent, its memory in MiB, the largest
    lag of its loop in seconds, the round trip of its ping in milliseconds.
    """
    system, loop = one.get("system") or {}, one.get("event_loop") or {}
    return [
        *(
            one.get(key)
            for key in ("host", "pid", "version", "status", "uptime_seconds", "report_age_seconds", "leads")
        ),
        *(one.get(key) for key in ("requests_per_second", "requests_in_flight")),
        *(system.get("process_cpu_percent"), system.get("memory_mb"), figure(loop.get("max_lag_seconds"))),
        (one.get("database") or {}).get("response_time_ms"),
    ]


def _database(database: Mapping[str, Any], window: Window) -> dict[str, Any]:
    """The state of the database, its commands in the window, its collections."""
    collections = database["collections"]
    names = sorted(collections)[:_COLLECTIONS_LIMIT]
    total = sum(facts["document_count"] or 0 for facts in collections.values())
    return {
        "status": database["status"],
        "ping": database["response_time_ms"],
        "age": database["age_seconds"],
        "error": _short(database.get("error")),
        "documents": total if collections else None,
        "collections": [
            [redact(name), collections[name]["document_count"], len(collections[name]["indexes"])] for name in names
        ],
        "collection_count": database.get("collections_total") or len(collections),
        "commands": _commands(window),
    }


def _routes(work: DatabaseWork, history: Windows) -> dict[str, list[Row]]:
    """What routes do with the database, and what is to be looked at there.

    Of a route: its name, commands and seconds of a request, percent of its time. Of a finding: what it is, command,
    collection, shape, where it comes from, and how often in one request, or how many seconds.
    """
    return {
        "routes": [
            [
                name,
                figure(found["commands_per_request"]["avg"]),
                figure(found["database_time"]["avg"]),
                found["share_percent"],
            ]
            for (_, name), found in busiest_routes(history.recent, _ROUTES_LIMIT)
        ],
        "findings": [_finding(kind, one) for kind, one in findings(work, _FINDINGS_LIMIT)],
    }


def _finding(kind: str, one: Repetition | QueryShape) -> Row:
    if isinstance(one, Repetition):
        where, much = [one.name, one.caller], one.commands / one.requests
    else:
        where, much = [name for _, name in one.sources[:2]], one.slowest
    return [kind, one.operation, one.collection, _short(one.shape), ", ".join(filter(None, where)), figure(much)]


def _commands(window: Window) -> list[Row]:
    """Command, collection, commands a second, p95 in seconds, errors in percent; those that took most time first."""
    groups: dict[tuple[str, str], list[tuple[bool, Any]]] = {}
    for series, durations in window.histograms(DB_CLIENT_OPERATION_DURATION):
        key = str(series.get(DB_OPERATION_NAME) or ""), str(series.get(DB_COLLECTION_NAME) or "")
        groups.setdefault(key, []).append((series.get(ERROR_TYPE) is not None, durations))
    found = []
    for (command, collection), parts in groups.items():
        whole = merged(durations for _, durations in parts)
        failed = sum(durations.count for is_failed, durations in parts if is_failed)
        rate = whole.count / window.seconds if window.seconds > 0 else 0.0
        row = [
            redact(command),
            redact(collection),
            figure(rate),
            figure(whole.quantile(0.95)),
            percent(failed, whole.count),
        ]
        found.append((whole.sum, row))
    found.sort(key=lambda pair: -pair[0])
    return [row for _, row in found[:_COMMANDS_LIMIT]]


def _short(text: object) -> str | None:
    return None if text is None else str(text)[:_TEXT_LENGTH]
