"""What Prometheus has made of the exported rules: which alerts are pending and fire, and the value of each rule."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx

from otel_monitoring.alerts.evaluation.evaluate import Evaluation
from otel_monitoring.alerts.evaluation.incident import Incident, message_of
from otel_monitoring.alerts.evaluation.lifecycle import AlertState, Phase
from otel_monitoring.alerts.evaluation.notification_policy import is_muted
from otel_monitoring.alerts.model import Outcome
from otel_monitoring.alerts.mute import Mute
from otel_monitoring.alerts.overview import results
from otel_monitoring.alerts.rules.expressions import Reading
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.export import rule_promql
from otel_monitoring.export.options import INSTANCE
from otel_monitoring.prometheus.client import Connection, no_samples
from otel_monitoring.prometheus.decoding import number_of
from otel_monitoring.prometheus.questions import Questions
from otel_monitoring.redact import redact_error
from otel_monitoring.semconv import HTTP_ROUTE, UNMATCHED_ROUTE, prometheus_label

_PHASES = {"pending": Phase.PENDING, "firing": Phase.FIRING}


@dataclass(frozen=True, slots=True)
class _Alert:
    """One alert of Prometheus.

    Attributes:
        labels: Its labels.
        phase: Whether it is pending or fires.
        since: Since when, in Unix seconds.
    """

    labels: Mapping[str, str]
    phase: Phase
    since: float


@dataclass(frozen=True, slots=True)
class LatestEvaluations:
    """What Prometheus evaluated last.

    Attributes:
        alerts: The alerts that are pending or fire.
        recorded: By the name of a recording rule, its values with their labels.
    """

    alerts: Sequence[_Alert]
    recorded: Mapping[str, Sequence[tuple[Mapping[str, str], float]]]

    def incidents(self, rules: Mapping[str, Rule], mutes: Sequence[Mute]) -> list[Incident]:
        """Those of `rules`, in the form of this package's own."""
        found: dict[str, Incident] = {}
        for alert in self.alerts:
            rule = rules.get(alert.labels.get("rule", ""))
            if rule is not None:
                incident = self._incident(rule, alert, mutes)
                before = found.get(incident.key)  # Prometheus also tells environments apart
                if before is None or (incident.firing and not before.firing):
                    found[incident.key] = incident
        return list(found.values())

    def _incident(self, rule: Rule, alert: _Alert, mutes: Sequence[Mute]) -> Incident:
        labels = rule.identity(group_of(rule, alert.labels), alert.labels.get(INSTANCE, ""))
        recorded = self.recorded.get(rule_promql.recorded(rule), ())
        value = next((value for theirs, value in recorded if theirs.items() <= alert.labels.items()), None)
        incident = Incident(
            rule.name,
            labels,
            AlertState(alert.phase, since=alert.since, value=value),
            message=message_of(rule, value, labels),
            value=value,
            type=rule.type,
            severity=rule.urgency,
        )
        return replace(incident, outcome=Outcome.MUTED) if is_muted(mutes, incident) else incident


def latest_of(samples: Iterable[Mapping[str, Any]]) -> LatestEvaluations:
    """The answer to `Questions.latest`."""
    phases: list[tuple[dict[str, str], Phase]] = []
    since: dict[frozenset[tuple[str, str]], float] = {}
    recorded: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for sample in samples:
        labels, value = dict(sample["metric"]), number_of(sample)
        name = labels.pop("__name__", "")
        if value is None:
            continue
        if name == "ALERTS":
            phase = _PHASES.get(labels.pop("alertstate", ""))
            if phase is not None:
                phases.append((labels, phase))
        elif name == "ALERTS_FOR_STATE":
            since[frozenset(labels.items())] = value
        else:
            recorded.setdefault(name, []).append((labels, value))
    alerts = [_Alert(labels, phase, since.get(frozenset(labels.items()), 0.0)) for labels, phase in phases]
    return LatestEvaluations(alerts, recorded)


async def results_of(
    connection: Connection, questions: Questions, rules: Sequence[Rule]
) -> Mapping[str, Mapping[str, Any]]:
    """The present values of `rules`, by the PromQL of each, as the rules' own evaluation shows them.

    Raises:
        PrometheusError: There is no usable answer.
    """
    evaluation = Evaluation()

    async def evaluate(rule: Rule) -> None:
        try:
            evaluation.readings[rule.name] = await _readings(connection, questions, rule)
        except httpx.HTTPError:
            raise
        except Exception as error:  # noqa: BLE001 - an expression of the application, or PromQL that is refused
            evaluation.errors[rule.name] = redact_error(error)

    await asyncio.gather(*map(evaluate, rules))
    return results(rules, evaluation)


async def _readings(connection: Connection, questions: Questions, rule: Rule) -> dict[str, list[Reading]]:
    counted = questions.samples(rule)
    values, samples = await asyncio.gather(
        connection.query(questions.value(rule)), connection.query(counted) if counted is not None else no_samples()
    )
    numbers = {group_of(rule, sample["metric"]): round(number_of(sample) or 0.0) for sample in samples}
    found = [(group_of(rule, sample["metric"]), number_of(sample)) for sample in values]
    return {"": [Reading(value, numbers.get(group, 0), group) for group, value in found if value is not None]}


def group_of(rule: Rule, labels: Mapping[str, str]) -> str:
    """The group of a series of the rule, as the rule's own evaluation names it."""
    key = rule.expression.group_by
    if not key:
        return ""
    found = labels.get(prometheus_label(key), "")
    return found or (UNMATCHED_ROUTE if key == HTTP_ROUTE else "")
