"""`WorkerReport`: what one worker measured, as it goes through the store to the worker that evaluates."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from otel_monitoring.metrics.buckets import Buckets
from otel_monitoring.metrics.snapshot import AttributeValue, Histogram, Series, Snapshot, merged
from otel_monitoring.metrics.window import Window
from otel_monitoring.redact import redact

INSTANCE = "service.instance.id"
"""The attribute that tells the gauges of several workers apart, once they are together."""

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What one worker knows.

    Attributes:
        window: What it measured.
        evidence: JSON-serialisable details for the alerts of a type, by the type's value: an error, a stack. For one
            alert of a grouped rule: by `incidents.evidence_key`.
    """

    window: Window
    evidence: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def encode(self, metrics: Collection[str]) -> bytes:
        """As JSON, with the series of `metrics` only: what the rules read."""
        snapshot = self.window.snapshot
        return json.dumps(
            {
                "format": _FORMAT,
                "span": (snapshot.start, snapshot.end),
                "histograms": [
                    (series.name, series.attributes, _flat(histogram))
                    for name in sorted(metrics)
                    for series, histogram in self.window.histograms(name)
                ],
                "sums": [(*series, value) for name in sorted(metrics) for series, value in self.window.sums(name)],
                "gauges": [(*series, value) for name in sorted(metrics) for series, value in self.window.gauges(name)],
                "evidence": self.evidence,
            },
            default=redact,
            separators=(",", ":"),
        ).encode()

    @classmethod
    def decode(cls, data: bytes) -> "WorkerReport":
        """What `encode` made.

        Raises:
            ValueError, TypeError, LookupError: It was made by another version, or is damaged.
        """
        read = json.loads(data)
        if read["format"] != _FORMAT:
            raise ValueError(f"a report of format {read['format']!r}, not {_FORMAT}")
        start, end = read["span"]
        snapshot = Snapshot(
            float(start),
            float(end),
            {_series(name, attributes): _histogram(flat) for name, attributes, flat in read["histograms"]},
            {_series(name, attributes): value for name, attributes, value in read["sums"]},
            {_series(name, attributes): value for name, attributes, value in read["gauges"]},
        )
        return cls(Window(snapshot), read["evidence"])


def merge_reports(reports: Mapping[str, WorkerReport]) -> Window:
    """One window over what all workers measured: distributions and counts added, gauges kept apart by instance."""
    if len(reports) == 1:
        return next(iter(reports.values())).window
    histograms: dict[Series, list[Histogram]] = {}
    sums: dict[Series, float] = {}
    gauges: dict[Series, float] = {}
    for instance, report in reports.items():
        snapshot = report.window.snapshot
        for series, histogram in snapshot.histograms.items():
            histograms.setdefault(series, []).append(histogram)
        for series, value in snapshot.sums.items():
            sums[series] = sums.get(series, 0.0) + value
        for series, value in snapshot.gauges.items():
            gauges[Series(series.name, (*series.attributes, (INSTANCE, instance)))] = value
    seconds = max((report.window.seconds for report in reports.values()), default=0.0)
    return Window(Snapshot(0.0, seconds, {series: merged(h) for series, h in histograms.items()}, sums, gauges))


def _flat(histogram: Histogram) -> tuple[Any, ...]:
    first, packed_counts, width = histogram.buckets
    shape = (histogram.count, histogram.sum, histogram.min, histogram.max, histogram.scale, histogram.at_zero)
    return (*shape, first, f"{packed_counts:x}", width)


def _histogram(flat: Sequence[Any]) -> Histogram:
    count, total, smallest, largest, scale, at_zero, first, packed_counts, width = flat
    return Histogram(count, total, smallest, largest, scale, at_zero, Buckets(first, int(packed_counts, 16), width))


def _series(name: str, attributes: Iterable[tuple[str, Any]]) -> Series:
    return Series(name, tuple((key, _attribute(value)) for key, value in attributes))


def _attribute(value: Any) -> AttributeValue:
    return tuple(value) if isinstance(value, list) else value
