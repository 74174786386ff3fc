"""`WorkerReport`: the measurements of one worker, sent through the store to the worker that evaluates.

It is written and read by hand: pydantic takes as long and writes a quarter more, because it has no hexadecimal numbers.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from otel_monitoring.alerts.model import AlertType
from otel_monitoring.metrics.event_sums import EventSums
from otel_monitoring.metrics.snapshot import AttributeValue, Histogram, Series, Snapshot, merged
from otel_monitoring.metrics.window import Window
from otel_monitoring.redact import redact

INSTANCE_ATTRIBUTE = "service.instance.id"
"""The attribute that `merge_reports` adds to gauges, so that those of several workers stay apart."""

INTERVAL = "interval"
"""What the state of a worker calls the seconds between two of its reports."""

REPORT_INTERVALS = 3.0
"""For how many of its intervals the report of a worker counts: a worker that is late once still counts."""

_FORMAT = 1


def evidence_key(kind: AlertType, group: str) -> str:
    """The key of the evidence for one group of a grouped rule."""
    return f"{kind.value}:{group}"


class WorkerReport(NamedTuple):
    """The measurements of one worker.

    Attributes:
        window: Its metrics over the window.
        evidence: JSON-serialisable details for alerts, e.g. an error or a stack, by the value of the alert type; for
            one alert of a grouped rule by `evidence_key`.
        state: JSON about the worker itself, for the answers of the others.
        results: If the worker leads, the results of its latest evaluation: see `overview.results`.
        figures: Returns what the worker says about its own work, for evidence: see `evidence.own_figures`.
    """

    window: Window
    evidence: Mapping[str, Mapping[str, Any]] = {}
    state: Mapping[str, Any] = {}
    results: Mapping[str, Mapping[str, Any]] = {}
    figures: Callable[[], Mapping[str, Any]] = dict

    def encode(self, metrics: Collection[str], gauges: Collection[str] = ()) -> bytes:
        """The report as JSON, with those series only that the rules read.

        Args:
            metrics: The names of the metrics of which all series are needed.
            gauges: The names of the metrics of which the gauges alone are needed.
        """
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
                "sums": [
                    (series.name, series.attributes, value)
                    for name in sorted(metrics)
                    for series, value in self.window.sums(name)
                ],
                "gauges": [
                    (series.name, series.attributes, value)
                    for name in sorted({*metrics, *gauges})
                    for series, value in self.window.gauges(name)
                ],
                "evidence": self.evidence,
                "state": self.state,
                "results": self.results,
                "figures": {} if self.results else self.figures(),  # one that leads has its own
            },
            default=redact,
            separators=(",", ":"),
        ).encode()

    @classmethod
    def decode(cls, data: bytes) -> "WorkerReport":
        """Read what `encode` wrote.

        Raises:
            ValueError, TypeError, LookupError: Another version wrote it, or it is damaged.
        """
        read = json.loads(data)
        if read["format"] != _FORMAT:
            raise ValueError(f"the report has format {read['format']!r}, not {_FORMAT}")
        start, end = read["span"]
        snapshot = Snapshot(
            float(start),
            float(end),
            {_series(name, attributes): _histogram(flat) for name, attributes, flat in read["histograms"]},
            {_series(name, attributes): value for name, attributes, value in read["sums"]},
            {_series(name, attributes): value for name, attributes, value in read["gauges"]},
        )
        figures = _part(read, "figures")
        return cls(
            Window(snapshot), dict(read["evidence"]), _part(read, "state"), _part(read, "results"), lambda: figures
        )


def counts_for(state: Mapping[str, Any], interval: float) -> float:
    """The seconds for which the report of a worker counts.

    Args:
        state: What it says about itself.
        interval: Its interval where it says none, as earlier versions.
    """
    said = state.get(INTERVAL)
    return REPORT_INTERVALS * (said if isinstance(said, int | float) and said > 0 else interval)


def part_of(data: bytes, name: str) -> Mapping[str, Any]:
    """The `state` or the `results` of a report that `encode` wrote, without its metrics.

    Raises:
        ValueError, TypeError, AttributeError: It is damaged.
    """
    return _part(json.loads(data), name)


def _part(read: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {**(read.get(name) or {})}  # earlier versions write neither


def merge_reports(
    reports: Mapping[str, WorkerReport], measured: Window | None = None, event_sums: EventSums | None = None
) -> Window:
    """One window over all workers: histograms and counters are added, gauges stay apart by `INSTANCE_ATTRIBUTE`.

    Args:
        reports: The reports of all workers by instance.
        measured: The sum of all workers' histograms and counters; None: the reports have them.
        event_sums: The sums over the slices of the past.
    """
    if len(reports) == 1 and measured is None and event_sums is None:
        return next(iter(reports.values())).window
    whole = measured.snapshot if measured is not None else _sum_of(reports.values())
    return Window(Snapshot(whole.start, whole.end, whole.histograms, whole.sums, _gauges_apart(reports)), event_sums)


def _sum_of(reports: Collection[WorkerReport]) -> Snapshot:
    histograms: dict[Series, list[Histogram]] = {}
    sums: dict[Series, float] = {}
    for report in reports:
        for series, histogram in report.window.snapshot.histograms.items():
            histograms.setdefault(series, []).append(histogram)
        for series, value in report.window.snapshot.sums.items():
            sums[series] = sums.get(series, 0.0) + value
    seconds = max((report.window.seconds for report in reports), default=0.0)
    return Snapshot(0.0, seconds, {series: merged(h) for series, h in histograms.items()}, sums)


def _gauges_apart(reports: Mapping[str, WorkerReport]) -> Mapping[Series, float]:
    if len(reports) == 1:
        return next(iter(reports.values())).window.snapshot.gauges
    return {
        Series(series.name, (*series.attributes, (INSTANCE_ATTRIBUTE, instance))): value
        for instance, report in reports.items()
        for series, value in report.window.snapshot.gauges.items()
    }


def _flat(histogram: Histogram) -> tuple[Any, ...]:
    *others, packed_counts, width = histogram
    return (*others, f"{packed_counts:x}", width)


def _histogram(flat: Sequence[Any]) -> Histogram:
    count, total, smallest, largest, scale, at_zero, first, packed_counts, width = flat
    return Histogram(count, total, smallest, largest, scale, at_zero, first, int(packed_counts, 16), width)


def _series(name: str, attributes: Iterable[tuple[str, Any]]) -> Series:
    return Series(name, tuple((key, _attribute(value)) for key, value in attributes))


def _attribute(value: Any) -> AttributeValue:
    return tuple(value) if isinstance(value, list) else value
