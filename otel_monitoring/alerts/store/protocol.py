"""`Store`: the protocol of the state of alerting."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, AlertType, ChannelResult, Mute

HISTORY_LIMIT = 1000
"""The number of events that the history keeps, as documented."""

OUTBOX_LIMIT = 1000
"""The most events that wait for one channel; beyond that the least severe are left out: see `overflow`."""

MUTES_LIMIT = 1000
"""The most mutes in force."""

NOTES_LIMIT = 10_000
"""The number of notes of `note_notified` that are kept."""

NOTES_SECONDS = 86_400.0
"""Seconds that a note of `note_notified` is kept."""

CLOCK_TOLERANCE = 60.0
"""A time that is more than these seconds in the future is void: it was written before the clock was set back."""

UNREADABLE = " (unreadable)"
"""Appended to the channel of an event in the outbox that cannot be read."""

LEADER = "leader"
"""The lease of the leader, which evaluates the rules."""

T = TypeVar("T")


def lease_of(channel: str) -> str:
    """The lease of the worker that delivers by a channel."""
    return f"channel:{channel}"


def channel_of(lease: str) -> str | None:
    """The channel of a lease; None: the lease is for something else."""
    return lease.removeprefix("channel:") if lease.startswith("channel:") else None


def repeating_lease_of(channel: str) -> str:
    """The lease that marks a channel whose receiver holds an alert until it is resolved, as the Alertmanager does."""
    return f"repeats:{channel}"


@dataclass(frozen=True, slots=True)
class Queued:
    """An event in the outbox, which waits for one channel.

    Attributes:
        id: Its id; later events have larger ids.
        channel: The name of the channel.
        event: The event.
        queued_at: When it was enqueued, in Unix seconds.
        attempts: The number of attempts so far.
    """

    id: int
    channel: str
    event: AlertEvent
    queued_at: float
    attempts: int = 0


class Store(Protocol):
    """The state of alerting that outlives an evaluation, shared by the workers that use the same store.

    Methods may be called from any thread. Each is one transaction, unless it runs inside `exclusive`. A store that
    fails raises `StoreError`, and its transaction has no effect.
    """

    @property
    def problem(self) -> str | None:
        """Why the store does not work as configured, in one line without secrets; None: it does."""

    def run(self, work: "Callable[[Store], T]") -> T:
        """Run `work` in a transaction like that of `exclusive`, and return its result.

        Args:
            work: Gets the store to use. It must change nothing else: a store with a fallback may run it again there,
                after the first run had no effect.
        """

    def exclusive(self) -> AbstractContextManager[None]:
        """Make everything inside one transaction, isolated from other workers and threads. Not nested.

        Everything inside takes effect, or, if an exception leaves it, nothing.
        """

    def close(self) -> None:
        """Close files and connections; the next use opens them again. Idempotent."""

    # History

    def append(self, event: AlertEvent) -> None:
        """Add `event` to the history, dropping the oldest beyond `HISTORY_LIMIT`; firing events are counted.

        Its `channels` have its state on each channel; `note`, `settle` and `arrived` update them.
        """

    def events(
        self, *, limit: int, alert_type: AlertType | None = None, severity: AlertSeverity | None = None
    ) -> Sequence[AlertEvent]:
        """The newest `limit` events of this type and severity, the newest first; None: any."""

    def counts(self) -> dict[AlertType, int]:
        """The number of firing events of each type since the last `clear`, including dropped ones."""

    def clear(self) -> None:
        """Delete history, counts and the notes of `note_notified`; everything else stays."""

    # Mutes, and notes about notifications

    def mute(self, mute: Mute) -> None:
        """Add a mute; it replaces one of the same type and labels."""

    def unmute(self, alert_type: AlertType, labels: Mapping[str, str] | None = None) -> int:
        """End all mutes of a type, or the one with exactly these labels; returns how many were ended."""

    def mutes(self, now: float) -> list[Mute]:
        """The mutes in force at `now`, in Unix seconds, in the order of their ends; expired ones are deleted."""

    def notified_at(self, key: str) -> float | None:
        """The time of the last note for `key`, in Unix seconds; None: there is none, or it was deleted."""

    def note_notified(self, key: str, now: float) -> None:
        """Note the time `now`, in Unix seconds, for `key`.

        Notes older than `NOTES_SECONDS`, and the oldest beyond `NOTES_LIMIT`, may be deleted.
        """

    # The states of alerts, as opaque texts

    def states(self) -> dict[str, str]:
        """All saved states by key."""

    def save_states(self, states: Mapping[str, str | None]) -> None:
        """Save states by key; None deletes the state."""

    # The outbox

    def enqueue(self, event: AlertEvent, channels: Collection[str], now: float) -> None:
        """Add `event` to the outbox of each channel, at `now` in Unix seconds.

        Beyond `OUTBOX_LIMIT` events of a channel the least severe are left out, and an event counts them.
        """

    def enqueue_all(self, events: Sequence[AlertEvent], channels: Collection[str], now: float) -> None:
        """Add `events`, which were raised together, as `enqueue` does."""

    def pending(self, channel: str, limit: int) -> Sequence[Queued]:
        """The `limit` oldest events that wait for `channel`, the oldest first."""

    def backlog(self) -> dict[str, int]:
        """The number of waiting events by channel; channels without events may be missing."""

    def tried(self, ids: Collection[int]) -> None:
        """Count one more attempt for each of these events of the outbox."""

    def note(self, ids: Collection[int], result: ChannelResult) -> None:
        """Set the result of these events of the outbox in the history."""

    def settle(self, ids: Collection[int], result: ChannelResult | None = None) -> None:
        """Remove events from the outbox, and set their result in the history, unless it is None."""

    def arrived(self, rows: Sequence[Queued], result: ChannelResult) -> None:
        """Remove delivered events of one channel from the outbox, and set their result in the history.

        An event that was left out of a full outbox during its delivery is no longer counted as left out.
        """

    # Workers, their leases and reports

    def lead(self, worker: str, now: float, until: float, leases: Collection[str] = (LEADER,)) -> frozenset[str]:
        """Acquire or renew leases, and return those that `worker` now holds: no other worker held them.

        A lease that was taken more than `CLOCK_TOLERANCE` after `now` counts as expired: the clock was set back.

        Args:
            worker: The worker's name.
            now: Unix seconds.
            until: When the leases expire, in Unix seconds.
            leases: The names of the leases.
        """

    def leaders(self, now: float, within: float = 0.0) -> dict[str, str]:
        """The workers that hold leases at `now` or held them within `within` seconds before, by the lease's name."""

    def resign(self, worker: str) -> None:
        """Give back the leases of `worker`, and delete its report."""

    def describe(self, channel: str, condition: str) -> None:
        """Save the condition of a channel, an opaque text."""

    def descriptions(self) -> dict[str, str]:
        """The conditions of the channels, by channel."""

    def publish(self, worker: str, report: bytes, now: float, *, urgent: bool = False) -> None:
        """Save the report of a worker, opaque bytes; it replaces the worker's former report."""

    def reports(self, since: float, now: float) -> dict[str, bytes]:
        """The reports published from `since` on, by worker; older ones are deleted.

        Reports published more than `CLOCK_TOLERANCE` after `now` are deleted too: the clock was set back.
        """

    def urgent_since(self, since: float) -> bool:
        """Whether a report published after `since`, in Unix seconds, was urgent, even if it was replaced since."""


def mute_key(mute: Mute) -> tuple[AlertType, tuple[tuple[str, str], ...]]:
    """The identity of a mute, which sorts: a mute replaces another of the same key."""
    return mute.type, tuple(sorted(mute.labels.items()))
