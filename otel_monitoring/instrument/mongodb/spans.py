"""`CommandSpans`: the span listener of `opentelemetry-instrumentation-pymongo`, repaired through its hooks."""

import re
from collections.abc import Callable
from typing import Any, Final

from opentelemetry.instrumentation._semconv import (
    _OpenTelemetrySemanticConventionStability as _Stability,
)
from opentelemetry.instrumentation._semconv import _OpenTelemetryStabilitySignalType as _Signal
from opentelemetry.instrumentation.pymongo import CommandTracer
from opentelemetry.trace import Span, Status, StatusCode, TracerProvider
from pymongo.monitoring import CommandFailedEvent, CommandStartedEvent, CommandSucceededEvent

from otel_monitoring import conventions as c
from otel_monitoring.guard import contained
from otel_monitoring.instrument.mongodb.failure import Failure, error_type, failure_in
from otel_monitoring.instrument.mongodb.inflight import InFlight
from otel_monitoring.instrument.mongodb.names import NOISE, collection_of
from otel_monitoring.instrument.mongodb.statement import obfuscated
from otel_monitoring.redact import redact

_MAX_OPEN_SPANS: Final = 10_000

# Server messages quote what the client sent: `dup key: { email: "a@b.c" }`.
_QUOTED: Final = re.compile(r"\{.*\}|\"[^\"]*\"|'[^']*'", re.DOTALL)


class CommandSpans(CommandTracer):
    """One CLIENT span a command, named `{operation} {collection}`.

    Added to what the library does: `db.operation.name`, the collection of `getMore`, the driver's exception class as
    `error.type`, status texts without quoted values, no spans for handshakes, a bounded number of open spans; and
    statement text only where asked for, with its values replaced.

    Args:
        tracer_provider: Where the tracer comes from.
        capture_statement: Whether to add `db.query.text`.
        statement_max_length: How many characters of it.
    """

    def __init__(self, tracer_provider: TracerProvider, capture_statement: bool, statement_max_length: int) -> None:
        initialize: Callable[[], None] = _Stability._initialize  # noqa: SLF001 - as the library's own instrumentor does
        initialize()
        super().__init__(
            tracer_provider.get_tracer("otel_monitoring.instrument.mongodb", schema_url=c.SCHEMA_URL),
            request_hook=self._describe,
            semconv_opt_in_mode=_Stability._get_opentelemetry_stability_opt_in_mode(_Signal.DATABASE),  # noqa: SLF001
        )
        self._statement_length = statement_max_length if capture_statement else 0
        self._guard = contained("database spans")
        self._open = InFlight[Span](_MAX_OPEN_SPANS)
        self._span_dict = _Unused()

    def started(self, event: CommandStartedEvent) -> None:
        """A command was sent."""
        if event.command_name not in NOISE:
            with self._guard:
                super().started(event)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """A command was answered, perhaps with errors of single writes."""
        with self._guard:
            self._end(event, failure_in(event.reply))

    def failed(self, event: CommandFailedEvent) -> None:
        """A command was answered with an error, or not at all."""
        with self._guard:
            self._end(event, event.failure)

    def _get_statement_by_command_name(self, command_name: str, event: object) -> Any:
        """Nothing: the library would put the bare command name, or every value of the filter, on the span."""
        return None

    def _describe(self, span: Span, event: CommandStartedEvent) -> None:
        for lost in self._open.put(event, span):
            lost.end()
        if not span.is_recording():
            return
        operation = event.command_name
        collection = collection_of(operation, event.command)
        span.update_name(f"{operation} {collection or event.database_name}")
        attributes = {c.DB_OPERATION_NAME: operation}
        if operation == "getMore" and collection is not None:
            attributes[c.DB_COLLECTION_NAME] = collection
        if self._statement_length:
            attributes[c.DB_QUERY_TEXT] = obfuscated(operation, event.command, self._statement_length)
        span.set_attributes(attributes)

    def _end(self, event: CommandSucceededEvent | CommandFailedEvent, failure: Failure | None) -> None:
        # Also where the command ends inside of `suppress_instrumentation`: no span stays open.
        span = self._open.pop(event)
        if span is None:
            return
        if failure is not None and span.is_recording():
            span.set_attribute(c.ERROR_TYPE, error_type(failure))
            if (code := failure.get("code")) is not None:
                span.set_attribute(c.DB_RESPONSE_STATUS_CODE, str(code))
            message = _QUOTED.sub("?", str(failure.get("errmsg", ""))[:2000])
            span.set_status(Status(StatusCode.ERROR, redact(message)))
        span.end()


class _Unused(dict[object, Span]):
    """Where the library puts its spans, by request and server: two of an exhaust cursor would be one."""

    def __setitem__(self, key: object, span: Span) -> None:
        """Keeps nothing."""
