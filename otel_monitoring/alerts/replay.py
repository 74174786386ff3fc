"""`replay`: what rules would have done over the slices of the past, by the very code that evaluates them live.

The slices are the measurements, a store in memory has the state, and the time is that of the slices.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from otel_monitoring import semconv as c
from otel_monitoring.alerts.evaluation.evaluate import Evaluation
from otel_monitoring.alerts.evaluation.incident import labels_by_rule, saved_incidents
from otel_monitoring.alerts.evaluation.notification_policy import NotificationPolicy
from otel_monitoring.alerts.evaluation.transitions import Transitions
from otel_monitoring.alerts.evaluation.worker_report import WorkerReport
from otel_monitoring.alerts.model import AlertEvent
from otel_monitoring.alerts.rules.expressions import Count, Expression, Gauge, Percent, Quantile, Reading
from otel_monitoring.alerts.rules.matchers import Attribute, Both, Excluded, Failed, Matcher
from otel_monitoring.alerts.rules.promql import Dialect
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.alerts.rules.slo import BurnRate, wanted_sums
from otel_monitoring.alerts.store.memory import MemoryStore
from otel_monitoring.metrics.event_sums import EventSums
from otel_monitoring.metrics.outcome import OutcomeClassifier
from otel_monitoring.metrics.slices.model import FINEST, Slice
from otel_monitoring.metrics.slices.recorder import LATE_SECONDS
from otel_monitoring.metrics.slices.sums import RunningSums
from otel_monitoring.metrics.slices.table import SliceTable
from otel_monitoring.metrics.slices.timeline import snapshot_of, timeline
from otel_monitoring.metrics.snapshot import Series, Snapshot
from otel_monitoring.metrics.window import History, Window

_STEP = 60
"""The most seconds between two evaluations: an evaluation adds at most so many to a hold."""
_INSTANCE = "replay"
_OWN = "~"
_GAUGES = {c.DATABASE_PING_DURATION: "ping"}
"""The gauges of ours that slices have as rules read them, and their names there."""
_NAMES = {value for name, value in vars(c).items() if name.isupper() and isinstance(value, str)}


class ReplayOptions(NamedTuple):
    """How the service evaluates.

    Attributes:
        window: Seconds of measurements that a rule evaluates.
        interval: Seconds between evaluations.
        repeat_interval: Seconds until an alert that still fires is notified again.
        error_statuses: Status codes that count as errors; None: every 5xx.
    """

    window: float = 300.0
    interval: float = 10.0
    repeat_interval: float = 4 * 3600.0
    error_statuses: frozenset[int] | None = None


def why_not(rule: Rule, error_statuses: frozenset[int] | None = None) -> str | None:
    """Why a rule cannot be replayed: slices do not have what it reads. None: it can.

    Args:
        rule: The rule.
        error_statuses: Status codes that count as errors; None: every 5xx.
    """
    if rule.scope == "instance":
        return "the past has the workers together, not each of them"
    return _why_not(rule.expression, OutcomeClassifier(error_statuses))


def _why_not(expression: Expression, errors: OutcomeClassifier) -> str | None:
    match expression:
        case BurnRate():
            return None
        case Percent(part=part, whole=whole):
            return _why_not(part, errors) or _why_not(whole, errors)
        case Count(metric=metric, kind="histogram") | Quantile(metric=metric) if (
            metric != c.HTTP_SERVER_REQUEST_DURATION
        ):
            return f"of histograms the past has {c.HTTP_SERVER_REQUEST_DURATION} alone, not {metric}"
        case Count(kind="histogram", where=where, group_by=group):
            if not _is_known(where, (Failed(errors),)):
                return f"of requests the past has number and errors by {c.HTTP_ROUTE}, not their other attributes"
            return _group(group)
        case Quantile(where=where, group_by=group):
            if not _is_known(where):
                return f"the past has the durations of all requests together, and by {c.HTTP_ROUTE}"
            return _group(group)
        case Count(metric=metric, where=None, group_by=""):
            return f"the past has the application's own counters, not {metric}" if metric in _NAMES else None
        case Gauge(metric=metric) if metric in _NAMES and metric not in _GAUGES:
            return f"the past does not have {metric}"
        case Gauge(where=None, group_by="", over="max"):
            return None
        case Count() | Gauge():
            return f"the past has {expression.metric} in all, without its attributes"
    return f"the past does not have what {type(expression).__name__} reads"


def _is_known(where: Matcher | None, known: Sequence[Matcher] = ()) -> bool:
    """Whether slices distinguish the requests that `where` selects: by their routes, or it is one of `known`."""
    match where:
        case None | Attribute(key=c.HTTP_ROUTE) | Excluded(key=c.HTTP_ROUTE):
            return True
        case Both(first=first, second=second):
            return _is_known(first, known) and _is_known(second, known)
    return where in known


def _group(attribute: str) -> str | None:
    if attribute in ("", c.HTTP_ROUTE):
        return None
    return f"the past has requests by {c.HTTP_ROUTE}, not by {attribute}"


def replay(
    table: SliceTable, rules: Sequence[Rule], since: float, now: float, options: ReplayOptions | None = None
) -> Iterator[AlertEvent]:
    """The events of the alerts of `rules`, in order.

    Each is as the history would have it: firing or resolved, notified or why not. Rules are evaluated as often as the
    service does where slices of ten seconds are kept, else with every slice, but at least every minute.

    Args:
        table: The slices.
        rules: Rules for which `why_not` returns None.
        since: From when on they are evaluated, in Unix seconds; the windows before it are read, too.
        now: The present, in Unix seconds.
        options: How the service evaluates.

    Raises:
        StoreError: The slices cannot be read.
    """
    options = options or ReplayOptions()
    longest = max((seconds for _, seconds in wanted_sums(rules)), default=0)
    begin = int(since - max(longest, options.window)) // FINEST.seconds * FINEST.seconds
    run = _Replay(rules, options, begin)
    for start, end, content in timeline(table, begin, int(now)):
        run.add(start, end, content)
        first = max(start, int(since))
        for at in [*range(first + _STEP, end, _STEP), end] if end > since else []:
            yield from run.evaluate(at)
            if run.is_calm:
                break


class _Replay:
    """The state of a replay."""

    def __init__(self, rules: Sequence[Rule], options: ReplayOptions, begin: int) -> None:
        self.options = options
        self._rules = rules
        self._store = MemoryStore()
        self._policy = NotificationPolicy((), options.repeat_interval, options.window)
        self._evaluation = Evaluation()
        self._sums = RunningSums(wanted_sums(rules))
        self._waiting: list[tuple[int, int, Slice]] = []
        self._history = History(begin, span=options.window, resolution=options.interval)
        self._began = begin
        self._share = 1.0
        self._gauges = {**{name: Series(metric) for metric, name in _GAUGES.items()}, **_own_gauges(rules)}

    @property
    def is_calm(self) -> bool:
        """Whether no alert is pending or firing: with the same measurements nothing more happens."""
        return not labels_by_rule(saved_incidents(self._store.incidents))

    def add(self, start: int, end: int, content: Slice) -> None:
        """Take the next slice."""
        self._waiting.append((start, end, content))
        failed = min(self.options.error_statuses or (500,))
        snapshot = snapshot_of(start, end, content, self._gauges, failed)
        if self._history.recent.snapshot.end < start:
            self._history.add(Snapshot(self._history.recent.snapshot.end, start))
            self._began = start  # nobody measured meanwhile: the service begins anew
        self._history.add(snapshot)
        # A slice that is longer than the interval of evaluations makes the window longer than it is live.
        seconds, window = end - self._start, self.options.window
        self._share = 1.0 if seconds <= window + self.options.interval else window / seconds

    @property
    def _start(self) -> float:
        """The start of the window, or of the measurements after a gap."""
        return max(self._began, self._history.recent.start)

    def evaluate(self, now: float) -> list[AlertEvent]:
        """Evaluate the rules at `now`, as the worker that leads does; returns what happened."""
        measured = self._history.recent
        reports = {_INSTANCE: WorkerReport(Window(Snapshot(self._start, now, gauges=measured.snapshot.gauges)))}
        known = {incident.key: incident for incident in saved_incidents(self._store.incidents)}
        transitions = Transitions(self._store, self._policy, now)
        rules = self._rules if self._share == 1 else [_shared(rule, self._share) for rule in self._rules]
        results = self._evaluation.evaluate(
            rules, reports, labels_by_rule(known.values()), measured, self._event_sums(now)
        )
        transitions.apply(results, known, reports, rules)
        return transitions.events

    def _event_sums(self, now: float) -> EventSums:
        """The sums as the service has them: over the slices that change no more."""
        until = FINEST.slot(now - LATE_SECONDS)
        while self._waiting and self._waiting[0][1] <= until:
            self._sums.add(*self._waiting.pop(0))
        return self._sums.at(until)


def _own_gauges(rules: Iterable[Rule]) -> Mapping[str, Series]:
    found = {rule.expression.metric for rule in rules if isinstance(rule.expression, Gauge)}
    return {_OWN + metric: Series(metric) for metric in found - _GAUGES.keys()}


def _shared(rule: Rule, share: float) -> Rule:
    return rule if isinstance(rule.expression, BurnRate) else replace(rule, expression=_Share(rule.expression, share))


@dataclass(frozen=True, slots=True)
class _Share:
    """An expression over a window that is longer than it should be: numbers are those of a part of it.

    Attributes:
        inner: The expression.
        share: The part.
    """

    inner: Expression
    share: float

    @property
    def metrics(self) -> frozenset[str]:
        return self.inner.metrics

    @property
    def group_by(self) -> str:
        return self.inner.group_by

    def readings(self, window: Window, *, above: float | None = None, known: Collection[str] = ()) -> Sequence[Reading]:
        counts = isinstance(self.inner, Count)
        limit = above / self.share if above is not None and counts else above
        return [
            found._replace(
                value=found.value * self.share if counts else found.value,
                samples=found.samples if isinstance(self.inner, Gauge) else round(found.samples * self.share),
            )
            for found in self.inner.readings(window, above=limit, known=known)
        ]

    def promql(self, dialect: Dialect) -> str:
        return self.inner.promql(dialect)
