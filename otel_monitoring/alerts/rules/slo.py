"""`Slo`: a service level objective, and the rules that say when its error budget burns too fast."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from otel_monitoring.alerts.model import AlertSeverity, AlertType
from otel_monitoring.alerts.rules import validation
from otel_monitoring.alerts.rules.budget import Objective, in_words, is_blind
from otel_monitoring.alerts.rules.expressions import Percent, Reading
from otel_monitoring.alerts.rules.indicators import BY_ENDPOINT, Good, Succeeded, good_of
from otel_monitoring.alerts.rules.rule import NoData, Rule
from otel_monitoring.metrics.event_sums import ALL, Indicator, WindowSum
from otel_monitoring.metrics.slices.model import TIERS
from otel_monitoring.metrics.window import Window
from otel_monitoring.timestamps import seconds_of
from otel_monitoring.value import Value

if TYPE_CHECKING:
    from otel_monitoring.alerts.rules.promql import Dialect

ENDPOINT = "endpoint"
"""The label of an endpoint's alerts."""
_DAY = 86_400
_OF_WORKBOOK = 30 * _DAY
_SHORTEST, _LONGEST = _DAY, TIERS[-1].kept
_SHORTEST_SHORT = 60
_REACHED = 0.9
"""The share of bad events, from 0 to 1, from which on every tier alerts, whatever its burn rate."""
_NAME_LENGTH = 48


class BurnTier(NamedTuple):
    """A pair of windows in which the budget must burn.

    Attributes:
        name: Its part in the names of rules.
        long: Seconds of the long window, which says that it matters.
        short: Seconds of the short window, which says that it goes on.
        burn_rate: The burn rate from which on it alerts.
        severity: The severity of its alerts.
    """

    name: str
    long: int
    short: int
    burn_rate: float
    severity: AlertSeverity


TIERS_OF_WORKBOOK = (
    BurnTier("fast", 3600, 300, 14.4, AlertSeverity.CRITICAL),
    BurnTier("medium", 6 * 3600, 1800, 6.0, AlertSeverity.ERROR),
    BurnTier("slow", 3 * _DAY, 6 * 3600, 1.0, AlertSeverity.WARNING),
)
"""For a window of 30 days: 2 % of the budget in an hour, 5 % in six hours, 10 % in three days.

https://sre.google/workbook/alerting-on-slos/#6-multiwindow-multi-burn-rate-alerts
"""


def tiers_of(objective: Objective) -> tuple[BurnTier, ...]:
    """The tiers of an objective: the windows grow and shrink with its own, so that a burn rate means the same share.

    With 90 % the budget burns at most ten times too fast: no burn rate is so high that an outage cannot reach it.
    """
    reached = max(1.0, _REACHED * 100 / objective.budget_percent)

    def scaled(seconds: int) -> int:
        return round(seconds * objective.window / _OF_WORKBOOK / 10) * 10

    return tuple(
        tier._replace(
            long=scaled(tier.long),
            short=max(_SHORTEST_SHORT, scaled(tier.short)),
            burn_rate=min(tier.burn_rate, round(reached, 3)),
        )
        for tier in TIERS_OF_WORKBOOK
    )


class BurnRate(NamedTuple):
    """The burn rate of an error budget: that of the long or the short window, whichever is smaller.

    It is read from the sums over the slices of the past, which a `Window` has. There is no value where less than half
    of a window was measured: what is not known is not good. It is 0 with fewer events in the long window than
    `min_events`, and without events in the short one.

    Args:
        good: Which events are good.
        objective: How many of them must be.
        tier: The two windows.
        min_events: The fewest events.
        group_by: The attribute to group by: `http.route`, or nothing.
    """

    good: Good
    objective: Objective
    tier: BurnTier
    min_events: int
    group_by: str = ""

    @property
    def metrics(self) -> frozenset[str]:
        """None: it reads slices of the past."""
        return frozenset()

    @property
    def windows(self) -> tuple[int, int, int]:
        """The lengths of the windows that it reads, in seconds."""
        return self.tier.long, self.tier.short, self.objective.window

    def readings(self, window: Window, *, above: float | None = None, known: Collection[str] = ()) -> Sequence[Reading]:
        """One reading, or one for each endpoint with requests."""
        event_sums = window.event_sums
        if event_sums is None:
            return []
        long, short = event_sums.over(self.good, self.tier.long), event_sums.over(self.good, self.tier.short)
        if is_blind(long, self.tier.long) or is_blind(short, self.tier.short):
            return []
        whole = event_sums.over(self.good, self.objective.window)
        groups = {*long.groups, *known} - {ALL} if self.group_by else {ALL}
        found = (self._reading(group, long, short, whole) for group in sorted(groups))
        return [one for one in found if above is None or one.value >= above or one.group in known]

    def _reading(self, group: str, long: WindowSum, short: WindowSum, whole: WindowSum) -> Reading:
        counts = long.of(group)
        rate = 0.0
        if counts.events >= max(1, self.min_events):
            rate = min(self.objective.burn_rate(counts), self.objective.burn_rate(short.of(group)))
        details: Mapping[str, Any] = {}
        if rate >= 1:
            by = None if self.group_by else long
            words = in_words(self.objective, whole.of(group), self.objective.burn_rate(counts), by)
            details = {"budget": words}
        return Reading(rate, round(counts.events), group, details)

    def promql(self, dialect: "Dialect") -> str:
        """The smaller burn rate, where there are enough events, and were some half a long window ago."""
        long, short = (dialect.over(seconds) for seconds in (self.tier.long, self.tier.short))
        rates = [f"({self.good.bad_percent(each, self.group_by)}) / {self._budget}" for each in (long, short)]
        total = self.good.total(self.group_by)
        began = dialect.existed(total.series(dialect), self.tier.long // 2)
        return (
            f"(({rates[0]}\n< {rates[1]}\nor {rates[1]})\n"
            f"and {total.promql(long)} >= {max(1, self.min_events)}\nand {began})"
        )

    @property
    def _budget(self) -> str:
        return f"{self.objective.budget_percent:.12g}"


class Slo(Value):
    """A service level objective: so many percent of the events in a window are good.

    Its rules compare the burn rate of the error budget in three pairs of windows, as the SRE Workbook has it: see
    `docs/objectives.md`. An alert of a faster pair silences those of the slower ones.

    Args:
        name: A unique name of lower case letters, digits and underscores.
        objective: How many events must be good, in percent: above 0 and below 100.
        good: Which events are good: `Succeeded()`, `FasterThan(seconds)`, or a `Percent` of two counters.
        per: `endpoint`: each endpoint has a budget of its own; empty: the service has one.
        window: How long a budget must last, from `24h` to `30d`.
        min_requests: With fewer events in the long window of a pair it does not alert.
        dry_run: Alerts are recorded and shown, but not sent.
        labels: Further labels of every alert.
        runbook: An http or https link to the runbook.

    Raises:
        ConfigurationError: A field is invalid; the message begins with its name.
    """

    name: str
    objective: float
    good: Good | Percent = Succeeded()
    per: Literal["", "endpoint"] = ""
    window: str = "30d"
    min_requests: int = 100
    dry_run: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    runbook: str = ""

    def __post_init__(self) -> None:
        """Check every field."""
        validation.check_name(self.name)
        if len(self.name) > _NAME_LENGTH:
            validation.refuse("name", self.name, f"it may have {_NAME_LENGTH} characters")
        validation.check_number("objective", self.name, self.objective, least=0)
        if not 0 < self.objective < 100:
            validation.refuse("objective", self.name, f"{self.objective!r} is not above 0 and below 100 %")
        validation.check_number("min_requests", self.name, self.min_requests, least=0)
        validation.check_choice("per", self.name, self.per, ("", ENDPOINT))
        if self.per and not good_of(self.good, None).by_endpoint:
            validation.refuse("per", self.name, "the past has counters in all, not for each endpoint")
        self.rules()

    @property
    def seconds(self) -> int:
        """The window in seconds.

        Raises:
            ConfigurationError: It is none.
        """
        seconds = int(seconds_of(str(self.window)) or 0)
        if not _SHORTEST <= seconds <= _LONGEST:
            validation.refuse("window", self.name, f"{self.window!r} is not from 24h to 30d, written like 7d")
        return seconds

    @property
    def rule_names(self) -> tuple[str, ...]:
        """The names of its rules, the fastest first."""
        return tuple(f"{self.name}_{tier.name}_burn" for tier in TIERS_OF_WORKBOOK)

    def rules(self, error_statuses: Collection[int] | None = None) -> tuple[Rule, ...]:
        """The rules that alert, the fastest first.

        Args:
            error_statuses: Status codes that count as errors; None: every 5xx.

        Raises:
            ConfigurationError: A field is invalid.
        """
        return tuple(self._rules(good_of(self.good, error_statuses)))

    def _rules(self, good: Good) -> Iterator[Rule]:
        faster: list[str] = []
        objective = Objective(float(self.objective), self.seconds)
        where = "{slo}, {endpoint}" if self.per else "{slo}"
        for name, tier in zip(self.rule_names, tiers_of(objective), strict=True):
            yield Rule(
                name,
                BurnRate(good, objective, tier, int(self.min_requests), BY_ENDPOINT if self.per else ""),
                ">",
                tier.burn_rate,
                f"{where}: the error budget burns {{value:.1f}} times too fast",
                AlertType.ERROR_BUDGET,
                tier.severity,
                no_data=NoData.KEEP,
                label=ENDPOINT,
                labels={**self.labels, "slo": self.name},
                runbook=self.runbook,
                dry_run=self.dry_run,
                yields_to=frozenset(faster),
                yields_for=tier.short,
            )
            faster.append(name)


def wanted_sums(rules: Collection[Rule]) -> frozenset[tuple[Indicator, int]]:
    """The sums that the rules of objectives need."""
    burning = [rule.expression for rule in rules if isinstance(rule.expression, BurnRate)]
    return frozenset((each.good, seconds) for each in burning for seconds in each.windows)
