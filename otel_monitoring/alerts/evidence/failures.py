"""`failing`: where the errors of an alert come from."""

from collections.abc import Callable, Iterator, Mapping

from otel_monitoring.alerts.evidence.alert import Alert
from otel_monitoring.alerts.evidence.circumstances import Circumstances
from otel_monitoring.alerts.evidence.comparison import (
    Compared,
    compared,
    growth,
    of_workers,
    requests_of,
    route_of,
    routes_of,
)
from otel_monitoring.alerts.evidence.culprit import Culprit, listed, ratio, shared
from otel_monitoring.alerts.evidence.figures import Cell, Request, total
from otel_monitoring.alerts.evidence.standing_out import Part, standing_out
from otel_monitoring.alerts.evidence.subject import bad_requests

_BY_ITSELF = 0.9
"""The score of the route that an alert names: something deeper may explain it better."""


def failing(alert: Alert, about: Circumstances) -> Iterator[Culprit]:
    """Routes, processes, collections, hosts, exceptions and statuses that have more errors than before."""
    route, bad = route_of(alert), bad_requests(alert.rule.expression, about.classify)
    lately, before = (requests_of(each.requests, route) for each in (about.lately, about.before))
    failed = {key: cell for key, cell in lately.items() if bad(key)}
    number, requests = total(failed.values()).number, total(lately.values()).number
    usual_rate = ratio(total(cell for key, cell in before.items() if bad(key)).number, total(before.values()).number)
    rise = number - requests * usual_rate
    if rise <= 0:
        return
    search = _Errors(failed, lately, usual_rate, number)
    if route:
        yield Culprit("route", (route,), f"route {route}: {number:.0f} of {requests:.0f} requests fail", _BY_ITSELF)
    else:
        yield from search.by("route", lambda key: f"{key.method} {key.route}".strip(), usual=True)
    yield from search.exceptions()
    yield from search.by("status", lambda key: str(key.status or ""))
    yield from _workers(about, route, usual_rate)
    yield from _collections(about, rise)
    yield from _hosts(alert, about, failed, rise)


class _Errors:
    """The failed requests lately, and what they are among."""

    def __init__(
        self,
        failed: Mapping[Request, Cell],
        lately: Mapping[Request, Cell],
        usual_rate: float,
        number: float,
    ) -> None:
        self.failed, self.lately, self.usual_rate, self.number = failed, lately, usual_rate, number

    def by(self, kind: str, of: Callable[[Request], str], *, usual: bool = False) -> Iterator[Culprit]:
        """The values of a dimension that explain the errors; `usual`: compared with their share of the requests."""
        known = compared(of, self.failed, self.lately)
        requests = total(self.lately.values()).number
        parts = [
            Part(name, bad.number - of_all.number * self.usual_rate, of_all.number / requests if usual else 0.0)
            for name, bad, of_all in known
            if name
        ]
        found = standing_out(parts, self.number)
        if found is not None:
            yield Culprit.of(kind, found, shared(kind, found, "errors", "requests" if usual else ""))

    def exceptions(self) -> Iterator[Culprit]:
        """The types of exceptions; that of a request whose exception became a response is not in its figures."""
        return self.by("exception", lambda key: "" if key.cause.isdigit() else key.cause)


def _workers(about: Circumstances, route: str, usual_rate: float) -> Iterator[Culprit]:
    counted = []
    for worker in about.workers:
        found = [sums for _, sums in routes_of(worker, route)]
        counted.append((worker, sum(sums[0] for sums in found), sum(sums[1] for sums in found)))
    requests, errors = sum(count for _, count, _ in counted), sum(failed for _, _, failed in counted)
    if requests:
        parts = [(worker, failed - count * usual_rate, count / requests) for worker, count, failed in counted]
        yield from of_workers(parts, errors, "errors")


def _collections(about: Circumstances, rise: float) -> Iterator[Culprit]:
    known = compared(lambda key: key.collection, about.lately.commands, about.before.commands)
    found = standing_out(_failures(known, growth(about)), rise, whole=rise)
    if found is not None:
        yield Culprit.of("collection", found, shared("database, collection", found, "errors"))


def _failures(known: list[Compared], scale: float) -> list[Part]:
    return [Part(name, now.failed - old.failed * scale, 0.0) for name, now, old in known if name]


def _hosts(alert: Alert, about: Circumstances, failed: dict[Request, Cell], rise: float) -> Iterator[Culprit]:
    """The hosts that the application calls: by its calls, or by what its exceptions say."""
    known = compared(str, about.lately.calls, about.before.calls)
    found = standing_out(_failures(known, growth(about)), rise, whole=rise)
    found = found or standing_out(_peers(alert, about, failed), rise, whole=rise)
    if found is None:
        return
    calls = total(now for name, now, _ in known if name in found.names)
    text = f"calls to {listed(found.names)} fail"
    yield Culprit.of("host", found, f"{text}: {calls.failed:.0f} of {calls.number:.0f}" if calls.number else text)


def _peers(alert: Alert, about: Circumstances, failed: dict[Request, Cell]) -> list[Part]:
    hosts = {(kind, request): host for worker in about.workers for kind, request, host in worker.peers}
    counts: dict[str, float] = {}
    seen: set[Request] = set()
    for (kind, request), host in hosts.items():
        group = about.errors.get((kind, request))
        if group is None or group.last < alert.since - about.window:
            continue
        for key, cell in failed.items():
            if f"{key.method} {key.route}" == request and key not in seen:
                seen.add(key)
                counts[host] = counts.get(host, 0.0) + cell.number
    return [Part(host, count, 0.0) for host, count in counts.items()]
