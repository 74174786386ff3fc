"""`Heartbeats`: tells a `ServerState` what the driver's own monitors find."""

from pymongo.monitoring import (
    ServerClosedEvent,
    ServerDescriptionChangedEvent,
    ServerHeartbeatFailedEvent,
    ServerHeartbeatListener,
    ServerHeartbeatStartedEvent,
    ServerHeartbeatSucceededEvent,
    ServerListener,
    ServerOpeningEvent,
)

from otel_monitoring.instrument.server_state import ServerState


class Heartbeats(ServerHeartbeatListener, ServerListener):
    """Feeds `state` with the heartbeats of one client.

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

    def opened(self, event: ServerOpeningEvent) -> None:
        """A server is about to be watched."""
        if self.enabled:
            self._state.known((event.server_address,))

    def description_changed(self, event: ServerDescriptionChangedEvent) -> None:
        """A server changed its role."""

    def closed(self, event: ServerClosedEvent) -> None:
        """A server is no longer watched."""
        if self.enabled:
            self._state.removed(event.server_address)
