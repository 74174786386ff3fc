"""Ports of the loopback that are a test's own, also beside a running demo or another run of the suite."""

import atexit
import socket

_held: list[socket.socket] = []


def free_port() -> int:
    """A port at which nothing listens, and which no other process is given before this one ends.

    A connection is refused until a server of the test listens there. It is kept by a socket that is bound and does not
    listen: servers bind with SO_REUSEADDR, which lets them in; the kernel gives it to nobody who asks for any port.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    _held.append(holder)
    return int(holder.getsockname()[1])


@atexit.register
def _close() -> None:
    for holder in _held:
        holder.close()
