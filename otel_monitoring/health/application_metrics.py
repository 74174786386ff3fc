"""The application's own counters and gauges, bounded in number, as JSON."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from otel_monitoring.metrics.snapshot import Series
from otel_monitoring.metrics.window import Windows
from otel_monitoring.redact import redact

LIMIT = 100
"""The most series of either kind."""
_TEXT_LENGTH = 200
_EXACT = 2**53


def counters(names: Collection[str], history: Windows) -> list[dict[str, Any]]:
    """The counters of these names: `name`, `attributes`, `total`, and the increase in the `window`; largest first."""
    found = [(series, total) for name in names for series, total in history.total.sums(name)]
    recent = {series: value for name in names for series, value in history.recent.sums(name)}
    largest = sorted(found, key=lambda item: -abs(item[1]))[:LIMIT]
    return [
        {**_identity(series), "total": _number(total), "window": _number(recent.get(series, 0))}
        for series, total in largest
    ]


def gauges(names: Collection[str], known: Iterable[tuple[Series, float]]) -> list[dict[str, Any]]:
    """The gauges of these names: `name`, `attributes` and `value`."""
    found = sorted((item for item in known if item[0].name in names), key=lambda item: str(item[0]))
    return [{**_identity(series), "value": _number(value)} for series, value in found[:LIMIT]]


def _identity(series: Series) -> Mapping[str, Any]:
    attributes = {
        redact(key, limit=_TEXT_LENGTH): redact(value, limit=_TEXT_LENGTH) for key, value in series.attributes
    }
    return {"name": redact(series.name, limit=_TEXT_LENGTH), "attributes": attributes}


def _number(value: float) -> float:
    return int(value) if abs(value) < _EXACT and int(value) == value else value
