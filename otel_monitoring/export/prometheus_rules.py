"""Alert rules for Prometheus, Mimir and Cortex."""

from collections.abc import Iterable
from typing import Any

from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.export import promql
from otel_monitoring.export.options import ExportOptions, duration
from otel_monitoring.export.templates import annotations, labels
from otel_monitoring.export.yaml_file import document

_VALUE, _LABELS = "$value", "$labels"


def prometheus(rules: Iterable[Rule], options: ExportOptions | None = None) -> str:
    """The file for Prometheus' `rule_files`: one group that records each rule's value, and an alert on it.

    What differs from the evaluation in the process: a gauge of a worker that is gone is seen for another five minutes
    (Prometheus' look-back); `no_data=KEEP` resolves after these; `inhibits` is the Alertmanager's to do.

    Args:
        rules: The rules; `alerts.rules.default_rules` for the default ones.
        options: For which service, with which histograms.

    Raises:
        ConfigurationError: PyYAML is not installed.
    """
    options = options or ExportOptions()
    lines = [line for rule in rules for line in _lines(rule, options)]
    group = {"name": "otel_monitoring", "interval": duration(options.interval), "rules": lines}
    return document({"groups": [group]}, f"Histograms: {options.histograms}.")


def _lines(rule: Rule, options: ExportOptions) -> list[dict[str, Any]]:
    dialect = options.dialect
    said = annotations(rule, _VALUE, _LABELS)
    found = [
        {"record": promql.recorded(rule), "expr": promql.value(rule, dialect)},
        _alert(rule, promql.firing(rule, dialect), said),
    ]
    missing = promql.missing(rule, dialect)
    if missing is not None:
        without_value = {key: text for key, text in said.items() if key != "value"}
        found.append(_alert(rule, missing, {**without_value, "summary": f"{rule.name}: no data"}))
    return found


def _alert(rule: Rule, expression: str, said: dict[str, str]) -> dict[str, Any]:
    return {
        "alert": promql.alert_name(rule),
        "expr": expression,
        **({"for": duration(rule.hold)} if rule.hold else {}),
        **({"keep_firing_for": duration(rule.keep_firing_for)} if rule.keep_firing_for else {}),
        "labels": labels(rule, _LABELS),
        "annotations": said,
    }
