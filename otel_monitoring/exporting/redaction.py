"""Exceptions leave without the secrets that their texts may hold: in span events, span status and log records.

It is done where batches are exported, in the thread that exports them: a request that fails pays nothing for it, and
what the application's own processors and exporters see stays as it was.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, cast

from opentelemetry.sdk.trace import Event as SpanEvent
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Status

from otel_monitoring.exporting.logs_sdk import ReadableLogRecord
from otel_monitoring.guard import contained
from otel_monitoring.redact import REPLACED, redact_lines

_EXCEPTION = "exception"
_MESSAGE = "exception.message"
_STACKTRACE = "exception.stacktrace"
_TEXTS = (_MESSAGE, _STACKTRACE)
_ERROR = 17  # SeverityNumber.ERROR, OpenTelemetry logs data model
_redacting = contained("redacting what is exported")


def redacted_spans(spans: Sequence[ReadableSpan]) -> Sequence[ReadableSpan]:
    """The same spans; those that tell an exception as a copy that tells no secret."""
    return [_redacted_span(span) if _tells_exception(span) else span for span in spans]


def redacted_records(records: Sequence[ReadableLogRecord]) -> Sequence[ReadableLogRecord]:
    """The same records; those of an exception or an error as a copy that tells no secret."""
    return [_redacted_record(record) if _is_about_error(record) else record for record in records]


class _RedactedSpan:
    """A span with other events and another status; everything else is the original's."""

    def __init__(self, span: ReadableSpan) -> None:
        self._span = span
        self.events = tuple(_redacted_event(event) for event in span.events)
        status = span.status
        described = status.description
        self.status = Status(status.status_code, redact_lines(described)) if described else status

    def __getattr__(self, name: str) -> Any:
        """Whatever else the exporter reads."""
        return getattr(self._span, name)


def _tells_exception(span: ReadableSpan) -> bool:
    return bool(span.status.description) or any(event.name == _EXCEPTION for event in span.events)


def _redacted_span(span: ReadableSpan) -> ReadableSpan:
    return cast("ReadableSpan", _RedactedSpan(span))


def _redacted_event(event: SpanEvent) -> SpanEvent:
    if event.name != _EXCEPTION:
        return event
    return SpanEvent(event.name, _redacted_texts(event.attributes or {}), event.timestamp)


def _redacted_texts(attributes: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: value for key in _TEXTS if isinstance(value := attributes.get(key), str)}
    with _redacting:
        return {**attributes, **{key: redact_lines(value) for key, value in found.items()}}
    return {**attributes, **dict.fromkeys(found, REPLACED)}


def _is_about_error(record: ReadableLogRecord) -> bool:
    log_record = record.log_record
    severity = log_record.severity_number
    attributes = log_record.attributes
    return (severity is not None and severity.value >= _ERROR) or (attributes is not None and _MESSAGE in attributes)


def _redacted_record(record: ReadableLogRecord) -> ReadableLogRecord:
    log_record = copy(record.log_record)
    if isinstance(log_record.body, str):
        log_record.body = redact_lines(log_record.body)
    log_record.attributes = _redacted_texts(log_record.attributes or {})
    return replace(record, log_record=log_record)
