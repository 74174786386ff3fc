"""What an expression sees of a histogram: the series it chooses, by group, worked out once for each window."""

from functools import cached_property

from otel_monitoring.alerts.rules.matchers import Attribute, Failed, Matcher, attribute_text
from otel_monitoring.metrics.snapshot import AttributeValue, Histogram, Series, merged
from otel_monitoring.metrics.window import Window
from otel_monitoring.semconv import ERROR_TYPE, HTTP_RESPONSE_STATUS_CODE, HTTP_ROUTE, UNMATCHED_ROUTE


class SeriesGroup:
    """What was recorded in one group of series.

    Attributes:
        max: The largest of all values.
    """

    def __init__(self, parts: list[Histogram]) -> None:
        self._parts = parts
        self.max = max([part.max for part in parts])

    @cached_property
    def together(self) -> Histogram:
        """The distribution of all values."""
        return merged(self._parts)


def recorded(window: Window, metric: str, where: Matcher | None, group_by: str) -> dict[str, SeriesGroup]:
    """What the series of a histogram recorded that `where` chooses, by group."""
    key = (recorded, metric, where, group_by)
    known: dict[str, SeriesGroup] | None = window.memo.get(key)
    if known is None:
        groups = group_series(window, metric, where, group_by)
        known = window.memo[key] = {group: SeriesGroup(parts) for group, parts in groups.items()}
    return known


def group_series(window: Window, metric: str, where: Matcher | None, group_by: str) -> dict[str, list[Histogram]]:
    """The histograms that `where` chooses, by group; a group without any is missing."""
    key = (group_series, metric, where, group_by)
    known: dict[str, list[Histogram]] | None = window.memo.get(key)
    if known is None:
        known = window.memo[key] = {}
        if not group_by:
            if chosen := select_series(window, metric, where):
                known[""] = [histogram for _, histogram in chosen]
        elif where is None:
            for value, found in window.grouped(metric, group_by).items():
                known.setdefault(_named(value, group_by), []).extend([histogram for _, histogram in found])
        else:
            for series, histogram in select_series(window, metric, where):
                known.setdefault(group_of(series, group_by), []).append(histogram)
    return known


def group_of(series: Series, key: str) -> str:
    """The value of the attribute `key` that `series` is grouped by; empty where nothing is."""
    return _named(series.get(key), key) if key else ""


def _named(value: AttributeValue | None, key: str) -> str:
    """What the group is called; without the attribute it is the empty one, as for Prometheus."""
    if value is None:
        return UNMATCHED_ROUTE if key == HTTP_ROUTE else ""
    return value if isinstance(value, str) else attribute_text(value)


def select_series(window: Window, metric: str, where: Matcher | None) -> list[tuple[Series, Histogram]]:
    """The histograms of `metric` in the window, those that `where` matches; all of them without it."""
    if where is None:
        return window.histograms(metric)
    if isinstance(where, Attribute):  # the window has an index
        groups = window.grouped(metric, where.key)
        return [entry for value in where.values for entry in groups.get(value, ())]
    key = (select_series, metric, where)
    known: list[tuple[Series, Histogram]] | None = window.memo.get(key)
    if known is None:
        if isinstance(where, Failed):
            known = _failed(window, metric, where)
        else:
            known = [entry for entry in window.histograms(metric) if where(entry[0])]
        window.memo[key] = known
    return known


def _failed(window: Window, metric: str, where: Failed) -> list[tuple[Series, Histogram]]:
    """The same by the window's indexes: a status decides for all its series, and the others need an `error.type`."""
    by_status = window.grouped(metric, HTTP_RESPONSE_STATUS_CODE)
    errors = {status for status in by_status if isinstance(status, int) and where.outcome_of.is_error_status(status)}
    found = [entry for status in errors for entry in by_status[status]]
    for cause, entries in window.grouped(metric, ERROR_TYPE).items():
        if cause is not None:
            others = (entry for entry in entries if entry[0].get(HTTP_RESPONSE_STATUS_CODE) not in errors)
            found.extend(entry for entry in others if where(entry[0]))
    return found
