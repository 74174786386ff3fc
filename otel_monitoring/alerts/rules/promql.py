"""`Dialect`: writes PromQL for rules and dashboards."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


class Dialect(NamedTuple):
    """How PromQL is written: for which series, window and histogram format.

    Attributes:
        by: Labels to aggregate by.
        span: The window, as a PromQL duration.
        native: Whether Prometheus has native histograms; False: `_bucket`, `_count` and `_sum`.
        selector: Further label matchers for every metric, e.g. `job="orders"`.
        from_zero: Whether the first value of a new series counts as an increase from 0, as it does in this process.
            Prometheus' `increase` starts with the second value, and so misses the first failure of a kind.
        growth: `increase` in the window, or `rate` per second; `rate` ignores `from_zero`. `difference`: what was
            counted between the last sample before the window and the last one in it, without Prometheus' extrapolation:
            whole numbers, from zero for a new series; the increase of a series that began anew.
    """

    by: tuple[str, ...] = ("job",)
    span: str = "5m"
    native: bool = True
    selector: str = ""
    from_zero: bool = False
    growth: Literal["increase", "rate", "difference"] = "increase"

    def select(self, metric: str, *matchers: str) -> str:
        """`metric{…}` with the matchers that are not empty."""
        inside = ",".join(matcher for matcher in (self.selector, *matchers) if matcher)
        return f"{metric}{{{inside}}}" if inside else metric

    def increase(self, metric: str, *matchers: str) -> str:
        """The increase of each series in the window.

        With `from_zero`, a series that did not exist in the hour before the window counts with its whole value. The
        hour bridges gaps in the data: after a longer gap, a series that returns looks new for one window.
        """
        series = self.select(metric, *matchers)
        if self.growth == "difference":
            last, before = f"last_over_time({series}[{self.span}])", f"last_over_time({series}[1h] offset {self.span})"
            was_reset = f"resets({series}[{_and_an_hour(self.span)}]) > 0"
            # `* 1` drops the metric's name: VictoriaMetrics counts twice where one side of `or` has it.
            return f"({last} - {before} or {last} * 1) unless {was_reset} or increase({series}[{self.span}])"
        grown = f"{self.growth}({series}[{self.span}])"
        if self.from_zero and self.growth == "increase":
            return f"{series} unless last_over_time({series}[1h] offset {self.span}) or {grown}"
        return grown

    def over(self, seconds: int) -> "Dialect":
        """The same with a window of `seconds`."""
        return self._replace(span=prometheus_duration(seconds))

    def existed(self, series: str, seconds: int) -> str:
        """The groups in which a series existed `seconds` ago; for the right side of `and`."""
        on = ", ".join(self.by)
        return f"on ({on}) group by ({on}) ({series} offset {prometheus_duration(seconds)})"

    def grouped(self, aggregate: str, inner: str, *labels: str) -> str:
        """`aggregate by (…) (inner)`, or `aggregate(inner)` without labels."""
        by = ", ".join((*self.by, *filter(None, labels)))
        return f"{aggregate} by ({by}) ({inner})" if by else f"{aggregate}({inner})"

    @staticmethod
    def summed(inner: str, *without: str) -> str:
        """`sum without (…) (inner)`: one series for each combination of the other labels."""
        return f"sum without ({', '.join(without)}) ({inner})"

    def histogram_count(self, metric: str, *matchers: str, labels: Sequence[str] = ()) -> str:
        """The number of values that a histogram recorded."""
        if self.native:
            return self.grouped("sum", f"histogram_count({self.increase(metric, *matchers)})", *labels)
        return self.grouped("sum", self.increase(f"{metric}_count", *matchers), *labels)

    def histogram_values(self, metric: str, *matchers: str, labels: Sequence[str] = ()) -> tuple[str, ...]:
        """The whole histogram: one query for native ones, else one for its buckets (by `le`) and one for its sum."""
        if self.native:
            return (self.grouped("sum", self.increase(metric, *matchers), *labels),)
        buckets = self.grouped("sum", self.increase(f"{metric}_bucket", *matchers), *labels, "le")
        return buckets, self.grouped("sum", self.increase(f"{metric}_sum", *matchers), *labels)

    def histogram_mean(self, metric: str, *matchers: str, labels: Sequence[str] = ()) -> str:
        """The mean of the values that a histogram recorded."""
        if self.native:
            return f"histogram_avg({self.grouped('sum', self.increase(metric, *matchers), *labels)})"
        total = self.grouped("sum", self.increase(f"{metric}_sum", *matchers), *labels)
        return f"{total} / {self.histogram_count(metric, *matchers, labels=labels)}"

    def histogram_quantile(self, q: float, metric: str, *matchers: str, labels: Sequence[str] = ()) -> str:
        """A quantile of the values that a histogram recorded."""
        series, buckets = (metric, ()) if self.native else (f"{metric}_bucket", ("le",))
        return f"histogram_quantile({q:g}, {self.grouped('sum', self.increase(series, *matchers), *labels, *buckets)})"

    @staticmethod
    def percent(part: str, whole: str) -> str:
        """The share of `part` in `whole`, in percent; 0 where `part` has no series."""
        return f"100 * ({part} or 0 * {whole}) / {whole}"


def prometheus_duration(seconds: float) -> str:
    """A duration as Prometheus, Grafana and Datadog write it, in one unit: `30s`, `5m`, `1500ms`."""
    if seconds != int(seconds):
        return f"{round(seconds * 1000)}ms"
    for size, unit in ((3600, "h"), (60, "m")):
        if seconds and seconds % size == 0:
            return f"{int(seconds) // size}{unit}"
    return f"{int(seconds)}s"


def _and_an_hour(span: str) -> str:
    """A duration of one unit, and an hour."""
    unit = span.lstrip("0123456789")
    return f"{math.ceil(int(span.removesuffix(unit)) * _SECONDS[unit]) + 3600}s"
