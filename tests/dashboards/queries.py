"""The PromQL behind panels: over the chosen services, environments and instances, in the interval Grafana chooses."""

from dataclasses import dataclass

from otel_monitoring import conventions as c
from otel_monitoring.measure.outcome import DISCONNECTED

SERVICE = 'job=~"$service",deployment_environment_name=~"$environment"'
SELECTION = f'{SERVICE},instance=~"$instance"'
RANGE = "$__range"
INTERVAL = "$__rate_interval"
FAILED = f'error_type!~"|{DISCONNECTED}"'


def gauge(name: str, unit: str, *matchers: str) -> str:
    """A gauge's series."""
    return _select(c.prometheus_name(name, unit, gauge=True), matchers)


def amount(name: str, unit: str, *matchers: str) -> str:
    """An up-down counter's series."""
    return _select(c.prometheus_name(name, unit), matchers)


def growth(name: str, *matchers: str, by: str = "") -> str:
    """By how much a counter of rare events grew; the first event, with which its series begins, included."""
    series = _select(c.prometheus_name(name, monotonic=True), matchers)
    return _sum(f"{series} unless {series} offset {INTERVAL} or increase({series}[{INTERVAL}])", by)


@dataclass(frozen=True, slots=True)
class Durations:
    """A histogram of durations in seconds.

    Args:
        name: The instrument's.
        native: Whether Prometheus stores it as a native histogram.
    """

    name: str
    native: bool

    def count(self, *matchers: str, by: str = "", over: str = INTERVAL) -> str:
        """How many were recorded."""
        return _sum(self._counted("increase", matchers, over), by)

    def rate(self, *matchers: str, by: str = "", over: str = INTERVAL) -> str:
        """How many were recorded a second."""
        return _sum(self._counted("rate", matchers, over), by)

    def mean(self, *matchers: str, by: str = "", over: str = INTERVAL) -> str:
        """The mean of what was recorded."""
        added = _sum(f"rate({self._series('' if self.native else '_sum', matchers)}[{over}])", by)
        return f"histogram_avg({added})" if self.native else f"{added} / {self.rate(*matchers, by=by, over=over)}"

    def quantile(self, q: float, *matchers: str, by: str = "", over: str = INTERVAL) -> str:
        """A quantile of what was recorded."""
        if not self.native:
            by = f"{by}, le" if by else "le"
        series = self._series("" if self.native else "_bucket", matchers)
        return f"histogram_quantile({q:g}, {_sum(f'rate({series}[{over}])', by)})"

    def percent(self, part: str, *, by: str = "", over: str = INTERVAL) -> str:
        """The share that `part`, a matcher, chooses, in percent; 0 where there is no such part."""
        whole = self.rate(by=by, over=over)
        return f"100 * ({self.rate(part, by=by, over=over)} or 0 * {whole}) / {whole}"

    def _counted(self, function: str, matchers: tuple[str, ...], over: str) -> str:
        if self.native:
            return f"histogram_count({function}({self._series('', matchers)}[{over}]))"
        return f"{function}({self._series('_count', matchers)}[{over}])"

    def _series(self, suffix: str, matchers: tuple[str, ...]) -> str:
        return _select(c.prometheus_name(self.name, "s") + suffix, matchers)


def _select(name: str, matchers: tuple[str, ...]) -> str:
    return f"{name}{{{','.join((SELECTION, *matchers))}}}"


def _sum(inner: str, by: str) -> str:
    return f"sum by ({by}) ({inner})" if by else f"sum({inner})"
