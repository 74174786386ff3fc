"""Lately and before, side by side: what the searches for causes compare."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from otel_monitoring import semconv as c
from otel_monitoring.alerts.evidence.circumstances import Alert, Circumstances, WorkerFigures
from otel_monitoring.alerts.evidence.culprit import Culprit, ratio, shared
from otel_monitoring.alerts.evidence.figures import Cell, Request, total
from otel_monitoring.alerts.evidence.standing_out import Part, standing_out

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
    """How many requests there were lately for one before."""
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
