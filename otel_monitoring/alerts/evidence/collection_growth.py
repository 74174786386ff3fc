"""How collections have grown in the last hours."""

from otel_monitoring import semconv as c
from otel_monitoring.alerts.evidence.circumstances import Circumstances
from otel_monitoring.alerts.evidence.culprit import number

_PREFIX = "documents/"


def growth_of(collection: str, about: Circumstances, *, least: float = 1.0) -> str:
    """`; it grew from 1,200 to 96,000 documents`, where it grew by more than the factor `least`; else empty."""
    before, now = counts(about).get(collection, (0.0, 0.0))
    return f"; it grew from {number(before)} to {number(now)} documents" if now > least * before else ""


def counts(about: Circumstances) -> dict[str, tuple[float, float]]:
    """The first and the last known number of documents, by collection."""
    found: dict[str, tuple[float, float]] = {}
    for _, _, content in about.slices:
        for gauge, figures in content.gauges.items():
            if gauge.startswith(_PREFIX):
                name = gauge.removeprefix(_PREFIX)
                found[name] = found.get(name, (figures.least, 0.0))[0], figures.most
    for series, value in about.recent.gauges(c.COLLECTION_DOCUMENTS):
        name = str(series.get(c.DB_COLLECTION_NAME) or "")
        found[name] = found.get(name, (value, value))[0], value
    return found
