"""`ServerState`: what a driver last said about its servers, without asking them."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from otel_monitoring.forks import renewed
from otel_monitoring.guard import fail_open

Address = tuple[str, int | None]
"""Host and port, or the path of a Unix socket and None."""


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What is known of the servers of one client.

    Attributes:
        up: Whether at least one of them answers; None while nothing has been heard.
        since: When that became so, in seconds of the monotonic clock.
        reason: Why the last one was lost; None unless `up` is False.
    """

    up: bool | None
    since: float
    reason: str | None = None


class ServerState:
    """Fed by a driver's heartbeats and failed commands, read by the health check. Safe to use from any thread.

    A server that refuses its heartbeat is a fact: it is down. A command that failed on the network, or a heartbeat that
    timed out, is a suspicion only (one connection was cut, the loop was blocked), worth a ping at once.

    Args:
        on_change: Called, in the driver's thread, when servers go down or come back and when a suspicion arises.

    Attributes:
        members: Answers the servers that the client talks to now; None where that is not known.
        suspected: Whether a server is suspected to be down, since the last call of `settled`.
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
        """Remember servers that the client is connected to, before anything is heard from them."""
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
        """A command failed on the network; ignored for servers of other clients, and while one is suspected."""
        if self.suspected or address not in self._servers:
            return
        self.suspected = True
        self._tell(True)

    def settled(self) -> None:
        """The suspicion was looked into."""
        self.suspected = False

    def _forget_former(self, address: Address) -> None:
        """Leave out servers that the client no longer talks to, whatever they said last."""
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
        before, self._status = self._status, self._status if up is self._status.up else self._made(up, reason)
        return self._status is not before

    @staticmethod
    def _made(up: bool | None, reason: str | None) -> ServerStatus:
        return ServerStatus(up, time.monotonic(), reason if up is False else None)

    def _tell(self, changed: bool) -> None:
        if changed and self.on_change is not None:
            with self._guard:
                self.on_change()
