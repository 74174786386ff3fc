"""`traces_of`: the slowest or failing traces that an alert is about, with links."""

from collections.abc import Iterable, Sequence
from typing import Any

from otel_monitoring.alerts.evidence.alert import Alert
from otel_monitoring.alerts.evidence.circumstances import Circumstances
from otel_monitoring.alerts.evidence.comparison import route_of
from otel_monitoring.alerts.evidence.culprit import Culprit
from otel_monitoring.config import template
from otel_monitoring.guard import fail_open
from otel_monitoring.metrics.outcome import OutcomeClassifier
from otel_monitoring.redact import printable, redact

LIMIT = 3
"""The most traces of an alert."""
_linking = fail_open("making the link of a trace")


def traces_of(alert: Alert, about: Circumstances, first: Sequence[Culprit], url: str, *, failing: bool) -> list[Any]:
    """At most `LIMIT` traces as JSON, each with `trace_id`, `request`, `seconds`, `status`, and `url` if there is one.

    Those of the routes and processes that stand out come first, then the slowest.

    Args:
        alert: The alert.
        about: What is known.
        first: What stands out.
        url: The template of links: see `OTEL_MONITORING_TRACE_URL`. Empty: there are no links.
        failing: Whether the alert is about failed requests.
    """
    group = route_of(alert)
    named = {name for culprit in first[:2] for name in culprit.names}
    found: list[tuple[tuple[bool, float], dict[str, Any]]] = []
    for worker in about.workers:
        for trace in worker.traces:
            seconds, method, route, status, cause, trace_id = trace
            request = f"{method} {route}"
            if (group and route != group) or (failing and not _is_error(status, cause, about.classify)):
                continue
            stands_out = not named.isdisjoint((route, request, worker.place, cause))
            answer = {
                "trace_id": printable(str(trace_id)),
                "request": redact(request, limit=200),
                "seconds": seconds,
                "status": status,
            }
            found.append(((not stands_out, -float(seconds)), {**answer, **link_of(url, str(trace_id))}))
    chosen = [answer for _, answer in sorted(found, key=lambda pair: pair[0])[:LIMIT]]
    return chosen or (list(_of_groups(about, group, url)) if failing else [])


def _of_groups(about: Circumstances, route: str, url: str) -> Iterable[dict[str, Any]]:
    """The last failed request of each group, where no trace was remembered otherwise."""
    groups = [group for group in about.errors.values() if group.trace_id and group.last >= about.now - about.window]
    fitting = [group for group in groups if not route or group.route.endswith(f" {route}")]
    for group in sorted(fitting, key=lambda one: -one.last)[:LIMIT]:
        yield {"trace_id": group.trace_id, "request": group.route, **link_of(url, str(group.trace_id))}


def link_of(url: str, trace_id: str) -> dict[str, str]:
    """`url` of a trace; nothing without a template."""
    if url:
        with _linking:
            return {"url": template.fill_link(url, {"trace_id": trace_id})}
    return {}


def _is_error(status: object, cause: object, classify: OutcomeClassifier) -> bool:
    return classify.is_error_status(status) if isinstance(status, int) else bool(cause)
