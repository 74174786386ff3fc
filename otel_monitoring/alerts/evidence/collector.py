"""`EvidenceCollector`: collects the evidence of alerts in the process that evaluates the rules."""

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

from otel_monitoring.alerts.evaluation.worker_report import WorkerReport
from otel_monitoring.alerts.evidence.alert import Alert
from otel_monitoring.alerts.evidence.figures import Figures
from otel_monitoring.alerts.evidence.sources import EvidenceSources
from otel_monitoring.guard import fail_open
from otel_monitoring.metrics.window import Window
from otel_monitoring.runtime.threads import wait_for

ALERTS_LIMIT = 10
"""The most alerts of one evaluation that get evidence: a storm needs none for each."""
_TIME_LIMIT = 2.0
_OLD_NOTE_SECONDS = 1800.0
_OLDEST_NOTE_SECONDS = 5400.0

_collecting = fail_open("collecting the evidence of an alert")
_noting = fail_open("noting figures for the evidence of alerts")


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
        if self._notes and 0 <= now - self._notes[-1][0] < self._from.note_seconds:
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
        while len(kept) > 2 and kept[1][0] < now - _OLDEST_NOTE_SECONDS:
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
                # Imported late: a start needs none of what searches for causes.
                from otel_monitoring.alerts.evidence.investigation import Investigation

                investigation = Investigation(self._from, notes, reports, recent, now)
                for place, alert in enumerate(list(alerts)[:ALERTS_LIMIT]):
                    with _collecting:
                        found[place] = investigation.evidence_of(alert)

        notes = tuple(self._notes)
        with _collecting:
            wait_for(work, _TIME_LIMIT, name="otel-monitoring-evidence")
        return list(found)
