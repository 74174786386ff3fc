"""`series`: metrics of the past as times and values, from the slices.

A step in which nobody measured has no value, as has a metric of requests in a step without a request.
"""

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from otel_monitoring.health.series_query import Grid, SeriesQuery, SeriesQueryError
from otel_monitoring.health.slice_metrics import Column, Known, check_endpoint_fits, columns_of, is_finite, listed
from otel_monitoring.metrics.slices.codec import decoded_slices
from otel_monitoring.metrics.slices.model import TIERS, Slice, merged_slices
from otel_monitoring.metrics.slices.table import SliceRow, SliceTable
from otel_monitoring.timestamps import rfc3339


def series(table: SliceTable, query: SeriesQuery, grid: Grid, known: Known) -> dict[str, Any]:
    """The documented answer without its marks: one metric as points, several as columns.

    Args:
        table: The slices.
        query: What is asked for.
        grid: The steps in which it is answered.
        known: What exists at present.

    Raises:
        SeriesQueryError: The query has no answer.
        StoreError: The store failed.
    """
    check_endpoint_fits(query)
    steps = slices_by_step(table, grid, routes=query.endpoint is not None, only=query.endpoint)
    if query.endpoint is not None and not any(one.routes for one in steps.values()):
        latest = table.read(grid.tier.seconds, grid.start, grid.end, routes=True)[-1:]
        _check_endpoint_exists(query.endpoint, known, latest)
    return series_of(steps, query, grid, known)


def series_of(steps: Mapping[int, Slice], query: SeriesQuery, grid: Grid, known: Known) -> dict[str, Any]:
    """The same from the slices of the steps, by when these begin.

    Raises:
        SeriesQueryError: The query has no answer.
    """
    columns = columns_of(query, known, steps.values())
    about = {"endpoint": query.endpoint, "range_seconds": grid.span, "step_seconds": grid.step}
    if len(columns) == 1:
        times = map(rfc3339, grid.steps())
        values = _values(columns[0], grid, steps)
        name = "value" if columns[0].bounds is None else "counts"
        points = [{"time": time, name: value} for time, value in zip(times, values, strict=True)]
        return {**columns[0].described(), **about, "points": points}
    found = [
        {**column.described(), "values" if column.bounds is None else "counts": _values(column, grid, steps)}
        for column in columns
    ]
    return {**about, "start": rfc3339(grid.start), "series": found}


def _values(column: Column, grid: Grid, steps: Mapping[int, Slice]) -> list[Any]:
    return [_shown(column.value(steps[at])) if at in steps else None for at in grid.steps()]


def _shown(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if is_finite(value) else None
    return value


def _check_endpoint_exists(endpoint: str, known: Known, latest: Iterable[SliceRow]) -> None:
    names = set(known.endpoints).union(*(one.routes for one in decoded_slices(latest)))
    if endpoint not in names:
        raise SeriesQueryError("endpoint", f"must be one of: {listed(names) or 'there was no request yet'}")


def slices_by_step(table: SliceTable, grid: Grid, *, routes: bool, only: str | None = None) -> dict[int, Slice]:
    """The slices of each step, as one; a step without any is missing.

    Args:
        table: The slices.
        grid: The steps.
        routes: Whether to read the requests of routes.
        only: The one route to read; None: all.

    Raises:
        StoreError: The store failed.
    """
    rows: list[SliceRow] = []
    reached = grid.start
    # The newest coarse slices are not made yet: finer ones stand in for them.
    for each in reversed(TIERS[: TIERS.index(grid.tier) + 1]):
        found = table.read(each.seconds, reached, grid.end, routes=routes)
        rows += found
        if found:
            reached = found[-1].start + each.seconds
    by_step = groupby(rows, lambda row: (row.start - grid.start) // grid.step * grid.step + grid.start)
    slices = {at: decoded_slices(found, only) for at, found in by_step}
    return {at: merged_slices(found) for at, found in slices.items() if found}
