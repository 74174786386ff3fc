"""`CommandMetrics`: the series of `db.client.operation.duration`."""

from typing import Final

from opentelemetry.metrics import Counter

from otel_monitoring import semconv
from otel_monitoring.instrumentation.mongodb.command_failure import CommandFailure, command_error_type
from otel_monitoring.instrumentation.mongodb.command_names import Command
from otel_monitoring.instrumentation.mongodb.server_state import Address, ServerState
from otel_monitoring.metrics.cardinality import BoundedNames
from otel_monitoring.metrics.direct_histogram import RecordedHistogram, RecordedSeries

Attributes = dict[str, str | int]

_MAX_NAMES: Final = 100
_NOT_THE_NETWORK: Final = frozenset(
    ("CancelledError", "_OperationCancelled", "KeyboardInterrupt", "SystemExit", "GeneratorExit")
)


class CommandMetrics:
    """Finds the series that a command is recorded in, and reports network failures to the server states.

    Args:
        durations: The histogram.
        max_collections: Maximum number of distinct collections, and of distinct databases; further ones are `_OTHER`.
        retries: Counts the commands that are sent again; None: nobody does.

    Attributes:
        enabled: Whether commands are recorded.
        states: The server states that are told when a command fails on the network.
    """

    def __init__(self, durations: RecordedHistogram, max_collections: int, retries: Counter | None = None) -> None:
        self.enabled = True
        self.states: tuple[ServerState, ...] = ()
        self._durations = durations
        self._retries = retries
        self._collections = BoundedNames(max_collections)
        self._namespaces = BoundedNames(max_collections)
        self._operations = BoundedNames(_MAX_NAMES)
        self._hosts = BoundedNames(_MAX_NAMES)
        self._errors = BoundedNames(_MAX_NAMES)

    def series(self, command: Command, *, many: bool) -> RecordedSeries:
        """The series of a command that succeeds.

        Args:
            command: What tells its series apart.
            many: Whether there are so many series that this one is that of all collections together.
        """
        operation, namespace, collection, address = command
        attributes: Attributes = {
            semconv.DB_SYSTEM_NAME: "mongodb",
            semconv.DB_OPERATION_NAME: self._operations(operation),
            semconv.DB_NAMESPACE: self._namespaces(namespace),
        }
        if collection is not None:
            attributes[semconv.DB_COLLECTION_NAME] = semconv.OTHER if many else self._collections(collection)
        if address is not None:
            attributes[semconv.SERVER_ADDRESS] = self._hosts(address[0])
            if address[1] is not None:
                attributes[semconv.SERVER_PORT] = address[1]
        return self._durations.bind(attributes)

    def lost(self, address: Address, failure: CommandFailure) -> None:
        """A command got no reply: tell the server states, if the network may be the reason."""
        kind = failure.get("errtype")
        if kind is not None and kind not in _NOT_THE_NETWORK:
            for state in self.states:
                state.suspect(address)

    def retried(self, operation: str) -> None:
        """A command is sent again after a failure."""
        if self._retries is not None:
            self._retries.add(
                1, {semconv.DB_SYSTEM_NAME: "mongodb", semconv.DB_OPERATION_NAME: self._operations(operation)}
            )

    def failed(self, series: RecordedSeries, failure: CommandFailure) -> RecordedSeries:
        """The series of the commands that fail in this way and would otherwise be in `series`."""
        attributes: Attributes = {**series.attributes, semconv.ERROR_TYPE: self._errors(command_error_type(failure))}
        if (code := failure.get("code")) is not None:
            attributes[semconv.DB_RESPONSE_STATUS_CODE] = self._errors(str(code))
        return self._durations.bind(attributes)
