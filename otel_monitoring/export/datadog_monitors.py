"""Monitors for Datadog, as JSON for `POST /api/v1/monitor` (and Terraform's `datadog_monitor_json`).

Queries: https://docs.datadoghq.com/monitors/types/metric/, https://docs.datadoghq.com/metrics/distributions/.
"""

import math
import re
from collections.abc import Iterable
from typing import Any

from otel_monitoring.alerts.model import AlertSeverity
from otel_monitoring.alerts.rules.expressions import Count, Expression, Gauge, Percent, Quantile
from otel_monitoring.alerts.rules.matchers import Attribute, Both, Excluded, Failed, Matcher, attribute_text
from otel_monitoring.alerts.rules.promql import prometheus_duration
from otel_monitoring.alerts.rules.rule import NoData, Rule
from otel_monitoring.alerts.rules.slo import BurnRate
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.export.options import ExportOptions, number_text
from otel_monitoring.export.rule_promql import alert_name
from otel_monitoring.export.templates import TemplateEngine, message_template, runbook_template
from otel_monitoring.metrics.outcome import DISCONNECTED
from otel_monitoring.metrics.snapshot import AttributeValue

_PRIORITY = {AlertSeverity.CRITICAL: 1, AlertSeverity.ERROR: 2, AlertSeverity.WARNING: 3, AlertSeverity.INFO: 4}
_MINUTE, _HOUR, _DAY = 60.0, 3600, 86_400
_TIMEFRAME_DAYS = (7, 30)
_LONGEST_HOURS = 48


def datadog(rules: Iterable[Rule], options: ExportOptions | None = None) -> list[dict[str, Any]]:
    """One monitor for each rule, in the form of Datadog's API.

    Metrics have the names under which Datadog stores OTLP metrics; see `stored_name`. Percentiles must be switched on
    in Datadog for the metrics of quantiles (Metrics Summary, "percentiles"). `hold` becomes the evaluation window of a
    gauge, in whole minutes. Datadog has no `keep_firing_for`, `min_samples` and `inhibits`; the message of a monitor
    says where its rule has one of the first two.

    The monitor of an objective's rule needs the id that Datadog gives to its SLO (`datadog_slos`): it has the text
    `SLO_ID` in its place. The burn rate is that of the rule, over the nearest long window that Datadog has, from 1 to
    48 whole hours, and a twelfth of it as the short one.

    Args:
        rules: The rules, with expressions of `otel_monitoring.alerts`.
        options: The service to query; every service when not given.

    Raises:
        ConfigurationError: A rule has an expression or matcher of another kind, which has no query for Datadog.
    """
    options = options or ExportOptions()
    return [
        _burn_monitor(rule, rule.expression) if isinstance(rule.expression, BurnRate) else _monitor(rule, options)
        for rule in rules
    ]


def _burn_monitor(rule: Rule, expression: BurnRate) -> dict[str, Any]:
    hours = min(_LONGEST_HOURS, max(1, round(expression.tier.long / _HOUR)))
    rate = float(number_text(rule.threshold))
    over = slo_timeframe(expression.objective.window)
    windows = f'.over("{over}").long_window("{hours}h").short_window("{5 * hours}m")'
    return {
        "name": f"{rule.name} {{{{service.name}}}}",
        "type": "slo alert",
        "query": f'burn_rate("SLO_ID"){windows} > {number_text(rate)}',
        "message": _message(rule),
        "tags": _tags(rule),
        "priority": _PRIORITY[rule.urgency],
        "options": {"thresholds": {"critical": rate}, "include_tags": True},
    }


def slo_timeframe(window: int) -> str:
    """The timeframe of the SLO for an objective's window, in seconds: Datadog's next longer one.

    A burn rate means the same with each.
    """
    return next(f"{days}d" for days in _TIMEFRAME_DAYS if window <= days * _DAY)


def _monitor(rule: Rule, options: ExportOptions) -> dict[str, Any]:
    threshold = float(number_text(rule.threshold))
    query = f"{_query(rule, options)} {rule.comparison} {number_text(rule.threshold)}"
    thresholds = {"critical": threshold}
    if rule.clear is not None and rule.clear != rule.threshold:
        thresholds["critical_recovery"] = float(number_text(rule.clear))
    return {
        "name": f"{alert_name(rule)} {{{{service.name}}}}",
        "type": "query alert",
        "query": query,
        "message": _message(rule),
        "tags": _tags(rule),
        "priority": _PRIORITY[rule.urgency],
        "options": {
            "thresholds": thresholds,
            **_missing(rule, options),
            "include_tags": True,
            "require_full_window": False,
            "new_group_delay": 0,
        },
    }


def _tags(rule: Rule) -> list[str]:
    return [
        "managed_by:otel_monitoring",
        f"alert_type:{rule.type.value}",
        f"rule:{rule.name}",
        f"severity:{rule.urgency.value}",
        *(f"{key}:{value}" for key, value in rule.labels.items()),
    ]


def _missing(rule: Rule, options: ExportOptions) -> dict[str, Any]:
    """The options about missing data. Datadog resolves after whole hours, and needs two windows to notice it."""
    if rule.no_data is NoData.FIRE:
        return {"notify_no_data": True, "no_data_timeframe": max(2, 2 * math.ceil(options.window / _MINUTE))}
    return {"notify_no_data": False, **({"timeout_h": 1} if rule.no_data is NoData.RESOLVE else {})}


def _query(rule: Rule, options: ExportOptions) -> str:
    by = ["service", "env"]
    if rule.scope == "instance":
        by.append("service.instance.id")
    if rule.expression.group_by:
        by.append(rule.expression.group_by)
    return _Query(rule, options, f"by {{{','.join(by)}}}").text(rule.expression)


class _Query:
    """Writes the query of one rule."""

    def __init__(self, rule: Rule, options: ExportOptions, by: str) -> None:
        self._rule = rule
        self._service = service_filter(options)
        self._window = f"last_{max(1, math.ceil(options.window / _MINUTE))}m"
        self._by = by

    def text(self, expression: Expression) -> str:
        """The query of `expression`, without the comparison."""
        match expression:
            case Gauge():
                series = self._series(expression.over, expression.metric, expression.where)
                return f"{self._time()}:{_times(series, expression.scale)}"
            case Quantile():
                series = self._series(f"p{100 * expression.q:g}", expression.metric, expression.where)
                return f"percentile({self._window}):{_times(series, expression.scale)}"
            case Count():
                return f"sum({self._window}):{self._count(expression)}"
            case Percent():
                part, whole = self._count(expression.part), self._count(expression.whole)
                return f"sum({self._window}):100 * default_zero({part}) / {whole}"
        raise ConfigurationError(f"expression: {self._rule.name}: {type(expression).__name__} has no query for Datadog")

    def _time(self) -> str:
        """The aggregation over time: with `hold` the whole time counts, without it the worst moment."""
        rising, held = self._rule.comparison in (">", ">="), self._rule.hold > 0
        minutes = max(1, math.ceil(self._rule.hold / _MINUTE))
        return f"{'min' if rising == held else 'max'}(last_{minutes}m)"

    def _count(self, count: Count) -> str:
        aggregate = "count" if count.kind == "histogram" else "sum"
        return f"{self._series(aggregate, count.metric, count.where)}.as_count()"

    def _series(self, aggregate: str, metric: str, where: Matcher | None) -> str:
        return f"{aggregate}:{stored_name(metric)}{{{self._filter(where)}}} {self._by}"

    def _filter(self, where: Matcher | None) -> str:
        conditions = [part for part in (self._service, _matcher(self._rule, where)) if part]
        return " AND ".join(conditions) or "*"


def service_filter(options: ExportOptions) -> str:
    """The filter that selects the service; empty: every service."""
    return f"service:{options.service.rpartition('/')[2]}" if options.service else ""


def stored_name(metric: str) -> str:
    """Datadog's name of an OTLP metric: `otel.` before `system.` and `process.`, which are names of its own metrics.

    https://docs.datadoghq.com/opentelemetry/mapping/metrics_mapping/
    """
    return f"otel.{metric}" if metric.startswith(("system.", "process.")) else metric


def _matcher(rule: Rule, where: Matcher | None) -> str:
    match where:
        case None:
            return ""
        case Attribute(key=key, values=values):
            return f"{key} IN ({','.join(map(_tag_value, values))})"
        case Excluded(key=key, values=values):
            return f"{key} NOT IN ({','.join(map(_tag_value, values))})"
        case Both(first=first, second=second):
            return " AND ".join(filter(None, (_matcher(rule, first), _matcher(rule, second))))
        case Failed(outcome_of=outcome) if outcome.statuses is not None:
            return f"http.response.status_code IN ({','.join(str(status) for status in sorted(outcome.statuses))})"
        case Failed():
            return f"error.type:* AND NOT error.type:{DISCONNECTED.lower()}"
    raise ConfigurationError(f"where: {rule.name}: {type(where).__name__} has no filter for Datadog")


def _tag_value(value: AttributeValue) -> str:
    """The value as Datadog stores it: in lower case, and `_` for what a tag cannot have, as the braces of a route.

    https://docs.datadoghq.com/getting_started/tagging/#define-tags
    """
    return re.sub(r"[^\w\-:./]+", "_", attribute_text(value).lower()).rstrip("_")


def _times(series: str, scale: float) -> str:
    return series if scale == 1 else f"{number_text(scale)} * {series}"


def _message(rule: Rule) -> str:
    engine = TemplateEngine(
        value=lambda spec: "{{value}}",
        label=lambda name, without: f"{{{{[{name}].name}}}}",
        literal=lambda text: text,
    )
    names = {"instance": "service.instance.id"} if rule.scope == "instance" else {}
    if rule.expression.group_by:
        names[rule.label] = rule.expression.group_by
    missing = []
    if rule.min_samples:
        missing.append(f"min_samples {rule.min_samples}")
    if rule.keep_firing_for:
        missing.append(f"keep_firing_for {prometheus_duration(rule.keep_firing_for)}")
    remark = f"Not part of this monitor: {', '.join(missing)}." if missing else ""
    parts = (message_template(rule, engine, names), runbook_template(rule, engine, names), remark)
    return "\n".join(part for part in parts if part)
