"""`Lease`: which worker of a host evaluates and delivers."""

from collections.abc import Callable

from otel_monitoring.store import Store


class Lease:
    """One worker's claim to lead, to be renewed before it expires.

    Args:
        store: Where the workers agree.
        worker: This worker's name, unlike any other's.
        clock: Unix time in seconds.
        seconds: How long the lease lasts without being renewed: so long nobody leads after a leader's death.
    """

    def __init__(self, store: Store, worker: str, clock: Callable[[], float], seconds: float) -> None:
        self._store = store
        self.worker = worker
        self._clock = clock
        self._seconds = seconds
        self._until = 0.0

    @property
    def held(self) -> bool:
        """Whether this worker leads now, for all it knows; asks nobody."""
        return 0 < self._until - self._clock() <= self._seconds

    def hold(self) -> bool:
        """Take the lease or renew it, if it is to be had; whether this worker leads.

        One that has half of its time left is not written again.
        """
        now = self._clock()
        if not self._seconds / 2 < self._until - now <= self._seconds:
            until = now + self._seconds
            self._until = until if self._store.lead(self.worker, now, until) else 0.0
        return self._until > 0

    def give_back(self) -> None:
        """Let another worker lead at once."""
        self._until = 0.0
        self._store.resign(self.worker)
