"""`CommandSpans`: makes a span for each command of the MongoDB clients that it listens to."""

import re
import sys
from collections.abc import Iterable
from typing import Any, Final

from opentelemetry.context import get_current
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from otel_monitoring import semconv
from otel_monitoring.environment import semconv_opt_in
from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.mongodb.command_failure import CommandFailure, command_error_type, failure_in
from otel_monitoring.instrumentation.mongodb.command_names import DRIVER_COMMANDS, collection_of
from otel_monitoring.instrumentation.mongodb.inflight import InFlight
from otel_monitoring.instrumentation.mongodb.query_text import obfuscated
from otel_monitoring.instrumentation.mongodb.server_state import Address
from otel_monitoring.redact import redact

_MAX_OPEN_SPANS: Final = 10_000
_MAX_PREPARED: Final = 2000

# Messages of the server quote values of the client: `dup key: { email: "a@b.c" }`.
_QUOTED: Final = re.compile(r"\{.*\}|\"[^\"]*\"|'[^']*'", re.DOTALL)

# The names of attributes before the conventions were stable, which OpenTelemetry's instrumentations use by default.
_FORMER_NAMES: Final = {
    semconv.DB_SYSTEM_NAME: "db.system",
    semconv.DB_NAMESPACE: "db.name",
    semconv.DB_COLLECTION_NAME: "db.mongodb.collection",
    semconv.SERVER_ADDRESS: "net.peer.name",
    semconv.SERVER_PORT: "net.peer.port",
}

Attributes = dict[str, str | int]


class CommandSpans(CommandListener):
    """Makes one CLIENT span for each command, named `{operation} {collection}`.

    The driver's own commands and those inside `suppress_instrumentation` have no spans. Status descriptions have no
    quoted values. `db.query.text` is optional, and its values are replaced. The names of attributes follow
    `OTEL_SEMCONV_STABILITY_OPT_IN`, as those of `opentelemetry-instrumentation-pymongo` do. The number of open spans is
    bounded.

    Args:
        tracer_provider: Makes the tracer.
        capture_statement: Whether spans have `db.query.text`.
        statement_max_length: Maximum length of `db.query.text`, in characters.

    Attributes:
        is_enabled: Whether commands get spans.
    """

    def __init__(self, tracer_provider: TracerProvider, capture_statement: bool, statement_max_length: int) -> None:
        self.is_enabled = True
        self._start = tracer_provider.get_tracer(
            "otel_monitoring.instrumentation.mongodb.instrumentation", schema_url=semconv.SCHEMA_URL
        ).start_span
        self._statement_length = statement_max_length if capture_statement else 0
        self._stable, self._former = _conventions()
        self._prepared: dict[tuple[str, str, str | None, Address | None], tuple[str, Attributes]] = {}
        self._open = InFlight[Span](_MAX_OPEN_SPANS)
        self._guard = fail_open("database spans")

    # Every command causes the next two events: a `try` takes the place of `with self._guard`, which takes longer.

    def started(self, event: CommandStartedEvent) -> None:
        """A command was sent."""
        if not self.is_enabled:
            return
        try:
            operation, command = event.command_name, event.command
            if operation in DRIVER_COMMANDS or (get_current() and not is_instrumentation_enabled()):
                return
            key = (operation, event.database_name, collection_of(operation, command), event.connection_id)
            name, attributes = self._prepared.get(key) or self._prepare(*key)
            span = self._start(name, kind=SpanKind.CLIENT, attributes=attributes)
            if self._statement_length and span.is_recording():
                span.set_attribute(semconv.DB_QUERY_TEXT, obfuscated(operation, command, self._statement_length))
            for lost in self._open.put(event, span):
                lost.end()
        except Exception as error:  # noqa: BLE001
            self._guard.caught(error)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """A command was answered, perhaps with errors of single writes."""
        try:
            self._end(event, failure_in(event.reply))
        except Exception as error:  # noqa: BLE001
            self._guard.caught(error)

    def failed(self, event: CommandFailedEvent) -> None:
        """A command was answered with an error, or not at all."""
        with self._guard:
            self._end(event, event.failure)

    def _prepare(
        self, operation: str, namespace: str, collection: str | None, address: Address | None
    ) -> tuple[str, Attributes]:
        """Name and attributes of a span, kept for the next command unless too many are."""
        stable: Attributes = {semconv.DB_SYSTEM_NAME: "mongodb", semconv.DB_NAMESPACE: namespace}
        if collection is not None:
            stable[semconv.DB_COLLECTION_NAME] = collection
        if address is not None:
            stable[semconv.SERVER_ADDRESS] = address[0]
            if address[1] is not None:
                stable[semconv.SERVER_PORT] = address[1]
        attributes: Attributes = {semconv.DB_OPERATION_NAME: operation}
        if self._stable:
            attributes.update(stable)
        if self._former:
            attributes.update({_FORMER_NAMES[name]: value for name, value in stable.items()})
        prepared = f"{operation} {collection or namespace}", attributes
        if len(self._prepared) < _MAX_PREPARED:
            self._prepared[operation, namespace, collection, address] = prepared
        return prepared

    def _end(self, event: CommandSucceededEvent | CommandFailedEvent, failure: CommandFailure | None) -> None:
        # A span also ends if its command ends inside `suppress_instrumentation`.
        span = self._open.pop(event)
        if span is None:
            return
        if failure is not None and span.is_recording():
            span.set_attribute(semconv.ERROR_TYPE, command_error_type(failure))
            if (code := failure.get("code")) is not None:
                span.set_attribute(semconv.DB_RESPONSE_STATUS_CODE, str(code))
            message = _QUOTED.sub("?", str(failure.get("errmsg", ""))[:2000])
            span.set_status(Status(StatusCode.ERROR, redact(message)))
        span.end()


def make_spans(listeners: Iterable[object]) -> bool:
    """Whether one of `listeners` makes spans: a `CommandSpans`, or that of `opentelemetry-instrumentation-pymongo`."""
    theirs: Any = getattr(sys.modules.get("opentelemetry.instrumentation.pymongo"), "CommandTracer", CommandSpans)
    return any(isinstance(one, CommandSpans | theirs) and one.is_enabled for one in listeners)


def _conventions() -> tuple[bool, bool]:
    """Whether attributes have the stable names, and whether they have the former ones."""
    chosen = semconv_opt_in()
    both = "database/dup" in chosen
    return both or "database" in chosen, both or "database" not in chosen
