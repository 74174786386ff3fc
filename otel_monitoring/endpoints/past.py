"""`PastAnswers`: the JSON about the past, read from the store that the processes of the service share."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from otel_monitoring.alerts.store import Store
from otel_monitoring.alerts.store.history import HISTORY_LIMIT
from otel_monitoring.health.series import Known, SeriesQuery, series
from otel_monitoring.metrics.slices.recorder import WrittenUpTo
from otel_monitoring.timestamps import rfc3339

MARKS_LIMIT = 200
"""The most marks of an answer, the newest."""


class PastAnswers:
    """Makes answers from the store; its methods wait for the store, so they run in threads.

    Args:
        store: Returns the store.
        known: Returns the metrics and endpoints that exist at present.
        interval: Seconds between two measurements of a process.
    """

    def __init__(self, store: Callable[[], Store], known: Callable[[], Known], interval: float) -> None:
        self._store = store
        self._known = known
        self._interval = interval

    def series(self, query: SeriesQuery) -> dict[str, Any]:
        """The answer of `/health/series`.

        Raises:
            SeriesQueryError: The query has no answer.
            StoreError: The store failed.
        """
        store, now = self._store(), time.time()
        answer = series(store.slices, query, self._known(), now, self._interval)
        since = now - answer["range_seconds"]
        marks = sorted(self._marks(store, since), key=lambda mark: mark[0])[-MARKS_LIMIT:]
        return {**answer, "marks": [{"time": rfc3339(at), **mark} for at, mark in marks]}

    @staticmethod
    def _marks(store: Store, since: float) -> Iterator[tuple[float, dict[str, Any]]]:
        """Releases and alerts from `since` on, in Unix seconds."""
        written = WrittenUpTo.of(store.slices.position())
        for at, version in written.releases if written is not None else ():
            if at >= since:
                yield at, {"kind": "release", "version": version}
        for event in store.history.events(limit=HISTORY_LIMIT):
            if event.time >= since:
                shown = {"type": event.type.value, "severity": event.severity.value, "status": event.status.value}
                yield event.time, {"kind": "alert", **shown}
