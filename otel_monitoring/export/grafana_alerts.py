"""Alert rules for Grafana's own alerting, as a provisioning file.

Fields: https://grafana.com/docs/grafana/latest/alerting/set-up/provision-alerting-resources/file-provisioning/.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

from otel_monitoring.alerts.rules.promql import prometheus_duration
from otel_monitoring.alerts.rules.rule import NoData, Rule
from otel_monitoring.alerts.rules.slo import BurnRate
from otel_monitoring.export import rule_promql
from otel_monitoring.export.grafana_provisioning import PROMETHEUS_UID
from otel_monitoring.export.options import ExportOptions, number_text
from otel_monitoring.export.templates import annotation_templates, label_templates
from otel_monitoring.export.yaml_file import document

FOLDER = "otel_monitoring"
_UID_LENGTH = 40
_EVALUATORS = {">": ("gt", "lte"), ">=": ("gte", "lt"), "<": ("lt", "gte"), "<=": ("lte", "gt")}
"""Grafana's names of a comparison and of its opposite."""
_NO_DATA = {NoData.RESOLVE: "OK", NoData.KEEP: "KeepLast", NoData.FIRE: "Alerting"}

# `.Labels` and `.Values`, because Grafana replaces `$name` in the labels of provisioned rules by the environment
# variable of that name.
_VALUE, _LABELS = ".Values.A.Value", ".Labels"


def grafana_alerts(rules: Iterable[Rule], options: ExportOptions | None = None) -> str:
    """The file for `provisioning/alerting/` of Grafana 12 or newer: one group with an alert rule for each rule.

    `hold` becomes Grafana's pending period, `clear` its custom recovery threshold, `no_data` its state for no data;
    `keep_firing_for` has the same name there. Below `min_samples` there is no data. `inhibits` has no counterpart.

    Args:
        rules: The rules.
        options: The service and the form of its histograms.

    Raises:
        ConfigurationError: PyYAML is not installed.
    """
    options = options or ExportOptions()
    group = {
        "orgId": 1,
        "name": "otel_monitoring",
        "folder": FOLDER,
        "interval": prometheus_duration(options.interval),
        "rules": [_rule(rule, options) for rule in rules],
    }
    return document({"apiVersion": 1, "groups": [group]}, f"Histograms: {options.histograms}.")


def _rule(rule: Rule, options: ExportOptions) -> dict[str, Any]:
    return {
        "uid": _uid(rule, options.service),
        "title": rule_promql.full_name(rule),
        "condition": "B",
        "data": [_query(rule, options), _threshold(rule)],
        "noDataState": _NO_DATA[rule.no_data],
        "execErrState": "Error",
        "for": prometheus_duration(rule.hold),
        **({"keepFiringFor": prometheus_duration(rule.keep_firing_for)} if rule.keep_firing_for else {}),
        "labels": label_templates(rule, _LABELS),
        "annotations": annotation_templates(rule, _VALUE, _LABELS),
        "isPaused": False,
    }


def _uid(rule: Rule, service: str) -> str:
    """An identifier of at most forty characters that every export repeats, and that differs between services."""
    name = f"{service}-{rule.name}".lstrip("-").replace("/", "-")
    if len(name) <= _UID_LENGTH and name.replace("-", "").replace("_", "").isalnum() and name.isascii():
        return name
    return hashlib.sha256(name.encode()).hexdigest()[:_UID_LENGTH]


def _query(rule: Rule, options: ExportOptions) -> dict[str, Any]:
    return {
        "refId": "A",
        "relativeTimeRange": {"from": _look_back(rule, options), "to": 0},
        "datasourceUid": PROMETHEUS_UID,
        "model": {
            "refId": "A",
            "datasource": {"type": "prometheus", "uid": PROMETHEUS_UID},
            "editorMode": "code",
            "expr": rule_promql.value(rule, options.dialect),
            "instant": True,
            "range": False,
        },
    }


def _look_back(rule: Rule, options: ExportOptions) -> int:
    """Seconds that the rule looks back."""
    return rule.expression.tier.long if isinstance(rule.expression, BurnRate) else int(options.window)


def _threshold(rule: Rule) -> dict[str, Any]:
    begins, ends = _EVALUATORS[rule.comparison]
    condition: dict[str, Any] = {"evaluator": {"type": begins, "params": [float(number_text(rule.threshold))]}}
    if rule.clear is not None and rule.clear != rule.threshold:
        condition["unloadEvaluator"] = {"type": ends, "params": [float(number_text(rule.clear))]}
    return {
        "refId": "B",
        "datasourceUid": "__expr__",
        "model": {
            "refId": "B",
            "datasource": {"type": "__expr__", "uid": "__expr__"},
            "type": "threshold",
            "expression": "A",
            "conditions": [condition],
        },
    }
