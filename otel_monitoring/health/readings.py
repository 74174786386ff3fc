"""`readings_of`: the gauges of a service for its slices of the past, from what its processes say about themselves."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from otel_monitoring.health.instances import block_of
from otel_monitoring.health.status import DEGRADED, HEALTHY, UNHEALTHY
from otel_monitoring.metrics.slices.recorder import Readings
from otel_monitoring.redact import redact

OWN: Final = "~"
"""The prefix of the application's own gauges among those of a slice, which keeps them apart from ours."""
DOCUMENTS: Final = "documents/"
"""The prefix of the numbers of documents, before the name of the collection."""
STATUS: Final = "status"
"""The worst status of the processes, as a number."""
STATUS_LEVELS: Final = {HEALTHY: 0, DEGRADED: 1, UNHEALTHY: 2}
_OWN_LIMIT = 50
_COLLECTIONS_LIMIT = 40
_NAME_LENGTH = 200
_MS = 1000.0
_PER_PROCESS = (
    ("cpu", "system", "cpu_percent"),
    ("process_cpu", "system", "process_cpu_percent"),
    ("memory", "system", "memory_mb"),
    ("memory_percent", "system", "memory_percent"),
    ("loop_lag", "event_loop", "max_lag_seconds"),
)


def readings_of(states: Sequence[Mapping[str, Any]], collections: Mapping[str, Any]) -> Readings:
    """What the processes report, as readings.

    Args:
        states: The states of all processes, that of this one first; see `HealthAnswers.own_state`.
        collections: The collections of the database, as in its documented block.
    """
    levels = [float(STATUS_LEVELS[status]) for state in states if (status := state.get("status")) in STATUS_LEVELS]
    gauges: dict[str, list[float]] = {STATUS: levels}
    for name, block, key in _PER_PROCESS:
        gauges[name] = _numbers(block_of(state, block).get(key) for state in states)
    pings = _numbers(block_of(state, "database").get("response_time_ms") for state in states)
    gauges["ping"] = [ping / _MS for ping in pings]
    pools = _numbers(state.get("pool") for state in states)
    gauges["pool"] = [sum(pools)] if pools else []
    for name in sorted(collections)[:_COLLECTIONS_LIMIT]:
        facts = collections[name]
        count = facts.get("document_count") if isinstance(facts, Mapping) else None
        gauges[DOCUMENTS + redact(name, limit=_NAME_LENGTH)] = _numbers([count])
    gauges.update(_own_gauges(states))
    version = states[0].get("version") if states else None
    return Readings(gauges, redact(str(version), limit=_NAME_LENGTH) if version else None)


def _own_gauges(states: Iterable[Mapping[str, Any]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for state in states:
        for gauge in state.get("gauges") or ():
            if isinstance(gauge, Mapping):
                found.setdefault(OWN + str(gauge.get("name")), []).extend(_numbers([gauge.get("value")]))
    return {name: found[name] for name in sorted(found)[:_OWN_LIMIT]}


def _numbers(values: Iterable[Any]) -> list[float]:
    return [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
