"""`course_of`: how the value of a rule went in the last half hour, minute by minute."""

from collections.abc import Callable, Mapping, Sequence

from otel_monitoring import semconv as c
from otel_monitoring.alerts.evidence.alert import Alert
from otel_monitoring.alerts.evidence.circumstances import Circumstances, Timed
from otel_monitoring.alerts.replay import why_not
from otel_monitoring.alerts.rules.expressions import Count, Expression, Gauge
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.alerts.rules.slo import BurnRate
from otel_monitoring.metrics.event_sums import ALL, Counts
from otel_monitoring.metrics.slices.model import GaugeFigures, Slice, merged_slices
from otel_monitoring.metrics.slices.timeline import snapshot_of
from otel_monitoring.metrics.snapshot import Series
from otel_monitoring.metrics.window import Window

MINUTES = 30
_SECONDS = 60
_OWN = "~"
_DOCUMENTS = "documents/"
_MIB = 2**20

_FigureOf = Callable[[GaugeFigures], float]


def _most(figures: GaugeFigures) -> float:
    """The largest reading."""
    return figures.most


_GAUGES: Mapping[str, tuple[str, float, _FigureOf]] = {
    c.CPU_PRESSURE: ("cpu", 0.01, _most),
    c.SYSTEM_CPU_UTILIZATION: ("cpu", 0.01, _most),
    c.PROCESS_CPU_UTILIZATION: ("process_cpu", 0.01, _most),
    c.MEMORY_PRESSURE: ("memory_percent", 0.01, _most),
    c.SYSTEM_MEMORY_UTILIZATION: ("memory_percent", 0.01, _most),
    c.PROCESS_MEMORY_USAGE: ("memory", _MIB, _most),
    c.EVENT_LOOP_LAG: ("loop_lag", 1.0, _most),
    c.DATABASE_PING_DURATION: ("ping", 1.0, _most),
}
"""The gauges of ours that slices have: their names there, a factor to the gauge's unit, and which reading counts."""

Course = Sequence[float | None]


def course_of(alert: Alert, about: Circumstances) -> Course:
    """The value of each of the last `MINUTES`, the oldest first, and the present one; None where nothing was measured.

    It is empty where slices do not have what the rule reads.
    """
    read = reader_of(alert.rule, alert.group, about)
    if read is None:
        return ()
    end = about.now // _SECONDS * _SECONDS
    values = [read(part) for part in _minutes(about.slices, int(end))]
    if not any(value is not None for value in values):
        return ()
    return [*values, alert.value]


def _minutes(slices: Sequence[Timed], end: int) -> list[Slice]:
    parts: list[list[Slice]] = [[] for _ in range(MINUTES)]
    for start, _, content in slices:
        place = (start - end) // _SECONDS + MINUTES
        if 0 <= place < MINUTES:
            parts[place].append(content)
    return [merged_slices(found) for found in parts]


def reader_of(rule: Rule, group: str, about: Circumstances) -> Callable[[Slice], float | None] | None:
    """What reads the value of a rule from a slice; None: slices do not have it."""
    expression = rule.expression
    if isinstance(expression, BurnRate):
        return _burn_rate(expression, group)
    if isinstance(expression, Gauge) and (read := _gauge(expression, group)) is not None:
        return read
    if rule.scope == "instance" or why_not(rule, about.classify.statuses) is not None:
        return None
    return _by_expression(expression, group, about)


def _burn_rate(expression: BurnRate, group: str) -> Callable[[Slice], float | None]:
    def read(content: Slice) -> float | None:
        counts = expression.good.counts(content).get(group or ALL, Counts())
        return expression.objective.burn_rate(counts) if counts.events else None

    return read


def _gauge(expression: Gauge, group: str) -> Callable[[Slice], float | None] | None:
    found: tuple[str, float, _FigureOf]
    if expression.metric == c.COLLECTION_DOCUMENTS:
        if not group:
            return None
        found = (_DOCUMENTS + group, 1.0, _most)
    elif expression.metric in _GAUGES and (expression.where is None or expression.metric == c.CPU_PRESSURE):
        found = _GAUGES[expression.metric]
    else:
        return None
    name, factor, figure = found

    def read(content: Slice) -> float | None:
        readings = content.gauges.get(name)
        return None if readings is None else figure(readings) * factor * expression.scale

    return read


def _by_expression(expression: Expression, group: str, about: Circumstances) -> Callable[[Slice], float | None]:
    """The rule's expression over the slice as its window; a count is scaled to the length of the rule's window."""
    failed = min(about.classify.statuses or (500,))
    gauges = {_OWN + expression.metric: Series(expression.metric)} if isinstance(expression, Gauge) else {}

    def read(content: Slice) -> float | None:
        if not content.seconds:
            return None
        window = Window(snapshot_of(0, int(content.seconds), content, gauges, failed))
        values = [one.value for one in expression.readings(window, known=(group,)) if one.group == group]
        if not values:
            return None
        return values[0] * (about.window / content.seconds if isinstance(expression, Count) else 1.0)

    return read
