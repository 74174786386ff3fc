"""`Rule`: when to alert, as data; and the rules every service starts with."""

import operator
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Literal, get_args

from otel_monitoring.alerts.model import DEFAULT_SEVERITY, AlertSeverity, AlertType
from otel_monitoring.alerts.rules import validation
from otel_monitoring.alerts.rules.expressions import Count, Expression
from otel_monitoring.alerts.rules.promql import Dialect
from otel_monitoring.guard import fail_open

Comparison = Literal[">", ">=", "<", "<="]
Scope = Literal["service", "instance"]

_BEYOND: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_filling = fail_open("filling a rule's message", theirs=True)


class NoData(str, Enum):
    """What it means for a rule that there is nothing to look at."""

    RESOLVE = "resolve"
    """Nothing is wrong, as in Prometheus."""
    KEEP = "keep"
    """Nothing is known: an alert stays as it is, and after an hour it is given up."""
    FIRE = "fire"
    """That is what is wrong."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When to raise an alert, and what it says.

    It fires when `expression comparison threshold` has held for `hold` seconds, and resolves when the value is back
    across `clear` and has stayed there for `keep_firing_for` seconds. One that begins three times within ten minutes is
    flapping: it resolves after five minutes without a breach.

    Args:
        name: Lower case letters, digits and underscores; unique. With the labels it is the identity of an alert.
        expression: What it looks at.
        comparison: `>`, `>=`, `<` or `<=`.
        threshold: In the expression's unit.
        message: One line for people; `{value}`, `{threshold}`, `{rule}` and the labels are filled in, with formats as
            of `str.format`, e.g. `{value:.0f}`.
        type: Its alert type, or that one's value.
        severity: Its severity; that of the type when not given.
        hold: Seconds until it fires, Prometheus' `for`.
        keep_firing_for: Seconds it goes on firing after the last breach.
        clear: The threshold below which (with `<`: above which) it resolves; `threshold` when not given.
        min_samples: With fewer measurements than this there is no data.
        no_data: What no data means.
        scope: `service`: one alert for all workers, over what they measured together; `instance`: one for each, with
            the label `instance`.
        label: The name of the label that holds the group of a grouped expression, e.g. `endpoint`.
        labels: Further labels.
        inhibits: Types that stay quiet while this rule fires, and until the window no longer shows it.
        runbook: A link to what to do about it.

    Raises:
        ConfigurationError: A field cannot work; the message names it.
    """

    name: str
    expression: Expression
    comparison: Comparison
    threshold: float
    message: str = "{rule}: {value:.4g} (threshold {threshold:g})"
    type: AlertType = AlertType.CUSTOM
    severity: AlertSeverity | None = None
    hold: float = 0.0
    keep_firing_for: float = 0.0
    clear: float | None = None
    min_samples: int = 0
    no_data: NoData = NoData.RESOLVE
    scope: Scope = "service"
    label: str = "group"
    labels: Mapping[str, str] = field(default_factory=dict)
    inhibits: frozenset[AlertType] = frozenset()
    runbook: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot work; take the names of members for the members."""
        validation.name(self.name)
        for setting, kind in (("type", AlertType), ("no_data", NoData), ("severity", AlertSeverity)):
            if setting != "severity" or self.severity is not None:
                object.__setattr__(self, setting, validation.member(setting, self.name, kind, getattr(self, setting)))
        inhibits = frozenset(validation.member("inhibits", self.name, AlertType, kind) for kind in self.inhibits)
        object.__setattr__(self, "inhibits", inhibits)
        self._check_condition()
        validation.label(self.name, self.label)
        taken = {"instance", self.label} if self.expression.group_by else {"instance"}
        validation.labels(self.name, self.labels, taken=frozenset(taken))
        validation.link("runbook", self.name, self.runbook)
        if self.type in inhibits:
            validation.refuse("inhibits", self.name, "a rule that keeps its own type quiet would never be heard")
        validation.message(self.name, self.message, self._figures(0.0, self.identity("group", "instance")))

    def _check_condition(self) -> None:
        if not isinstance(self.expression, Expression):
            validation.refuse("expression", self.name, f"{type(self.expression).__name__} has no readings")
        validation.choice("comparison", self.name, self.comparison, get_args(Comparison))
        validation.choice("scope", self.name, self.scope, get_args(Scope))
        validation.number("threshold", self.name, self.threshold)
        for setting in ("hold", "keep_firing_for", "min_samples"):
            validation.number(setting, self.name, getattr(self, setting), least=0)
        if self.clear is not None:
            validation.number("clear", self.name, self.clear)
            if self.clear != self.threshold and self._beyond(self.clear, self.threshold):
                validation.refuse("clear", self.name, f"{self.clear:g} is beyond the threshold {self.threshold:g}")

    @property
    def urgency(self) -> AlertSeverity:
        """The severity given, or that of the type."""
        return self.severity or DEFAULT_SEVERITY[self.type]

    def breached_by(self, value: float, *, firing: bool) -> bool:
        """Whether `value` is beyond the threshold; while it fires: beyond where it resolves."""
        return self._beyond(value, self.clear if firing and self.clear is not None else self.threshold)

    def is_worse(self, value: float, than: float) -> bool:
        """Whether `value` is further beyond the threshold than another."""
        return value != than and self._beyond(value, than)

    @property
    def waits_for_window(self) -> bool:
        """Whether a breach means nothing before the window is full: a count that is too low may still rise."""
        return isinstance(self.expression, Count) and self.comparison in ("<", "<=")

    def identity(self, group: str, instance: str) -> dict[str, str]:
        """The labels of one alert of this rule."""
        own = {self.label: group} if self.expression.group_by else {}
        where = {"instance": instance} if self.scope == "instance" else {}
        return {**self.labels, **where, **own}

    def promql(self, dialect: Dialect | None = None) -> str:
        """The condition in PromQL; `hold` and `keep_firing_for` stand beside it in a Prometheus rule."""
        dialect = dialect or Dialect()
        if self.scope == "instance":
            dialect = replace(dialect, by=(*dialect.by, "instance"))
        return f"{self.expression.promql(dialect)} {self.comparison} {self.threshold:.15g}"

    def text(self, value: float, labels: Mapping[str, str]) -> str:
        """The message for one value; the bare figures where a template does not take this one."""
        with _filling:
            return self._filled(value, labels)
        return f"{self.name}: {value:.4g} (threshold {self.threshold:g})"

    def _filled(self, value: float, labels: Mapping[str, str]) -> str:
        return string.Formatter().vformat(self.message, (), self._figures(value, labels))

    def _figures(self, value: float, labels: Mapping[str, str]) -> dict[str, object]:
        return {**labels, "value": value, "threshold": self.threshold, "rule": self.name}

    def _beyond(self, value: float, limit: float) -> bool:
        return _BEYOND[self.comparison](value, limit)
