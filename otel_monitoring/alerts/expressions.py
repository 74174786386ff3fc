"""What a rule looks at: expressions over a `Window`, each with the PromQL text that asks Prometheus the same.

One definition, two readings: `readings` is for this process, `promql` for the fleet's own engine.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from otel_monitoring.alerts.dialect import Dialect
from otel_monitoring.conventions import (
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_SERVER_REQUEST_DURATION,
    UNMATCHED_ROUTE,
    prometheus_label,
    prometheus_name,
)
from otel_monitoring.measure.outcome import DISCONNECTED, Outcome, OutcomeOf
from otel_monitoring.measure.snapshot import AttributeValue, Histogram, Series, merged
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


class Matcher(Protocol):
    """Chooses series by their attributes."""

    def __call__(self, series: Series) -> bool:
        """Whether `series` is chosen."""

    def promql(self) -> str:
        """The same as PromQL label matchers."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """Series whose attribute `key` has one of `values`."""

    key: str
    values: tuple[AttributeValue, ...]

    def __call__(self, series: Series) -> bool:
        """Whether `series` has one of the values."""
        return series.get(self.key) in self.values

    def promql(self) -> str:
        """`key=~"a|b"`."""
        return f'{prometheus_label(self.key)}=~"{"|".join(_escaped(value) for value in self.values)}"'


@dataclass(frozen=True, slots=True)
class Failed:
    """Requests that count as errors of the service: see `OutcomeOf`."""

    outcome_of: OutcomeOf = field(default_factory=OutcomeOf)

    def __call__(self, series: Series) -> bool:
        """Whether the requests in `series` were errors."""
        return self.outcome_of(series) is Outcome.ERROR

    def promql(self) -> str:
        """Status codes of errors where they are chosen by hand; otherwise every `error.type` but a client that left.

        By hand chosen ones miss exceptions after the answer has begun: one set of matchers cannot say "or".
        """
        if self.outcome_of.statuses is None:
            return f'error_type!~"|{DISCONNECTED}"'
        codes = "|".join(str(status) for status in sorted(self.outcome_of.statuses))
        return f'{prometheus_label(HTTP_RESPONSE_STATUS_CODE)}=~"{codes}"'


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
            above: Groups whose value is certainly not above this may be left out: nobody asks.
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
        """One reading a group; without groups always one, 0 for nothing."""
        counts: dict[str, float] = {} if self.group_by else {"": 0.0}
        for series, value in self._values(window):
            if self.where is None or self.where(series):
                group = _group(series, self.group_by)
                counts[group] = counts.get(group, 0.0) + value
        return [Reading(value, round(value), group) for group, value in counts.items()]

    def promql(self, dialect: Dialect) -> str:
        """`sum by (…) (increase(metric[…]))`."""
        matchers = self.where.promql() if self.where is not None else ""
        name = prometheus_name(self.metric, self.unit, monotonic=self.kind == "counter")
        if self.kind == "histogram" and dialect.native:
            inner = f"histogram_count({dialect.increase(name, matchers)})"
        else:
            inner = dialect.increase(name + ("_count" if self.kind == "histogram" else ""), matchers)
        return dialect.grouped("sum", inner, _label(self.group_by))

    def _values(self, window: Window) -> Iterable[tuple[Series, float]]:
        if self.kind == "histogram":
            return ((series, histogram.count) for series, histogram in window.histograms(self.metric))
        return ((series, value) for series, value in window.snapshot.sums.items() if series.name == self.metric)


@dataclass(frozen=True, slots=True)
class Percent:
    """`part` of `whole`, in percent; no data where the whole is nothing.

    Args:
        part: What is counted.
        whole: Of what; grouped by the same attribute.
    """

    part: Count
    whole: Count

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
        """`100 * (part or 0 * whole) / whole`: series that nothing fell into do not exist."""
        whole = self.whole.promql(dialect)
        return f"100 * ({self.part.promql(dialect)} or 0 * {whole}) / {whole}"


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
    """

    metric: str
    q: float
    unit: str = "s"
    scale: float = 1.0
    where: Matcher | None = None
    group_by: str = ""

    @property
    def metrics(self) -> frozenset[str]:
        """The instrument it reads."""
        return frozenset((self.metric,))

    def readings(self, window: Window, *, above: float | None = None) -> list[Reading]:
        """One reading a group that recorded anything."""
        limit = above / self.scale if above is not None else float("-inf")
        found = []
        for group, histogram in self._groups(window).items():
            value = histogram.quantile(self.q) if histogram.max > limit else None  # no quantile is above the maximum
            if value is not None:
                found.append(Reading(value * self.scale, histogram.count, group))
        return found

    def promql(self, dialect: Dialect) -> str:
        """`scale * histogram_quantile(q, sum by (…) (increase(metric[…])))`."""
        matchers = self.where.promql() if self.where is not None else ""
        name = prometheus_name(self.metric, self.unit) + ("" if dialect.native else "_bucket")
        labels: Sequence[str] = (_label(self.group_by), "" if dialect.native else "le")
        recorded = dialect.grouped("sum", dialect.increase(name, matchers), *labels)
        return _times(self.scale, f"histogram_quantile({self.q:g}, {recorded})")

    def _groups(self, window: Window) -> dict[str, Histogram]:
        """What each group recorded; worked out once for a window, whichever rules ask."""
        key = (self.metric, self.where, self.group_by)
        known: dict[str, Histogram] | None = window.memo.get(key)
        if known is None:
            parts: dict[str, list[Histogram]] = {}
            for series, histogram in window.histograms(self.metric):
                if self.where is None or self.where(series):
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


def _group(series: Series, key: str) -> str:
    if not key:
        return ""
    value = series.get(key)
    return UNMATCHED_ROUTE if value is None else str(value)


def _label(key: str) -> str:
    return prometheus_label(key) if key else ""


def _times(scale: float, text: str) -> str:
    return text if scale == 1 else f"{scale:g} * {text}"


def _escaped(value: AttributeValue) -> str:
    """A value inside a regular expression inside a PromQL string."""
    return re.escape(str(value)).replace("\\", r"\\").replace('"', r"\"")
