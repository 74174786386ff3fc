"""`EndpointsPast`: the figures of each endpoint over a range of the past, and its course."""

from collections.abc import Callable
from typing import Any, Final

from otel_monitoring.alerts.manager import AlertManager
from otel_monitoring.health.request_statistics import percent
from otel_monitoring.health.series import slices_by_step
from otel_monitoring.health.series_query import Grid, SeriesQuery
from otel_monitoring.metrics.slices.model import NO_REQUESTS, merged_requests
from otel_monitoring.status_page.rounding import figure
from otel_monitoring.status_page.shared import Body, Shared

RANGES: Final = {"15m": 60, "1h": 120, "6h": 600, "1d": 3600, "3d": 7200, "7d": 21_600, "30d": 86_400}
"""The ranges of the page, and the seconds of a step of a course: 15 to 36 steps."""
_LEAST: Final = 30.0
"""The least seconds between two answers of a range."""


class EndpointsPast:
    """Makes the answers, each for all pages that show the same range.

    Args:
        alerts: Returns the alert manager, whose store has the past and whose clock counts.
    """

    def __init__(self, alerts: Callable[[], AlertManager]) -> None:
        self._alerts = alerts
        self._ranges = {name: Shared(self._maker(name), _LEAST) for name in RANGES}

    async def next(self, span: str) -> Body:
        """The answer for one of `RANGES`. One event loop calls this.

        Raises:
            StoreError: The store failed.
        """
        return await self._ranges[span].next()

    def _maker(self, span: str) -> Callable[[], Body]:
        return lambda: Body.of(self.answer(span))

    def answer(self, span: str) -> dict[str, Any]:
        """The answer: each endpoint is a row of its name, requests a second, p50 and p95 in seconds, errors in percent.

        Last in the row are its requests in each step, null where nobody measured.

        Args:
            span: One of `RANGES`.

        Raises:
            StoreError: The store failed.
        """
        manager = self._alerts()
        now = manager.clock()
        grid = Grid.of(SeriesQuery((), span, str(RANGES[span])), now)
        steps = slices_by_step(manager.store.slices, grid, routes=True)
        measured = sum(one.seconds for one in steps.values())
        rows = []
        for name in sorted({route for one in steps.values() for route in one.routes}):
            whole = merged_requests(one.routes.get(name, NO_REQUESTS) for one in steps.values())
            durations = whole.durations
            p50, p95 = durations.quantiles((0.5, 0.95))
            course = [
                steps[at].routes.get(name, NO_REQUESTS).durations.count if at in steps else None for at in grid.steps()
            ]
            rate = durations.count / measured if measured else 0.0
            rows.append([name, figure(rate), figure(p50), figure(p95), percent(whole.errors, durations.count), course])
        return {"range": span, "time": round(now, 3), "step": grid.step, "endpoints": rows}
