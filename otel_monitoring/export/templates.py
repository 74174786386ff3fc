"""A rule's message, labels and annotations in another engine's template language."""

import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.export.options import ENVIRONMENT, JOB, number
from otel_monitoring.semconv import HTTP_ROUTE, UNMATCHED_ROUTE, prometheus_label

_FIXED_POINT = re.compile(r"(?:\.\d+)?[eEfFgG]")


@dataclass(frozen=True, slots=True)
class Engine:
    """How one engine writes what is filled in.

    Attributes:
        value: The alert's value, with a format as of `str.format`.
        label: The label of this name, or a text where it is empty.
        literal: Text that must not be taken for a template.
    """

    value: Callable[[str], str]
    label: Callable[[str, str], str]
    literal: Callable[[str], str]


def message(rule: Rule, engine: Engine, labels: Mapping[str, str]) -> str:
    """The message of `rule`; what is known beforehand is filled in.

    Args:
        rule: Whose.
        engine: In whose language.
        labels: What the engine calls the labels that each alert has a value of its own for, by our name.
    """
    known = {**rule.labels, "rule": rule.name}
    parts: list[str] = []
    text = ""
    for before, name, spec, _ in string.Formatter().parse(rule.message):
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
    """What Prometheus calls the labels that tell a rule's alerts apart, by our name."""
    group = {rule.label: prometheus_label(rule.expression.group_by)} if rule.expression.group_by else {}
    return {**({"instance": "instance"} if rule.scope == "instance" else {}), **group}


def unnamed(rule: Rule, name: str) -> str:
    """What stands for the group that has no name; empty as everywhere, but for routes."""
    return UNMATCHED_ROUTE if name == rule.label and rule.expression.group_by == HTTP_ROUTE else ""


def go_template(value: str, labels: str) -> Engine:
    """Go's `text/template`, as Prometheus and Grafana have it.

    Args:
        value: The expression that is the value, e.g. `$value`.
        labels: The expression that holds the labels, e.g. `$labels`.
    """

    def formatted(spec: str) -> str:
        if spec.endswith("%"):
            return f"{{{{ {value} | humanizePercentage }}}}"
        verb = f"%{spec}" if _FIXED_POINT.fullmatch(spec) else "%v"
        return f'{{{{ {value} | printf "{verb}" }}}}'

    def label(name: str, without: str) -> str:
        return f'{{{{ or {labels}.{name} "{without}" }}}}' if without else f"{{{{ {labels}.{name} }}}}"

    return Engine(formatted, label, lambda text: text.replace("{{", '{{ "{{" }}'))


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
