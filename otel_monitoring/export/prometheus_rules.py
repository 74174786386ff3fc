"""Alert rules for Prometheus, Mimir and Cortex."""

from collections.abc import Iterable
from typing import Any

from otel_monitoring.alerts.rules.promql import prometheus_duration
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.alerts.rules.slo import BurnRate
from otel_monitoring.export import rule_promql
from otel_monitoring.export.options import ExportOptions
from otel_monitoring.export.templates import annotation_templates, label_templates
from otel_monitoring.export.yaml_file import document

_VALUE, _LABELS = "$value", "$labels"
_LONGEST_INTERVAL = 300.0


def prometheus(rules: Iterable[Rule], options: ExportOptions | None = None) -> str:
    """The file for Prometheus' `rule_files`: a group that records each rule's value and alerts on it.

    The rules of objectives that look back over hours are in groups of their own, which are evaluated less often.

    Three things differ from the evaluation inside the service. Prometheus sees the gauge of a worker that is gone for
    another five minutes (its look-back); `no_data=KEEP` resolves after these; `inhibits` is left to the Alertmanager.

    Args:
        rules: The rules; `alerts.rules.defaults.default_rules` makes the default ones.
        options: The service and the form of its histograms.

    Raises:
        ConfigurationError: PyYAML is not installed.
    """
    options = options or ExportOptions()
    return document({"groups": _groups(rules, options)}, f"Histograms: {options.histograms}.")


def prometheus_rule(rules: Iterable[Rule], options: ExportOptions | None = None) -> str:
    """The groups of `prometheus` as a PrometheusRule, for the Prometheus Operator of Kubernetes.

    Args:
        rules: The rules.
        options: The service and the form of its histograms.

    Raises:
        ConfigurationError: PyYAML is not installed.
    """
    options = options or ExportOptions()
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "otel-monitoring", "labels": {"app.kubernetes.io/name": "otel-monitoring"}},
        "spec": {"groups": _groups(rules, options)},
    }
    return document(resource, f"Histograms: {options.histograms}.")


def _groups(rules: Iterable[Rule], options: ExportOptions) -> list[dict[str, Any]]:
    groups: dict[float, list[dict[str, Any]]] = {options.interval: []}
    for rule in rules:
        groups.setdefault(_interval(rule, options), []).extend(_rules(rule, options))
    return [
        {"name": _group(interval, options), "interval": prometheus_duration(interval), "rules": of_group}
        for interval, of_group in sorted(groups.items())
        if of_group or interval == options.interval
    ]


def _interval(rule: Rule, options: ExportOptions) -> float:
    """Seconds between evaluations: a tenth of the short window of an objective's rule, at most five minutes."""
    if not isinstance(rule.expression, BurnRate):
        return options.interval
    return max(options.interval, min(_LONGEST_INTERVAL, rule.expression.tier.short // 10))


def _group(interval: float, options: ExportOptions) -> str:
    every = "" if interval == options.interval else f"_every_{prometheus_duration(interval)}"
    return f"otel_monitoring{every}"


def _rules(rule: Rule, options: ExportOptions) -> list[dict[str, Any]]:
    """The recording rule of a rule's value, the alert on it, and with `no_data=FIRE` the alert on missing data."""
    dialect = options.dialect
    texts = annotation_templates(rule, _VALUE, _LABELS)
    written = [
        {"record": rule_promql.recorded(rule), "expr": rule_promql.value(rule, dialect)},
        _alert(rule, rule_promql.alert_condition(rule, dialect), texts),
    ]
    missing = rule_promql.missing(rule, dialect)
    if missing is not None:
        without_value = {key: text for key, text in texts.items() if key != "value"}
        written.append(_alert(rule, missing, {**without_value, "summary": f"{rule.name}: no data"}))
    return written


def _alert(rule: Rule, expression: str, texts: dict[str, str]) -> dict[str, Any]:
    return {
        "alert": rule_promql.alert_name(rule),
        "expr": expression,
        **({"for": prometheus_duration(rule.hold)} if rule.hold else {}),
        **({"keep_firing_for": prometheus_duration(rule.keep_firing_for)} if rule.keep_firing_for else {}),
        "labels": label_templates(rule, _LABELS),
        "annotations": texts,
    }
