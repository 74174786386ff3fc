"""Rules meet measurements: what each rule sees, over one worker or over all of them together."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from otel_monitoring.alerts.evaluation.lifecycle import begins
from otel_monitoring.alerts.rules.expressions import Reading
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.guard import fail_open
from otel_monitoring.metrics.buckets import Buckets
from otel_monitoring.metrics.snapshot import AttributeValue, Histogram, Series, Snapshot, merged
from otel_monitoring.metrics.window import Window
from otel_monitoring.redact import redact, redact_error

INSTANCE = "service.instance.id"
"""The attribute that tells the gauges of several workers apart, once they are together."""

_FORMAT = 1
_evaluating = fail_open("evaluating a rule", theirs=True)


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


class RuleResult(NamedTuple):
    """What one evaluation saw of one alert.

    Attributes:
        rule: Which rule looked.
        labels: The alert's identity within the rule.
        reading: What was seen; None: no data.
        gone: Whether what it is about does not exist any more: the worker, or an alert of these labels.
    """

    rule: Rule
    labels: dict[str, str]
    reading: Reading | None
    gone: bool = False


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


class Evaluation:
    """Evaluates rules; remembers what each saw last, and why one could not be evaluated.

    Attributes:
        readings: What each rule read last, by rule and instance; the instance is empty for all workers together.
        errors: Why a rule could not be evaluated, by rule.
    """

    def __init__(self) -> None:
        self.readings: dict[str, Mapping[str, Sequence[Reading]]] = {}
        self.errors: dict[str, str] = {}

    def looks(
        self,
        rules: Iterable[Rule],
        reports: Mapping[str, WorkerReport],
        known: Mapping[str, Sequence[Mapping[str, str]]],
    ) -> list[RuleResult]:
        """What every rule sees of the alerts that are known, and of those that begin.

        A rule that raises sees nothing: its alerts stay as they are.

        Args:
            rules: The rules.
            reports: What each worker knows, by instance.
            known: The labels of the alerts that are pending or firing, by rule.
        """
        everywhere = {"": merge_reports(reports)}
        apart = {instance: report.window for instance, report in reports.items()}
        found: list[RuleResult] = []
        for rule in rules:
            self.errors[rule.name] = "it could not be evaluated"
            with _evaluating:
                alerts = known.get(rule.name, ())
                try:
                    readings = _readings(rule, everywhere if rule.scope == "service" else apart, alerts)
                    looks = list(_looks(rule, readings, alerts))
                except BaseException as error:
                    self.errors[rule.name] = redact_error(error)
                    raise
                del self.errors[rule.name]
                self.readings[rule.name] = readings
                found.extend(looks)
        return found


def _readings(
    rule: Rule, windows: Mapping[str, Window], known: Sequence[Mapping[str, str]]
) -> dict[str, Sequence[Reading]]:
    """What is read in each window. Groups that can neither begin an alert nor end one need not be."""
    above = rule.threshold if rule.expression.group_by and rule.comparison in (">", ">=") else None
    groups = {labels.get(rule.label, "") for labels in known}
    read = rule.expression.readings
    return {instance: list(read(window, above=above, known=groups)) for instance, window in windows.items()}


def _looks(
    rule: Rule, readings: Mapping[str, Sequence[Reading]], known: Sequence[Mapping[str, str]]
) -> Iterator[RuleResult]:
    """The looks at what begins or is known; then at known alerts of which nothing was read."""
    unseen = {frozenset(labels.items()): labels for labels in known}
    grouped = bool(rule.expression.group_by)
    groups = {labels.get(rule.label, "") if grouped else "" for labels in known}
    nothing: tuple[Reading | None, ...] = () if grouped else (None,)
    for instance, found in readings.items():
        for reading in found or nothing:
            starts = begins(rule, reading)
            group = reading.group if reading is not None else ""
            if starts or group in groups:
                labels = rule.identity(group, instance)
                if unseen.pop(frozenset(labels.items()), None) is not None or starts:
                    yield RuleResult(rule, labels, reading)
    for rest in unseen.values():
        yield RuleResult(rule, dict(rest), None, gone=_gone(rule, rest, readings))


def _gone(rule: Rule, labels: Mapping[str, str], instances: Collection[str]) -> bool:
    """Whether the worker is gone, or the rule was another one when it made an alert with these labels."""
    instance = labels.get("instance", "")
    changed = labels != rule.identity(labels.get(rule.label, ""), instance)
    return changed or (rule.scope == "instance" and instance not in instances)


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
