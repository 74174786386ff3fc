"""`CommandSpans`: the spans of MongoDB commands."""

import re
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.trace import Status, StatusCode, TracerProvider

from otel_monitoring import semconv
from otel_monitoring.environment import semconv_opt_in
from otel_monitoring.instrumentation.mongodb.command_failure import CommandFailure, command_error_type
from otel_monitoring.instrumentation.mongodb.command_names import Command
from otel_monitoring.instrumentation.mongodb.query_text import obfuscated
from otel_monitoring.redact import redact
from otel_monitoring.telemetry.tracer_provider import Attributes, LeafSpan, LeafTracer, StartedSpan

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


class CommandSpans:
    """Makes one CLIENT span for each command, named `{operation} {collection}`.

    Status descriptions have no quoted values. `db.query.text` is optional, and its values are replaced. The names of
    attributes follow `OTEL_SEMCONV_STABILITY_OPT_IN`, as those of `opentelemetry-instrumentation-pymongo` do.

    Args:
        tracer_provider: Makes the spans.
        capture_statement: Whether spans have `db.query.text`.
        statement_max_length: Maximum length of `db.query.text`, in characters.

    Attributes:
        enabled: Whether commands get spans.
    """

    def __init__(self, tracer_provider: TracerProvider, capture_statement: bool, statement_max_length: int) -> None:
        self.enabled = True
        self._tracer = LeafTracer(
            tracer_provider, "otel_monitoring.instrumentation.mongodb.instrumentation", semconv.SCHEMA_URL
        )
        self._statement_length = statement_max_length if capture_statement else 0
        self._stable, self._former = _conventions()
        self._prepared: dict[Command, LeafSpan] = {}

    def start(self, command: Command, document: Mapping[str, Any], context: Context) -> StartedSpan | None:
        """Start the span of a command; None if it is not exported.

        Args:
            command: What tells its series apart.
            document: What is sent.
            context: The current context.
        """
        span = self._tracer.start(self._prepared.get(command) or self._prepare(command), context)
        if self._statement_length and span is not None:
            text = obfuscated(command[0], document, self._statement_length)
            return self._tracer.described(span, {semconv.DB_QUERY_TEXT: text})
        return span

    def end(self, span: StartedSpan, failure: CommandFailure | None) -> None:
        """End the span of a command that was answered, or failed."""
        if failure is None:
            self._tracer.end(span)
            return
        attributes: Attributes = {semconv.ERROR_TYPE: command_error_type(failure)}
        if (code := failure.get("code")) is not None:
            attributes[semconv.DB_RESPONSE_STATUS_CODE] = str(code)
        message = _QUOTED.sub("?", str(failure.get("errmsg", ""))[:2000])
        self._tracer.end(self._tracer.described(span, attributes), Status(StatusCode.ERROR, redact(message)))

    def _prepare(self, command: Command) -> LeafSpan:
        """Name and attributes of a span, kept for the next command unless too many are."""
        operation, namespace, collection, address = command
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
        prepared = self._tracer.prepare(f"{operation} {collection or namespace}", attributes)
        if len(self._prepared) < _MAX_PREPARED:
            self._prepared[command] = prepared
        return prepared


def _conventions() -> tuple[bool, bool]:
    """Whether attributes have the stable names, and whether they have the former ones."""
    chosen = semconv_opt_in()
    both = "database/dup" in chosen
    return both or "database" in chosen, both or "database" not in chosen
