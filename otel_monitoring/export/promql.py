"""A rule's condition in PromQL, with what stands beside the threshold: enough samples, hysteresis, missing data."""

from dataclasses import replace

from otel_monitoring.alerts.model import AlertType
from otel_monitoring.alerts.rules.expressions import Count, Expression, Gauge, Percent, Quantile
from otel_monitoring.alerts.rules.promql import Dialect
from otel_monitoring.alerts.rules.rule import NoData, Rule
from otel_monitoring.export.options import INSTANCE, number
from otel_monitoring.semconv import prometheus_label

_SEEN_LATELY = "1h"


def alert_name(rule: Rule) -> str:
    """What its alerts are called, as in every channel: the documented type, or the rule's name."""
    return rule.name if rule.type is AlertType.CUSTOM else rule.type.name


def full_name(rule: Rule) -> str:
    """Its name where no other rule may have the same: with the rule's own beside a type that it shares."""
    name = alert_name(rule)
    return name if rule.name in (name, rule.type.value) else f"{name} ({rule.name})"


def dialect_of(rule: Rule, dialect: Dialect) -> Dialect:
    """`dialect`, with instances told apart where the rule is about each of them."""
    return replace(dialect, by=(*dialect.by, INSTANCE)) if rule.scope == "instance" else dialect


def alert_labels(rule: Rule, dialect: Dialect) -> tuple[str, ...]:
    """The labels that tell the rule's alerts apart."""
    group = (prometheus_label(rule.expression.group_by),) if rule.expression.group_by else ()
    return (*dialect_of(rule, dialect).by, *group)


def value(rule: Rule, dialect: Dialect) -> str:
    """Its value where there are enough samples; nothing elsewhere."""
    dialect = dialect_of(rule, dialect)
    return rule.expression.promql(dialect) + _enough(rule, dialect)


def recorded(rule: Rule) -> str:
    """The name under which Prometheus keeps the rule's value, so that it is worked out once."""
    return f"otel_monitoring:{rule.name}"


def firing(rule: Rule, dialect: Dialect) -> str:
    """When it fires. Once it does, it goes on beyond `clear`: Prometheus keeps what fires as the series `ALERTS`."""
    measured = dialect.select(recorded(rule))
    begins = f"{measured} {rule.comparison} {number(rule.threshold)}"
    if rule.clear is None or rule.clear == rule.threshold:
        return begins
    already = f'ALERTS{{alertname="{alert_name(rule)}",alertstate="firing",rule="{rule.name}"}}'
    goes_on = f"{measured} {rule.comparison} {number(rule.clear)}"
    return f"{begins}\nor\n{goes_on} and on ({', '.join(alert_labels(rule, dialect))}) {already}"


def missing(rule: Rule, dialect: Dialect) -> str | None:
    """Which services have no data though they were there lately, for rules that fire then; None for others.

    Groups are not known before they have data: without it, a grouped rule has nothing to fire for.
    """
    if rule.no_data is not NoData.FIRE or rule.expression.group_by:
        return None
    labels = ", ".join(dialect_of(rule, dialect).by)
    lately = f"last_over_time({dialect.select('target_info')}[{_SEEN_LATELY}])"
    return f"group by ({labels}) ({lately}) unless on ({labels}) {dialect.select(recorded(rule))}"


def _enough(rule: Rule, dialect: Dialect) -> str:
    counted = _samples(rule.expression, dialect) if rule.min_samples else None
    return f"\nand {counted} >= {rule.min_samples}" if counted else ""


def _samples(expression: Expression, dialect: Dialect) -> str | None:
    """How many measurements a value rests on; None for an expression of somebody else's."""
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
