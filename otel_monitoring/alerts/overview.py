"""Firing alerts, the states of rules and the states of channels, as JSON for the endpoints."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from otel_monitoring.alerts.evaluation.evaluate import Evaluation
from otel_monitoring.alerts.evaluation.incident import Incident, message_of
from otel_monitoring.alerts.evaluation.lifecycle import Phase
from otel_monitoring.alerts.model import Acknowledgement, Outcome, readable_labels
from otel_monitoring.alerts.rules.expressions import Reading
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.alerts.store import Store
from otel_monitoring.alerts.store.leases import channel_of, channels_of_workers
from otel_monitoring.alerts.store.outbox import UNREADABLE
from otel_monitoring.guard import fail_open
from otel_monitoring.timestamps import rfc3339

T = TypeVar("T")

_VALUES_LIMIT = 20
_NOTHING: Mapping[str, Acknowledgement] = MappingProxyType({})
_reading_condition = fail_open("reading the condition of a channel")
_showing_rule = fail_open("showing a rule", theirs=True)


def firing(
    incidents: Iterable[Incident], rules: Mapping[str, Rule], acknowledged: Mapping[str, Acknowledgement] = _NOTHING
) -> list[dict[str, Any]]:
    """The firing alerts of rules, the oldest first.

    Each has `rule`, `type`, `severity`, `state`, `since` (RFC 3339), `value` and `threshold` (in the rule's unit),
    `labels`, `message`, `scope`, `incident`, `muted`, `inhibited` and `dry_run`; a flapping alert also has `flapping`
    and `times`, how often it started, and an acknowledged one `acknowledged` (`Acknowledgement.as_json`); `evidence`
    says what changed, where that is known.

    Args:
        incidents: The saved incidents.
        rules: The rules by name.
        acknowledged: The acknowledged alerts by incident.
    """
    found = [(incident, rules[incident.rule]) for incident in incidents if incident.rule in rules and incident.firing]
    return [
        {
            "rule": rule.name,
            "type": rule.type.value,
            "severity": rule.urgency.value,
            **_state(incident),
            "threshold": rule.threshold,
            **_message_and_value(incident, rule),
            "scope": rule.scope,
            "incident": incident.id,
            "muted": incident.outcome is Outcome.MUTED,
            "inhibited": incident.outcome is Outcome.INHIBITED,
            "dry_run": rule.dry_run,
            **({"flapping": True, "times": incident.state.times} if incident.state.flapping else {}),
            **({"acknowledged": acknowledged[incident.id].as_json()} if incident.id in acknowledged else {}),
            **({"evidence": dict(incident.evidence)} if incident.evidence else {}),
        }
        for incident, rule in sorted(found, key=lambda pair: pair[0].state.since)
    ]


def results(rules: Iterable[Rule], evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """The latest `values` and the `error` of each rule that was evaluated, by its name.

    The values are at most twenty of the latest readings, the worst first, without groups below the threshold. The error
    says why the last evaluation failed.
    """
    found: dict[str, dict[str, Any]] = {}
    for rule in rules:
        no_values: list[dict[str, Any]] = []
        readings, error = evaluation.readings.get(rule.name), evaluation.errors.get(rule.name)
        if readings is not None:
            found[rule.name] = {"values": _result_or(partial(_values, rule, readings), no_values)}
        if error is not None:
            found.setdefault(rule.name, {})["error"] = error
    return found


def rule_states(
    incidents: Iterable[Incident], rules: Sequence[Rule], latest: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Every rule with its definition, its pending and firing `alerts`, and its `state`.

    The state is `firing` or `pending` if one of the alerts is, else `inactive`. `values` and `error` are those of
    `latest`, the `results` of the worker that leads.
    """
    by_rule: dict[str, list[Incident]] = {}
    for incident in incidents:
        if incident.state.phase is not Phase.INACTIVE:
            by_rule.setdefault(incident.rule, []).append(incident)
    return [_rule(rule, by_rule.get(rule.name, ()), latest.get(rule.name, {})) for rule in rules]


def channels(store: Store, own: Mapping[str, Mapping[str, Any]], now: float) -> dict[str, dict[str, Any]]:
    """The state of every channel of the service; every worker gives the same answer.

    Each has `state`, `pending` (how many alerts wait), `worker` (the `service.instance.id` of the worker that delivers
    by it, if there is one) and the further keys of `ChannelQueue.condition`. The state is `missing` where alerts wait
    for a channel that no running worker has. `unreadable` counts alerts that were set aside because they cannot be
    read.

    Args:
        store: The store that the workers share.
        own: The conditions of this worker's channels, for those that the store has no condition of.
        now: Unix seconds.
    """
    backlog, saved, known = store.outbox.backlog(), store.conditions.saved(), channels_of_workers(store.leases, now)
    senders = {channel_of(lease): worker for lease, worker in store.leases.holders(now).items()}
    answer: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys((*own, *sorted(known), *sorted(backlog))):
        if name.endswith(UNREADABLE):
            readable = answer.setdefault(name.removesuffix(UNREADABLE), {"state": "ok", "failures": 0, "pending": 0})
            readable["unreadable"] = backlog[name]
            continue
        condition = {"state": "ok", "failures": 0, **(_decoded(saved.get(name, "{}")) or own.get(name, {}))}
        if name not in own and name not in known:
            condition["state"] = "missing"
        sender = {"worker": senders[name]} if name in senders else {}
        answer[name] = {**condition, "pending": backlog.get(name, 0), **sender}
    return answer


def _decoded(condition: str) -> dict[str, Any]:
    with _reading_condition:
        found: dict[str, Any] = {**json.loads(condition)}
        return found
    return {}


def _rule(rule: Rule, incidents: Sequence[Incident], latest: Mapping[str, Any]) -> dict[str, Any]:
    phases = {incident.state.phase for incident in incidents}
    answer: dict[str, Any] = {
        "name": rule.name,
        "type": rule.type.value,
        "severity": rule.urgency.value,
        "promql": _result_or(rule.promql, ""),
        "comparison": rule.comparison,
        "threshold": rule.threshold,
        "clear": rule.clear if rule.clear is not None else rule.threshold,
        "hold_seconds": rule.hold,
        "keep_firing_for_seconds": rule.keep_firing_for,
        "min_samples": rule.min_samples,
        "no_data": rule.no_data.value,
        "scope": rule.scope,
        "labels": dict(rule.labels),
        "inhibits": sorted(kind.value for kind in rule.inhibits),
        "dry_run": rule.dry_run,
        "state": next((p.value for p in (Phase.FIRING, Phase.PENDING) if p in phases), Phase.INACTIVE.value),
        "alerts": [_state(incident) for incident in incidents],
        "values": latest.get("values", []),
    }
    if rule.runbook:
        answer["runbook_url"] = rule.runbook
    if "error" in latest:
        answer["error"] = latest["error"]
    return answer


def _result_or(call: Callable[[], T], default: T) -> T:
    """The result of `call`, which runs an expression of the application; `default` where it raises."""
    with _showing_rule:
        return call()
    return default


def _values(rule: Rule, readings: Mapping[str, Sequence[Reading]]) -> list[dict[str, Any]]:
    finite = [(where, found) for where, all_of in readings.items() for found in all_of if math.isfinite(found.value)]
    worst = sorted(finite, key=lambda pair: pair[1].value, reverse=rule.comparison in (">", ">="))
    return [
        {
            "labels": readable_labels(rule.identity(reading.group, instance)),
            "value": round(reading.value, 4),
            "samples": reading.samples,
        }
        for instance, reading in worst[:_VALUES_LIMIT]
    ]


def _message_and_value(incident: Incident, rule: Rule) -> dict[str, Any]:
    """Message and value of the same moment: the present one, or without data the last one that had data."""
    value = incident.state.value
    if value is None:
        return {"message": incident.message, "value": _rounded(incident.value)}
    return {"message": message_of(rule, value, incident.labels), "value": _rounded(value)}


def _state(incident: Incident) -> dict[str, Any]:
    return {
        "state": incident.state.phase.value,
        "since": rfc3339(incident.state.since),
        "value": _rounded(incident.state.value),
        "labels": readable_labels(incident.labels),
    }


def _rounded(value: float | None) -> float | None:
    return round(value, 4) if value is not None else None
