"""`PastAnswers`: the JSON about the past, read from the store that the processes of the service share."""

from collections.abc import Callable, Mapping
from typing import Any

from otel_monitoring.alerts.evaluation.incident import saved_incidents
from otel_monitoring.alerts.manager import AlertManager
from otel_monitoring.alerts.store.history import HISTORY_LIMIT
from otel_monitoring.errors import PrometheusError
from otel_monitoring.health.marks import marks
from otel_monitoring.health.series import series, series_of
from otel_monitoring.health.series_query import Grid, SeriesQuery, SeriesQueryError
from otel_monitoring.health.slice_metrics import Known, check_endpoint_fits, listed
from otel_monitoring.metrics.slices.model import Slice
from otel_monitoring.metrics.slices.recorder import WrittenUpTo
from otel_monitoring.redact import redact

ReadPast = Callable[[SeriesQuery, Grid], Mapping[int, Slice]]
"""Reads the slices of the steps of an answer, by when these begin; raises `PrometheusError`."""


class PastAnswers:
    """Makes answers from the store; its methods wait for the store, so they run in threads.

    Args:
        manager: Returns the alert manager, whose store has the past and whose clock counts.
        known: Returns the metrics and endpoints that exist at present.
        interval: Seconds between two measurements of a process.
        elsewhere: Reads the past of the whole service by steps; None: it is in the slices of the store.
    """

    def __init__(
        self,
        manager: Callable[[], AlertManager],
        known: Callable[[], Known],
        interval: float,
        elsewhere: ReadPast | None = None,
    ) -> None:
        self._elsewhere = elsewhere
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
        answer = self._series(query, grid)
        written = WrittenUpTo.of(store.slices.position())
        releases = written.releases if written is not None else ()
        events, incidents = store.history.events(limit=HISTORY_LIMIT), saved_incidents(store.incidents)
        # What happened after the last step is over is shown, too.
        end = now if query.end is None else grid.end
        return {**answer, "marks": marks(releases, events, incidents, grid.start, end)}

    def _series(self, query: SeriesQuery, grid: Grid) -> dict[str, Any]:
        known = self._known()
        if self._elsewhere is None:
            return series(self._manager().store.slices, query, grid, known)
        check_endpoint_fits(query)
        try:
            steps = self._elsewhere(query, grid)
        except PrometheusError as error:
            # What this process, or the one that leads, has written.
            own = series(self._manager().store.slices, query, grid, known)
            return {**own, "incomplete": redact(str(error))}
        # A process that was asked nothing else yet knows no endpoint of the others.
        exists = query.endpoint in known.endpoints or any(query.endpoint in step.routes for step in steps.values())
        if query.endpoint is not None and not exists:
            raise SeriesQueryError("endpoint", f"must be one of: {listed(known.endpoints)}")
        return series_of(steps, query, grid, known)
