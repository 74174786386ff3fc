"""`Heartbeats`: passes the results of the driver's monitors to a `ServerState`."""

from pymongo.monitoring import (
    ServerHeartbeatFailedEvent,
    ServerHeartbeatListener,
    ServerHeartbeatStartedEvent,
    ServerHeartbeatSucceededEvent,
)

from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.mongodb.driver_errors import Proof, is_timeout, proof_of
from otel_monitoring.instrumentation.mongodb.server_state import ServerState
from otel_monitoring.redact import redact_error


class Heartbeats(ServerHeartbeatListener):
    """Passes the heartbeats of one client to `state`.

    A server that refuses or closes the connection is down. Any other failure is a suspicion, which a ping settles: an
    asynchronous client's heartbeats run on the application's loop and time out when it is blocked, and a cancelled
    heartbeat or an unresolved name proves nothing about the server.

    The class must not be a `ServerListener` or `TopologyListener` as well. For those PyMongo publishes events through a
    queue that a client made without such listeners does not have: it would fail to add servers.

    Args:
        state: The state of the client's servers.
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
