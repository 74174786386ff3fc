"""`culprits_of`: what stands out when an alert begins, compared with the hour before; the likeliest cause first.

Each dimension of what the alert is about is searched for values that explain the rise: see `standing_out`. A cause
deeper down (a worker, a collection, a host that is called) comes before the route that suffers from it.
"""

from collections.abc import Callable, Iterator

from otel_monitoring.alerts.evidence.alert import Alert
from otel_monitoring.alerts.evidence.circumstances import Circumstances
from otel_monitoring.alerts.evidence.culprit import Culprit
from otel_monitoring.alerts.evidence.delays import slow, traffic
from otel_monitoring.alerts.evidence.failures import failing
from otel_monitoring.alerts.evidence.other_metrics import documents, own_metric, pools
from otel_monitoring.alerts.evidence.processes import busy
from otel_monitoring.alerts.evidence.release import release_of
from otel_monitoring.alerts.evidence.subject import Subject, subject_of
from otel_monitoring.guard import fail_open

LIMIT = 5
"""The most causes of an alert."""

_Search = Callable[[Alert, Circumstances], Iterator[Culprit]]
_SEARCHES: dict[Subject, tuple[_Search, ...]] = {
    Subject.ERRORS: (failing,),
    Subject.TIME: (slow, traffic),
    Subject.CPU: (busy, traffic),
    Subject.MEMORY: (busy, traffic),
    Subject.LAG: (busy,),
    Subject.POOL: (pools, slow, traffic),
    Subject.DOCUMENTS: (documents, traffic),
    Subject.OTHER: (own_metric,),
}
_searching = fail_open("searching for what stands out in an alert")


def culprits_of(alert: Alert, about: Circumstances) -> list[Culprit]:
    """What stands out, the likeliest cause first; at most `LIMIT`, one of each kind."""
    found: list[Culprit] = []
    for search in (_release, *_SEARCHES[subject_of(alert.rule.expression)]):
        with _searching:
            found.extend(search(alert, about))
    kinds: dict[str, Culprit] = {}
    for culprit in sorted(found, key=lambda each: -each.rank):
        kinds.setdefault(culprit.kind, culprit)
    return list(kinds.values())[:LIMIT]


def _release(alert: Alert, about: Circumstances) -> Iterator[Culprit]:
    release = release_of(alert, about)
    if release is not None:
        yield Culprit("release", (release.version,), release.text, 1.0 if release.began_it else -1.0)
