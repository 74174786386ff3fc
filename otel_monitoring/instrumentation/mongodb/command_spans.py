"""`CommandSpans`: the spans of MongoDB commands.

What their attributes are is decided by https://opentelemetry.io/docs/specs/semconv/db/mongodb/ and, for what that page
leaves to it, https://opentelemetry.io/docs/specs/semconv/db/database-spans/.
"""

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
from otel_monitoring.instrumentation.mongodb.server_state import Address
from otel_monitoring.redact import redact
from otel_monitoring.telemetry.tracer_provider import Attributes, LeafSpan, LeafTracer, StartedSpan

_MAX_SUMMARY: Final = 255  # characters, says the convention; no name is cut

# The commands that hold many operations, and the field that lists them. One operation is no batch.
_BATCHES: Final = {"insert": "documents", "update": "updates", "delete": "deletes", "bulkWrite": "ops"}

_NO_REPLY: Final[Mapping[str, Any]] = {}

# Messages of the server quote values of the client: `dup key: { email: "a@b.c" }`. An apostrophe, as in "Can't extract
# geo keys: {…}", quotes nothing. What is not closed goes on to the end.
_MAX_MESSAGE: Final = 2000
_QUOTES: Final = r"""|"(?:[^"\\]|\\.)*(?:"|\Z)|(?<!\w)'.*?(?:'(?!\w)|\Z)"""
_QUOTED: Final = re.compile(rf"\{{.*\}}|\{{.*{_QUOTES}", re.DOTALL)
_QUOTED_AND_CUT: Final = re.compile(rf"\{{.*{_QUOTES}", re.DOTALL)

# The names of attributes before the conventions were stable, which OpenTelemetry's instrumentations use by default.
_FORMER_NAMES: Final = {
    semconv.DB_SYSTEM_NAME: "db.system",
    semconv.DB_NAMESPACE: "db.name",
    semconv.DB_COLLECTION_NAME: "db.mongodb.collection",
    semconv.SERVER_ADDRESS: "net.peer.name",
    semconv.SERVER_PORT: "net.peer.port",
}


class CommandSpans:
    """Makes one CLIENT span for each command, named by its summary: `{operation} {collection}`.

    Status descriptions have no quoted values. `error.type` is the driver's exception class, else the server's name of
    the error, else its code. `network.peer.address` is the node's address as the driver knows it.
    `db.query.text`, whose values are replaced, and `db.response.returned_rows` are optional. The names of attributes
    follow `OTEL_SEMCONV_STABILITY_OPT_IN`, as those of `opentelemetry-instrumentation-pymongo` do.

    Args:
        tracer_provider: Makes the spans.
        capture_statement: Whether spans have `db.query.text` and `db.response.returned_rows`.
        statement_max_length: Maximum length of `db.query.text`, in characters.

    Attributes:
        enabled: Whether commands get spans.
    """

    def __init__(self, tracer_provider: TracerProvider, capture_statement: bool, statement_max_length: int) -> None:
        self.enabled = True
        self._stable, self._former = _conventions()
        schema = semconv.SCHEMA_URL if self._stable else None  # it has no former name
        self._tracer = LeafTracer(tracer_provider, "otel_monitoring.instrumentation.mongodb.instrumentation", schema)
        self._statement_length = statement_max_length if capture_statement else 0

    def start(
        self, kind: LeafSpan, operation: str, document: Mapping[str, Any], context: Context
    ) -> StartedSpan | None:
        """Start the span of a command; None if it is not exported.

        Args:
            kind: From `prepare`.
            operation: The command's name.
            document: What is sent.
            context: The current context.
        """
        span = self._tracer.start(kind, context)
        if span is None:
            return None
        more: Attributes = {}
        listed = _BATCHES.get(operation)
        if listed is not None and self._stable and (size := _size(document.get(listed))) > 1:
            more[semconv.DB_OPERATION_BATCH_SIZE] = size
        if self._statement_length:
            more[semconv.DB_QUERY_TEXT] = obfuscated(operation, document, self._statement_length)
        return self._tracer.described(span, more) if more else span

    def end(self, span: StartedSpan, failure: CommandFailure | None, reply: Mapping[str, Any] = _NO_REPLY) -> None:
        """End the span of a command that was answered, or failed.

        Args:
            span: From `start`.
            failure: How it failed; None: it did not.
            reply: What was answered.
        """
        if self._statement_length and (rows := _returned_rows(reply)) is not None:
            span = self._tracer.described(span, {semconv.DB_RESPONSE_RETURNED_ROWS: rows})
        if failure is None:
            self._tracer.end(span)
            return
        attributes: Attributes = {semconv.ERROR_TYPE: command_error_type(failure)}
        if (code := failure.get("code")) is not None:
            attributes[semconv.DB_RESPONSE_STATUS_CODE] = str(code)
        message = _without_values(str(failure.get("errmsg", "")))
        self._tracer.end(self._tracer.described(span, attributes), Status(StatusCode.ERROR, redact(message)))

    def prepare(self, command: Command) -> LeafSpan:
        """The name and the attributes that all spans of a command have.

        Args:
            command: What tells its series apart.
        """
        operation, namespace, collection, address = command
        summary = f"{operation} {collection or namespace}"
        if len(summary) > _MAX_SUMMARY:
            summary = operation
        stable: Attributes = {semconv.DB_SYSTEM_NAME: "mongodb", semconv.DB_NAMESPACE: namespace}
        if collection is not None:
            stable[semconv.DB_COLLECTION_NAME] = collection
        if address is not None:
            stable[semconv.SERVER_ADDRESS] = address[0]
            if address[1] is not None:
                stable[semconv.SERVER_PORT] = address[1]
        attributes: Attributes = {semconv.DB_OPERATION_NAME: operation}
        if self._former:
            attributes.update({_FORMER_NAMES[key]: value for key, value in stable.items()})
        if self._stable:
            attributes.update(stable)
            attributes[semconv.DB_QUERY_SUMMARY] = summary
            attributes.update(_peer(address))
        return self._tracer.prepare(summary, attributes)


def _without_values(message: str) -> str:
    quoted = _QUOTED if len(message) <= _MAX_MESSAGE else _QUOTED_AND_CUT
    return quoted.sub("?", message[:_MAX_MESSAGE])


def _peer(address: Address | None) -> Attributes:
    if address is None:
        return {}
    host, port = address
    return {semconv.NETWORK_PEER_ADDRESS: host, **({semconv.NETWORK_PEER_PORT: port} if port is not None else {})}


def _size(operations: object) -> int:
    return len(operations) if isinstance(operations, list | tuple) else 0


def _returned_rows(reply: Mapping[str, Any]) -> int | None:
    """How many documents a cursor's batch has; None in a reply without a cursor."""
    cursor = reply.get("cursor")
    batch = cursor.get("firstBatch", cursor.get("nextBatch")) if isinstance(cursor, Mapping) else None
    return len(batch) if isinstance(batch, list) else None


def _conventions() -> tuple[bool, bool]:
    """Whether attributes have the stable names, and whether they have the former ones."""
    chosen = semconv_opt_in()
    both = "database/dup" in chosen
    return both or "database" in chosen, both or "database" not in chosen
