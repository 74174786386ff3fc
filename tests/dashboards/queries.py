"""The PromQL behind panels: over the chosen services, environments and instances, in the interval Grafana chooses.

`Dialect` writes it, as that of rules; what belongs to Grafana is here.
"""

from dataclasses import dataclass
from typing import Literal

from otel_monitoring import semconv as c
from otel_monitoring.alerts.rules.matchers import Failed
from otel_monitoring.alerts.rules.promql import Dialect

SERVICE = 'job=~"$service",deployment_environment_name=~"$environment"'
SELECTION = f'{SERVICE},instance=~"$instance"'
RANGE = "$__range"
INTERVAL = "$__rate_interval"
FAILED = Failed().promql()

_DIALECT = Dialect(by=(), span=INTERVAL, selector=SELECTION, from_zero=True)


def gauge(name: str, unit: str) -> str:
    """A gauge's series."""
    return _DIALECT.select(c.prometheus_name(name, unit, gauge=True))


def amount(name: str, unit: str) -> str:
    """An up-down counter's series."""
    return _DIALECT.select(c.prometheus_name(name, unit))


def growth(name: str, matcher: str, *by: str) -> str:
    """By how much a counter of rare events grew; the first event, with which its series begins, included."""
    return _DIALECT.grouped("sum", _DIALECT.increase(c.prometheus_name(name, monotonic=True), matcher), *by)


@dataclass(frozen=True, slots=True)
class Durations:
    """A histogram of durations in seconds.

    Args:
        name: The instrument's.
        native: Whether Prometheus stores it as a native histogram.
    """

    name: str
    native: bool

    def count(self, *by: str, over: str = INTERVAL) -> str:
        """How many were recorded."""
        return self._dialect(by, over).histogram_count(self._metric)

    def rate(self, *by: str, over: str = INTERVAL) -> str:
        """How many were recorded a second."""
        return self._dialect(by, over, "rate").histogram_count(self._metric)

    def mean(self, *by: str, over: str = INTERVAL) -> str:
        """The mean of what was recorded."""
        return self._dialect(by, over).histogram_mean(self._metric)

    def quantile(self, q: float, *by: str, over: str = INTERVAL) -> str:
        """A quantile of what was recorded."""
        return self._dialect(by, over).histogram_quantile(q, self._metric)

    def percent(self, part: str, *by: str, over: str = INTERVAL) -> str:
        """The share that `part`, a matcher, chooses, in percent; 0 where there is no such part."""
        dialect = self._dialect(by, over)
        return dialect.percent(dialect.histogram_count(self._metric, part), dialect.histogram_count(self._metric))

    @property
    def _metric(self) -> str:
        return c.prometheus_name(self.name, "s")

    def _dialect(self, by: tuple[str, ...], over: str, growth: Literal["increase", "rate"] = "increase") -> Dialect:
        return Dialect(by=by, span=over, native=self.native, selector=SELECTION, growth=growth)
