"""`Instances`: the processes of a service, as each reports its own state; and the figures of all of them together."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from otel_monitoring.alerts.evaluation.worker_report import INTERVAL, counts_for
from otel_monitoring.health.status import HEALTHY

_MAXIMA = frozenset({"max_cpu_percent", "max_memory_mb", "gc_longest_pause_seconds"})
"""Figures of a service that are the largest of its processes; all others are their average."""
_HIGHEST = ("cpu_percent", "process_cpu_percent", "memory_mb", "memory_percent")
_REASONS_LIMIT = 20


class SeenInstance(NamedTuple):
    """Another process of the service, as it has last reported.

    Attributes:
        id: Its `service.instance.id`.
        state: What it reported: see `HealthAnswers.own_state`.
        age: Seconds since that report was first seen here.
        leads: Whether it evaluates the alert rules.
    """

    id: str
    state: Mapping[str, Any]
    age: float
    leads: bool

    def as_json(self) -> dict[str, Any]:
        """The documented block."""
        shown = {key: value for key, value in self.state.items() if key not in _UNSHOWN}
        system = self.state.get("system")
        if isinstance(system, Mapping):
            shown["system"] = {name: system.get(name) for name in _HIGHEST}
        return {**shown, "report_age_seconds": round(self.age, 1), "leads": self.leads}


_UNSHOWN = frozenset({INTERVAL, "number", "gauges", "pool", "objectives"})


class Instances:
    """The other processes of the service. One thread calls `learn`; any thread may read.

    Reports carry a number that grows: their age is measured from when a number was first seen, so that the clocks of
    several hosts need not agree.

    A process that has sent no new report for three of its intervals has ended.

    Args:
        interval: Seconds between two reports of a process that does not say its own interval.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._first_seen: dict[str, tuple[object, float]] = {}
        self._states: dict[str, Mapping[str, Any]] = {}
        self._leader: str | None = None

    def learn(
        self,
        states: Mapping[str, Mapping[str, Any]],
        leader: str | None,
        now: float,
        ages: Mapping[str, float] | None = None,
    ) -> None:
        """Take the reported states of the other processes.

        Args:
            states: By `service.instance.id`.
            leader: The process that evaluates the alert rules.
            now: Seconds of the monotonic clock.
            ages: How old each report is, in seconds, where that is known.
        """
        seen = self._first_seen
        if ages is not None:
            seen = {name: (state.get("number"), now - ages[name]) for name, state in states.items()}
        self._first_seen = {
            name: seen[name] if name in seen and seen[name][0] == state.get("number") else (state.get("number"), now)
            for name, state in states.items()
        }
        self._leader = leader
        self._states = dict(states)

    def leads(self, instance: str) -> bool:
        """Whether the process evaluates the alert rules."""
        return instance == self._leader

    def others(self, now: float) -> list[SeenInstance]:
        """The processes that still report, the oldest first.

        Args:
            now: Seconds of the monotonic clock.
        """
        first = self._first_seen
        seen = [
            SeenInstance(name, state, max(0.0, now - first.get(name, (None, now))[1]), self.leads(name))
            for name, state in self._states.items()
        ]
        fresh = [instance for instance in seen if instance.age <= counts_for(instance.state, self._interval)]
        return sorted(fresh, key=lambda instance: (str(instance.state.get("started_at")), instance.id))


def block_of(state: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A block of a reported state; empty where another version reports none."""
    found = state.get(name)
    return found if isinstance(found, Mapping) else {}


def system_of(blocks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The `system` block of a service from those of its processes: averages, maxima, and the `highest` present figures.

    A figure that no process has is None.
    """
    answer = {name: _figure(name, blocks) for name in dict.fromkeys(name for block in blocks for name in block)}
    return {**answer, "highest": {name: max(_known(name, blocks), default=None) for name in _HIGHEST}}


def _figure(name: str, blocks: Iterable[Mapping[str, Any]]) -> float | None:
    known = _known(name, blocks)
    if len(known) < 2:
        return known[0] if known else None
    if name in _MAXIMA:
        return max(known)
    average = sum(known) / len(known)
    if all(isinstance(value, int) for value in known):
        return round(average)
    return round(average, 6 if name.endswith("_seconds") else 2)


def _known(name: str, blocks: Iterable[Mapping[str, Any]]) -> list[float]:
    values = [block.get(name) for block in blocks]
    return [value for value in values if isinstance(value, int | float)]


def reasons_of(others: Iterable[SeenInstance], own: Iterable[str]) -> list[str]:
    """Why other processes are not healthy; what holds for this one, too, is not said again."""
    known = set(own)
    found: dict[str, str] = {}
    for other in others:
        if other.state.get("status") == HEALTHY:
            continue
        for reason in map(str, other.state.get("reasons") or ()):
            if reason not in known:
                found.setdefault(reason, f"{reason} (host {other.state.get('host')}, pid {other.state.get('pid')})")
    return list(found.values())[:_REASONS_LIMIT]
