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

    Heartbeats only: a client decides when it is made whether it queues events about servers coming and going, and one
    that gets a `ServerListener` later calls a queue that is not there.

    Args:
        state: Told of servers that answer, that do not, and that the client no longer talks to.
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
