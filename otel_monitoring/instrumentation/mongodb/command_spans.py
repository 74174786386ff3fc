"""`CommandSpans`: the span listener of `opentelemetry-instrumentation-pymongo` with additional attributes."""

import re
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import NoOpTracerProvider, Span, Status, StatusCode, TracerProvider
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from otel_monitoring import seams, semconv
from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.mongodb.command_failure import CommandFailure, command_error_type, failure_in
from otel_monitoring.instrumentation.mongodb.command_names import DRIVER_COMMANDS, collection_of
from otel_monitoring.instrumentation.mongodb.inflight import InFlight
from otel_monitoring.instrumentation.mongodb.query_text import obfuscated
from otel_monitoring.redact import redact

if TYPE_CHECKING:
    from opentelemetry.instrumentation.pymongo import CommandTracer as CommandTracer
else:
    _found = seams.COMMAND_SPANS.load("opentelemetry.instrumentation.pymongo", "CommandTracer")
    CommandTracer = _found or type("CommandTracer", (CommandListener,), {})

_MAX_OPEN_SPANS: Final = 10_000

# Messages of the server quote values of the client: `dup key: { email: "a@b.c" }`.
_QUOTED: Final = re.compile(r"\{.*\}|\"[^\"]*\"|'[^']*'", re.DOTALL)


class CommandSpans(CommandTracer):
    """Makes one CLIENT span for each command, named `{operation} {collection}`.

    Other than the library it sets `db.operation.name`, the collection of `getMore`, and the driver's exception class as
    `error.type`. Status descriptions have no quoted values, the driver's own commands have no spans, and the number of
    open spans is bounded. `db.query.text` is optional, and its values are replaced.

    Args:
        tracer_provider: Makes the tracer.
        capture_statement: Whether spans have `db.query.text`.
        statement_max_length: Maximum length of `db.query.text`, in characters.
    """

    def __init__(self, tracer_provider: TracerProvider, capture_statement: bool, statement_max_length: int) -> None:
        super().__init__(
            tracer_provider.get_tracer(
                "otel_monitoring.instrumentation.mongodb.instrumentation", schema_url=semconv.SCHEMA_URL
            ),
            request_hook=self._request_hook,
            **_conventions(),
        )
        self._statement_length = statement_max_length if capture_statement else 0
        self._guard = fail_open("database spans")
        self._open = InFlight[Span](_MAX_OPEN_SPANS)
        self._span_dict = _NoTable()

    def started(self, event: CommandStartedEvent) -> None:
        """A command was sent."""
        if event.command_name not in DRIVER_COMMANDS:
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

    def try_out(self) -> None:
        """Start a trial span, and check that only this class keeps it.

        Raises:
            NotImplementedError: The library keeps spans elsewhere.
        """
        event = CommandStartedEvent({"find": "trial"}, "trial", 0, ("localhost", None), 0)
        super()._get_statement_by_command_name("find", event)
        super().started(event)
        if self._open.pop(event) is None or any(isinstance(kept, dict) and kept for kept in vars(self).values()):
            raise NotImplementedError("spans are kept elsewhere")

    def _get_statement_by_command_name(self, command_name: str, event: object) -> Any:
        """None: the library would set the bare command name, or a text with every value of the filter."""
        return None

    def _request_hook(self, span: Span, event: CommandStartedEvent) -> None:
        for lost in self._open.put(event, span):
            lost.end()
        if not span.is_recording():
            return
        operation = event.command_name
        collection = collection_of(operation, event.command)
        span.update_name(f"{operation} {collection or event.database_name}")
        attributes = {semconv.DB_OPERATION_NAME: operation}
        if operation == "getMore" and collection is not None:
            attributes[semconv.DB_COLLECTION_NAME] = collection
        if self._statement_length:
            attributes[semconv.DB_QUERY_TEXT] = obfuscated(operation, event.command, self._statement_length)
        span.set_attributes(attributes)

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


def command_spans(
    tracer_provider: TracerProvider, capture_statement: bool, statement_max_length: int
) -> CommandSpans | None:
    """A `CommandSpans`, for the arguments see there; None if its seam fails, which a trial span tests here."""
    with seams.COMMAND_SPANS:
        if seams.COMMAND_SPANS.holds:
            if is_instrumentation_enabled():
                CommandSpans(NoOpTracerProvider(), False, 0).try_out()
            return CommandSpans(tracer_provider, capture_statement, statement_max_length)
    return None


def _conventions() -> dict[str, Any]:
    """The library's argument for the conventions of `OTEL_SEMCONV_STABILITY_OPT_IN`, as its instrumentor sets it."""
    module, signals = "opentelemetry.instrumentation._semconv", "_OpenTelemetryStabilitySignalType"
    stability = seams.SEMCONV.load(module, "_OpenTelemetrySemanticConventionStability")
    signal = seams.SEMCONV.load(module, signals)
    with seams.SEMCONV:
        stability._initialize()  # noqa: SLF001
        return {"semconv_opt_in_mode": stability._get_opentelemetry_stability_opt_in_mode(signal.DATABASE)}  # noqa: SLF001
    return {}


class _NoTable(dict[object, Span]):
    """Replaces the library's table of spans by request and server, whose key does not identify an exhaust cursor's."""

    def __setitem__(self, key: object, span: Span) -> None:
        """Keep nothing."""
