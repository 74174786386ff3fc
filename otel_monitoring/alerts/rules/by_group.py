"""`by_group`: rules like another one for single groups, each with a threshold of its own."""

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from otel_monitoring.alerts.rules.expressions import Expression, Percent
from otel_monitoring.alerts.rules.matchers import Attribute, Both, Excluded, Matcher
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.errors import ConfigurationError

_NAME_LENGTH = 64


def by_group(rule: Rule, thresholds: Mapping[str, float]) -> tuple[Rule, ...]:
    """`rule` without the groups that have a threshold of their own, and a rule for each of those.

    `clear` keeps its relation to the threshold. A further rule has the name of `rule` and that of the group.

    Args:
        rule: A rule with a grouped expression.
        thresholds: The threshold of each group, in the expression's unit.

    Raises:
        ConfigurationError: The expression is not grouped, or cannot be limited to groups; or a threshold is invalid.
    """
    if not thresholds:
        return (rule,)
    groups = tuple(thresholds)
    others = replace(rule, expression=_limited(rule, Excluded(rule.expression.group_by, groups)))
    return (others, *_of_groups(rule, thresholds))


def of_groups(rule: Rule, thresholds: Mapping[str, float]) -> tuple[Rule, ...]:
    """The rules of `by_group` for the groups alone."""
    return tuple(_of_groups(rule, thresholds))


def _of_groups(rule: Rule, thresholds: Mapping[str, float]) -> Iterator[Rule]:
    names: set[str] = {rule.name}
    for group, threshold in thresholds.items():
        name = _name(rule.name, group, names)
        names.add(name)
        clear = rule.clear * threshold / rule.threshold if rule.clear is not None and rule.threshold else None
        limited = _limited(rule, Attribute(rule.expression.group_by, (group,)))
        yield replace(rule, name=name, expression=limited, threshold=threshold, clear=clear)


def _limited(rule: Rule, where: Matcher) -> Expression:
    expression: Any = rule.expression
    if not expression.group_by:
        raise ConfigurationError(f"thresholds: {rule.name}: its expression has no groups")
    if isinstance(expression, Percent):
        return Percent(_with(expression.part, where), _with(expression.whole, where))
    if not hasattr(expression, "where"):
        raise ConfigurationError(f"thresholds: {rule.name}: {type(expression).__name__} cannot be limited to groups")
    limited: Expression = _with(expression, where)
    return limited


def _with(expression: Any, where: Matcher) -> Any:
    return replace(expression, where=where if expression.where is None else Both(expression.where, where))


def _name(rule: str, group: str, taken: Collection[str]) -> str:
    """The name of the rule for a group: `api_timeout_api_orders_id` for the route `/api/orders/{id}`."""
    plain = re.sub(r"[^a-z0-9]+", "_", group.lower()).strip("_")
    name = f"{rule}_{plain}"[:_NAME_LENGTH].rstrip("_")
    if name not in taken:
        return name
    digest = hashlib.sha256(group.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{name[: _NAME_LENGTH - 9]}_{digest}"
