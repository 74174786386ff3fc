"""`Alert`: what evidence is collected for."""

from collections.abc import Mapping
from typing import NamedTuple

from otel_monitoring.alerts.rules.rule import Rule


class Alert(NamedTuple):
    """An alert that begins to fire, or is notified again.

    Attributes:
        rule: Its rule.
        labels: Its labels.
        since: Since when its rule is breached, in Unix seconds.
        value: The present value, in the rule's unit; None: no data.
    """

    rule: Rule
    labels: Mapping[str, str]
    since: float
    value: float | None

    @property
    def group(self) -> str:
        """The group of the rule's expression that it is about; empty: the expression has none."""
        return self.labels.get(self.rule.label, "") if self.rule.expression.group_by else ""
