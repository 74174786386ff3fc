"""`slow`: what takes longer than before; `traffic`: what is called more often."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from otel_monitoring import semconv as c
from otel_monitoring.alerts.evidence.alert import Alert
from otel_monitoring.alerts.evidence.circumstances import Circumstances
from otel_monitoring.alerts.evidence.collection_growth import growth_of
from otel_monitoring.alerts.evidence.comparison import (
    GROWN,
    Compared,
    both,
    compared,
    growth,
    of_workers,
    quantiles,
    requests_of,
    risen,
    route_of,
    routes_of,
)
from otel_monitoring.alerts.evidence.culprit import Culprit, change, listed, number, ratio, seconds
from otel_monitoring.alerts.evidence.figures import Cell, total
from otel_monitoring.alerts.evidence.standing_out import Part, standing_out

_BY_ITSELF = 0.2
"""The score of the route that an alert names: something deeper may explain it better."""
_MANY = 2.0
_MANY_EVENTS = 100
_DEEPER = 0.6
_LEAST_SHARE = 0.1
_OF_TRAFFIC = 0.8


@dataclass(frozen=True, slots=True)
class _Rise:
    """The rise of the time that requests take.

    Attributes:
        seconds: The time in all beyond what these requests took before.
        before: Seconds of all requests before.
        longest: Seconds of the longest request lately.
    """

    seconds: float
    before: float
    longest: float

    @property
    def events(self) -> float:
        """The fewest requests that the rise may consist of: a few slow ones may be in one place by chance."""
        return ratio(self.seconds, self.longest)


def slow(alert: Alert, about: Circumstances) -> Iterator[Culprit]:
    """Routes, collections, hosts and processes that take more time than before."""
    route = route_of(alert)
    known = compared(
        lambda key: key.route, requests_of(about.lately.requests, route), requests_of(about.before.requests, route)
    )
    lately, before = total(now for _, now, _ in known), total(old for _, _, old in known)
    if not about.knows_before:  # routes are compared with one another
        known = [(name, now, Cell()) for name, now, _ in known]
        before = Cell(lately.number, min(lately.seconds, lately.number * _median(known)))
    mean = ratio(before.seconds, before.number)
    means = {name: ratio(old.seconds, old.number) if old.number else mean for name, _, old in known}
    parts = [
        Part(name, now.seconds - now.number * means[name], ratio(now.number, lately.number)) for name, now, _ in known
    ]
    rise = _Rise(sum(max(0.0, part.rise) for part in parts), before.seconds, _longest(about, route))
    if route:
        text = f"route {route}: {change(lately, before)}" if lately.number else f"route {route}"
        yield Culprit("route", (route,), text, _BY_ITSELF)
    elif (found := standing_out(parts, rise.events)) is not None:
        now, old = both(found.names, known)
        if _is_slower(now, old if old.number else before):
            yield Culprit.of("route", found, f"route {listed(found.names)}: {change(now, old)}")
    yield from list(_working_collections(about)) or _collections(about, rise)
    yield from _hosts(about, rise)
    yield from _workers(about, route, means, rise)


def _longest(about: Circumstances, route: str) -> float:
    recorded = about.recent.histograms(c.HTTP_SERVER_REQUEST_DURATION)
    found = [histogram.max for series, histogram in recorded if not route or series.get(c.HTTP_ROUTE) == route]
    return max(found, default=0.0)


def _is_slower(now: Cell, than: Cell) -> bool:
    return ratio(now.seconds, now.number) >= GROWN * ratio(than.seconds, than.number)


def _median(known: Sequence[Compared]) -> float:
    """The mean duration of a route in the middle."""
    means = sorted(ratio(now.seconds, now.number) for _, now, _ in known if now.number)
    return means[len(means) // 2] if means else 0.0


def _collections(about: Circumstances, rise: _Rise) -> Iterator[Culprit]:
    known = compared(lambda key: key.collection, about.lately.commands, about.before.commands)
    for names, culprit in _longer("collection", known, about, rise):
        yield Culprit(
            culprit.kind,
            culprit.names,
            f"{_what(names, about)} {culprit.text}{growth_of(names[0], about, least=GROWN)}",
            culprit.score,
            culprit.share,
            culprit.usual,
        )


def _working_collections(about: Circumstances) -> Iterator[Culprit]:
    """The collections whose median command is slower than before.

    Other collections, whose commands wait for those now and then, have slow commands too, but the same median.
    """
    times = quantiles(about, c.DB_CLIENT_OPERATION_DURATION, c.DB_COLLECTION_NAME, 0.5)
    times.pop("", None)
    found = risen(times)
    if found is not None and _share_of_delay(found.names, about) >= _LEAST_SHARE:
        _, now, old = times[found.names[0]]
        usual = f"{seconds(old)} → " if old else ""
        grown = growth_of(found.names[0], about, least=GROWN)
        text = f"{_what(found.names, about)} {listed(found.names)}: {usual}{seconds(now)} usually{grown}"
        yield Culprit("collection", found.names, text, max(found.score, _DEEPER), found.share, found.usual)


def _share_of_delay(names: Sequence[str], about: Circumstances) -> float:
    """The share of collections in the time that commands take beyond what they took before."""
    scale = growth(about)
    known = compared(lambda key: key.collection, about.lately.commands, about.before.commands)
    delays = {name: max(0.0, now.seconds - old.seconds * scale) for name, now, old in known}
    return ratio(sum(delays.get(name, 0.0) for name in names), sum(delays.values()))


def _hosts(about: Circumstances, rise: _Rise) -> Iterator[Culprit]:
    known = compared(str, about.lately.calls, about.before.calls)
    for _, culprit in _longer("host", known, about, rise):
        yield Culprit(
            culprit.kind, culprit.names, f"calls to {culprit.text}", culprit.score, culprit.share, culprit.usual
        )


def _longer(
    kind: str, known: Sequence[Compared], about: Circumstances, rise: _Rise
) -> Iterator[tuple[Sequence[str], Culprit]]:
    if not about.knows_before:
        # They are compared with one another: how long would they take if all took as long as the average?
        whole = total(now for _, now, _ in known)
        known = [
            (name, now, Cell(now.number, now.number * ratio(whole.seconds, whole.number))) for name, now, _ in known
        ]
    scale = growth(about) if about.knows_before else 1.0
    usual = max(rise.before, sum(old.seconds for _, _, old in known))
    parts = [
        Part(name, now.seconds - old.seconds * scale, ratio(old.seconds, usual)) for name, now, old in known if name
    ]
    # Their time is a measured part of the time of the requests, so that even a few are no chance.
    found = standing_out(parts, _MANY_EVENTS, whole=rise.seconds)
    if found is None:
        return
    now, old = both(found.names, known)
    if now.seconds >= GROWN * old.seconds * scale:
        shown = change(now, old if about.knows_before else Cell())
        yield found.names, Culprit.of(kind, found, f"{listed(found.names)}: {shown}")


def _what(names: Sequence[str], about: Circumstances) -> str:
    """`database, find on`, with the operation to which most of the added time of these collections goes."""
    scale = growth(about)
    took: dict[str, float] = {}
    for key, cell in about.lately.commands.items():
        if key.collection in names:
            before = about.before.commands.get(key, Cell()).seconds * scale
            took[key.operation] = took.get(key.operation, 0.0) + cell.seconds - before
    operation = max(took, key=lambda name: took[name], default="")
    return f"database, {operation} on" if operation else "database,"


def _workers(about: Circumstances, route: str, means: Mapping[str, float], rise: _Rise) -> Iterator[Culprit]:
    known: dict[str, Cell] = {}
    rises = []
    for worker in about.workers:
        found = list(routes_of(worker, route))
        known[worker.instance] = Cell(sum(sums[0] for _, sums in found), sum(sums[2] for _, sums in found))
        rises.append((worker, sum(sums[2] - sums[0] * means.get(name, 0.0) for name, sums in found)))
    everything = total(known.values())
    shares = [(worker, delay, ratio(known[worker.instance].number, everything.number)) for worker, delay in rises]
    # What other processes report of themselves is some seconds older than what is known of the service.
    events = ratio(sum(max(0.0, delay) for _, delay in rises), rise.longest)
    for culprit in of_workers(shares, events, "delay"):
        named = {*culprit.names}
        chosen = total(known[worker.instance] for worker, _ in rises if {worker.place, worker.version} & named)
        if _is_slower(chosen, everything.minus(chosen)):
            yield culprit


def traffic(_: Alert, about: Circumstances) -> Iterator[Culprit]:
    """Routes that are called more often than before."""
    lately, before = about.lately, about.before
    if not about.knows_before or not lately.seconds:
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
