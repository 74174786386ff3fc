"""`Store`: what the alert manager needs of a place that keeps its state."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, AlertType, ChannelResult, Mute

HISTORY_LIMIT = 1000
"""How many alerts the history keeps, as documented."""

OUTBOX_LIMIT = 1000
"""How many events wait for one channel at most; beyond that the least severe are left out: see `overflow`."""

MUTES_LIMIT = 1000
"""How many mutes may be in force."""

NOTES_LIMIT = 10_000
"""How many notes about what was notified are kept."""

NOTES_SECONDS = 86_400.0
"""How long a note about what was notified is kept."""

CLOCK_TOLERANCE = 60.0
"""What was written more than these seconds in the future says that the clock was set back: it holds no more."""

UNREADABLE = " (unreadable)"
"""Appended to a channel's name: what waited for it and cannot be read."""

LEADER = "leader"
"""The lease of the worker that evaluates."""

T = TypeVar("T")


def lease_of(channel: str) -> str:
    """The lease of the worker that sends by a channel."""
    return f"channel:{channel}"


def channel_of(lease: str) -> str | None:
    """The channel that a lease is of."""
    return lease.removeprefix("channel:") if lease.startswith("channel:") else None


def repeats(channel: str) -> str:
    """The lease that says that the receiver of a channel holds an alert until it is resolved, as the Alertmanager."""
    return f"repeats:{channel}"


@dataclass(frozen=True, slots=True)
class Queued:
    """An event that waits to be delivered by one channel.

    Attributes:
        id: Its number in the outbox; later ones are larger.
        channel: The name of the channel.
        event: What is to be delivered.
        queued_at: When it was put there, in Unix seconds.
        attempts: How often delivering it was tried.
    """

    id: int
    channel: str
    event: AlertEvent
    queued_at: float
    attempts: int = 0


class Store(Protocol):
    """Everything about alerts that outlives a tick, shared by the workers that use the same store.

    Methods are called from several threads. Each is one transaction, unless it runs inside `exclusive`. A store that
    cannot do its work raises `StoreError`; nothing of that transaction has then happened.
    """

    @property
    def problem(self) -> str | None:
        """Why the store does not do what it should, in one line without secrets; None: it does."""

    def run(self, work: "Callable[[Store], T]") -> T:
        """Run `work` in a transaction as `exclusive` makes it, and return what it returns.

        `work` gets the store to use inside. A store that has another to fall back to may run it a second time there,
        after nothing of the first time took effect: `work` changes nothing but the store.
        """

    def exclusive(self) -> AbstractContextManager[None]:
        """Make all that is done inside one transaction, which no other worker's or thread's comes between.

        Either everything inside takes effect, or, when it is left by an exception, nothing. Not nested.
        """

    def close(self) -> None:
        """Give back files and connections. Used again, the store opens them again; idempotent."""

    # History

    def append(self, event: AlertEvent) -> None:
        """Add `event` to the history, dropping the oldest beyond `HISTORY_LIMIT`; counts it unless it is a resolve.

        Its `channels` say where it waits to be delivered; `note` and `settle` say there what becomes of it.
        """

    def events(
        self, *, limit: int, alert_type: AlertType | None = None, severity: AlertSeverity | None = None
    ) -> Sequence[AlertEvent]:
        """The newest `limit` events that match, newest first."""

    def counts(self) -> dict[AlertType, int]:
        """How many firing events of each type the history has seen, dropped ones included."""

    def clear(self) -> None:
        """Forget history, counts and what was notified when; everything else stays."""

    # Mutes, and what was notified

    def mute(self, mute: Mute) -> None:
        """Add a mute, replacing one of the same type and labels."""

    def unmute(self, alert_type: AlertType, labels: Mapping[str, str] | None = None) -> int:
        """End the mutes of a type, or the one with exactly these labels; returns how many there were."""

    def mutes(self, now: float) -> list[Mute]:
        """The mutes in force at `now`, in Unix seconds, the first to end first; expired ones are forgotten."""

    def notified_at(self, key: str) -> float | None:
        """When `key` was last noted as notified, in Unix seconds; None: never, or long ago."""

    def note_notified(self, key: str, now: float) -> None:
        """Note that `key` was notified at `now`; notes older than a day, and beyond 10,000, may be forgotten."""

    # The states of the rules: opaque texts

    def states(self) -> dict[str, str]:
        """Every saved state by its key."""

    def save_states(self, states: Mapping[str, str | None]) -> None:
        """Save states by their keys; None removes one."""

    # The outbox

    def enqueue(self, event: AlertEvent, channels: Collection[str], now: float) -> None:
        """Put `event` into the outbox once for each channel; beyond `OUTBOX_LIMIT` the least severe are left out."""

    def enqueue_all(self, events: Sequence[AlertEvent], channels: Collection[str], now: float) -> None:
        """Put `events`, which were raised together, into the outbox as `enqueue` does each."""

    def pending(self, channel: str, limit: int) -> Sequence[Queued]:
        """The `limit` events that have waited for `channel` the longest, oldest first."""

    def backlog(self) -> dict[str, int]:
        """How many events wait, by channel; channels with none may be missing."""

    def tried(self, ids: Collection[int]) -> None:
        """Count one more attempt for each of these."""

    def note(self, ids: Collection[int], result: ChannelResult) -> None:
        """Note in the history what has become of these until now."""

    def settle(self, ids: Collection[int], result: ChannelResult | None = None) -> None:
        """Take these out of the outbox: they were delivered, or given up, which is noted in the history."""

    def arrived(self, rows: Sequence[Queued], result: ChannelResult) -> None:
        """Take these out of the outbox: one channel has them, also those that were left out while on their way."""

    # Workers: one of them leads, and one sends by each channel

    def lead(self, worker: str, now: float, until: float, leases: Collection[str] = (LEADER,)) -> frozenset[str]:
        """Take these leases, or renew them, until `until`; without those that another worker holds.

        One that was taken more than `CLOCK_TOLERANCE` after `now` is over: the clock was set back since.
        """

    def leaders(self, now: float, lately: float = 0.0) -> dict[str, str]:
        """The workers by the leases that they hold at `now`, or held within `lately` seconds before."""

    def resign(self, worker: str) -> None:
        """Give back the leases that `worker` holds, and forget what `worker` published."""

    def describe(self, channel: str, condition: str) -> None:
        """Keep how a channel fares, an opaque text, in place of what was kept of it."""

    def descriptions(self) -> dict[str, str]:
        """How channels fare, by their names."""

    def publish(self, worker: str, report: bytes, now: float, *, urgent: bool = False) -> None:
        """Keep `worker`'s latest report, opaque bytes, in place of its former one."""

    def reports(self, since: float, now: float) -> dict[str, bytes]:
        """The reports published at `since` or later by worker; older ones are forgotten.

        So are those published more than `CLOCK_TOLERANCE` after `now`: the clock was set back since.
        """

    def urgent_since(self, since: float) -> bool:
        """Whether a report published after `since` was urgent, be it replaced meanwhile."""


def mute_key(mute: Mute) -> tuple[AlertType, tuple[tuple[str, str], ...]]:
    """What two mutes have in common of which the later replaces the former; also their order."""
    return mute.type, tuple(sorted(mute.labels.items()))
