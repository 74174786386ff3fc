"""`Dialect`: how the PromQL of an expression is written."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the PromQL of an expression is written.

    Attributes:
        by: Labels that tell services, and where the rule is for each of them instances, apart.
        span: The window, as a PromQL duration.
        native: Whether Prometheus stores histograms as native ones, or as `_bucket`, `_count` and `_sum`.
        selector: Further label matchers for every metric, e.g. `job="orders"`.
        from_zero: Whether the first value of a new series counts, as it does here: a process counts from zero, while
            Prometheus' `increase` begins with the second value it sees and so misses the first failure of a kind.
    """

    by: tuple[str, ...] = ("job",)
    span: str = "5m"
    native: bool = True
    selector: str = ""
    from_zero: bool = False

    def select(self, metric: str, *matchers: str) -> str:
        """`metric{…}` with the matchers that are not empty."""
        inside = ",".join(matcher for matcher in (self.selector, *matchers) if matcher)
        return f"{metric}{{{inside}}}" if inside else metric

    def increase(self, metric: str, *matchers: str) -> str:
        """By how much each series grew in the window.

        With `from_zero`, a series nobody has seen in the hour before the window grew by all it holds. The hour bridges
        gaps: after a longer one, series that are only back look new for the length of a window.
        """
        series = self.select(metric, *matchers)
        grown = f"increase({series}[{self.span}])"
        return (
            f"{series} unless last_over_time({series}[1h] offset {self.span}) or {grown}" if self.from_zero else grown
        )

    def grouped(self, aggregate: str, inner: str, *labels: str) -> str:
        """`aggregate by (…) (inner)`."""
        return f"{aggregate} by ({', '.join((*self.by, *filter(None, labels)))}) ({inner})"
