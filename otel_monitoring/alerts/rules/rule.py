"""`Rule`: when to raise an alert, as data."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import field
from enum import Enum
from typing import TYPE_CHECKING, Literal, get_args
from urllib.parse import quote

from otel_monitoring.alerts.model import AlertSeverity, AlertType, severity_of
from otel_monitoring.alerts.rules import validation
from otel_monitoring.alerts.rules.expressions import Count, Expression
from otel_monitoring.config import template
from otel_monitoring.guard import fail_open
from otel_monitoring.redact import redact
from otel_monitoring.value import Value

if TYPE_CHECKING:
    from otel_monitoring.alerts.rules.promql import Dialect

Comparison = Literal[">", ">=", "<", "<="]
RuleScope = Literal["service", "instance"]

_BEYOND: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_formatting = fail_open("filling a rule's message", theirs=True)


class NoData(str, Enum):
    """What missing data means for a rule."""

    RESOLVE = "resolve"
    """No breach, as in Prometheus: the alert resolves."""
    KEEP = "keep"
    """Unknown: the alert stays as it is, and ends after an hour without data."""
    FIRE = "fire"
    """A breach: the alert fires."""


class Rule(Value):
    """When to raise an alert, and with which message.

    An alert fires when `expression comparison threshold` has held for `hold` seconds. It resolves when the value has
    been back across `clear` for `keep_firing_for` seconds. An alert that starts three times within ten minutes is
    flapping: it resolves after five minutes without a breach.

    Args:
        name: A unique name of lower case letters, digits and underscores. With the labels it identifies an alert.
        expression: The value, or one value for each group.
        comparison: `>`, `>=`, `<` or `<=`.
        threshold: The threshold, in the expression's unit.
        message: One line for people. `{value}`, `{threshold}`, `{rule}` and the labels are filled in, with the formats
            of `str.format`, e.g. `{value:.0f}`.
        type: The alert type, or its value.
        severity: The severity; None: that of the type.
        hold: Seconds of breach before the alert fires: Prometheus' `for`.
        keep_firing_for: Seconds that the alert keeps firing after the last breach, as in Prometheus.
        clear: The threshold for resolving, in the expression's unit; None: `threshold`.
        min_samples: A value with fewer measurements than this counts as no data.
        no_data: What no data means.
        scope: `service`: one alert over the metrics of all workers; `instance`: one alert for each worker, with the
            label `instance`.
        label: The name of the label for the group of a grouped expression, e.g. `endpoint`.
        labels: Further labels of every alert.
        inhibits: Alert types that are not notified while this rule fires, and for one window afterwards.
        runbook: An http or https link to the runbook, a template as `message`: labels in it are quoted.
        dry_run: Its alerts are recorded and shown, but not sent.
        yields_to: Names of rules whose firing alerts, with the same labels, explain an alert of this rule: it is not
            notified.
        yields_for: Seconds for which they still do after their end.

    Raises:
        ConfigurationError: A field is invalid; the message begins with its name.
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
    scope: RuleScope = "service"
    label: str = "group"
    labels: Mapping[str, str] = field(default_factory=dict)
    inhibits: frozenset[AlertType] = frozenset()
    runbook: str = ""
    dry_run: bool = False
    yields_to: frozenset[str] = frozenset()
    yields_for: float = 0.0

    def __post_init__(self) -> None:
        """Check every field, and replace the values of enumerations by their members."""
        validation.check_name(self.name)
        for setting, kind in (("type", AlertType), ("no_data", NoData), ("severity", AlertSeverity)):
            if setting != "severity" or self.severity is not None:
                object.__setattr__(self, setting, validation.member(setting, self.name, kind, getattr(self, setting)))
        inhibits = frozenset(validation.member("inhibits", self.name, AlertType, kind) for kind in self.inhibits)
        object.__setattr__(self, "inhibits", inhibits)
        self._check_condition()
        validation.check_label(self.name, self.label)
        taken = {"instance", self.label} if self.expression.group_by else {"instance"}
        validation.check_labels(self.name, self.labels, taken=frozenset(taken))
        validation.check_link("runbook", self.name, self.runbook)
        if self.type in inhibits:
            validation.refuse("inhibits", self.name, "a rule that inhibits its own type would never notify")
        fields = self._message_fields(0.0, self.identity("group", "instance"))
        validation.check_template("message", self.name, self.message, fields)
        validation.check_template("runbook", self.name, self.runbook, fields)

    def _check_condition(self) -> None:
        if not isinstance(self.expression, Expression):
            validation.refuse("expression", self.name, f"{type(self.expression).__name__} is no expression")
        validation.check_choice("comparison", self.name, self.comparison, get_args(Comparison))
        validation.check_choice("scope", self.name, self.scope, get_args(RuleScope))
        validation.check_number("threshold", self.name, self.threshold)
        for setting in ("hold", "keep_firing_for", "min_samples", "yields_for"):
            validation.check_number(setting, self.name, getattr(self, setting), least=0)
        if self.clear is not None:
            validation.check_number("clear", self.name, self.clear)
            if self.clear != self.threshold and self._beyond(self.clear, self.threshold):
                validation.refuse("clear", self.name, f"{self.clear:g} is beyond the threshold {self.threshold:g}")

    @property
    def urgency(self) -> AlertSeverity:
        """The severity of the rule, else that of its type."""
        return self.severity or severity_of(self.type)

    def breached_by(self, value: float, *, firing: bool) -> bool:
        """Whether `value` breaches the rule: beyond `threshold`, or beyond `clear` while the alert fires."""
        return self._beyond(value, self.clear if firing and self.clear is not None else self.threshold)

    def is_worse(self, value: float, than: float) -> bool:
        """Whether `value` is further beyond the threshold than `than`."""
        return value != than and self._beyond(value, than)

    @property
    def waits_for_window(self) -> bool:
        """Whether a breach counts only once the window is full: until then a low count may still rise."""
        return isinstance(self.expression, Count) and self.comparison in ("<", "<=")

    def identity(self, group: str, instance: str) -> dict[str, str]:
        """The labels of one alert of this rule.

        Args:
            group: The group of the reading; ignored without `group_by`.
            instance: The worker's `service.instance.id`; ignored unless `scope` is `instance`.
        """
        own = {self.label: group} if self.expression.group_by else {}
        where = {"instance": instance} if self.scope == "instance" else {}
        return {**self.labels, **where, **own}

    def promql(self, dialect: "Dialect | None" = None) -> str:
        """The condition in PromQL; a Prometheus rule has `hold` and `keep_firing_for` as fields of their own."""
        if dialect is None:
            from otel_monitoring.alerts.rules.promql import Dialect  # few services ask for it

            dialect = Dialect()
        if self.scope == "instance":
            dialect = dialect._replace(by=(*dialect.by, "instance"))
        return f"{self.expression.promql(dialect)} {self.comparison} {self.threshold:.15g}"

    def text(self, value: float, labels: Mapping[str, str]) -> str:
        """The message for one value; a plain one where the template cannot be filled in."""
        with _formatting:
            return template.fill(self.message, self._message_fields(value, labels))
        return f"{self.name}: {value:.4g} (threshold {self.threshold:g})"

    def runbook_for(self, value: float, labels: Mapping[str, str]) -> str:
        """The link to the runbook for one value; the labels in it are quoted, without secrets.

        Empty where it cannot be filled in.
        """
        quoted = {name: quote(redact(text), safe="") for name, text in labels.items()}
        with _formatting:
            return template.fill_link(self.runbook, self._message_fields(value, quoted))
        return ""

    def _message_fields(self, value: float, labels: Mapping[str, str]) -> dict[str, object]:
        return {**labels, "value": value, "threshold": self.threshold, "rule": self.name}

    def _beyond(self, value: float, limit: float) -> bool:
        return _BEYOND[self.comparison](value, limit)
