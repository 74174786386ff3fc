"""Selecting and grouping the series of a histogram; each result is computed once for each window."""

from functools import cached_property

from otel_monitoring.alerts.rules.matchers import Attribute, Failed, Matcher, attribute_text
from otel_monitoring.metrics.snapshot import AttributeValue, Histogram, Series, merged
from otel_monitoring.metrics.window import Window
from otel_monitoring.semconv import ERROR_TYPE, HTTP_RESPONSE_STATUS_CODE, HTTP_ROUTE, UNMATCHED_ROUTE


class SeriesGroup:
    """The histograms of one group of series.

    Attributes:
        max: The largest recorded value.
    """

    def __init__(self, parts: list[Histogram]) -> None:
        self._parts = parts
        self.max = max([part.max for part in parts])

    @cached_property
    def histogram(self) -> Histogram:
        """The merged histogram; merged at the first use."""
        return merged(self._parts)


def series_groups(window: Window, metric: str, where: Matcher | None, group_by: str) -> dict[str, SeriesGroup]:
    """The selected series of a histogram, by the value of the attribute `group_by`."""
    key = (series_groups, metric, where, group_by)
    known: dict[str, SeriesGroup] | None = window.memo.get(key)
    if known is None:
        groups = group_series(window, metric, where, group_by)
        known = window.memo[key] = {group: SeriesGroup(parts) for group, parts in groups.items()}
    return known


def group_series(window: Window, metric: str, where: Matcher | None, group_by: str) -> dict[str, list[Histogram]]:
    """The histograms of the selected series, by the value of the attribute `group_by`."""
    key = (group_series, metric, where, group_by)
    known: dict[str, list[Histogram]] | None = window.memo.get(key)
    if known is None:
        known = window.memo[key] = {}
        if not group_by:
            if selected := select_series(window, metric, where):
                known[""] = [histogram for _, histogram in selected]
        elif where is None:
            for value, found in window.grouped(metric, group_by).items():
                known.setdefault(_group_name(value, group_by), []).extend([histogram for _, histogram in found])
        else:
            for series, histogram in select_series(window, metric, where):
                known.setdefault(group_of(series, group_by), []).append(histogram)
    return known


def group_of(series: Series, key: str) -> str:
    """The group of `series`, by its attribute `key`; empty without a key."""
    return _group_name(series.get(key), key) if key else ""


def _group_name(value: AttributeValue | None, key: str) -> str:
    """The name of a group; empty where the attribute is missing, as in Prometheus."""
    if value is None:
        return UNMATCHED_ROUTE if key == HTTP_ROUTE else ""
    return value if isinstance(value, str) else attribute_text(value)


def select_series(window: Window, metric: str, where: Matcher | None) -> list[tuple[Series, Histogram]]:
    """The series of `metric` that `where` matches, with their histograms; None matches every series."""
    if where is None:
        return window.histograms(metric)
    if isinstance(where, Attribute):  # the window has an index
        groups = window.grouped(metric, where.key)
        return [entry for value in where.values for entry in groups.get(value, ())]
    key = (select_series, metric, where)
    known: list[tuple[Series, Histogram]] | None = window.memo.get(key)
    if known is None:
        if isinstance(where, Failed):
            known = _failed_series(window, metric, where)
        else:
            known = [entry for entry in window.histograms(metric) if where(entry[0])]
        window.memo[key] = known
    return known


def _failed_series(window: Window, metric: str, where: Failed) -> list[tuple[Series, Histogram]]:
    """`select_series` for `Failed`, by the window's indexes.

    An error status selects all its series; of the others only those with an `error.type` can match.
    """
    by_status = window.grouped(metric, HTTP_RESPONSE_STATUS_CODE)
    errors = {status for status in by_status if isinstance(status, int) and where.outcome_of.is_error_status(status)}
    found = [entry for status in errors for entry in by_status[status]]
    for cause, entries in window.grouped(metric, ERROR_TYPE).items():
        if cause is not None:
            others = (entry for entry in entries if entry[0].get(HTTP_RESPONSE_STATUS_CODE) not in errors)
            found.extend(entry for entry in others if where(entry[0]))
    return found
