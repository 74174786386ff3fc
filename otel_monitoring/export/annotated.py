"""Labels and annotations of exported alerts, by the names they have where we notify ourselves."""

from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.export.options import ENVIRONMENT, JOB, number
from otel_monitoring.export.templates import go_template, label_names, message, unnamed


def labels(rule: Rule, source: str) -> dict[str, str]:
    """What alerts are routed by; `source` is the template expression that holds the labels of the series."""
    engine = go_template("", source)
    renamed = {ours: name for ours, name in label_names(rule).items() if ours != name}
    return {
        **{key: engine.literal(text) for key, text in rule.labels.items()},
        **{ours: engine.label(name, unnamed(rule, ours)) for ours, name in renamed.items()},
        "alert_type": rule.type.value,
        "severity": rule.urgency.value,
        "rule": rule.name,
        "service": f'{{{{ reReplaceAll ".*/" "" {source}.{JOB} }}}}',
        "environment": f"{{{{ {source}.{ENVIRONMENT} }}}}",
    }


def annotations(rule: Rule, value: str, source: str) -> dict[str, str]:
    """What alerts say.

    Args:
        rule: Whose.
        value: The template expression that is the value.
        source: The template expression that holds the labels.
    """
    said = {
        "summary": message(rule, go_template(value, source), label_names(rule)),
        "value": f'{{{{ {value} | printf "%.4g" }}}}',
        "threshold": number(rule.threshold),
        "runbook_url": rule.runbook,
    }
    return {key: text for key, text in said.items() if text}
