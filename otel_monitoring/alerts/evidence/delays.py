"""`slow`: what takes longer than before; `traffic`: what is called more often."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from otel_monitoring.alerts.evidence.circumstances import Alert, Circumstances
from otel_monitoring.alerts.evidence.comparison import (
    Compared,
    both,
    compared,
    growth,
    of_workers,
    requests_of,
    route_of,
    routes_of,
)
from otel_monitoring.alerts.evidence.culprit import Culprit, change, listed, number, ratio
from otel_monitoring.alerts.evidence.documents import growth_of
from otel_monitoring.alerts.evidence.figures import Cell, total
from otel_monitoring.alerts.evidence.standing_out import Part, standing_out

_BY_ITSELF = 0.5
"""The score of the route that an alert names: something deeper may explain it better."""
_GROWN = 1.5
"""How many times as long something takes at least."""
_MANY = 2.0
_OF_TRAFFIC = 0.8


@dataclass(frozen=True, slots=True)
class _Rise:
    """The rise of the time that requests take.

    Attributes:
        seconds: The time in all beyond what these requests took before.
        requests: How many requests there were lately.
        before: Seconds of all requests before.
    """

    seconds: float
    requests: float
    before: float


def slow(alert: Alert, about: Circumstances) -> Iterator[Culprit]:
    """Routes, collections, hosts and processes that take more time than before."""
    route = route_of(alert)
    known = compared(
        lambda key: key.route, requests_of(about.lately.requests, route), requests_of(about.before.requests, route)
    )
    lately, before = total(now for _, now, _ in known), total(old for _, _, old in known)
    mean = ratio(before.seconds, before.number)
    means = {name: ratio(old.seconds, old.number) if old.number else mean for name, _, old in known}
    parts = [
        Part(name, now.seconds - now.number * means[name], ratio(now.number, lately.number)) for name, now, _ in known
    ]
    if route:
        text = f"route {route}: {change(lately, before)}" if lately.number else f"route {route}"
        yield Culprit("route", (route,), text, _BY_ITSELF)
    elif (found := standing_out(parts, lately.number)) is not None:
        yield Culprit.of("route", found, f"route {listed(found.names)}: {change(*both(found.names, known))}")
    rise = _Rise(sum(max(0.0, part.rise) for part in parts), lately.number, before.seconds)
    yield from _collections(about, rise)
    yield from _hosts(about, rise)
    yield from _workers(about, route, means)


def _collections(about: Circumstances, rise: _Rise) -> Iterator[Culprit]:
    known = compared(lambda key: key.collection, about.lately.commands, about.before.commands)
    for names, culprit in _longer("collection", known, about, rise):
        operation = _operation(names, about)
        what = f"database, {operation} on" if operation else "database,"
        yield Culprit(
            culprit.kind,
            culprit.names,
            f"{what} {culprit.text}{growth_of(names[0], about, least=_GROWN)}",
            culprit.score,
            culprit.share,
            culprit.usual,
        )


def _hosts(about: Circumstances, rise: _Rise) -> Iterator[Culprit]:
    known = compared(str, about.lately.calls, about.before.calls)
    for _, culprit in _longer("host", known, about, rise):
        yield Culprit(
            culprit.kind, culprit.names, f"calls to {culprit.text}", culprit.score, culprit.share, culprit.usual
        )


def _longer(
    kind: str, known: Sequence[Compared], about: Circumstances, rise: _Rise
) -> Iterator[tuple[Sequence[str], Culprit]]:
    scale = growth(about)
    usual = max(rise.before, sum(old.seconds for _, _, old in known))
    parts = [
        Part(name, now.seconds - old.seconds * scale, ratio(old.seconds, usual)) for name, now, old in known if name
    ]
    events = min(rise.requests or float("inf"), sum(now.number for _, now, _ in known))
    found = standing_out(parts, events, whole=rise.seconds)
    if found is None:
        return
    now, old = both(found.names, known)
    if now.seconds >= _GROWN * old.seconds * scale:
        yield found.names, Culprit.of(kind, found, f"{listed(found.names)}: {change(now, old)}")


def _operation(names: Sequence[str], about: Circumstances) -> str:
    """The operation to which most of the added time of these collections goes."""
    scale = growth(about)
    seconds: dict[str, float] = {}
    for key, cell in about.lately.commands.items():
        if key.collection in names:
            before = about.before.commands.get(key, Cell()).seconds * scale
            seconds[key.operation] = seconds.get(key.operation, 0.0) + cell.seconds - before
    return max(seconds, key=lambda name: seconds[name], default="")


def _workers(about: Circumstances, route: str, means: Mapping[str, float]) -> Iterator[Culprit]:
    parts = []
    for worker in about.workers:
        rise = count = 0.0
        for name, (answered, _, seconds) in routes_of(worker, route):
            count += answered
            rise += seconds - answered * means.get(name, 0.0)
        parts.append((worker, rise, count))
    everything = sum(count for _, _, count in parts)
    if everything:
        yield from of_workers(
            [(worker, rise, count / everything) for worker, rise, count in parts], everything, "delay"
        )


def traffic(_: Alert, about: Circumstances) -> Iterator[Culprit]:
    """Routes that are called more often than before."""
    lately, before = about.lately, about.before
    if not before.seconds or not lately.seconds:
        return
    scale = lately.seconds / before.seconds
    known = compared(lambda key: key.route, lately.requests, before.requests)
    whole = total(old for _, _, old in known).number
    parts = [Part(name, now.number - old.number * scale, ratio(old.number, whole)) for name, now, old in known]
    found = standing_out(parts, sum(now.number for _, now, _ in known))
    if found is None:
        return
    now, old = both(found.names, known)
    if now.number >= _MANY * old.number * scale:
        rates = f"{number(old.number / before.seconds)} → {number(now.number / lately.seconds)} requests a second"
        text = f"traffic of {listed(found.names)}: {rates}"
        yield Culprit("traffic", found.names, text, _OF_TRAFFIC * found.score, found.share, found.usual)
