"""Alert rules for Grafana's own alerting, as a file it provisions.

Fields: https://grafana.com/docs/grafana/latest/alerting/set-up/provision-alerting-resources/file-provisioning/.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

from otel_monitoring.alerts.rules.rule import NoData, Rule
from otel_monitoring.export import promql
from otel_monitoring.export.grafana_provisioning import PROMETHEUS_UID
from otel_monitoring.export.options import ExportOptions, duration, number
from otel_monitoring.export.templates import annotations, labels
from otel_monitoring.export.yaml_file import document

FOLDER = "otel_monitoring"
_UID_LENGTH = 40
_EVALUATORS = {">": ("gt", "lte"), ">=": ("gte", "lt"), "<": ("lt", "gte"), "<=": ("lte", "gt")}
"""How Grafana calls a comparison, and its opposite."""
_NO_DATA = {NoData.RESOLVE: "OK", NoData.KEEP: "KeepLast", NoData.FIRE: "Alerting"}

# `.Labels` and `.Values` rather than `$labels` and `$values`: Grafana takes `$name` in the labels of provisioned rules
# for a variable of its environment.
_VALUE, _LABELS = ".Values.A.Value", ".Labels"


def grafana_alerts(rules: Iterable[Rule], options: ExportOptions | None = None) -> str:
    """The file for `provisioning/alerting/`: one group with an alert rule for each rule. Grafana 12 or newer.

    `hold`, `keep_firing_for`, `clear`, `min_samples` and `no_data` become Grafana's pending period, keep firing for,
    custom recovery threshold, missing data, and state for no data. `inhibits` has no counterpart.

    Args:
        rules: The rules.
        options: For which service, with which histograms.

    Raises:
        ConfigurationError: PyYAML is not installed.
    """
    options = options or ExportOptions()
    group = {
        "orgId": 1,
        "name": "otel_monitoring",
        "folder": FOLDER,
        "interval": duration(options.interval),
        "rules": [_rule(rule, options) for rule in rules],
    }
    return document({"apiVersion": 1, "groups": [group]}, f"Histograms: {options.histograms}.")


def _rule(rule: Rule, options: ExportOptions) -> dict[str, Any]:
    return {
        "uid": _uid(rule, options.service),
        "title": promql.full_name(rule),
        "condition": "B",
        "data": [_query(rule, options), _threshold(rule)],
        "noDataState": _NO_DATA[rule.no_data],
        "execErrState": "Error",
        "for": duration(rule.hold),
        **({"keepFiringFor": duration(rule.keep_firing_for)} if rule.keep_firing_for else {}),
        "labels": labels(rule, _LABELS),
        "annotations": annotations(rule, _VALUE, _LABELS),
        "isPaused": False,
    }


def _uid(rule: Rule, service: str) -> str:
    """The same with every export, another for every service; Grafana takes forty characters."""
    name = f"{service}-{rule.name}".lstrip("-").replace("/", "-")
    if len(name) <= _UID_LENGTH and name.replace("-", "").replace("_", "").isalnum() and name.isascii():
        return name
    return hashlib.sha256(name.encode()).hexdigest()[:_UID_LENGTH]


def _query(rule: Rule, options: ExportOptions) -> dict[str, Any]:
    return {
        "refId": "A",
        "relativeTimeRange": {"from": int(options.window), "to": 0},
        "datasourceUid": PROMETHEUS_UID,
        "model": {
            "refId": "A",
            "datasource": {"type": "prometheus", "uid": PROMETHEUS_UID},
            "editorMode": "code",
            "expr": promql.value(rule, options.dialect),
            "instant": True,
            "range": False,
        },
    }


def _threshold(rule: Rule) -> dict[str, Any]:
    begins, ends = _EVALUATORS[rule.comparison]
    condition: dict[str, Any] = {"evaluator": {"type": begins, "params": [float(number(rule.threshold))]}}
    if rule.clear is not None and rule.clear != rule.threshold:
        condition["unloadEvaluator"] = {"type": ends, "params": [float(number(rule.clear))]}
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
