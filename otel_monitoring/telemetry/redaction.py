"""Redaction of exported exceptions (span events, span status, log records) and of servers' access logs.

Of an exception event, and of a log record about an error, everything is redacted: nested attributes, keys, bytes, and
values whose key names a secret. The values of queries are left out, as on spans: the errors of HTTP clients quote URLs,
and so do access logs. It happens in the thread that exports a batch: a failing request has no cost from it, and the
application's own processors and exporters get the original.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from opentelemetry.sdk.trace import Event as SpanEvent
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Status

from otel_monitoring.guard import fail_open
from otel_monitoring.redact import REPLACED, is_secret, redact_lines, text_of

if TYPE_CHECKING:
    from otel_monitoring.telemetry.logs_sdk import ReadableLogRecord
from otel_monitoring.telemetry.pausing_batch import PausingBatch

_EXCEPTION = "exception"
_MESSAGE = "exception.message"
_LEVELS = 20
_ERROR = 17  # SeverityNumber.ERROR, OpenTelemetry logs data model
_ACCESS_LOG = ".access"  # `uvicorn.access`, `gunicorn.access`, `hypercorn.access`
_QUERY = re.compile(r"(?<=\?)[^\s\"']+")
_QUERY_VALUE = re.compile(r"(?<==)[^&]*")
_redacting = fail_open("redacting what is exported")


def redacted_spans(spans: Sequence[ReadableSpan], fill: Callable[[], float]) -> Sequence[ReadableSpan]:
    """`spans`, with a redacted copy of each that has an exception event or a status description; see `PausingBatch`."""
    return PausingBatch(spans, _redacted_span, fill)


def redacted_records(
    records: "Sequence[ReadableLogRecord]", fill: Callable[[], float]
) -> "Sequence[ReadableLogRecord]":
    """`records`, with a redacted copy of each that is an ERROR or worse, has an exception, or is an access log."""
    return PausingBatch(records, _redacted_if_needed, fill)


class _RedactedSpan:
    """A view on a span with redacted events and status; every other attribute is the original's."""

    def __init__(self, span: ReadableSpan) -> None:
        self._span = span
        self.events = tuple(_redacted_event(event) for event in span.events)
        status = span.status
        described = status.description
        self.status = Status(status.status_code, _redacted_text(described)) if described else status

    def __getattr__(self, name: str) -> Any:
        return getattr(self._span, name)


def _tells_exception(span: ReadableSpan) -> bool:
    return bool(span.status.description) or any(_is_exception(event) for event in span.events)


def _redacted_span(span: ReadableSpan) -> ReadableSpan:
    return cast("ReadableSpan", _RedactedSpan(span)) if _tells_exception(span) else span


def _is_exception(event: SpanEvent) -> bool:
    return event.name == _EXCEPTION or _MESSAGE in (event.attributes or {})


def _redacted_event(event: SpanEvent) -> SpanEvent:
    if not _is_exception(event):
        return event
    return SpanEvent(event.name, _redacted(event.attributes or {}), event.timestamp)


def _redacted(value: Any) -> Any:
    """`value` redacted; replaced as a whole if the redaction fails."""
    with _redacting:
        return _without_secrets(value, _LEVELS)
    return dict.fromkeys(value, REPLACED) if isinstance(value, Mapping) else REPLACED


def _redacted_text(text: str) -> str:
    text = redact_lines(text)
    return _QUERY.sub(lambda query: _QUERY_VALUE.sub("REDACTED", query[0]), text) if "?" in text else text


def _without_secrets(value: Any, levels: int) -> Any:
    if isinstance(value, str):
        return _redacted_text(value)
    if isinstance(value, bytes):
        text = text_of(value)
        return value if _redacted_text(text) == text else REPLACED.encode()
    if levels == 0:
        return REPLACED
    if isinstance(value, Mapping):
        return {
            redact_lines(key): REPLACED if is_secret(key) else _without_secrets(item, levels - 1)
            for key, item in value.items()
        }
    if isinstance(value, Sequence):
        return [_without_secrets(item, levels - 1) for item in value]
    return value


def _redacted_if_needed(record: "ReadableLogRecord") -> "ReadableLogRecord":
    scope = record.instrumentation_scope
    is_access = scope is not None and scope.name.endswith(_ACCESS_LOG)
    return _redacted_record(record) if is_access or _is_about_error(record) else record


def _is_about_error(record: "ReadableLogRecord") -> bool:
    log_record = record.log_record
    severity = log_record.severity_number
    attributes = log_record.attributes
    return (severity is not None and severity.value >= _ERROR) or (attributes is not None and _MESSAGE in attributes)


def _redacted_record(record: "ReadableLogRecord") -> "ReadableLogRecord":
    log_record = copy(record.log_record)
    log_record.body = _redacted(log_record.body)
    log_record.attributes = _redacted(log_record.attributes or {})
    return replace(record, log_record=log_record)
