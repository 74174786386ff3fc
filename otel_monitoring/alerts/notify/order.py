"""`Order`: which of the events that wait for a channel leave next, together in one message."""

from collections.abc import Collection, Sequence

from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, Status
from otel_monitoring.alerts.store.protocol import Queued

_RETRIED_BEFORE = -1
"""Groups that another process tried have negative numbers: so often they were tried."""


def is_urgent(event: AlertEvent) -> bool:
    """Whether it waits neither for older messages that fail nor for others to leave with it."""
    return event.severity is AlertSeverity.CRITICAL and event.status is Status.FIRING


class Order:
    """In which order what waits for one channel is tried.

    What was tried together stays together: its message keeps its id. All that was not tried yet is one message, too. It
    comes after those that failed, unless a critical alert is in it, or it may be these messages, and not the channel,
    that cannot be delivered: each has failed often, or just after another was delivered. What is said of one incident
    never changes its order.

    Args:
        patience: How often a message fails before later ones overtake it; twice as often with each that failed so.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._groups: dict[int, int] = {}
        self._failures: dict[int, int] = {}
        self._alone: set[int] = set()

    def next(self, waiting: Sequence[Queued], resting: Collection[int]) -> list[Queued]:
        """What is tried now; nothing when nothing is due.

        Args:
            waiting: All that waits, oldest first.
            resting: The ids of those of them that are not due now.
        """
        self._forget_all_but({entry.id for entry in waiting})
        fresh = [entry for entry in waiting if not entry.attempts]
        behind = {entry.event.incident for entry in waiting if entry.attempts and entry.event.incident}
        ahead = [entry for entry in fresh if entry.event.incident not in behind]
        groups: dict[int, list[Queued]] = {}
        for entry in waiting:
            if entry.attempts and entry.id not in resting:
                groups.setdefault(self._group_of(entry), []).append(entry)
        if not groups:
            return ahead
        failures = {group: self._failures.get(group, max(0, -group)) for group in groups}
        suspects = [count for group, count in failures.items() if group not in self._alone]
        overtakes = all(count >= self._patience * 2 ** (len(suspects) - 1) for count in suspects)
        if ahead and (overtakes or any(is_urgent(entry.event) for entry in ahead)):
            return ahead
        return groups[min(groups, key=lambda group: (failures[group], group))]

    def begin(self, batch: Sequence[Queued]) -> None:
        """These are one message from now on."""
        self._name(batch, self._failures_of(batch[0]))

    def failed(self, batch: Sequence[Queued], *, alone: bool) -> None:
        """They will be tried again, together; `alone`: what was tried just before them was delivered."""
        self._name(batch, self._failures_of(batch[0]) + 1)
        if alone:
            self._alone.add(batch[0].id)

    def divide(self, batch: Sequence[Queued]) -> None:
        """They were refused together: half of them is tried without the others."""
        failures, half = self._failures_of(batch[0]), len(batch) // 2
        self._name(batch[:half], failures)
        self._name(batch[half:], failures)

    def _name(self, batch: Sequence[Queued], failures: int) -> None:
        group = batch[0].id
        self._groups.update(dict.fromkeys((entry.id for entry in batch), group))
        self._failures[group] = failures

    def _group_of(self, entry: Queued) -> int:
        return self._groups.get(entry.id, _RETRIED_BEFORE * entry.attempts)

    def _failures_of(self, entry: Queued) -> int:
        return self._failures.get(self._groups.get(entry.id, entry.id), entry.attempts)

    def _forget_all_but(self, ids: Collection[int]) -> None:
        self._groups = {known: group for known, group in self._groups.items() if known in ids}
        named = set(self._groups.values())
        self._failures = {group: count for group, count in self._failures.items() if group in named}
        self._alone &= named
