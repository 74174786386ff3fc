"""A whole rule in PromQL: its value with `min_samples`, its condition with `clear`, and its condition on missing data.

`alerts/rules/promql.py` has the `Dialect` in which expressions are written.
"""

from otel_monitoring.alerts.model import AlertType
from otel_monitoring.alerts.rules.expressions import Count, Expression, Gauge, Percent, Quantile
from otel_monitoring.alerts.rules.promql import Dialect
from otel_monitoring.alerts.rules.rule import NoData, Rule
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.export.options import INSTANCE, number_text
from otel_monitoring.semconv import prometheus_label

_LOOK_BACK = "1h"
"""How long a service that has no data any more counts as missing."""


def alert_name(rule: Rule) -> str:
    """The name of a rule's alerts, as in every channel: the documented type, or the rule's name for a custom one."""
    return rule.name if rule.type is AlertType.CUSTOM else rule.type.name


def full_name(rule: Rule) -> str:
    """A name that no other rule has: the alert's name, and in brackets the rule's own where that differs."""
    name = alert_name(rule)
    return name if rule.name in (name, rule.type.value) else f"{name} ({rule.name})"


def dialect_of(rule: Rule, dialect: Dialect) -> Dialect:
    """`dialect`, grouped by instance too where the rule is about each instance."""
    return dialect._replace(by=(*dialect.by, INSTANCE)) if rule.scope == "instance" else dialect


def alert_labels(rule: Rule, dialect: Dialect) -> tuple[str, ...]:
    """The labels that distinguish the rule's alerts from each other."""
    group = (prometheus_label(rule.expression.group_by),) if rule.expression.group_by else ()
    return (*dialect_of(rule, dialect).by, *group)


def value(rule: Rule, dialect: Dialect) -> str:
    """The rule's value, and no data where there are fewer than `min_samples`.

    Raises:
        ConfigurationError: It cannot be written for these histograms.
    """
    dialect = dialect_of(rule, dialect)
    try:
        return rule.expression.promql(dialect) + _enough(rule, dialect)
    except ConfigurationError as error:
        field, _, why = str(error).partition(": ")
        raise ConfigurationError(f"{field}: {rule.name}: {why}") from None


def recorded(rule: Rule) -> str:
    """The name of the recording rule for the rule's value, which Prometheus then computes once for all uses."""
    return f"otel_monitoring:{rule.name}"


def alert_condition(rule: Rule, dialect: Dialect) -> str:
    """The rule's condition. With `clear`, alerts that fire (Prometheus' series `ALERTS`) continue until `clear`."""
    measured = dialect.select(recorded(rule))
    begins = f"{measured} {rule.comparison} {number_text(rule.threshold)}"
    if rule.clear is None or rule.clear == rule.threshold:
        return begins
    already = f'ALERTS{{alertname="{alert_name(rule)}",alertstate="firing",rule="{rule.name}"}}'
    goes_on = f"{measured} {rule.comparison} {number_text(rule.clear)}"
    return f"{begins}\nor\n{goes_on} and on ({', '.join(alert_labels(rule, dialect))}) {already}"


def missing(rule: Rule, dialect: Dialect) -> str | None:
    """The services that had data in the last hour and have none now; None for rules that do not fire on missing data.

    Grouped rules are among these: a group without data is unknown.
    """
    if rule.no_data is not NoData.FIRE or rule.expression.group_by:
        return None
    labels = ", ".join(dialect_of(rule, dialect).by)
    recently = f"last_over_time({dialect.select('target_info')}[{_LOOK_BACK}])"
    return f"group by ({labels}) ({recently}) unless on ({labels}) {dialect.select(recorded(rule))}"


def samples(rule: Rule, dialect: Dialect) -> str | None:
    """The number of measurements behind the rule's value; None for an expression of another kind."""
    return _samples(rule.expression, dialect_of(rule, dialect))


def _enough(rule: Rule, dialect: Dialect) -> str:
    counted = _samples(rule.expression, dialect) if rule.min_samples else None
    return f"\nand {counted} >= {rule.min_samples}" if counted else ""


def _samples(expression: Expression, dialect: Dialect) -> str | None:
    """The number of measurements behind a value; None for an expression of another kind."""
    match expression:
        case Count():
            return expression.promql(dialect)
        case Percent():
            return expression.whole.promql(dialect)
        case Quantile(metric=metric, unit=unit, where=where, group_by=group_by):
            return Count(metric, unit, "histogram", where, group_by).promql(dialect)
        case Gauge():
            return expression.aggregated("count", dialect)
    return None
