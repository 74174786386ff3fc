"""`LeaderLease`: which worker of a host evaluates, and which one sends by each channel."""

from collections.abc import Callable, Collection

from otel_monitoring.alerts.store import Store
from otel_monitoring.alerts.store.protocol import LEADER, channel_of, repeats

CALLER = "caller-"
"""How the names begin of those who hold a channel's lease for one message, and are no workers."""

_KNOWN_SECONDS = 60.0


def channels_of_workers(store: Store, now: float) -> frozenset[str]:
    """The channels that running workers have, be it others than this one; a worker that restarts counts as running.

    Args:
        store: Where the workers agree.
        now: Unix seconds.
    """
    found = {channel_of(lease): worker for lease, worker in store.leaders(now, _KNOWN_SECONDS).items()}
    return frozenset(name for name, worker in found.items() if name is not None and not worker.startswith(CALLER))


def repeating_channels(store: Store, now: float) -> frozenset[str]:
    """Those of the channels of running workers whose receiver holds an alert until it is resolved.

    Args:
        store: Where the workers agree.
        now: Unix seconds.
    """
    leases = store.leaders(now, _KNOWN_SECONDS)
    return frozenset(name for name in map(channel_of, leases) if name is not None and repeats(name) in leases)


class LeaderLease:
    """One worker's claim to lead, to be renewed before it expires.

    Args:
        store: Where the workers agree.
        worker: This worker's name, unlike any other's.
        clock: Unix time in seconds.
        seconds: How long the lease lasts without being renewed: so long nobody leads after a leader's death.
        names: What it is for; the leases of a worker that evaluates and sends by several channels are held together,
            or, where another worker holds some of them, apart.
    """

    def __init__(
        self,
        store: Store,
        worker: str,
        clock: Callable[[], float],
        seconds: float,
        names: Collection[str] = (LEADER,),
    ) -> None:
        self._store = store
        self.worker = worker
        self._clock = clock
        self._seconds = seconds
        self._until = dict.fromkeys(names, 0.0)

    @property
    def held(self) -> bool:
        """Whether this worker holds all of it now, for all it knows; asks nobody."""
        return all(map(self.holds, self._until))

    def holds(self, name: str) -> bool:
        """Whether this worker holds what has this name now, for all it knows; asks nobody."""
        return 0 < self._until.get(name, 0.0) - self._clock() <= self._seconds

    def hold(self) -> bool:
        """Take the lease or renew it, as far as it is to be had; whether this worker holds all of it.

        What has half of its time left is not written again.
        """
        now = self._clock()
        due = [name for name, until in self._until.items() if not self._seconds / 2 < until - now <= self._seconds]
        if due:
            until = now + self._seconds
            granted = self._store.lead(self.worker, now, until, due)
            self._until.update({name: until if name in granted else 0.0 for name in due})
        return all(until > 0 for until in self._until.values())

    def give_back(self) -> None:
        """Let another worker lead at once."""
        self._until = dict.fromkeys(self._until, 0.0)
        self._store.resign(self.worker)
