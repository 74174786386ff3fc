"""What counts as good for an objective: counted in the slices of the past here, and in PromQL for Prometheus."""

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from otel_monitoring.alerts.rules.expressions import Count, Percent, error_rate, requests
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.metrics.event_sums import ALL, Counts
from otel_monitoring.metrics.slices.model import Requests, Slice
from otel_monitoring.semconv import HTTP_ROUTE, HTTP_SERVER_REQUEST_DURATION, prometheus_label, prometheus_name
from otel_monitoring.value import Value

if TYPE_CHECKING:
    from otel_monitoring.alerts.rules.promql import Dialect

_BOUNDARIES = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""The boundaries of the duration histogram in seconds, as the semantic conventions have them."""
_STEPS = 2**20


@runtime_checkable
class Good(Protocol):
    """Which events are good; hashable.

    `Succeeded`, `FasterThan` and `CounterShare` are known to the export for Datadog.
    """

    @property
    def words(self) -> str:
        """What is good, for people."""

    @property
    def by_endpoint(self) -> bool:
        """Whether it is known for each endpoint."""

    def counts(self, content: Slice) -> Mapping[str, Counts]:
        """The events of a slice, and those of each route where they are known."""

    def bad_percent(self, dialect: "Dialect", group_by: str) -> str:
        """The bad events in percent of all events of the dialect's window, in PromQL."""

    def total(self, group_by: str) -> Count:
        """All events."""


class Succeeded(Value):
    """A request is good if it is no error: see `OTEL_MONITORING_ERROR_STATUSES`.

    Args:
        statuses: Status codes that count as errors in PromQL; None: every 5xx. In this process those of the settings
            count; an alert manager fills them in.
    """

    statuses: frozenset[int] | None = None

    @property
    def words(self) -> str:
        """What is good, for people."""
        return "requests without an error"

    @property
    def by_endpoint(self) -> bool:
        """Slices have the requests of each route."""
        return True

    def counts(self, content: Slice) -> Mapping[str, Counts]:
        """Requests and errors."""
        found = {route: Counts(of.durations.count, of.errors) for route, of in content.routes.items()}
        found[ALL] = Counts(content.requests.durations.count, content.requests.errors)
        return found

    def bad_percent(self, dialect: "Dialect", group_by: str) -> str:
        """The error rate."""
        return error_rate(self.statuses, group_by=group_by).promql(dialect)

    def total(self, group_by: str) -> Count:
        """All requests."""
        return requests(group_by=group_by)


class FasterThan(Value):
    """A request is good if it took at most `seconds`, whatever its status.

    In this process the number is estimated from the distribution, within 4.4 % of the duration for an endpoint and
    1.1 % for all requests.

    Args:
        seconds: The most seconds.

    Raises:
        ConfigurationError: It is no positive number.
    """

    seconds: float

    def __post_init__(self) -> None:
        """Check the number."""
        given: object = self.seconds
        if not isinstance(given, int | float) or isinstance(given, bool) or not 0 < given < math.inf:
            raise ConfigurationError(f"seconds: {given!r} is no positive number")

    @property
    def words(self) -> str:
        """What is good, for people."""
        return f"requests within {1000 * self.seconds:g} ms"

    @property
    def by_endpoint(self) -> bool:
        """Slices have the requests of each route."""
        return True

    def counts(self, content: Slice) -> Mapping[str, Counts]:
        """Requests, and those that took longer."""
        found = {route: self._slow(of) for route, of in content.routes.items()}
        found[ALL] = self._slow(content.requests)
        return found

    def bad_percent(self, dialect: "Dialect", group_by: str) -> str:
        """The share of slow requests, by `histogram_fraction` or from the bucket that ends at the limit.

        Raises:
            ConfigurationError: The histograms are classic, and no bucket ends there.
        """
        name, label = prometheus_name(HTTP_SERVER_REQUEST_DURATION, "s"), prometheus_label(group_by) if group_by else ""
        if dialect.native:
            grown = dialect.grouped("sum", dialect.increase(name), label)
            return f"100 * (1 - histogram_fraction(0, {self.seconds:.15g}, {grown}))"
        if self.seconds not in _BOUNDARIES:
            listed = ", ".join(f"{1000 * one:g}" for one in _BOUNDARIES)
            raise ConfigurationError(
                f"good: classic histograms have no bucket up to {1000 * self.seconds:g} ms; they have {listed} ms"
            )
        bound = f'le=~"{self.seconds:g}(\\\\.0)?"'
        fast = dialect.grouped("sum", dialect.increase(f"{name}_bucket", bound), label)
        return f"100 * (1 - {fast} / {dialect.histogram_count(name, labels=(label,))})"

    def total(self, group_by: str) -> Count:
        """All requests."""
        return requests(group_by=group_by)

    def _slow(self, of: Requests) -> Counts:
        count = of.durations.count
        return Counts(count, count - of.durations.below(self.seconds))


class CounterShare(Value):
    """An event of the counter `whole` is good if the counter `part` counted it, too.

    Args:
        percent: Two of the application's own counters, e.g. `Percent(Count("orders.paid"), Count("orders.placed"))`.

    Raises:
        ConfigurationError: Slices of the past do not have these counts.
    """

    percent: Percent

    def __post_init__(self) -> None:
        """Check that slices have the counters."""
        for count in (self.percent.part, self.percent.whole):
            if count.kind != "counter" or count.where is not None or count.group_by:
                raise ConfigurationError(
                    f"good: the past has counters in all, without attributes: {count.metric} cannot be counted there"
                )

    @property
    def words(self) -> str:
        """What is good, for people."""
        return f"{self.percent.part.metric} of {self.percent.whole.metric}"

    @property
    def by_endpoint(self) -> bool:
        """Slices have counters of the whole service."""
        return False

    def counts(self, content: Slice) -> Mapping[str, Counts]:
        """The increase of the whole, and of the whole without the part."""
        counters = (self.percent.whole.metric, self.percent.part.metric)
        whole, part = (_in_steps(content.counters.get(name, 0.0)) for name in counters)
        return {ALL: Counts(whole, max(0.0, whole - part))}

    def bad_percent(self, dialect: "Dialect", group_by: str) -> str:
        """What is missing to 100 %."""
        return f"100 - {self.percent.promql(dialect)}"

    def total(self, group_by: str) -> Count:
        """The counter of all events."""
        return self.percent.whole


def _in_steps(increase: float) -> float:
    """The increase of a counter as a multiple of a millionth that binary fractions have.

    Such numbers are added and subtracted exactly: a window that has become empty has no remainder of amounts as 0.1.
    """
    return round(increase * _STEPS) / _STEPS if math.isfinite(increase) else 0.0


def good_of(given: object, statuses: Collection[int] | None) -> Good:
    """What is good, in the form that objectives count.

    Args:
        given: A `Percent` of two counters, or what a `Slo` takes else.
        statuses: Status codes that count as errors where `given` does not say it; None: every 5xx.

    Raises:
        ConfigurationError: It is neither.
    """
    if isinstance(given, Percent):
        return CounterShare(given)
    if given == Succeeded() and statuses is not None:
        return Succeeded(frozenset(statuses))
    if isinstance(given, Good):
        return given
    raise ConfigurationError(f"good: {type(given).__name__} is neither Succeeded, FasterThan nor a Percent of counters")


BY_ENDPOINT = HTTP_ROUTE
"""The attribute that objectives for each endpoint are grouped by."""
