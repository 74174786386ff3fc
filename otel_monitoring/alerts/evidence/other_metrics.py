"""What stands out in pools, collections and metrics of the application's own."""

from collections.abc import Iterator
from dataclasses import replace

from otel_monitoring.alerts.evidence.alert import Alert
from otel_monitoring.alerts.evidence.circumstances import Circumstances
from otel_monitoring.alerts.evidence.collection_growth import counts, growth_of
from otel_monitoring.alerts.evidence.culprit import Culprit, ratio, shared
from otel_monitoring.alerts.evidence.standing_out import Part, standing_out
from otel_monitoring.alerts.rules.expressions import Count, Gauge, Percent
from otel_monitoring.alerts.rules.series import group_of
from otel_monitoring.metrics.snapshot import Series
from otel_monitoring.redact import redact

_ATTRIBUTES_LIMIT = 10


def pools(_: Alert, about: Circumstances) -> Iterator[Culprit]:
    """The pool with the most connections in use."""
    found: dict[str, tuple[float, float]] = {}
    for worker in about.workers:
        for name, known in worker.pools.items():
            used, size = found.get(name, (0.0, 0.0))
            found[name] = used + known[0], size + known[1]
    if found:
        name = max(found, key=lambda each: found[each])
        used, size = found[name]
        yield Culprit("pool", (name,), f"pool of {name}: {used:.0f} of {size:.0f} connections in use", 1.0)


def documents(alert: Alert, about: Circumstances) -> Iterator[Culprit]:
    """The collection that the alert names, or the one that has grown most."""
    name = alert.group
    if not name:
        grown = [(now - before, each) for each, (before, now) in counts(about).items() if now > before]
        name = max(grown, default=(0.0, ""))[1]
    if name:
        yield Culprit("collection", (name,), f"collection {name}{growth_of(name, about)}", 1.0)


def own_metric(alert: Alert, about: Circumstances) -> Iterator[Culprit]:
    """The attributes that have the rise of a counter, or the group of the alert."""
    for found in _of_own(alert, about):
        # An attribute of the application's own may be called as one of ours whose values are no secrets.
        yield replace(found, names=[redact(name) for name in found.names], text=redact(found.text))


def _of_own(alert: Alert, about: Circumstances) -> Iterator[Culprit]:
    expression = alert.rule.expression
    count = expression.part if isinstance(expression, Percent) else expression
    if alert.group:
        kind = expression.group_by.rpartition(".")[2]
        yield Culprit(kind, (alert.group,), f"{kind} {alert.group}", 1.0)
    if isinstance(count, Count) and count.kind == "counter":
        yield from _attributes(count, about, alert.group)
    elif isinstance(count, Gauge):
        yield from _series(count, about, alert.group)


def _is_about(series: Series, expression: Count | Gauge, group: str) -> bool:
    """Whether the alert's value comes from `series`."""
    selected = expression.where is None or expression.where(series)
    return selected and (not group or group_of(series, expression.group_by) == group)


def _attributes(count: Count, about: Circumstances, group: str) -> Iterator[Culprit]:
    recent = [(s, value) for s, value in about.recent.sums(count.metric) if _is_about(s, count, group)]
    ever = dict(about.total.sums(count.metric))
    number = sum(value for _, value in recent)
    before = sum(ever.get(series, value) for series, value in recent) - number
    names = sorted({name for series, _ in recent for name, _ in series.attributes if name != count.group_by})
    for key in names[:_ATTRIBUTES_LIMIT]:
        now: dict[str, float] = {}
        old: dict[str, float] = {}
        for series, value in recent:
            name = str(series.get(key))
            now[name] = now.get(name, 0.0) + value
            old[name] = old.get(name, 0.0) + ever.get(series, value) - value
        usual = {name: ratio(old[name], before) if before > 0 else 1 / len(now) for name in now}
        found = standing_out([Part(name, now[name], usual[name]) for name in now], number)
        if found is not None:
            yield Culprit.of(key, found, shared(key, found, count.metric))


def _series(gauge: Gauge, about: Circumstances, group: str) -> Iterator[Culprit]:
    """The attributes of the series whose value counts."""
    found = [(value, s) for s, value in about.recent.gauges(gauge.metric) if _is_about(s, gauge, group)]
    if len(found) > 1:
        choose = max if gauge.over == "max" else min
        value, series = choose(found, key=lambda pair: pair[0])
        place = ", ".join(f"{key}={each}" for key, each in series.attributes if key != gauge.group_by)
        yield Culprit("series", (place,), f"{place}: {value * gauge.scale:.4g}", 0.5)
