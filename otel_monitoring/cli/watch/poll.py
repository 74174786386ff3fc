"""`ask` reads a service's state into a `Refresh`; `RefreshHistory` keeps the figures of the last refreshes."""

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from otel_monitoring.cli.client import DeniedError, ServiceClient, UnreachableError

KEPT: Final = 120
"""The most refreshes in a sparkline."""
_MAX_WORKERS: Final = 64


@dataclass(frozen=True, slots=True)
class Refresh:
    """The state of a service at one time.

    Attributes:
        at: Unix seconds.
        diagnostics: The answer of `/health/diagnostics`, None without one.
        firing: The answer of `/alerts/firing`, None where the service has no such endpoint.
        muted: By alert type, until when it is muted, as RFC 3339 text.
        recent_types: Types of the latest alerts, newest first, each once.
        error: Why there are no diagnostics; None where there are.
        denied: Whether the reason is a missing or wrong admin token.
    """

    at: float
    diagnostics: dict[str, Any] | None = None
    firing: list[dict[str, Any]] | None = None
    muted: dict[str, str] = field(default_factory=dict)
    recent_types: tuple[str, ...] = ()
    error: str | None = None
    denied: bool = False

    @property
    def mutable_types(self) -> list[str]:
        """Alert types that can be muted or unmuted: those that fire, or the latest where none does; and muted ones."""
        firing = [str(alert.get("type")) for alert in self.firing or ()]
        return list(dict.fromkeys([*firing, *(() if firing else self.recent_types), *self.muted]))


def ask(service: ServiceClient) -> Refresh:
    """Ask the service for diagnostics, firing alerts and the alert summary; an error is part of the result."""
    now = time.time()
    try:
        answer = service.get("/health/diagnostics")
        if answer is None or not isinstance(answer.body, dict) or "performance" not in answer.body:
            return Refresh(now, error=service.nothing_found("/health/diagnostics"))
        firing = service.get("/alerts/firing")
        summary = service.get("/alerts/summary")
    except UnreachableError as error:
        return Refresh(now, error=str(error))
    except DeniedError as error:
        return Refresh(now, error=str(error), denied=True)
    alerts: dict[str, Any] = summary.body if summary is not None and isinstance(summary.body, dict) else {}
    return Refresh(
        now,
        answer.body,
        firing.body if firing is not None and isinstance(firing.body, list) else None,
        alerts.get("muted_alerts", {}),
        tuple(dict.fromkeys(str(alert.get("type")) for alert in alerts.get("recent_alerts", ()))),
    )


@dataclass(frozen=True, slots=True)
class RefreshFigures:
    """The figures of one refresh, None where they are unknown.

    Attributes:
        request_rate: Requests a second since the service was asked last; the first time, over its window.
        error_rate: Percent of the requests of the window.
        p50: Seconds, over the window; likewise `p95` and `p99`.
        cpu_percent: Of the machine or container.
        memory_percent: Likewise.
        loop_lag: Seconds that the event loop is late.
        ping_ms: Round trip to the database, in milliseconds.
    """

    request_rate: float | None = None
    error_rate: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    cpu_percent: float | None = None
    memory_percent: float | None = None
    loop_lag: float | None = None
    ping_ms: float | None = None


@dataclass(frozen=True, slots=True)
class SeenWorker:
    """A worker process at its last answer.

    Attributes:
        pid: The process id in its answer.
        at: Unix seconds.
        turn: The number of answers from all workers until then.
    """

    pid: object
    at: float
    turn: int


class RefreshHistory:
    """Turns refreshes into figures and keeps the last ones.

    Attributes:
        figures: The figures of the last refreshes, oldest first.
        latest: The latest refresh.
        last: The latest refresh with diagnostics.
        lost_at: When the service stopped answering, in Unix seconds; None while it answers.
    """

    def __init__(self) -> None:
        self.figures: deque[RefreshFigures] = deque([RefreshFigures()], maxlen=KEPT)
        self.last: Refresh | None = None
        self.latest: Refresh | None = None
        self.lost_at: float | None = None
        self._counted: tuple[float, int] | None = None
        self._workers: dict[object, SeenWorker] = {}
        self._turn = 0
        self._by_turns = False

    @property
    def worker(self) -> object:
        """The process id of the worker that answered last."""
        diagnostics = self.last.diagnostics or {} if self.last is not None else {}
        return diagnostics.get("worker", {}).get("pid", "?")

    @property
    def gone(self) -> list[SeenWorker]:
        """Workers that have ended, for as long as figures of theirs are shown.

        A connection stays with its worker, so another worker's answer shows that the worker has ended. Where each
        request has a new connection, workers answer in turns, and one that misses ten rounds has ended.
        """
        patience = 10 * len(self._workers) if self._by_turns else 1
        return [seen for seen in self._workers.values() if patience <= self._turn - seen.turn < KEPT]

    def add(self, refresh: Refresh) -> RefreshFigures:
        """Add a refresh; returns its figures."""
        self.latest = refresh
        if refresh.diagnostics is None:
            self.lost_at = self.lost_at or refresh.at
            figures = RefreshFigures()
        else:
            self.last, self.lost_at = refresh, None
            figures = self._figures(refresh.at, refresh.diagnostics)
        self.figures.append(figures)
        return figures

    def _figures(self, at: float, diagnostics: dict[str, Any]) -> RefreshFigures:
        performance = diagnostics.get("performance", {})
        window = performance.get("window", performance)
        system = diagnostics.get("system", {})
        measured = window.get("requests_recorded", 0) > 0
        return RefreshFigures(
            request_rate=self._rate(at, diagnostics),
            error_rate=window.get("error_rate"),
            p50=window.get("p50_response_time") if measured else None,
            p95=window.get("p95_response_time") if measured else None,
            p99=window.get("p99_response_time") if measured else None,
            cpu_percent=system.get("cpu_percent"),
            memory_percent=system.get("memory_percent"),
            loop_lag=diagnostics.get("event_loop", {}).get("lag_seconds"),
            ping_ms=diagnostics.get("database", {}).get("response_time_ms"),
        )

    def _rate(self, at: float, diagnostics: dict[str, Any]) -> float | None:
        performance = diagnostics["performance"]
        worker = diagnostics.get("worker", {})
        seen = self._workers.pop(worker.get("instance_id"), None)
        self._by_turns |= seen is not None and seen.turn < self._turn
        self._turn += 1
        self._workers[worker.get("instance_id")] = SeenWorker(worker.get("pid", "?"), at, self._turn)
        if len(self._workers) > _MAX_WORKERS:
            del self._workers[next(iter(self._workers))]
        count = int(performance.get("requests_recorded", 0))
        before, self._counted = self._counted, (at, count)
        if before is not None and at > before[0] and count >= before[1]:
            return (count - before[1]) / (at - before[0])
        window = performance.get("window", {})
        seconds = window.get("seconds") or 0
        return window.get("requests_recorded", 0) / seconds if seconds else None


def busiest(diagnostics: dict[str, Any]) -> list[tuple[str, dict[str, Any], float]]:
    """Each route with its figures and its share of the load in percent, greatest first.

    Load is calls times average time.
    """
    endpoints = diagnostics.get("endpoints", {})
    load = {route: (f.get("call_count") or 0) * (f.get("avg_time") or 0.0) for route, f in endpoints.items()}
    total = sum(load.values())
    ranked = sorted(endpoints, key=lambda route: load[route], reverse=True)
    return [(route, endpoints[route], 100 * load[route] / total if total else 0.0) for route in ranked]
