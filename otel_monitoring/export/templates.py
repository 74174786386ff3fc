"""A rule's message, labels and annotations in another engine's template language."""

import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.export.options import ENVIRONMENT, JOB, number_text
from otel_monitoring.semconv import HTTP_ROUTE, UNMATCHED_ROUTE, prometheus_label

_FIXED_POINT = re.compile(r"(?:\.\d+)?[eEfFgG]")


@dataclass(frozen=True, slots=True)
class TemplateEngine:
    """How one engine writes the variable parts of a text.

    Attributes:
        value: Writes the alert's value, given a format as of `str.format`.
        label: Writes a label, given its name and the text for an empty one.
        literal: Escapes text that must not be read as a template.
    """

    value: Callable[[str], str]
    label: Callable[[str, str], str]
    literal: Callable[[str], str]


def message_template(rule: Rule, engine: TemplateEngine, labels: Mapping[str, str]) -> str:
    """The message of `rule` as a template, with the threshold, the rule's name and its fixed labels filled in.

    Args:
        rule: The rule.
        engine: The template language.
        labels: The engine's names of the labels that differ between the rule's alerts, by our name.
    """
    return _template(rule, rule.message, engine, labels)


def runbook_template(rule: Rule, engine: TemplateEngine, labels: Mapping[str, str]) -> str:
    """The link to the runbook of `rule`, likewise; the engines do not quote labels in it."""
    return _template(rule, rule.runbook, engine, labels)


def _template(rule: Rule, template: str, engine: TemplateEngine, labels: Mapping[str, str]) -> str:
    known = {**rule.labels, "rule": rule.name}
    parts: list[str] = []
    text = ""
    for before, name, spec, _ in string.Formatter().parse(template):
        text += before
        if name is None:
            continue
        if name == "threshold":
            text += format(rule.threshold, spec or "")
        elif name == "value" or name in labels:
            parts.append(engine.literal(text))
            text = ""
            filled = engine.value(spec or "") if name == "value" else engine.label(labels[name], unnamed(rule, name))
            parts.append(filled)
        else:
            text += format(known.get(name, ""), spec or "")
    return "".join((*parts, engine.literal(text)))


def label_names(rule: Rule) -> dict[str, str]:
    """Prometheus' names of the labels that differ between a rule's alerts, by our name."""
    group = {rule.label: prometheus_label(rule.expression.group_by)} if rule.expression.group_by else {}
    return {**({"instance": "instance"} if rule.scope == "instance" else {}), **group}


def unnamed(rule: Rule, name: str) -> str:
    """The text for a label's empty value: a placeholder for requests without a route, empty for all other labels."""
    return UNMATCHED_ROUTE if name == rule.label and rule.expression.group_by == HTTP_ROUTE else ""


def go_template(value: str, labels: str) -> TemplateEngine:
    """Go's `text/template`, as Prometheus and Grafana use it.

    Args:
        value: The expression for the value, such as `$value`.
        labels: The expression for the labels, such as `$labels`.
    """

    def formatted(spec: str) -> str:
        if spec.endswith("%"):
            return f"{{{{ {value} | humanizePercentage }}}}"
        verb = f"%{spec}" if _FIXED_POINT.fullmatch(spec) else "%v"
        return f'{{{{ {value} | printf "{verb}" }}}}'

    def label(name: str, without: str) -> str:
        return f'{{{{ or {labels}.{name} "{without}" }}}}' if without else f"{{{{ {labels}.{name} }}}}"

    return TemplateEngine(formatted, label, lambda text: text.replace("{{", '{{ "{{" }}'))


def label_templates(rule: Rule, source: str) -> dict[str, str]:
    """The labels of a rule's alerts, by which they are routed; `source` is the expression for the series' labels."""
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


def annotation_templates(rule: Rule, value: str, source: str) -> dict[str, str]:
    """The annotations of a rule's alerts: summary, value, threshold and runbook.

    Args:
        rule: The rule.
        value: The template expression for the value.
        source: The template expression for the series' labels.
    """
    texts = {
        "summary": message_template(rule, go_template(value, source), label_names(rule)),
        "value": f'{{{{ {value} | printf "%.4g" }}}}',
        "threshold": number_text(rule.threshold),
        "runbook_url": runbook_template(rule, go_template(value, source), label_names(rule)),
    }
    return {key: text for key, text in texts.items() if text}
