"""`Investigation`: looks for what changed when alerts began."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from otel_monitoring.alerts.evaluation.worker_report import WorkerReport
from otel_monitoring.alerts.evidence.alert import Alert
from otel_monitoring.alerts.evidence.circumstances import NOTHING, Circumstances, Timed
from otel_monitoring.alerts.evidence.comparison import route_of
from otel_monitoring.alerts.evidence.course import MINUTES, course_of
from otel_monitoring.alerts.evidence.culprits import culprits_of
from otel_monitoring.alerts.evidence.exception import exception_of
from otel_monitoring.alerts.evidence.figures import Figures
from otel_monitoring.alerts.evidence.release import release_of
from otel_monitoring.alerts.evidence.sources import EvidenceSources
from otel_monitoring.alerts.evidence.subject import Subject, subject_of
from otel_monitoring.alerts.evidence.traces import traces_of
from otel_monitoring.guard import fail_open
from otel_monitoring.metrics.slices.recorder import WrittenUpTo
from otel_monitoring.metrics.slices.timeline import timeline
from otel_monitoring.metrics.window import Window

_HOUR = 3600.0
_NOTICED_SECONDS = 60.0
"""Seconds in which the process that writes the slices has seen a new version."""

_reading = fail_open("reading what is evidence of an alert")


class Investigation:
    """Finds the evidence of alerts of one evaluation.

    Args:
        sources: Where evidence comes from.
        notes: The totals as they were, with the Unix seconds, oldest first.
        reports: The reports of all processes.
        recent: The recent window of the service, with the gauges of its processes.
        now: Unix seconds.
    """

    def __init__(
        self,
        sources: EvidenceSources,
        notes: Sequence[tuple[float, Figures]],
        reports: Mapping[str, WorkerReport],
        recent: Window,
        now: float,
    ) -> None:
        self._from = sources
        self._notes = notes
        slices, releases = self._past(now)
        self._circumstances = Circumstances(
            now=now,
            window=sources.window,
            recent=recent,
            total=sources.history().total if reports else NOTHING,
            reports=reports,
            slices=slices,
            releases=_with_running(releases, reports),
            errors=dict(sources.errors()),
            classify=sources.classify,
        )

    def evidence_of(self, alert: Alert) -> Mapping[str, Any]:
        """The evidence of an alert as JSON; empty where there is none."""
        about = self._since(alert)
        culprits = culprits_of(alert, about)
        failing = subject_of(alert.rule.expression) is Subject.ERRORS
        release = release_of(alert, about)
        course = [None if value is None else float(f"{value:.4g}") for value in course_of(alert, about)]
        found = {
            "course": {"minutes": MINUTES, "values": course} if course else None,
            "culprits": [culprit.as_json() for culprit in culprits],
            "traces": traces_of(alert, about, culprits, self._from.trace_url, failing=failing),
            "exception": exception_of(about, route_of(alert)) if failing else None,
            "release": release.as_json() if release is not None else None,
            "page_url": self._from.page_url,
        }
        return {name: value for name, value in found.items() if value}

    def _past(self, now: float) -> tuple[Sequence[Timed], Sequence[tuple[float, str]]]:
        with _reading:
            table = self._from.table()
            written = WrittenUpTo.of(table.position())
            if written is not None:
                start = int(now - _HOUR - MINUTES * 60)
                return list(timeline(table, start, int(now))), written.releases
        return (), ()

    def _since(self, alert: Alert) -> Circumstances:
        """The circumstances with the figures from about the beginning of the alert on, and those of the hour before."""
        about = self._circumstances
        total = Figures.of(about.total)
        begin = alert.since - self._from.note_seconds
        split = next(((at, known) for at, known in reversed(self._notes) if at <= begin), None)
        if split is None:
            # Nothing is known of the time just before it: the recent window is compared with all before that.
            lately = Figures.of(about.recent)
            return replace(about, lately=lately, before=total.minus(lately))
        at, known = split
        hour = next((figures for then, figures in self._notes if at - 2 * _HOUR <= then <= at - _HOUR), Figures())
        return replace(about, lately=total.minus(known), before=known.minus(hour))


def _with_running(
    releases: Sequence[tuple[float, str]], reports: Mapping[str, WorkerReport]
) -> Sequence[tuple[float, str]]:
    """The releases, and a later one that only the reports of the workers have yet.

    Slices have a release some seconds late. Without the reports, errors of these seconds would seem older than it.
    """
    began: dict[str, float] = {}
    for report in reports.values():
        version, started = report.state.get("version"), report.state.get("started_at")
        with _reading:
            if version and started:
                at = datetime.fromisoformat(str(started)).timestamp()
                began[str(version)] = min(at, began.get(str(version), at))
    exact = [
        (first, version) if 0 < at - (first := began.get(version, at)) <= _NOTICED_SECONDS else (at, version)
        for at, version in releases
    ]
    known = {version for _, version in exact}
    news = [(at, version) for version, at in began.items() if exact and version not in known and at > exact[-1][0]]
    return [*exact, *sorted(news)]
