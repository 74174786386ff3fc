"""`monitoring_listeners`: listeners that a client takes when it is made, and a service connects to later.

They are PyMongo's public way to hear a client that is older than the service, should `handle.change_listeners` not
work with a new version. Listeners registered for the whole process hear only clients made later, and cannot be used for
heartbeats: these name a server and no client.
"""

from pymongo.monitoring import (
    CommandListener,
    ConnectionPoolListener,
    ServerHeartbeatListener,
)


class Relay:
    """Hands every event on to the listeners that are connected to it."""

    def __init__(self) -> None:
        self.targets: tuple[object, ...] = ()

    def connect(self, listener: object) -> None:
        """Hand events on to `listener` too."""
        if listener not in self.targets:
            self.targets = (*self.targets, listener)

    def disconnect(self, listener: object) -> None:
        """Do not hand events on to `listener` any more."""
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
    """Listeners for a client's `event_listeners` option, where a warning asks for them.

    They do nothing until the client's database is instrumented.
    """
    return [CommandRelay(), PoolRelay(), HeartbeatRelay()]


def connect(relay: Relay, listeners: tuple[object, ...]) -> None:
    """Connect those of `listeners` that are of the relay's kind."""
    for listener in listeners:
        if any(isinstance(relay, kind) and isinstance(listener, kind) for kind in _KINDS):
            relay.connect(listener)
