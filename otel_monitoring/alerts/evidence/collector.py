"""`EvidenceCollector`: collects the evidence of alerts in the process that evaluates the rules."""

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from otel_monitoring.alerts.evaluation.worker_report import WorkerReport
from otel_monitoring.alerts.evidence.circumstances import NOTHING, Alert, Circumstances, Timed
from otel_monitoring.alerts.evidence.comparison import route_of
from otel_monitoring.alerts.evidence.course import MINUTES, course_of
from otel_monitoring.alerts.evidence.culprits import culprits_of
from otel_monitoring.alerts.evidence.exception import exception_of
from otel_monitoring.alerts.evidence.figures import Figures
from otel_monitoring.alerts.evidence.release import release_of
from otel_monitoring.alerts.evidence.subject import Subject, subject_of
from otel_monitoring.alerts.evidence.traces import traces_of
from otel_monitoring.guard import fail_open
from otel_monitoring.metrics.error_groups import ErrorGroup, ErrorKey
from otel_monitoring.metrics.outcome import OutcomeClassifier
from otel_monitoring.metrics.slices.recorder import WrittenUpTo
from otel_monitoring.metrics.slices.table import SliceTable
from otel_monitoring.metrics.slices.timeline import timeline
from otel_monitoring.metrics.window import Window, Windows
from otel_monitoring.runtime.threads import wait_for

ALERTS_LIMIT = 10
"""The most alerts of one evaluation that get evidence: a storm needs none for each."""
_TIME_LIMIT = 2.0
_HOUR = 3600.0
_NOTES_IN_WINDOW = 5
_OLD_NOTE_SECONDS = 1800.0
_NOTICED_SECONDS = 60.0
"""Seconds in which the process that writes the slices has seen a new version."""

_collecting = fail_open("collecting the evidence of an alert")
_noting = fail_open("noting figures for the evidence of alerts")


@dataclass(frozen=True, slots=True)
class EvidenceSources:
    """Where evidence comes from.

    Attributes:
        history: Returns what the service measured.
        errors: Returns the groups of failed requests.
        table: Returns the slices of the past.
        classify: Which requests are errors.
        window: Seconds that rules look back.
        trace_url: The template of links to traces, or empty.
        page_url: The link to the status page, or empty.
    """

    history: Callable[[], Windows]
    errors: Callable[[], Mapping[ErrorKey, ErrorGroup]]
    table: Callable[[], SliceTable]
    classify: OutcomeClassifier
    window: float
    trace_url: str = ""
    page_url: str = ""


class EvidenceCollector:
    """Collects evidence; one thread at a time uses it.

    Args:
        sources: Where it comes from.
        elapsed: Returns monotonic time in seconds.
    """

    def __init__(self, sources: EvidenceSources, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._from = sources
        self._elapsed = elapsed
        self._notes: deque[tuple[float, Figures]] = deque()

    def note(self, now: float) -> None:
        """Remember the totals as they are now, from time to time, so that the hour before an alert is known.

        Args:
            now: Unix seconds.
        """
        step = self._from.window / _NOTES_IN_WINDOW
        if self._notes and 0 <= now - self._notes[-1][0] < step:
            return
        with _noting:
            self._notes.append((now, Figures.of(self._from.history().total)))
            self._forget(now)

    def _forget(self, now: float) -> None:
        """Keep every note of the last two windows, and of the time before one for each half hour."""
        kept: list[tuple[float, Figures]] = []
        for at, figures in self._notes:
            is_fresh = at > now - 2 * self._from.window
            if at <= now and (is_fresh or not kept or at - kept[-1][0] >= _OLD_NOTE_SECONDS):
                kept.append((at, figures))
        while len(kept) > 2 and kept[1][0] < now - 1.5 * _HOUR:
            kept.pop(0)
        self._notes = deque(kept)

    def collect(
        self, alerts: Collection[Alert], reports: Mapping[str, WorkerReport], recent: Window, now: float
    ) -> list[Mapping[str, Any]]:
        """The evidence of each alert, in their order, as JSON; empty where there is none. Never raises.

        It takes at most two seconds; what is not ready then is left out.

        Args:
            alerts: The alerts.
            reports: The reports of all processes.
            recent: The recent window of the service, with the gauges of its processes.
            now: Unix seconds.
        """
        found: list[Mapping[str, Any]] = [{} for _ in alerts]

        def work() -> None:
            with _collecting:
                about = self._circumstances(reports, recent, now)
                for place, alert in enumerate(list(alerts)[:ALERTS_LIMIT]):
                    with _collecting:
                        found[place] = self._evidence(alert, self._since(about, alert))

        with _collecting:
            wait_for(work, _TIME_LIMIT, name="otel-monitoring-evidence")
        return list(found)

    def _circumstances(self, reports: Mapping[str, WorkerReport], recent: Window, now: float) -> Circumstances:
        slices, releases = self._past(now)
        return Circumstances(
            now=now,
            window=self._from.window,
            recent=recent,
            total=self._from.history().total if reports else NOTHING,
            reports=reports,
            slices=slices,
            releases=_with_running(releases, reports),
            errors=dict(self._from.errors()),
            classify=self._from.classify,
        )

    def _past(self, now: float) -> tuple[Sequence[Timed], Sequence[tuple[float, str]]]:
        with _collecting:
            table = self._from.table()
            written = WrittenUpTo.of(table.position())
            if written is not None:
                start = int(now - _HOUR - MINUTES * 60)
                return list(timeline(table, start, int(now))), written.releases
        return (), ()

    def _since(self, about: Circumstances, alert: Alert) -> Circumstances:
        """The same with the figures from about the beginning of the alert on, and those of the hour before."""
        total = Figures.of(about.total)
        begin = alert.since - self._from.window / _NOTES_IN_WINDOW
        split = next(((at, known) for at, known in reversed(self._notes) if at <= begin), None)
        if split is None:
            # Nothing is known of the time just before it: the recent window is compared with all before that.
            lately = Figures.of(about.recent)
            return replace(about, lately=lately, before=total.minus(lately))
        at, known = split
        hour = next((figures for then, figures in self._notes if at - 2 * _HOUR <= then <= at - _HOUR), Figures())
        return replace(about, lately=total.minus(known), before=known.minus(hour))

    def _evidence(self, alert: Alert, about: Circumstances) -> Mapping[str, Any]:
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


def _with_running(
    releases: Sequence[tuple[float, str]], reports: Mapping[str, WorkerReport]
) -> Sequence[tuple[float, str]]:
    """The releases, and the one that began so lately that the slices do not know it yet.

    The slices know it some seconds late: errors of meanwhile would have begun before it.
    """
    began: dict[str, float] = {}
    for report in reports.values():
        version, started = report.state.get("version"), report.state.get("started_at")
        with _collecting:
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
