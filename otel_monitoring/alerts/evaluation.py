"""Rules meet measurements: what each rule sees, over one worker or over all of them together."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from otel_monitoring.alerts.expressions import Reading
from otel_monitoring.alerts.rules import Rule
from otel_monitoring.guard import contained
from otel_monitoring.measure.buckets import Buckets
from otel_monitoring.measure.snapshot import AttributeValue, Histogram, Series, Snapshot
from otel_monitoring.measure.window import Window
from otel_monitoring.redact import redact

INSTANCE = "service.instance.id"
"""The attribute that tells the gauges of several workers apart, once they are together."""

_evaluating = contained("evaluating a rule")


@dataclass(frozen=True, slots=True)
class Report:
    """What one worker knows.

    Attributes:
        window: What it measured.
        evidence: JSON-serialisable details for the alerts of a type, by the type's value: an error, a stack.
    """

    window: Window
    evidence: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def encode(self, metrics: Collection[str]) -> bytes:
        """As JSON, with the series of `metrics` only: what the rules read."""
        snapshot = self.window.snapshot
        return json.dumps(
            {
                "span": (snapshot.start, snapshot.end),
                "histograms": [
                    (series.name, series.attributes, _flat(histogram))
                    for name in sorted(metrics)
                    for series, histogram in self.window.histograms(name)
                ],
                "sums": _numbers(snapshot.sums, metrics),
                "gauges": _numbers(snapshot.gauges, metrics),
                "evidence": self.evidence,
            },
            default=str,
            separators=(",", ":"),
        ).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Report":
        """What `encode` made.

        Raises:
            ValueError, TypeError, LookupError: It was made by another version, or is damaged.
        """
        read = json.loads(data)
        start, end = read["span"]
        snapshot = Snapshot(
            float(start),
            float(end),
            {_series(name, attributes): _histogram(flat) for name, attributes, flat in read["histograms"]},
            {_series(name, attributes): value for name, attributes, value in read["sums"]},
            {_series(name, attributes): value for name, attributes, value in read["gauges"]},
        )
        return cls(Window(snapshot), read["evidence"])


class Look(NamedTuple):
    """What one evaluation saw of one alert.

    Attributes:
        rule: Which rule looked.
        labels: The alert's identity within the rule.
        reading: What was seen; None: no data.
        gone: Whether the worker it is about does not exist any more.
    """

    rule: Rule
    labels: dict[str, str]
    reading: Reading | None
    gone: bool = False


def together(reports: Mapping[str, Report]) -> Window:
    """One window over what all workers measured: distributions and counts added, gauges kept apart by instance."""
    windows = {instance: report.window for instance, report in reports.items()}
    if len(windows) == 1:
        return next(iter(windows.values()))
    whole = Snapshot(0.0, 0.0)
    for window in windows.values():
        whole = whole.followed_by(window.snapshot)
    gauges = {
        Series(series.name, (*series.attributes, (INSTANCE, instance))): value
        for instance, window in windows.items()
        for series, value in window.snapshot.gauges.items()
    }
    seconds = max((window.seconds for window in windows.values()), default=0.0)
    return Window(Snapshot(0.0, seconds, whole.histograms, whole.sums, gauges))


class Evaluation:
    """Evaluates rules; remembers what each saw last, and why one could not be evaluated."""

    def __init__(self) -> None:
        self.readings: dict[str, list[tuple[dict[str, str], Reading]]] = {}
        self.errors: dict[str, str] = {}

    def looks(
        self, rules: Iterable[Rule], reports: Mapping[str, Report], known: Mapping[str, Sequence[Mapping[str, str]]]
    ) -> list[Look]:
        """What every rule sees. A rule that raises sees nothing: its alerts stay as they are.

        Args:
            rules: The rules.
            reports: What each worker knows, by instance.
            known: The labels of the alerts that are pending or firing, by rule.
        """
        whole = together(reports)
        found: list[Look] = []
        for rule in rules:
            self.errors[rule.name] = "it could not be evaluated"
            with _evaluating:
                try:
                    looks = list(_looks(rule, whole, reports, known.get(rule.name, ())))
                except Exception as error:
                    self.errors[rule.name] = redact(f"{type(error).__name__}: {error}")
                    raise
                del self.errors[rule.name]
                self.readings[rule.name] = [(look.labels, look.reading) for look in looks if look.reading is not None]
                found.extend(looks)
        return found


def _looks(
    rule: Rule, whole: Window, reports: Mapping[str, Report], known: Sequence[Mapping[str, str]]
) -> Iterator[Look]:
    """What `rule` sees now; then its known alerts of which it sees nothing."""
    windows = {"": whole} if rule.scope == "service" else {name: report.window for name, report in reports.items()}
    # What resolves has to be seen down to where it does: then nothing may be left out.
    above = rule.threshold if rule.comparison in (">", ">=") and not known else None
    seen: list[dict[str, str]] = []
    for instance, window in windows.items():
        readings: list[Reading | None] = list(rule.expression.readings(window, above=above))
        if not readings and not rule.expression.group_by:
            readings = [None]
        for reading in readings:
            labels = rule.identity(reading.group if reading is not None else "", instance)
            seen.append(labels)
            yield Look(rule, labels, reading)
    for unseen in known:
        if unseen not in seen:
            gone = rule.scope == "instance" and unseen.get("instance") not in reports
            yield Look(rule, dict(unseen), None, gone)


def _numbers(values: Mapping[Series, float], metrics: Collection[str]) -> list[tuple[str, Any, float]]:
    return [(series.name, series.attributes, value) for series, value in values.items() if series.name in metrics]


def _flat(histogram: Histogram) -> tuple[Any, ...]:
    first, lanes, width = histogram.buckets
    shape = (histogram.count, histogram.sum, histogram.min, histogram.max, histogram.scale, histogram.at_zero)
    return (*shape, first, f"{lanes:x}", width)


def _histogram(flat: Sequence[Any]) -> Histogram:
    count, total, smallest, largest, scale, at_zero, first, lanes, width = flat
    return Histogram(count, total, smallest, largest, scale, at_zero, Buckets(first, int(lanes, 16), width))


def _series(name: str, attributes: Iterable[tuple[str, Any]]) -> Series:
    return Series(name, tuple((key, _attribute(value)) for key, value in attributes))


def _attribute(value: Any) -> AttributeValue:
    return tuple(value) if isinstance(value, list) else value
