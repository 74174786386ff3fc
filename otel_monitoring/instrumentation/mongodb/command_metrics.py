"""`CommandMetrics`: records the duration of every command in `db.client.operation.duration`."""

from typing import Final

from opentelemetry.context import get_current
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from otel_monitoring import semconv
from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.mongodb.command_failure import CommandFailure, command_error_type, failure_in
from otel_monitoring.instrumentation.mongodb.command_names import DRIVER_COMMANDS, collection_of
from otel_monitoring.instrumentation.mongodb.inflight import InFlight
from otel_monitoring.instrumentation.mongodb.server_state import Address, ServerState
from otel_monitoring.metrics.cardinality import BoundedNames
from otel_monitoring.metrics.direct_histogram import RecordedHistogram, RecordedSeries

Attributes = dict[str, str | int]

_MAX_SERIES: Final = 2000
_MAX_INFLIGHT: Final = 10_000
_MAX_NAMES: Final = 100
_NOT_THE_NETWORK: Final = frozenset(
    ("CancelledError", "_OperationCancelled", "KeyboardInterrupt", "SystemExit", "GeneratorExit")
)


class CommandMetrics(CommandListener):
    """Records the duration of commands, and reports network failures to the server states.

    Commands inside `suppress_instrumentation` and the driver's own commands are not recorded. Only the start event of a
    command names the collection, so its series is kept in a bounded table until the command ends.

    Args:
        durations: The histogram.
        max_collections: Maximum number of distinct collections, and of distinct databases; further ones are `_OTHER`.

    Attributes:
        enabled: Whether commands are recorded.
        states: The server states that are told when a command fails on the network.
    """

    def __init__(self, durations: RecordedHistogram, max_collections: int) -> None:
        self.enabled = True
        self.states: tuple[ServerState, ...] = ()
        self._durations = durations
        self._collections = BoundedNames(max_collections)
        self._namespaces = BoundedNames(max_collections)
        self._operations = BoundedNames(_MAX_NAMES)
        self._hosts = BoundedNames(_MAX_NAMES)
        self._errors = BoundedNames(_MAX_NAMES)
        self._series: dict[tuple[str, str, str | None, Address | None], RecordedSeries] = {}
        self._inflight = InFlight[RecordedSeries](_MAX_INFLIGHT)
        self._guard = fail_open("database command metrics")

    # Every command causes the next two events: a `try` takes the place of `with self._guard`, which takes longer.

    def started(self, event: CommandStartedEvent) -> None:
        """A command was sent."""
        if not self.enabled:
            return
        try:
            operation = event.command_name
            if operation in DRIVER_COMMANDS or (get_current() and not is_instrumentation_enabled()):
                return
            key = (operation, event.database_name, collection_of(operation, event.command), event.connection_id)
            self._inflight.put(event, self._series.get(key) or self._bind(*key))
        except Exception as error:  # noqa: BLE001
            self._guard.caught(error)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """A command succeeded; its reply may report errors of single writes."""
        try:
            series = self._inflight.pop(event)
            if series is not None:
                failure = failure_in(event.reply)
                if failure is not None:
                    series = self._failed(series, failure)
                series.record(event.duration_micros / 1e6)
        except Exception as error:  # noqa: BLE001
            self._guard.caught(error)

    def failed(self, event: CommandFailedEvent) -> None:
        """A command failed: by an error of the server, or without a reply."""
        with self._guard:
            series = self._inflight.pop(event)
            if series is None:
                return
            self._failed(series, event.failure).record(event.duration_micros / 1e6)
            kind = event.failure.get("errtype")
            if kind is not None and kind not in _NOT_THE_NETWORK:
                for state in self.states:
                    state.suspect(event.connection_id)

    def _failed(self, series: RecordedSeries, failure: CommandFailure) -> RecordedSeries:
        """The series of the commands that fail in this way and would otherwise be in `series`."""
        attributes: Attributes = {**series.attributes, semconv.ERROR_TYPE: self._errors(command_error_type(failure))}
        if (code := failure.get("code")) is not None:
            attributes[semconv.DB_RESPONSE_STATUS_CODE] = self._errors(str(code))
        return self._durations.bind(attributes)

    def _bind(self, operation: str, namespace: str, collection: str | None, address: Address | None) -> RecordedSeries:
        """A series, kept for the next command unless the maximum number of series is reached."""
        attributes: Attributes = {
            semconv.DB_SYSTEM_NAME: "mongodb",
            semconv.DB_OPERATION_NAME: self._operations(operation),
            semconv.DB_NAMESPACE: self._namespaces(namespace),
        }
        full = len(self._series) >= _MAX_SERIES
        if collection is not None:
            attributes[semconv.DB_COLLECTION_NAME] = semconv.OTHER if full else self._collections(collection)
        if address is not None:
            attributes[semconv.SERVER_ADDRESS] = self._hosts(address[0])
            if address[1] is not None:
                attributes[semconv.SERVER_PORT] = address[1]
        series = self._durations.bind(attributes)
        if not full:
            self._series[operation, namespace, collection, address] = series
        return series
