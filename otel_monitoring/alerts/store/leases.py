"""`Leases`, and one worker's `LeaderLease`: who evaluates the rules, and who delivers by each channel."""

from collections.abc import Callable, Collection
from typing import Protocol

LEADER = "leader"
"""The lease of the leader, which evaluates the rules."""

CALLER = "caller-"
"""The prefix of names that hold a channel's lease for one delivery within `send_alert`, and are no workers."""

_KNOWN_SECONDS = 60.0


def lease_of(channel: str) -> str:
    """The lease of the worker that delivers by a channel."""
    return f"channel:{channel}"


def channel_of(lease: str) -> str | None:
    """The channel of a lease; None: the lease is for something else."""
    return lease.removeprefix("channel:") if lease.startswith("channel:") else None


def repeating_lease_of(channel: str) -> str:
    """The lease that marks a channel whose receiver holds an alert until it is resolved, as the Alertmanager does."""
    return f"repeats:{channel}"


class Leases(Protocol):
    """Leases, each held by one worker until it expires."""

    def lead(self, worker: str, now: float, until: float, leases: Collection[str] = (LEADER,)) -> frozenset[str]:
        """Acquire or renew leases, and return those that `worker` now holds: no other worker held them.

        A lease that was taken more than `CLOCK_TOLERANCE` after `now` counts as expired: the clock was set back.

        Args:
            worker: The worker's name.
            now: Unix seconds.
            until: When the leases expire, in Unix seconds.
            leases: The names of the leases.
        """

    def holders(self, now: float, within: float = 0.0) -> dict[str, str]:
        """The workers that hold leases at `now` or held them within `within` seconds before, by the lease's name."""

    def resign(self, worker: str) -> None:
        """Give back the leases of `worker`."""


def channels_of_workers(leases: Leases, now: float) -> frozenset[str]:
    """The channels of all running workers; a worker counts as running for a minute after its lease expired.

    Args:
        leases: The leases that the workers share.
        now: Unix seconds.
    """
    found = {channel_of(lease): worker for lease, worker in leases.holders(now, _KNOWN_SECONDS).items()}
    return frozenset(name for name, worker in found.items() if name is not None and not worker.startswith(CALLER))


def repeating_channels(leases: Leases, now: float) -> frozenset[str]:
    """The channels of running workers whose receiver holds an alert until it is resolved.

    Args:
        leases: The leases that the workers share.
        now: Unix seconds.
    """
    held = leases.holders(now, _KNOWN_SECONDS)
    return frozenset(name for name in map(channel_of, held) if name is not None and repeating_lease_of(name) in held)


class LeaderLease:
    """One worker's leases, which expire unless they are renewed.

    Args:
        leases: The leases that the workers share.
        worker: The unique name of this worker.
        clock: Returns Unix time in seconds.
        seconds: Seconds until a lease expires; after the death of its holder nobody holds it for so long.
        names: The leases to acquire; another worker may hold some of them.
    """

    def __init__(
        self,
        leases: Leases,
        worker: str,
        clock: Callable[[], float],
        seconds: float,
        names: Collection[str] = (LEADER,),
    ) -> None:
        self._leases = leases
        self.worker = worker
        self._clock = clock
        self._seconds = seconds
        self._until = dict.fromkeys(names, 0.0)

    @property
    def held(self) -> bool:
        """Whether this worker holds all of its leases, without asking the store."""
        return all(map(self.holds, self._until))

    def holds(self, name: str) -> bool:
        """Whether this worker holds the lease called `name`, without asking the store."""
        return 0 < self._until.get(name, 0.0) - self._clock() <= self._seconds

    def hold(self, *, without: Collection[str] = ()) -> bool:
        """Acquire or renew the leases that no other worker holds; returns whether this worker holds all of them.

        A lease with more than half of its time left is not renewed.

        Args:
            without: Leases that are neither acquired nor renewed.
        """
        now = self._clock()
        held = {name: until for name, until in self._until.items() if name not in without}
        due = [name for name, until in held.items() if not self._seconds / 2 < until - now <= self._seconds]
        if due:
            until = now + self._seconds
            granted = self._leases.lead(self.worker, now, until, due)
            self._until.update({name: until if name in granted else 0.0 for name in due})
        return all(until > 0 for until in self._until.values())

    def give_back(self) -> None:
        """Give all leases back, so that another worker can take them at once."""
        self._until = dict.fromkeys(self._until, 0.0)
        self._leases.resign(self.worker)
