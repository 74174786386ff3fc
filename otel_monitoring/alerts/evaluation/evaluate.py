"""Rules meet measurements: what each rule sees, over one worker or over all of them together."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from otel_monitoring.alerts.evaluation.lifecycle import begins
from otel_monitoring.alerts.evaluation.worker_report import WorkerReport, merge_reports
from otel_monitoring.alerts.rules.expressions import Reading
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.guard import fail_open
from otel_monitoring.metrics.window import Window
from otel_monitoring.redact import redact_error

_evaluating = fail_open("evaluating a rule", theirs=True)


class RuleResult(NamedTuple):
    """What one evaluation saw of one alert.

    Attributes:
        rule: Which rule looked.
        labels: The alert's identity within the rule.
        reading: What was seen; None: no data.
        gone: Whether what it is about does not exist any more: the worker, or an alert of these labels.
    """

    rule: Rule
    labels: dict[str, str]
    reading: Reading | None
    gone: bool = False


class Evaluation:
    """Evaluates rules; remembers what each saw last, and why one could not be evaluated.

    Attributes:
        readings: What each rule read last, by rule and instance; the instance is empty for all workers together.
        errors: Why a rule could not be evaluated, by rule.
    """

    def __init__(self) -> None:
        self.readings: dict[str, Mapping[str, Sequence[Reading]]] = {}
        self.errors: dict[str, str] = {}

    def evaluate(
        self,
        rules: Iterable[Rule],
        reports: Mapping[str, WorkerReport],
        known: Mapping[str, Sequence[Mapping[str, str]]],
    ) -> list[RuleResult]:
        """What every rule sees of the alerts that are known, and of those that begin.

        A rule that raises sees nothing: its alerts stay as they are.

        Args:
            rules: The rules.
            reports: What each worker knows, by instance.
            known: The labels of the alerts that are pending or firing, by rule.
        """
        everywhere = {"": merge_reports(reports)}
        apart = {instance: report.window for instance, report in reports.items()}
        found: list[RuleResult] = []
        for rule in rules:
            self.errors[rule.name] = "it could not be evaluated"
            with _evaluating:
                alerts = known.get(rule.name, ())
                try:
                    readings = _readings(rule, everywhere if rule.scope == "service" else apart, alerts)
                    looks = list(_looks(rule, readings, alerts))
                except BaseException as error:
                    self.errors[rule.name] = redact_error(error)
                    raise
                del self.errors[rule.name]
                self.readings[rule.name] = readings
                found.extend(looks)
        return found


def _readings(
    rule: Rule, windows: Mapping[str, Window], known: Sequence[Mapping[str, str]]
) -> dict[str, Sequence[Reading]]:
    """What is read in each window. Groups that can neither begin an alert nor end one need not be."""
    above = rule.threshold if rule.expression.group_by and rule.comparison in (">", ">=") else None
    groups = {labels.get(rule.label, "") for labels in known}
    read = rule.expression.readings
    return {instance: list(read(window, above=above, known=groups)) for instance, window in windows.items()}


def _looks(
    rule: Rule, readings: Mapping[str, Sequence[Reading]], known: Sequence[Mapping[str, str]]
) -> Iterator[RuleResult]:
    """The looks at what begins or is known; then at known alerts of which nothing was read."""
    unseen = {frozenset(labels.items()): labels for labels in known}
    grouped = bool(rule.expression.group_by)
    groups = {labels.get(rule.label, "") if grouped else "" for labels in known}
    nothing: tuple[Reading | None, ...] = () if grouped else (None,)
    for instance, found in readings.items():
        for reading in found or nothing:
            starts = begins(rule, reading)
            group = reading.group if reading is not None else ""
            if starts or group in groups:
                labels = rule.identity(group, instance)
                if unseen.pop(frozenset(labels.items()), None) is not None or starts:
                    yield RuleResult(rule, labels, reading)
    for rest in unseen.values():
        yield RuleResult(rule, dict(rest), None, gone=_gone(rule, rest, readings))


def _gone(rule: Rule, labels: Mapping[str, str], instances: Collection[str]) -> bool:
    """Whether the worker is gone, or the rule was another one when it made an alert with these labels."""
    instance = labels.get("instance", "")
    changed = labels != rule.identity(labels.get(rule.label, ""), instance)
    return changed or (rule.scope == "instance" and instance not in instances)
