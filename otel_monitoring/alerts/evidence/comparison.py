"""Lately and before, side by side: what the searches for causes compare."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from otel_monitoring import semconv as c
from otel_monitoring.alerts.evidence.alert import Alert
from otel_monitoring.alerts.evidence.circumstances import Circumstances, WorkerFigures
from otel_monitoring.alerts.evidence.culprit import Culprit, ratio, shared
from otel_monitoring.alerts.evidence.figures import Cell, Request, total
from otel_monitoring.alerts.evidence.standing_out import Part, StandingOut, standing_out
from otel_monitoring.metrics.snapshot import Histogram, merged
from otel_monitoring.metrics.window import Window

GROWN = 1.5
"""How many times as long something takes at least, to be slower."""

_SEVERAL = 3

Compared = tuple[str, Cell, Cell]
"""A name, and what there was of it lately and before."""


def route_of(alert: Alert) -> str:
    """The route that the alert is about; empty: it is about all of them."""
    return alert.group if alert.rule.expression.group_by == c.HTTP_ROUTE else ""


def requests_of(cells: Mapping[Request, Cell], route: str) -> Mapping[Request, Cell]:
    """The requests of a route; empty: of all."""
    return {key: cell for key, cell in cells.items() if key.route == route} if route else cells


def compared(of: Callable[[Any], str], lately: Mapping[Any, Cell], before: Mapping[Any, Cell]) -> list[Compared]:
    """By name: what there was lately, and before."""
    found: dict[str, list[Cell]] = {}
    for place, cells in enumerate((lately, before)):
        for key, cell in cells.items():
            known = found.setdefault(of(key), [Cell(), Cell()])
            known[place] = known[place].plus(cell)
    return [(name, now, old) for name, (now, old) in found.items()]


def both(names: Sequence[str], known: Iterable[Compared]) -> tuple[Cell, Cell]:
    """What there was of these names together, lately and before."""
    chosen = [(now, old) for name, now, old in known if name in names]
    return total(now for now, _ in chosen), total(old for _, old in chosen)


def growth(about: Circumstances) -> float:
    """The ratio of the number of requests lately to the number before."""
    lately, before = (total(each.requests.values()).number for each in (about.lately, about.before))
    return ratio(lately, before)


def routes_of(worker: WorkerFigures, route: str) -> Iterator[tuple[str, Sequence[float]]]:
    """Number, errors and seconds of the recent requests of a process, by route."""
    for name, sums in worker.routes.items():
        if not route or name == route:
            yield name, sums


def of_workers(parts: Sequence[tuple[WorkerFigures, float, float]], events: float, what: str) -> Iterator[Culprit]:
    """The processes, and the versions that they run, which explain a rise.

    Args:
        parts: Each process with its rise, and its usual share.
        events: How many events the rise consists of.
        what: What rises.
    """
    if len(parts) < 2:
        return
    versions: dict[str, Part] = {}
    for worker, rise, usual in parts:
        known = versions.get(worker.version, Part(worker.version, 0.0, 0.0))
        versions[worker.version] = Part(worker.version, known.rise + rise, known.usual + usual)
    found = standing_out([Part(worker.place, rise, usual) for worker, rise, usual in parts], events)
    if found is not None:
        yield Culprit.of("worker", found, shared("worker", found, what, "requests"))
    if len(versions) > 1 and (found := standing_out(versions.values(), events)) is not None:
        yield Culprit.of("version", found, shared("version", found, what, "requests"))


def quantiles(about: Circumstances, metric: str, key: str, q: float) -> dict[str, tuple[int, float, float]]:
    """By value of the attribute `key`: the number of recordings lately, and the `q`-quantile lately and before."""
    lately, whole = (_by_value(window, metric, key) for window in (about.recent, about.total))
    found = {}
    for name, now in lately.items():
        known = whole.get(name, now)
        old = known.minus(now, smallest=known.min, largest=known.max) if known.count > now.count else Histogram()
        found[name] = now.count, now.quantile(q) or 0.0, old.quantile(q) or 0.0
    return found


def risen(times: Mapping[str, tuple[int, float, float]]) -> StandingOut | None:
    """The names that explain the rise of the quantile; None: none has a larger share of it than of the recordings.

    Where the quantile of most names has risen, most wait for the others: only a rise beyond that of most counts.

    Args:
        times: By name, the number of recordings lately, and the quantile lately and before: see `quantiles`.
    """
    everything = sum(number for number, _, _ in times.values())
    waiting = _waiting(times)
    parts = [
        Part(name, number * (now - old - waiting), ratio(number, everything))
        for name, (number, now, old) in times.items()
    ]
    found = standing_out(parts, everything)
    if found is None:
        return None
    _, now, old = times[found.names[0]]
    return found if now >= GROWN * (old + waiting) else None


def _waiting(times: Mapping[str, tuple[int, float, float]]) -> float:
    """The rise that most names have in common; 0: fewer than half have risen, or there are too few names."""
    risen_by = sorted(now - old for _, now, old in times.values() if now >= GROWN * old)
    is_most = len(times) >= _SEVERAL and len(risen_by) > len(times) / 2
    return risen_by[(len(risen_by) - 1) // 2] if is_most else 0.0


def _by_value(window: Window, metric: str, key: str) -> dict[str, Histogram]:
    missing = c.UNMATCHED_ROUTE if key == c.HTTP_ROUTE else ""
    return {str(value or missing): merged(each for _, each in f) for value, f in window.grouped(metric, key).items()}
