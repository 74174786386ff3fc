"""`LeaderLease`: decides which worker evaluates the rules, and which worker delivers by each channel."""

from collections.abc import Callable, Collection

from otel_monitoring.alerts.store import Store
from otel_monitoring.alerts.store.protocol import LEADER, channel_of, repeating_lease_of

CALLER = "caller-"
"""The prefix of names that hold a channel's lease for one delivery within `send_alert`, and are no workers."""

_KNOWN_SECONDS = 60.0


def channels_of_workers(store: Store, now: float) -> frozenset[str]:
    """The channels of all running workers; a worker counts as running for a minute after its lease expired.

    Args:
        store: The store that the workers share.
        now: Unix seconds.
    """
    found = {channel_of(lease): worker for lease, worker in store.leaders(now, _KNOWN_SECONDS).items()}
    return frozenset(name for name, worker in found.items() if name is not None and not worker.startswith(CALLER))


def repeating_channels(store: Store, now: float) -> frozenset[str]:
    """The channels of running workers whose receiver holds an alert until it is resolved.

    Args:
        store: The store that the workers share.
        now: Unix seconds.
    """
    leases = store.leaders(now, _KNOWN_SECONDS)
    return frozenset(
        name for name in map(channel_of, leases) if name is not None and repeating_lease_of(name) in leases
    )


class LeaderLease:
    """One worker's leases in the store, which expire unless they are renewed.

    Args:
        store: The store that the workers share.
        worker: The unique name of this worker.
        clock: Returns Unix time in seconds.
        seconds: Seconds until a lease expires; after the death of its holder nobody holds it for so long.
        names: The leases to acquire; another worker may hold some of them.
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
        """Whether this worker holds all of its leases, without asking the store."""
        return all(map(self.holds, self._until))

    def holds(self, name: str) -> bool:
        """Whether this worker holds the lease called `name`, without asking the store."""
        return 0 < self._until.get(name, 0.0) - self._clock() <= self._seconds

    def hold(self) -> bool:
        """Acquire or renew the leases that no other worker holds; returns whether this worker holds all of them.

        A lease with more than half of its time left is not renewed.
        """
        now = self._clock()
        due = [name for name, until in self._until.items() if not self._seconds / 2 < until - now <= self._seconds]
        if due:
            until = now + self._seconds
            granted = self._store.lead(self.worker, now, until, due)
            self._until.update({name: until if name in granted else 0.0 for name in due})
        return all(until > 0 for until in self._until.values())

    def give_back(self) -> None:
        """Give all leases back, so that another worker can take them at once."""
        self._until = dict.fromkeys(self._until, 0.0)
        self._store.resign(self.worker)
