"""The expressions of rules. Each is evaluated over a `Window` in this process, and written in PromQL for Prometheus."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

from otel_monitoring.alerts.rules.matchers import Failed, Matcher
from otel_monitoring.alerts.rules.series import group_of, group_series, series_groups
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.metrics.outcome import OutcomeClassifier
from otel_monitoring.metrics.window import Window
from otel_monitoring.semconv import HTTP_SERVER_REQUEST_DURATION, prometheus_label, prometheus_name
from otel_monitoring.value import Value

if TYPE_CHECKING:
    from otel_monitoring.alerts.rules.promql import Dialect


class Reading(NamedTuple):
    """One value of an expression.

    Attributes:
        value: The value, in the expression's unit.
        samples: The number of measurements behind it.
        group: The value of the `group_by` attribute; empty without one.
        details: JSON-serialisable details of an alert that starts with it.
    """

    value: float
    samples: int
    group: str = ""
    details: Mapping[str, Any] = {}


@runtime_checkable
class Expression(Protocol):
    """What a rule compares with its threshold: one value over a window, or one for each group."""

    @property
    def metrics(self) -> frozenset[str]:
        """The names of the metrics that it reads."""

    @property
    def group_by(self) -> str:
        """The attribute that it groups by; empty for a single value."""

    def readings(self, window: Window, *, above: float | None = None, known: Collection[str] = ()) -> Sequence[Reading]:
        """One reading for each group; none without data.

        Args:
            window: The metrics of the window.
            above: Groups with a value below this may be left out, which saves work; None: all groups.
            known: Groups that are never left out.
        """

    def promql(self, dialect: "Dialect") -> str:
        """The expression in PromQL."""


class Gauge(Value):
    """The last value of a gauge; the largest or smallest where a group has several series.

    Args:
        metric: The metric's name.
        unit: Its UCUM unit, which is part of the name in Prometheus.
        scale: A factor, e.g. 100 for a share in percent.
        over: Whether the largest or the smallest of several series counts.
        group_by: An attribute to group by.
        where: Selects series; None: all of them.
    """

    metric: str
    unit: str = ""
    scale: float = 1.0
    over: Literal["max", "min"] = "max"
    group_by: str = ""
    where: Matcher | None = None

    @property
    def metrics(self) -> frozenset[str]:
        """The name of the metric."""
        return frozenset((self.metric,))

    def readings(self, window: Window, *, above: float | None = None, known: Collection[str] = ()) -> Sequence[Reading]:
        """One reading for each group."""
        groups: dict[str, list[float]] = {}
        for series, value in window.gauges(self.metric):
            if math.isfinite(value) and (self.where is None or self.where(series)):
                groups.setdefault(group_of(series, self.group_by), []).append(value)
        choose = max if self.over == "max" else min
        return [Reading(choose(values) * self.scale, len(values), group) for group, values in groups.items()]

    def promql(self, dialect: "Dialect") -> str:
        """`scale * max by (…) (metric)`."""
        return _times(self.scale, self.aggregated(self.over, dialect))

    def aggregated(self, aggregate: str, dialect: "Dialect") -> str:
        """`aggregate by (…) (metric)`."""
        series = dialect.select(prometheus_name(self.metric, self.unit, gauge=True), _matchers(self.where))
        return dialect.grouped(aggregate, series, _label(self.group_by))


class Count(Value):
    """The increase of a counter, or the number of values that a histogram recorded, in the window.

    Args:
        metric: The metric's name.
        unit: Its UCUM unit.
        kind: The kind of metric.
        where: Selects series; None: all of them.
        group_by: An attribute to group by.
    """

    metric: str
    unit: str = ""
    kind: Literal["counter", "histogram"] = "counter"
    where: Matcher | None = None
    group_by: str = ""

    @property
    def metrics(self) -> frozenset[str]:
        """The name of the metric."""
        return frozenset((self.metric,))

    def readings(self, window: Window, *, above: float | None = None, known: Collection[str] = ()) -> Sequence[Reading]:
        """One reading for each group; without `group_by` always one, 0 where nothing was recorded."""
        counts = self.counts(window).items()
        return [Reading(n, round(n), group) for group, n in counts if above is None or n >= above or group in known]

    def counts(self, window: Window) -> Mapping[str, float]:
        """The count of each group; computed once for each window."""
        known: dict[str, float] | None = window.memo.get(self)
        if known is None:
            counts = self._histogram_counts(window) if self.kind == "histogram" else self._counter_counts(window)
            known = window.memo[self] = counts if self.group_by else {"": sum(counts.values())}
        return known

    def promql(self, dialect: "Dialect") -> str:
        """`sum by (…) (increase(metric[…]))`."""
        name = prometheus_name(self.metric, self.unit, monotonic=self.kind == "counter")
        matchers, label = _matchers(self.where), _label(self.group_by)
        if self.kind == "histogram":
            return dialect.histogram_count(name, matchers, labels=(label,))
        return dialect.grouped("sum", dialect.increase(name, matchers), label)

    def series(self, dialect: "Dialect") -> str:
        """The series in PromQL that are counted."""
        name = prometheus_name(self.metric, self.unit, monotonic=self.kind == "counter")
        suffix = "_count" if self.kind == "histogram" and not dialect.native else ""
        return dialect.select(name + suffix, _matchers(self.where))

    def _histogram_counts(self, window: Window) -> dict[str, float]:
        groups = group_series(window, self.metric, self.where, self.group_by)
        return {group: sum([part.count for part in parts]) for group, parts in groups.items()}

    def _counter_counts(self, window: Window) -> dict[str, float]:
        counts: dict[str, float] = {}
        for series, value in window.sums(self.metric):
            if self.where is None or self.where(series):
                group = group_of(series, self.group_by)
                counts[group] = counts.get(group, 0.0) + value
        return counts


class Percent(Value):
    """`part` of `whole` in percent; no data where the whole is 0.

    Args:
        part: The numerator.
        whole: The denominator, grouped by the same attribute.

    Raises:
        ConfigurationError: They are grouped by different attributes.
    """

    part: Count
    whole: Count

    def __post_init__(self) -> None:
        """Check that both are grouped by the same attribute."""
        if self.part.group_by != self.whole.group_by:
            raise ConfigurationError(f"group_by: part by {self.part.group_by!r}, whole by {self.whole.group_by!r}")

    @property
    def metrics(self) -> frozenset[str]:
        """The names of both metrics."""
        return self.part.metrics | self.whole.metrics

    @property
    def group_by(self) -> str:
        """The attribute that both are grouped by."""
        return self.whole.group_by

    def readings(self, window: Window, *, above: float | None = None, known: Collection[str] = ()) -> Sequence[Reading]:
        """One reading for each group of the whole."""
        parts, found = self.part.counts(window), []
        for group, whole in self.whole.counts(window).items():
            if whole > 0:
                value = 100.0 * parts.get(group, 0.0) / whole
                if above is None or value >= above or group in known:
                    found.append(Reading(value, round(whole), group))
        return found

    def promql(self, dialect: "Dialect") -> str:
        """`100 * (part or 0 * whole) / whole`."""
        return dialect.percent(self.part.promql(dialect), self.whole.promql(dialect))


class Quantile(Value):
    """A quantile of the values that a histogram recorded in the window, e.g. the p95 of each route.

    Args:
        metric: The metric's name.
        q: The quantile, from 0 to 1.
        unit: The metric's UCUM unit.
        scale: A factor, e.g. 1000 for seconds in milliseconds.
        where: Selects series; None: all of them.
        group_by: An attribute to group by.

    Raises:
        ConfigurationError: `q` is not from 0 to 1, or `scale` is not positive.
    """

    metric: str
    q: float
    unit: str = "s"
    scale: float = 1.0
    where: Matcher | None = None
    group_by: str = ""

    def __post_init__(self) -> None:
        """Check `q` and `scale`."""
        if not 0 <= self.q <= 1:
            raise ConfigurationError(f"q: {self.metric}: {self.q!r} is not from 0 to 1")
        if not self.scale > 0:
            raise ConfigurationError(f"scale: {self.metric}: {self.scale!r} is not positive")

    @property
    def metrics(self) -> frozenset[str]:
        """The name of the metric."""
        return frozenset((self.metric,))

    def readings(self, window: Window, *, above: float | None = None, known: Collection[str] = ()) -> Sequence[Reading]:
        """One reading for each group that recorded values."""
        found = []
        for name, group in series_groups(window, self.metric, self.where, self.group_by).items():
            # The maximum bounds every quantile: groups below the threshold need no quantile.
            if above is None or group.max * self.scale >= above or name in known:
                value = group.histogram.quantile(self.q)
                if value is not None:
                    found.append(Reading(value * self.scale, group.histogram.count, name))
        return found

    def promql(self, dialect: "Dialect") -> str:
        """`scale * histogram_quantile(q, sum by (…) (increase(metric[…])))`."""
        name, label = prometheus_name(self.metric, self.unit), _label(self.group_by)
        return _times(self.scale, dialect.histogram_quantile(self.q, name, _matchers(self.where), labels=(label,)))


def requests(*, where: Matcher | None = None, group_by: str = "") -> Count:
    """The number of requests in the window.

    Args:
        where: Selects series; None: all of them.
        group_by: An attribute to group by, e.g. `http.route`.
    """
    return Count(HTTP_SERVER_REQUEST_DURATION, "s", "histogram", where, group_by)


def error_rate(statuses: Collection[int] | None = None, *, group_by: str = "") -> Percent:
    """The share of failed requests in the window, in percent.

    Args:
        statuses: Status codes that count as errors; None: every 5xx.
        group_by: An attribute to group by, e.g. `http.route`.
    """
    failed = Failed(OutcomeClassifier(frozenset(statuses) if statuses is not None else None))
    return Percent(requests(where=failed, group_by=group_by), requests(group_by=group_by))


def _label(key: str) -> str:
    return prometheus_label(key) if key else ""


def _matchers(where: Matcher | None) -> str:
    return where.promql() if where is not None else ""


def _times(scale: float, text: str) -> str:
    return text if scale == 1 else f"{scale:.15g} * {text}"
