"""`monitoring_listeners`: listeners that a client gets when it is made, and that a service is connected to later.

They are PyMongo's public way to listen to a client that is older than the service, in case a new version breaks
`pymongo_seam.change_listeners`. Listeners that are registered for the whole process receive events of later clients
only, and are no use for heartbeats, which name a server but no client.
"""

from pymongo.monitoring import (
    CommandListener,
    ConnectionPoolListener,
    ServerHeartbeatListener,
)


class Relay:
    """Passes every event on to the connected listeners.

    Attributes:
        targets: The connected listeners.
    """

    def __init__(self) -> None:
        self.targets: tuple[object, ...] = ()

    def connect(self, listener: object) -> None:
        """Pass events on to `listener`, too."""
        if listener not in self.targets:
            self.targets = (*self.targets, listener)

    def disconnect(self, listener: object) -> None:
        """Pass no more events on to `listener`."""
        self.targets = tuple(target for target in self.targets if target is not listener)


def _forwarding(name: str, kind: type) -> type:
    def forward(method: str) -> object:
        def forwarded(self: Relay, event: object) -> None:
            for target in self.targets:
                getattr(target, method)(event)

        return forwarded

    methods = {method for method in vars(kind) if not method.startswith("_")}
    return type(name, (Relay, kind), {method: forward(method) for method in methods})


CommandRelay = _forwarding("CommandRelay", CommandListener)
PoolRelay = _forwarding("PoolRelay", ConnectionPoolListener)
HeartbeatRelay = _forwarding("HeartbeatRelay", ServerHeartbeatListener)
_KINDS = (CommandListener, ConnectionPoolListener, ServerHeartbeatListener)


def monitoring_listeners() -> list[Relay]:
    """Listeners for a client's option `event_listeners`, for the case that a warning asks for them.

    They do nothing until the client's database is instrumented.
    """
    return [CommandRelay(), PoolRelay(), HeartbeatRelay()]


def connect(relay: Relay, listeners: tuple[object, ...]) -> None:
    """Connect those of `listeners` that are of the relay's kind: commands, pools or heartbeats."""
    for listener in listeners:
        if any(isinstance(relay, kind) and isinstance(listener, kind) for kind in _KINDS):
            relay.connect(listener)
