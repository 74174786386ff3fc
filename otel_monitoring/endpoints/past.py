"""`PastAnswers`: the JSON about the past, read from the store that the processes of the service share."""

from collections.abc import Callable
from typing import Any

from otel_monitoring.alerts.evaluation.incident import saved_incidents
from otel_monitoring.alerts.manager import AlertManager
from otel_monitoring.alerts.store.history import HISTORY_LIMIT
from otel_monitoring.health.marks import marks
from otel_monitoring.health.series import series
from otel_monitoring.health.series_query import Grid, SeriesQuery
from otel_monitoring.health.slice_metrics import Known
from otel_monitoring.metrics.slices.recorder import WrittenUpTo


class PastAnswers:
    """Makes answers from the store; its methods wait for the store, so they run in threads.

    Args:
        manager: Returns the alert manager, whose store has the past and whose clock counts.
        known: Returns the metrics and endpoints that exist at present.
        interval: Seconds between two measurements of a process.
    """

    def __init__(self, manager: Callable[[], AlertManager], known: Callable[[], Known], interval: float) -> None:
        self._manager = manager
        self._known = known
        self._interval = interval

    def series(self, query: SeriesQuery) -> dict[str, Any]:
        """The answer of `/health/series`.

        Raises:
            SeriesQueryError: The query has no answer.
            StoreError: The store failed.
        """
        manager = self._manager()
        store, now = manager.store, manager.clock()
        grid = Grid.of(query, now, self._interval)
        answer = series(store.slices, query, grid, self._known())
        written = WrittenUpTo.of(store.slices.position())
        releases = written.releases if written is not None else ()
        events, incidents = store.history.events(limit=HISTORY_LIMIT), saved_incidents(store.incidents)
        # What happened after the last step is over is shown, too.
        end = now if query.end is None else grid.end
        return {**answer, "marks": marks(releases, events, incidents, grid.start, end)}
