"""What a rule looks at: expressions over a `Window`, each with the PromQL text that asks Prometheus the same.

One definition, two readings: `readings` is for this process, `promql` for the fleet's own engine.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from otel_monitoring.alerts.matching import Attribute, Failed, Matcher, attribute_text
from otel_monitoring.conventions import (
    HTTP_ROUTE,
    HTTP_SERVER_REQUEST_DURATION,
    UNMATCHED_ROUTE,
    prometheus_label,
    prometheus_name,
)
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.measure.outcome import OutcomeOf
from otel_monitoring.measure.snapshot import Histogram, Series, merged
from otel_monitoring.measure.window import Window


class Reading(NamedTuple):
    """One value of an expression.

    Attributes:
        value: In the expression's unit.
        samples: How many measurements it rests on.
        group: The value of the attribute the expression groups by; empty without one.
    """

    value: float
    samples: int
    group: str = ""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the PromQL of an expression is written.

    Attributes:
        by: Labels that tell services, and where the rule is for each of them instances, apart.
        span: The window, as a PromQL duration.
        native: Whether Prometheus stores histograms as native ones, or as `_bucket`, `_count` and `_sum`.
        selector: Further label matchers for every metric, e.g. `job="orders"`.
    """

    by: tuple[str, ...] = ("job",)
    span: str = "5m"
    native: bool = True
    selector: str = ""

    def select(self, metric: str, *matchers: str) -> str:
        """`metric{…}` with the matchers that are not empty."""
        inside = ",".join(matcher for matcher in (self.selector, *matchers) if matcher)
        return f"{metric}{{{inside}}}" if inside else metric

    def grouped(self, aggregate: str, inner: str, *labels: str) -> str:
        """`aggregate by (…) (inner)`."""
        return f"{aggregate} by ({', '.join((*self.by, *filter(None, labels)))}) ({inner})"


@runtime_checkable
class Expression(Protocol):
    """A value, or one for each group, over a window."""

    @property
    def metrics(self) -> frozenset[str]:
        """The instruments it reads."""

    @property
    def group_by(self) -> str:
        """The attribute whose values it tells apart; empty for one value."""

    def readings(self, window: Window, *, above: float | None = None) -> list[Reading]:
        """Its values now; none where there is no data.

        Args:
            window: What was measured.
            above: Groups whose value is certainly below this may be left out: nobody asks.
        """

    def promql(self, dialect: Dialect) -> str:
        """The same in PromQL."""


@dataclass(frozen=True, slots=True)
class Gauge:
    """The last value of a gauge; of several series the largest, or the smallest.

    Args:
        metric: The instrument's name.
        unit: Its UCUM unit: Prometheus spells it in the name.
        scale: What the value is multiplied by, e.g. 100 for percent of a share.
        over: Which of several series counts: those of all workers, or with other attributes.
        group_by: An attribute whose values are told apart, each with a reading of its own.
    """

    metric: str
    unit: str = ""
    scale: float = 1.0
    over: Literal["max", "min"] = "max"
    group_by: str = ""

    @property
    def metrics(self) -> frozenset[str]:
        """The instrument it reads."""
        return frozenset((self.metric,))

    def readings(self, window: Window, *, above: float | None = None) -> list[Reading]:
        """One reading a group."""
        groups: dict[str, list[float]] = {}
        for series, value in window.gauges(self.metric):
            if math.isfinite(value):
                groups.setdefault(_group(series, self.group_by), []).append(value)
        choose = max if self.over == "max" else min
        return [Reading(choose(values) * self.scale, len(values), group) for group, values in groups.items()]

    def promql(self, dialect: Dialect) -> str:
        """`scale * max by (…) (metric)`."""
        name = dialect.select(prometheus_name(self.metric, self.unit, gauge=True))
        return _times(self.scale, dialect.grouped(self.over, name, _label(self.group_by)))


@dataclass(frozen=True, slots=True)
class Count:
    """How many values a histogram recorded, or by how much a counter grew, in the window.

    Args:
        metric: The instrument's name.
        unit: Its UCUM unit.
        kind: What it is.
        where: Chooses among its series; every one when not given.
        group_by: An attribute whose values are told apart.
    """

    metric: str
    unit: str = ""
    kind: Literal["counter", "histogram"] = "counter"
    where: Matcher | None = None
    group_by: str = ""

    @property
    def metrics(self) -> frozenset[str]:
        """The instrument it reads."""
        return frozenset((self.metric,))

    def readings(self, window: Window, *, above: float | None = None) -> list[Reading]:
        """One reading a group; without groups always one, 0 for nothing. Worked out once for a window."""
        known: list[Reading] | None = window.memo.get(self)
        if known is None:
            counts: dict[str, float] = {} if self.group_by else {"": 0.0}
            for series, value in self._values(window):
                group = _group(series, self.group_by)
                counts[group] = counts.get(group, 0.0) + value
            known = window.memo[self] = [Reading(value, round(value), group) for group, value in counts.items()]
        return known

    def promql(self, dialect: Dialect) -> str:
        """`sum by (…) (increase(metric[…]))`."""
        matchers = self.where.promql() if self.where is not None else ""
        name = prometheus_name(self.metric, self.unit, monotonic=self.kind == "counter")
        if self.kind == "histogram" and dialect.native:
            inner = f"histogram_count(increase({dialect.select(name, matchers)}[{dialect.span}]))"
        else:
            suffix = "_count" if self.kind == "histogram" else ""
            inner = f"increase({dialect.select(name + suffix, matchers)}[{dialect.span}])"
        return dialect.grouped("sum", inner, _label(self.group_by))

    def _values(self, window: Window) -> Iterable[tuple[Series, float]]:
        if self.kind == "histogram":
            return [(series, histogram.count) for series, histogram in _chosen(window, self.metric, self.where)]
        return [entry for entry in window.sums(self.metric) if self.where is None or self.where(entry[0])]


@dataclass(frozen=True, slots=True)
class Percent:
    """`part` of `whole`, in percent; no data where the whole is nothing.

    Args:
        part: What is counted.
        whole: Of what; grouped by the same attribute.

    Raises:
        ConfigurationError: They are grouped by different attributes.
    """

    part: Count
    whole: Count

    def __post_init__(self) -> None:
        """Refuse what cannot be divided."""
        if self.part.group_by != self.whole.group_by:
            raise ConfigurationError(f"group_by: part by {self.part.group_by!r}, whole by {self.whole.group_by!r}")

    @property
    def metrics(self) -> frozenset[str]:
        """The instruments it reads."""
        return self.part.metrics | self.whole.metrics

    @property
    def group_by(self) -> str:
        """The attribute whose values it tells apart."""
        return self.whole.group_by

    def readings(self, window: Window, *, above: float | None = None) -> list[Reading]:
        """One reading a group of the whole."""
        parts = {reading.group: reading.value for reading in self.part.readings(window)}
        wholes = (reading for reading in self.whole.readings(window) if reading.value > 0)
        return [Reading(100.0 * parts.get(w.group, 0.0) / w.value, w.samples, w.group) for w in wholes]

    def promql(self, dialect: Dialect) -> str:
        """`100 * part / whole`."""
        return f"100 * {self.part.promql(dialect)} / {self.whole.promql(dialect)}"


@dataclass(frozen=True, slots=True)
class Quantile:
    """A quantile of what a histogram recorded in the window, e.g. each route's p95.

    Args:
        metric: The instrument's name.
        q: From 0 to 1.
        unit: Its UCUM unit.
        scale: What the value is multiplied by, e.g. 1000 for milliseconds of seconds.
        where: Chooses among its series; every one when not given.
        group_by: An attribute whose values are told apart.

    Raises:
        ConfigurationError: `q` or `scale` cannot work.
    """

    metric: str
    q: float
    unit: str = "s"
    scale: float = 1.0
    where: Matcher | None = None
    group_by: str = ""

    def __post_init__(self) -> None:
        """Refuse what is no quantile."""
        if not 0 <= self.q <= 1:
            raise ConfigurationError(f"q: {self.metric}: {self.q!r} is not from 0 to 1")
        if not self.scale > 0:
            raise ConfigurationError(f"scale: {self.metric}: {self.scale!r} is not positive")

    @property
    def metrics(self) -> frozenset[str]:
        """The instrument it reads."""
        return frozenset((self.metric,))

    def readings(self, window: Window, *, above: float | None = None) -> list[Reading]:
        """One reading a group that recorded anything."""
        found = []
        for group, histogram in self._groups(window).items():
            if above is not None and histogram.max * self.scale < above:  # no quantile is above the maximum
                continue
            value = histogram.quantile(self.q)
            if value is not None:
                found.append(Reading(value * self.scale, histogram.count, group))
        return found

    def promql(self, dialect: Dialect) -> str:
        """`scale * histogram_quantile(q, sum by (…) (rate(metric[…])))`."""
        matchers = self.where.promql() if self.where is not None else ""
        name = prometheus_name(self.metric, self.unit) + ("" if dialect.native else "_bucket")
        rate = f"rate({dialect.select(name, matchers)}[{dialect.span}])"
        labels: Sequence[str] = (_label(self.group_by), "" if dialect.native else "le")
        return _times(self.scale, f"histogram_quantile({self.q:g}, {dialect.grouped('sum', rate, *labels)})")

    def _groups(self, window: Window) -> dict[str, Histogram]:
        """What each group recorded; worked out once for a window, whichever rules ask."""
        key = (self.metric, self.where, self.group_by)
        known: dict[str, Histogram] | None = window.memo.get(key)
        if known is None:
            parts: dict[str, list[Histogram]] = {}
            for series, histogram in _chosen(window, self.metric, self.where):
                parts.setdefault(_group(series, self.group_by), []).append(histogram)
            known = window.memo[key] = {group: merged(histograms) for group, histograms in parts.items()}
        return known


def requests(*, where: Matcher | None = None, group_by: str = "") -> Count:
    """How many requests the service answered in the window."""
    return Count(HTTP_SERVER_REQUEST_DURATION, "s", "histogram", where, group_by)


def error_rate(statuses: Collection[int] | None = None, *, group_by: str = "") -> Percent:
    """The share of requests that were errors, in percent.

    Args:
        statuses: Status codes that count as errors; None: every 5xx.
        group_by: An attribute whose values are told apart, e.g. `http.route`.
    """
    failed = Failed(OutcomeOf(frozenset(statuses) if statuses is not None else None))
    return Percent(requests(where=failed, group_by=group_by), requests(group_by=group_by))


def _chosen(window: Window, metric: str, where: Matcher | None) -> list[tuple[Series, Histogram]]:
    """The series of a histogram that `where` chooses."""
    if where is None:
        return window.histograms(metric)
    if isinstance(where, Attribute):  # the usual one, for which the window has an index
        groups = window.grouped(metric, where.key)
        return [entry for value in where.values for entry in groups.get(value, ())]
    return [entry for entry in window.histograms(metric) if where(entry[0])]


def _group(series: Series, key: str) -> str:
    """Which group `series` is in; without the attribute it is the empty one, as for Prometheus."""
    if not key:
        return ""
    value = series.get(key)
    if value is None:
        return UNMATCHED_ROUTE if key == HTTP_ROUTE else ""
    return value if isinstance(value, str) else attribute_text(value)


def _label(key: str) -> str:
    return prometheus_label(key) if key else ""


def _times(scale: float, text: str) -> str:
    return text if scale == 1 else f"{scale:.15g} * {text}"
