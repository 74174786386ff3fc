"""`Heartbeats`: tells a `ServerState` what the driver's own monitors find."""

from pymongo.monitoring import (
    ServerHeartbeatFailedEvent,
    ServerHeartbeatListener,
    ServerHeartbeatStartedEvent,
    ServerHeartbeatSucceededEvent,
)

from otel_monitoring.instrument.server_state import ServerState


class Heartbeats(ServerHeartbeatListener):
    """Feeds `state` with the heartbeats of one client.

    It must not be a `ServerListener` or `TopologyListener` too: put into a client that exists, PyMongo would publish
    their events through a queue which such a client does not have, and fail to add servers.

    Args:
        state: Told of servers that answer and that do not.
    """

    def __init__(self, state: ServerState) -> None:
        self.enabled = True
        self._state = state

    def started(self, event: ServerHeartbeatStartedEvent) -> None:
        """A heartbeat was sent."""

    def succeeded(self, event: ServerHeartbeatSucceededEvent) -> None:
        """A server answered."""
        if self.enabled:
            self._state.heard(event.connection_id)

    def failed(self, event: ServerHeartbeatFailedEvent) -> None:
        """A server did not answer."""
        if self.enabled:
            self._state.lost(event.connection_id, f"{type(event.reply).__name__}: {event.reply}")
