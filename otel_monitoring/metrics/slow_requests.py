"""`SlowRequests`: the slowest traced requests of each kind lately, so that an alert can name their traces."""

import threading
from collections.abc import Mapping
from typing import Final, NamedTuple

from otel_monitoring.forks import renewed

KEPT: Final = 3
"""How many requests of each kind are kept in a period."""
_KINDS_LIMIT: Final = 1000


class SlowRequest(NamedTuple):
    """A traced request.

    Attributes:
        seconds: How long it took.
        trace_id: Its trace.
        attributes: What it is measured with: method, route, status, `error.type`.
    """

    seconds: float
    trace_id: int
    attributes: Mapping[str, str | int]


class Slowest:
    """The slowest requests of one kind in the present period; usable in any thread.

    Attributes:
        least: A request that took no longer than this is not among them.
    """

    __slots__ = ("_attributes", "_kept", "least")

    def __init__(self, attributes: Mapping[str, str | int]) -> None:
        self._attributes = attributes
        self._kept: list[tuple[float, int]] = []
        self.least = 0.0

    def note(self, seconds: float, trace_id: int) -> None:
        """Keep a request that took `seconds`, which is longer than `least`."""
        # The list is replaced: a note that another thread makes at the same time may be lost, nothing else.
        self._kept = kept = sorted((*self._kept, (seconds, trace_id)), reverse=True)[:KEPT]
        if len(kept) == KEPT:
            self.least = kept[-1][0]

    def take(self) -> list[SlowRequest]:
        """The requests of the period that ends with this call."""
        kept, self._kept, self.least = self._kept, [], 0.0
        return [SlowRequest(seconds, trace_id, self._attributes) for seconds, trace_id in kept]

    @property
    def kept(self) -> list[SlowRequest]:
        """The requests of the period until now."""
        return [SlowRequest(seconds, trace_id, self._attributes) for seconds, trace_id in self._kept]


class SlowRequests:
    """The slowest requests of each kind, in the present period and the one before; at most `KEPT` of each in both.

    Args:
        period: Seconds of a period.
    """

    def __init__(self, period: float) -> None:
        self._period = period
        self._lock = renewed(self, "_lock", threading.Lock)
        self._kinds: list[Slowest] = []
        self._before: list[SlowRequest] = []
        self._began: float | None = None

    def of(self, attributes: Mapping[str, str | int]) -> Slowest | None:
        """Where the requests of a further kind are kept; None: there are too many kinds."""
        with self._lock:
            if len(self._kinds) >= _KINDS_LIMIT:
                return None
            self._kinds.append(Slowest(attributes))
            return self._kinds[-1]

    def recent(self, now: float) -> list[SlowRequest]:
        """The requests of the last one to two periods, the slowest first.

        Args:
            now: Seconds of a monotonic clock.
        """
        with self._lock:
            kinds = list(self._kinds)
            if self._began is None:
                self._began = now
            if now - self._began >= self._period:
                self._began = now
                self._before = [one for kind in kinds for one in kind.take()]
            found = [*self._before, *(one for kind in kinds for one in kind.kept)]
        return sorted(found, key=lambda one: -one.seconds)
