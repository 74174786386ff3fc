"""`Evaluation`: evaluates rules over the windows of one worker or of all workers together."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from otel_monitoring.alerts.evaluation.lifecycle import starts_alert
from otel_monitoring.alerts.evaluation.worker_report import WorkerReport, merge_reports
from otel_monitoring.alerts.rules.expressions import Reading
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.guard import fail_open
from otel_monitoring.metrics.event_sums import EventSums
from otel_monitoring.metrics.window import Window
from otel_monitoring.redact import redact_error
from otel_monitoring.runtime.give_way import give_way

_evaluating = fail_open("evaluating a rule", theirs=True)


class RuleResult(NamedTuple):
    """The result of one evaluation for one alert.

    Attributes:
        rule: The rule.
        labels: The alert's identity within the rule.
        reading: The value; None: no data.
        gone: The alert cannot fire any more: its worker has stopped, or its rule has other labels now.
    """

    rule: Rule
    labels: dict[str, str]
    reading: Reading | None
    gone: bool = False


class Evaluation:
    """Evaluates rules, and keeps the latest readings and errors for `/alerts/rules`.

    Attributes:
        readings: The latest readings, by rule and instance; the instance is empty for all workers together.
        errors: Why the latest evaluation of a rule failed, by rule.
    """

    def __init__(self) -> None:
        self.readings: dict[str, Mapping[str, Sequence[Reading]]] = {}
        self.errors: dict[str, str] = {}

    def clear(self) -> None:
        """Forget the latest readings: another worker evaluates now."""
        self.readings.clear()
        self.errors.clear()

    def evaluate(
        self,
        rules: Iterable[Rule],
        reports: Mapping[str, WorkerReport],
        known: Mapping[str, Sequence[Mapping[str, str]]],
        measured: Window | None = None,
        event_sums: EventSums | None = None,
    ) -> list[RuleResult]:
        """Evaluate `rules`: one result for each known alert, and for each alert that starts.

        A rule that raises has no result: its alerts stay as they are.

        Args:
            rules: The rules.
            reports: The reports of all workers by instance.
            known: The labels of the pending and firing alerts, by rule.
            measured: The sum of all workers' histograms and counters; None: the reports have them.
            event_sums: The sums over the slices of the past; None: they are not known.
        """
        rules = tuple(rules)
        for name in {*self.readings, *self.errors} - {rule.name for rule in rules}:  # evaluated elsewhere by now
            self.readings.pop(name, None)
            self.errors.pop(name, None)
        everywhere = {"": merge_reports(reports, measured, event_sums)}
        apart = {instance: report.window for instance, report in reports.items()}
        found: list[RuleResult] = []
        for rule in rules:
            give_way()
            self.errors[rule.name] = "it could not be evaluated"
            with _evaluating:
                alerts = known.get(rule.name, ())
                try:
                    readings = _readings(rule, everywhere if rule.scope == "service" else apart, alerts)
                    results = list(_results(rule, readings, alerts))
                except BaseException as error:
                    self.errors[rule.name] = redact_error(error)
                    raise
                del self.errors[rule.name]
                self.readings[rule.name] = readings
                found.extend(results)
        return found


def _readings(
    rule: Rule, windows: Mapping[str, Window], known: Sequence[Mapping[str, str]]
) -> dict[str, Sequence[Reading]]:
    """The readings by instance. Groups that can neither start an alert nor belong to a known one are skipped."""
    above = rule.threshold if rule.expression.group_by and rule.comparison in (">", ">=") else None
    groups = {labels.get(rule.label, "") for labels in known}
    read = rule.expression.readings
    return {instance: list(read(window, above=above, known=groups)) for instance, window in windows.items()}


def _results(
    rule: Rule, readings: Mapping[str, Sequence[Reading]], known: Sequence[Mapping[str, str]]
) -> Iterator[RuleResult]:
    """First the alerts that have a reading and start or are known; then the known alerts without a reading."""
    without_reading = {frozenset(labels.items()): labels for labels in known}
    grouped = bool(rule.expression.group_by)
    groups = {labels.get(rule.label, "") if grouped else "" for labels in known}
    no_data: tuple[Reading | None, ...] = () if grouped else (None,)
    for instance, found in readings.items():
        for reading in found or no_data:
            starts = starts_alert(rule, reading)
            group = reading.group if reading is not None else ""
            if starts or group in groups:
                labels = rule.identity(group, instance)
                if without_reading.pop(frozenset(labels.items()), None) is not None or starts:
                    yield RuleResult(rule, labels, reading)
    for rest in without_reading.values():
        yield RuleResult(rule, dict(rest), None, gone=_is_gone(rule, rest, readings))


def _is_gone(rule: Rule, labels: Mapping[str, str], instances: Collection[str]) -> bool:
    """Whether the alert's worker has stopped, or the rule now gives its alerts other labels."""
    instance = labels.get("instance", "")
    relabelled = labels != rule.identity(labels.get(rule.label, ""), instance)
    return relabelled or (rule.scope == "instance" and instance not in instances)
