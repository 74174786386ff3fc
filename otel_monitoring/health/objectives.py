"""`objectives_as_json`: how far each objective is met, in figures and in plain words."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from otel_monitoring.alerts.rules.budget import in_words, is_blind, spenders
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.alerts.rules.slo import BurnRate, Slo
from otel_monitoring.metrics.event_sums import ALL, EventSums, WindowSum
from otel_monitoring.redact import redact
from otel_monitoring.timestamps import rfc3339

OK: Final = "ok"
BURNING: Final = "burning"
EXHAUSTED: Final = "exhausted"
BLIND: Final = "blind"
_WORST = (BURNING, EXHAUSTED, BLIND, OK)
_SPENDERS_SHOWN = 5
_ENDPOINTS_SHOWN = 50
_NOTHING = EventSums(0.0)


def objectives_as_json(
    slos: Iterable[Slo], rules: Mapping[str, Rule], event_sums: EventSums | None
) -> list[dict[str, Any]]:
    """Every objective with its state, its budget and its burn rates.

    Args:
        slos: The objectives.
        rules: All rules by name; an objective whose rules were removed is left out.
        event_sums: The sums over the slices of the past; None: they are not known.
    """
    found = []
    for slo in slos:
        own = [rules[name] for name in slo.rule_names if name in rules]
        burning = [(rule, rule.expression) for rule in own if isinstance(rule.expression, BurnRate)]
        if burning:
            found.append(_objective(slo, burning, event_sums or _NOTHING))
    return found


def _objective(slo: Slo, burning: list[tuple[Rule, BurnRate]], event_sums: EventSums) -> dict[str, Any]:
    rule, expression = burning[0]
    good, objective = expression.good, expression.objective
    whole = event_sums.over(good, objective.window)
    own, endpoints = _budget(ALL, burning, event_sums), {}
    if slo.per:
        names = [name for name, _ in spenders(whole)][:_ENDPOINTS_SHOWN]
        each = [{"endpoint": redact(name), **_budget(name, burning, event_sums)} for name in names]
        endpoints = {"endpoints": sorted(each, key=_worst_first)}
        own.update(_of_worst(endpoints["endpoints"]))
    by = [] if slo.per else spenders(whole)[:_SPENDERS_SHOWN]
    return {
        "name": slo.name,
        "objective_percent": objective.percent,
        "good": redact(good.words),
        "per": slo.per or None,
        "window_seconds": objective.window,
        "dry_run": rule.dry_run,
        "min_requests": expression.min_events,
        **own,
        "measured_percent": _measured_percent(whole, objective.window, event_sums),
        "since": rfc3339(event_sums.since) if event_sums.since is not None else None,
        "until": rfc3339(event_sums.until) if event_sums.until else None,
        "spent_by": [{"endpoint": redact(name), "percent": round(100 * share, 1)} for name, share in by],
        **endpoints,
    }


def _worst_first(of_endpoint: Mapping[str, Any]) -> tuple[int, float]:
    left = of_endpoint["budget_left_percent"]
    return _WORST.index(of_endpoint["state"]), left if left is not None else 100.0


def _of_worst(endpoints: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The state of an objective with a budget for each endpoint: that of the worst one."""
    if not endpoints:
        return {}
    worst = endpoints[0]
    return {"state": worst["state"], "text": f"{worst['endpoint']}: {worst['text']}"}


def _budget(group: str, burning: list[tuple[Rule, BurnRate]], event_sums: EventSums) -> dict[str, Any]:
    """The state and the figures of all events, or of one endpoint."""
    _, expression = burning[0]
    objective, good = expression.objective, expression.good
    whole, present = event_sums.over(good, objective.window), event_sums.over(good, expression.tier.long)
    counts, rate = whole.of(group), objective.burn_rate(present.of(group))
    rates = [_burn_rate(rule, each, event_sums, group) for rule, each in burning]
    blind = is_blind(present, expression.tier.long)
    left = objective.left(counts) if counts.events else None
    gone_in = objective.gone_in(left, rate) if left is not None and not blind else None
    if blind:
        state, text = BLIND, "unknown: less than half of the time was measured of late"
    else:
        burns = any(each["burning"] for each in rates)
        state = BURNING if burns else EXHAUSTED if left is not None and left <= 0 else OK
        by = present if group == ALL and expression.group_by == "" else None
        text = in_words(objective, counts, rate, by if rate > 0 else None) if counts.events else "no requests yet"
    return {
        "state": state,
        "text": redact(text),
        "events": round(counts.events),
        "bad_events": round(counts.bad),
        "good_percent": _rounded(100 * (1 - counts.bad / counts.events) if counts.events else None),
        "budget_left_percent": _rounded(100 * left if left is not None else None),
        "gone_in_seconds": round(gone_in) if gone_in is not None else None,
        "burn_rates": rates,
    }


def _burn_rate(rule: Rule, expression: BurnRate, event_sums: EventSums, group: str) -> dict[str, Any]:
    tier, objective = expression.tier, expression.objective
    long, short = event_sums.over(expression.good, tier.long), event_sums.over(expression.good, tier.short)
    of_long = None if is_blind(long, tier.long) else objective.burn_rate(long.of(group))
    of_short = None if is_blind(short, tier.short) else objective.burn_rate(short.of(group))
    enough = long.of(group).events >= max(1, expression.min_events)
    known = of_long is not None and of_short is not None
    return {
        "rule": rule.name,
        "long_seconds": tier.long,
        "short_seconds": tier.short,
        "threshold": rule.threshold,
        "long": _rounded(of_long),
        "short": _rounded(of_short),
        "burning": known and enough and min(of_long or 0, of_short or 0) > rule.threshold,
    }


def _measured_percent(whole: WindowSum, window: int, event_sums: EventSums) -> float | None:
    """How much of the window was measured, since measuring began."""
    if event_sums.since is None:
        return None
    seconds = min(float(window), event_sums.until - event_sums.since)
    return round(min(100.0, 100 * whole.measured / seconds), 1) if seconds > 0 else None


def _rounded(value: float | None) -> float | None:
    return round(value, 4) if value is not None else None
