"""`Circumstances`: all that is known when an alert begins to fire; what stands out is found in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from otel_monitoring.alerts.evaluation.worker_report import WorkerReport
from otel_monitoring.alerts.evidence.figures import Figures
from otel_monitoring.metrics.error_groups import ErrorGroup, ErrorKey
from otel_monitoring.metrics.outcome import OutcomeClassifier
from otel_monitoring.metrics.slices.model import Slice
from otel_monitoring.metrics.snapshot import Snapshot
from otel_monitoring.metrics.window import Window

NOTHING = Window(Snapshot(0.0, 0.0))

_ENOUGH = 20
"""Requests before an alert that are enough to compare with."""

Timed = tuple[int, int, Slice]
"""A slice with its start and end, in Unix seconds."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known about the time of an alert, and the hour before it.

    Attributes:
        now: Unix seconds.
        window: Seconds that rules look back.
        lately: The figures of the service since about the beginning of the alert.
        before: Those of the hour before that; of no length where nothing is known of it.
        recent: The recent window of the service, with the gauges of its processes.
        total: Everything since the service began.
        reports: What the processes report, by `service.instance.id`.
        slices: The slices of the last hours in order.
        releases: When each version began, in Unix seconds, the newest last.
        errors: The groups of failed requests.
        classify: Which requests are errors.
    """

    now: float
    window: float
    lately: Figures = field(default_factory=Figures)
    before: Figures = field(default_factory=Figures)
    recent: Window = NOTHING
    total: Window = NOTHING
    reports: Mapping[str, WorkerReport] = field(default_factory=dict)
    slices: Sequence[Timed] = ()
    releases: Sequence[tuple[float, str]] = ()
    errors: Mapping[ErrorKey, ErrorGroup] = field(default_factory=dict)
    classify: OutcomeClassifier = field(default_factory=OutcomeClassifier)

    @property
    def knows_before(self) -> bool:
        """Whether enough is known of the time before the alert to compare with."""
        enough = sum(cell.number for cell in self.before.requests.values()) >= _ENOUGH
        return enough and self.before.seconds >= self.lately.seconds / 2

    @property
    def workers(self) -> "list[WorkerFigures]":
        """What each process says about itself."""
        return [WorkerFigures.of(instance, report) for instance, report in self.reports.items()]


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """What a process says about its own work.

    Attributes:
        instance: Its `service.instance.id`.
        place: Its host and process id, for people.
        version: Its `service.version`, or empty.
        routes: Number, errors and seconds of the recent requests of each route.
        gauges: The present reading and the one of before, of `cpu` (percent of a core), `memory` (MiB), `lag` (s).
        traces: The slowest requests lately: seconds, method, route, status, error type and trace id.
        peers: Hosts that failed requests were waiting for: type of the exception, request, host.
        pools: The connections of each pool: in use, and open.
    """

    instance: str
    place: str
    version: str
    routes: Mapping[str, Sequence[float]]
    gauges: Mapping[str, Sequence[float]]
    traces: Sequence[Sequence[Any]]
    peers: Sequence[Sequence[str]]
    pools: Mapping[str, Sequence[float]]

    @classmethod
    def of(cls, instance: str, report: WorkerReport) -> "WorkerFigures":
        """The figures of a report; what another version reports in another form is left out."""
        state, said = report.state, report.figures()
        host, pid = state.get("host"), state.get("pid")
        return cls(
            instance=instance,
            place=f"{pid} on {host}" if pid is not None else instance,
            version=str(state.get("version") or ""),
            routes=_numbers(said.get("routes"), 3),
            gauges=_numbers(said.get("gauges"), 2),
            traces=_rows(said.get("traces"), 6),
            peers=_rows(said.get("peers"), 3),
            pools=_numbers(said.get("pools"), 2),
        )


def _numbers(said: object, length: int) -> dict[str, Sequence[float]]:
    """The entries whose value is a list of `length` numbers."""
    entries = said.items() if isinstance(said, Mapping) else ()
    return {
        str(name): row
        for name, row in entries
        if isinstance(row, list) and len(row) == length and all(isinstance(one, int | float) for one in row)
    }


def _rows(said: object, length: int) -> list[Sequence[Any]]:
    """The rows of this length."""
    return [row for row in said if isinstance(row, list) and len(row) == length] if isinstance(said, list) else []
