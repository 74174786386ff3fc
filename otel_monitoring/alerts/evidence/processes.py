"""`busy`: which processes have the CPU, the memory or the lag of an alert, and which routes work more than before."""

from collections.abc import Iterator, Sequence

from otel_monitoring import semconv as c
from otel_monitoring.alerts.evidence.alert import Alert
from otel_monitoring.alerts.evidence.circumstances import Circumstances, WorkerFigures
from otel_monitoring.alerts.evidence.comparison import quantiles, risen
from otel_monitoring.alerts.evidence.culprit import Culprit, listed, number, seconds
from otel_monitoring.alerts.evidence.places import place_in_positions
from otel_monitoring.alerts.evidence.standing_out import Part, standing_out
from otel_monitoring.alerts.evidence.subject import Subject, subject_of
from otel_monitoring.alerts.model import AlertType

_LEAST_RISE = {Subject.CPU: 10.0, Subject.MEMORY: 20.0, Subject.LAG: 0.1}
"""The rise of a process's reading that counts: percent of the CPU, MiB, seconds."""
_UNITS = {Subject.CPU: "% CPU", Subject.MEMORY: " MiB", Subject.LAG: " s of lag"}
_READINGS = 60
"""How many events the readings of processes are taken for."""
_ALONE = 0.25
"""The score of a process that there is no other to compare with."""
_LOW_QUANTILE = 0.1
_SEEN = 0.7
"""The score of the code that was seen blocking the loop: of several stalls it was one."""

_Reading = tuple[WorkerFigures, float, float]


def busy(alert: Alert, about: Circumstances) -> Iterator[Culprit]:
    """Processes, and routes whose own work has grown."""
    subject = subject_of(alert.rule.expression)
    yield from _processes(alert, about, subject)
    if subject is not Subject.MEMORY:
        yield from _working_routes(about)
    if subject is Subject.LAG:
        yield from _blocking_code(alert, about)


def _processes(alert: Alert, about: Circumstances, subject: Subject) -> Iterator[Culprit]:
    own = alert.labels.get("instance")
    readings: list[_Reading] = []
    for worker in about.workers:
        pair = worker.gauges.get(subject.value)
        if pair is not None and own in (None, worker.instance):
            readings.append((worker, pair[0], pair[1]))
    score = _ALONE
    if len(readings) > 1:
        parts = [Part(worker.place, now - before, 1 / len(readings)) for worker, now, before in readings]
        found = standing_out(parts, _READINGS)
        if found is not None:
            readings, score = [one for one in readings if one[0].place in found.names], found.score
    risen = [one for one in readings if one[1] - one[2] >= _LEAST_RISE[subject]]
    if risen:
        names = [worker.place for worker, _, _ in risen]
        yield Culprit("worker", names[:3], f"worker {listed(_texts(risen[:3], _UNITS[subject]))}", score)


def _texts(readings: Sequence[_Reading], unit: str) -> list[str]:
    return [f"{worker.place} ({number(before)} → {number(now)}{unit})" for worker, now, before in readings]


def _working_routes(about: Circumstances) -> Iterator[Culprit]:
    """Routes whose fastest requests are slower than before: such a route does more work itself, others only wait."""
    times = quantiles(about, c.HTTP_SERVER_REQUEST_DURATION, c.HTTP_ROUTE, _LOW_QUANTILE)
    found = risen(times)
    if found is not None:
        _, quick, before = times[found.names[0]]
        usual = f", {seconds(before)} before" if before else ""
        text = f"route {listed(found.names)}: even its fastest requests take {seconds(quick)}{usual}"
        yield Culprit.of("route", found, text)


def _blocking_code(alert: Alert, about: Circumstances) -> Iterator[Culprit]:
    """The request and the place in code that blocked the loop, as its monitor saw it."""
    report = about.reports.get(alert.labels.get("instance", ""))
    seen = report.evidence.get(AlertType.EVENT_LOOP_BLOCKED.value, {}) if report is not None else {}
    stack, request = seen.get("stack"), seen.get("request")
    if isinstance(request, str):
        yield Culprit("route", (request.partition(" ")[2],), f"route {request}: its code blocks the event loop", 1.0)
    if isinstance(stack, list) and (place := place_in_positions(map(str, stack))):
        yield Culprit("code", (place,), f"code {place}", _SEEN)
