"""`DeliveryOrder`: which of the events that wait for a channel go into the next message."""

from collections.abc import Collection, Sequence

from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, Status
from otel_monitoring.alerts.store.outbox import Queued

_EARLIER_PROCESS = -1
"""A group of events that an earlier process tried has a negative number: minus the number of attempts."""


def is_urgent(event: AlertEvent) -> bool:
    """Whether the event overtakes messages that fail, and waits only briefly for further events."""
    return event.severity is AlertSeverity.CRITICAL and event.status is Status.FIRING


class DeliveryOrder:
    """The order in which the events of one channel are tried.

    Events that were tried together stay one message, with its id. All events that were not tried yet are one message
    too. It comes after the messages that failed, with two exceptions: it contains a critical alert, or each failed
    message may itself be the cause, because it failed often or while others were delivered. After each delivery a
    failed message is next again. Events of one incident keep their order.

    Args:
        patience: Failures of a message after which later ones overtake it; doubled for each further failed message.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._groups: dict[int, int] = {}
        self._failures: dict[int, int] = {}
        self._failing_alone: set[int] = set()
        self._last_was_delivered = False

    def next(
        self, waiting: Sequence[Queued], not_due: Collection[int], not_blocking: Collection[int] = frozenset()
    ) -> list[Queued]:
        """The events of the next message; empty where none is due.

        Args:
            waiting: All waiting events, oldest first.
            not_due: The ids of those whose retry is not due yet.
            not_blocking: The ids of those that later events of their incident may overtake.
        """
        self._forget_all_but({entry.id for entry in waiting})
        fresh = [entry for entry in waiting if not entry.attempts]
        blocking = (entry for entry in waiting if entry.attempts and entry.id not in not_blocking)
        blocked = {entry.event.incident for entry in blocking if entry.event.incident}
        new_message = [entry for entry in fresh if entry.event.incident not in blocked]
        groups: dict[int, list[Queued]] = {}
        for entry in waiting:
            if entry.attempts and entry.id not in not_due:
                groups.setdefault(self._group_of(entry), []).append(entry)
        if not groups:
            return new_message
        failures = {group: self._failures.get(group, max(0, -group)) for group in groups}
        others = [count for group, count in failures.items() if group not in self._failing_alone]
        overtakes = all(count >= self._patience * 2 ** (len(others) - 1) for count in others)
        overtakes = overtakes and not self._last_was_delivered
        if new_message and (overtakes or any(is_urgent(entry.event) for entry in new_message)):
            return new_message
        return groups[min(groups, key=lambda group: (failures[group], group))]

    def begin(self, batch: Sequence[Queued]) -> None:
        """Make the batch one message."""
        self._make_group(batch, self._failures_of(batch[0]))
        self._last_was_delivered = False

    def delivered(self) -> None:
        """Note that the last message was delivered: failed messages may now be delivered too."""
        self._last_was_delivered = True

    def failed(self, batch: Sequence[Queued], *, alone: bool) -> None:
        """Count a failure of the batch, which stays one message.

        Args:
            batch: The events.
            alone: Whether the channel delivered another message just before.
        """
        self._make_group(batch, self._failures_of(batch[0]) + 1)
        if alone:
            self._failing_alone.add(batch[0].id)

    def divide(self, batch: Sequence[Queued]) -> None:
        """Make two messages of a refused batch, to find the event that is refused."""
        failures, half = self._failures_of(batch[0]), len(batch) // 2
        self._make_group(batch[:half], failures)
        self._make_group(batch[half:], failures)

    def _make_group(self, batch: Sequence[Queued], failures: int) -> None:
        group = batch[0].id
        self._groups.update(dict.fromkeys((entry.id for entry in batch), group))
        self._failures[group] = failures

    def _group_of(self, entry: Queued) -> int:
        return self._groups.get(entry.id, _EARLIER_PROCESS * entry.attempts)

    def _failures_of(self, entry: Queued) -> int:
        return self._failures.get(self._groups.get(entry.id, entry.id), entry.attempts)

    def _forget_all_but(self, ids: Collection[int]) -> None:
        self._groups = {known: group for known, group in self._groups.items() if known in ids}
        groups = set(self._groups.values())
        self._failures = {group: count for group, count in self._failures.items() if group in groups}
        self._failing_alone &= groups
