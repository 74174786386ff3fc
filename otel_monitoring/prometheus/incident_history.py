"""`IncidentHistory`: what Prometheus fires and ends, as events of the history."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from otel_monitoring.alerts.evaluation.incident import Incident
from otel_monitoring.alerts.model import AlertEvent, Status
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.alerts.store import Store
from otel_monitoring.alerts.store.history import HISTORY_LIMIT

_BY = {"evaluated_by": "Prometheus"}


class IncidentHistory:
    """Records the beginnings and the ends of incidents that Prometheus evaluates; the history itself says which it has.

    One of the processes that share a store does it. An incident that began and ended while none asked is missing.
    """

    def __init__(self) -> None:
        self._recorded: frozenset[str] | None = None

    def record(self, store: Store, incidents: Sequence[Incident], rules: Mapping[str, Rule], now: float) -> None:
        """Record what has changed since the last call, or since an earlier process did.

        Args:
            store: The store with the history.
            incidents: All incidents that Prometheus has.
            rules: The rules by name.
            now: Unix seconds.

        Raises:
            StoreError: The store failed.
        """
        firing = {one.id: one for one in incidents if one.firing}
        if self._recorded == firing.keys():
            return
        store.run(lambda store: _record(store, firing, rules, now))
        self._recorded = frozenset(firing)


def _record(store: Store, firing: Mapping[str, Incident], rules: Mapping[str, Rule], now: float) -> None:
    latest: dict[str, AlertEvent] = {}
    for event in store.history.events(limit=HISTORY_LIMIT):
        if event.status is not Status.ACKNOWLEDGED and _BY.items() <= event.details.items():
            latest.setdefault(event.incident, event)
    for identifier, incident in firing.items():
        if identifier not in latest:
            rule = rules.get(incident.rule)
            threshold = rule.threshold if rule is not None else None
            store.history.append(incident.event(rule, now, {"value": incident.value, "threshold": threshold, **_BY}))
    for identifier, event in latest.items():
        if identifier not in firing and event.status is Status.FIRING:
            store.history.append(replace(event, time=now, status=Status.RESOLVED, channels={}))
