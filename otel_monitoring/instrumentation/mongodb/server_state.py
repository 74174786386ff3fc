"""`ServerState`: whether the servers of a client answer, by the driver's heartbeats and failed commands."""

import threading
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from otel_monitoring.forks import renewed
from otel_monitoring.guard import fail_open

Address = tuple[str, int | None]
"""Host and port, or the path of a Unix socket and None."""


class ServerStatus(NamedTuple):
    """The state of the servers of one client.

    Attributes:
        up: Whether at least one server answers; None if that is not known yet.
        since: Since when `up` has this value, in seconds of the monotonic clock.
        reason: Why the last server was lost; None unless `up` is False.
    """

    up: bool | None
    since: float
    reason: str | None = None


class ServerState:
    """Updated by a driver's heartbeats and failed commands, read by the health check; usable in any thread.

    A server that refuses its heartbeat is down. A command that failed on the network, or a heartbeat that timed out, is
    a suspicion, which calls for a ping: one connection may have been lost, or the loop may have been blocked.

    Args:
        on_change: Called in the driver's thread when servers go down, come back, or are suspected.

    Attributes:
        members: Returns the present servers of the client; None: they are not known.
        suspected: Whether a server has been suspected to be down since the last call of `settled`.
    """

    def __init__(self, on_change: Callable[[], object] | None = None) -> None:
        self.on_change = on_change
        self.members: Callable[[], Iterable[Address]] | None = None
        self._lock = renewed(self, "_lock", threading.Lock)
        self._servers: dict[Address, bool | None] = {}
        self._status = ServerStatus(None, time.monotonic())
        self.suspected = False
        self._guard = fail_open("database state change", theirs=True)

    @property
    def status(self) -> ServerStatus:
        """The current status."""
        return self._status

    def known(self, addresses: Iterable[Address]) -> None:
        """Add servers of the client whose state is not known yet."""
        with self._lock:
            for address in addresses:
                self._servers.setdefault(address, None)

    def heard(self, address: Address) -> None:
        """A server answered its heartbeat."""
        if self._servers.get(address) is True and self._status.up:
            return
        self._set(address, True, None)

    def lost(self, address: Address, reason: str) -> None:
        """A server did not answer its heartbeat."""
        self._forget_former(address)
        self._set(address, False, reason)

    def suspect(self, address: Address) -> None:
        """A server may be down. Ignored for servers of other clients, and while there is a suspicion."""
        if self.suspected or address not in self._servers:
            return
        self.suspected = True
        self._tell(True)

    def settled(self) -> None:
        """A ping has settled the suspicion."""
        self.suspected = False

    def _forget_former(self, address: Address) -> None:
        """Remove servers that the client no longer has."""
        if self.members is None:
            return
        with self._guard, self._lock:
            members = {address, *self.members()}
            self._servers = {one: up for one, up in self._servers.items() if one in members}

    def _set(self, address: Address, up: bool, reason: str | None) -> None:
        with self._lock:
            self._servers[address] = up
            changed = self._judge(reason)
        self._tell(changed)

    def _judge(self, reason: str | None) -> bool:
        answers = self._servers.values()
        up = True if True in answers else False if False in answers and None not in answers else None
        before, self._status = self._status, self._status if up is self._status.up else self._new_status(up, reason)
        return self._status is not before

    @staticmethod
    def _new_status(up: bool | None, reason: str | None) -> ServerStatus:
        return ServerStatus(up, time.monotonic(), reason if up is False else None)

    def _tell(self, changed: bool) -> None:
        if changed and self.on_change is not None:
            with self._guard:
                self.on_change()
