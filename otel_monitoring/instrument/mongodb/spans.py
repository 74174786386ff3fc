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
from otel_monitoring.instrument.mongodb.commands import error_type
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
            failed_hook=self._explain,
            semconv_opt_in_mode=_Stability._get_opentelemetry_stability_opt_in_mode(_Signal.DATABASE),  # noqa: SLF001
        )
        self._statement_length = statement_max_length if capture_statement else 0
        self._guard = contained("database spans")

    def started(self, event: CommandStartedEvent) -> None:
        """A command was sent."""
        if event.command_name not in NOISE:
            with self._guard:
                super().started(event)
                self._forget_lost_spans()

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """A command was answered."""
        with self._guard:
            super().succeeded(event)
            self._drop(event)

    def failed(self, event: CommandFailedEvent) -> None:
        """A command was answered with an error, or not at all."""
        with self._guard:
            super().failed(event)
            self._drop(event)

    def _get_statement_by_command_name(self, command_name: str, event: object) -> Any:
        """Nothing: the library would put the bare command name, or every value of the filter, on the span."""
        return None

    def _describe(self, span: Span, event: CommandStartedEvent) -> None:
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

    @staticmethod
    def _explain(span: Span, event: CommandFailedEvent) -> None:
        failure: Any = event.failure
        span.set_attribute(c.ERROR_TYPE, error_type(failure))
        if (code := failure.get("code")) is not None:
            span.set_attribute(c.DB_RESPONSE_STATUS_CODE, str(code))
        message = _QUOTED.sub("?", str(failure.get("errmsg", ""))[:2000])
        span.set_status(Status(StatusCode.ERROR, redact(message)))

    def _drop(self, event: Any) -> None:
        """End a span that the library left open: its command ended inside of `suppress_instrumentation`."""
        span = self._pop_span(event)
        if span is not None:
            span.end()

    def _forget_lost_spans(self) -> None:
        """Bound what the library keeps for commands whose end was never published."""
        if len(self._span_dict) > _MAX_OPEN_SPANS:
            span = self._span_dict.pop(next(iter(self._span_dict)), None)
            if span is not None:
                span.end()
