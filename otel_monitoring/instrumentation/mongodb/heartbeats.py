"""`Heartbeats`: tells a `ServerState` what the driver's own monitors find."""

from pymongo.monitoring import (
    ServerHeartbeatFailedEvent,
    ServerHeartbeatListener,
    ServerHeartbeatStartedEvent,
    ServerHeartbeatSucceededEvent,
)

from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.mongodb.evidence import Proof, is_timeout, proof_of
from otel_monitoring.instrumentation.mongodb.server_state import ServerState
from otel_monitoring.redact import redact_error


class Heartbeats(ServerHeartbeatListener):
    """Feeds `state` with the heartbeats of one client.

    A server that refuses or drops the connection is down. Any other failure is a suspicion only, which a ping settles:
    an async client's heartbeats run on the application's loop and time out when that is blocked, and what a client
    cancels because it is closed, or a name that does not resolve, says nothing about the server.

    It must not be a `ServerListener` or `TopologyListener` too: put into a client that exists, PyMongo would publish
    their events through a queue which such a client does not have, and fail to add servers.

    Args:
        state: Told of servers that answer and that do not.
    """

    def __init__(self, state: ServerState) -> None:
        self.enabled = True
        self._state = state
        self._guard = fail_open("database heartbeats")

    def started(self, event: ServerHeartbeatStartedEvent) -> None:
        """A heartbeat was sent."""

    def succeeded(self, event: ServerHeartbeatSucceededEvent) -> None:
        """A server answered."""
        if self.enabled:
            self._state.heard(event.connection_id)

    def failed(self, event: ServerHeartbeatFailedEvent) -> None:
        """A server did not answer."""
        if not self.enabled:
            return
        with self._guard:
            error, proof = event.reply, proof_of(event.reply)
            if proof is Proof.DOWN and not is_timeout(error):
                self._state.lost(event.connection_id, redact_error(error))
            elif "_OperationCancelled" not in {kind.__name__ for kind in type(error).__mro__}:
                self._state.suspect(event.connection_id)
